/* Makes a processor look like a lesser one to the programs of one environment (x86-64 Linux).
 *
 * Preloaded (LD_PRELOAD), it has the kernel trap the CPUID instruction, runs it, and clears the
 * bits of the instruction sets that FUSIONREC_TEST_LEVEL leaves out: "sse4.2", "avx2" or "avx512"
 * (without VNNI, bfloat16 and AMX). So every library is served, however it asks. A trap arrives
 * as SIGSEGV: handlers that others set for it are kept and called for real faults only.
 */
#define _GNU_SOURCE
#include <cpuid.h>
#include <dlfcn.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <ucontext.h>
#include <unistd.h>

#define ARCH_SET_CPUID 0x1012

enum { SSE42, AVX2, AVX512 };
static int level;
static struct sigaction others = {.sa_handler = SIG_DFL};
static int (*real_sigaction)(int, const struct sigaction *, struct sigaction *);
static int (*real_sigmask)(int, const sigset_t *, sigset_t *);

static void trap(int on) { syscall(SYS_arch_prctl, ARCH_SET_CPUID, !on); }

static void mask(unsigned leaf, unsigned sub, unsigned *a, unsigned *b, unsigned *c, unsigned *d)
{
    if (leaf == 1 && level < AVX2)
        *c &= ~(1u << 12 | 1u << 28 | 1u << 29); /* FMA, AVX, F16C */
    if (leaf == 7 && sub == 0) {
        *c &= ~(1u << 11);                          /* AVX512-VNNI */
        *d &= ~(1u << 22 | 1u << 24 | 1u << 25);    /* AMX */
        *d &= ~(1u << 23);                          /* AVX512-FP16 */
        if (level < AVX512) {
            *b &= ~(1u << 16 | 1u << 17 | 1u << 21 | 1u << 26 | 1u << 27 | 1u << 28 | 1u << 30 | 1u << 31);
            *c &= ~(1u << 1 | 1u << 6 | 1u << 12 | 1u << 14);
            *d &= ~(1u << 2 | 1u << 3 | 1u << 8);
        }
        if (level < AVX2) {
            *b &= ~(1u << 5 | 1u << 3 | 1u << 8); /* AVX2, BMI */
            *c &= ~(1u << 9 | 1u << 10);          /* VAES, VPCLMULQDQ */
        }
    }
    if (leaf == 7 && sub == 1) {
        *a &= ~(1u << 4 | 1u << 5 | 1u << 21 | 1u << 23); /* AVX-VNNI, bfloat16, AMX-FP16, AVX-IFMA */
        *d = 0;                                           /* AVX-VNNI-INT8, AVX-NE-CONVERT, AVX10 */
    }
    if (leaf == 0x1d || leaf == 0x1e || leaf == 0x24) /* AMX, AVX10 */
        *a = *b = *c = *d = 0;
    if (leaf == 0x80000001u && level < AVX2)
        *c &= ~(1u << 11 | 1u << 16 | 1u << 5); /* XOP, FMA4, LZCNT */
}

static void on_fault(int number, siginfo_t *info, void *context)
{
    greg_t *registers = ((ucontext_t *)context)->uc_mcontext.gregs;
    const unsigned char *code = (const unsigned char *)registers[REG_RIP];
    if (info->si_code == SI_KERNEL && code[0] == 0x0f && code[1] == 0xa2) {
        unsigned leaf = registers[REG_RAX], sub = registers[REG_RCX], a, b, c, d;
        trap(0);
        __cpuid_count(leaf, sub, a, b, c, d);
        trap(1);
        mask(leaf, sub, &a, &b, &c, &d);
        registers[REG_RAX] = a, registers[REG_RBX] = b;
        registers[REG_RCX] = c, registers[REG_RDX] = d;
        registers[REG_RIP] += 2;
        return;
    }
    if (others.sa_flags & SA_SIGINFO)
        others.sa_sigaction(number, info, context);
    else if (others.sa_handler != SIG_DFL && others.sa_handler != SIG_IGN)
        others.sa_handler(number);
    else {
        struct sigaction plain = {.sa_handler = SIG_DFL};
        real_sigaction(SIGSEGV, &plain, NULL); /* the instruction faults again */
    }
}

static void find_real(void)
{
    if (!real_sigaction)
        real_sigaction = dlsym(RTLD_NEXT, "sigaction");
    if (!real_sigmask)
        real_sigmask = dlsym(RTLD_NEXT, "pthread_sigmask");
}

int sigaction(int number, const struct sigaction *wanted, struct sigaction *before)
{
    find_real();
    if (number != SIGSEGV)
        return real_sigaction(number, wanted, before);
    if (before)
        *before = others;
    if (wanted)
        others = *wanted;
    return 0;
}

__sighandler_t signal(int number, __sighandler_t handler)
{
    struct sigaction wanted = {.sa_handler = handler, .sa_flags = SA_RESTART}, before;
    return sigaction(number, &wanted, &before) ? SIG_ERR : before.sa_handler;
}

int pthread_sigmask(int how, const sigset_t *set, sigset_t *before)
{
    find_real();
    sigset_t without;
    if (set && how != SIG_UNBLOCK) { /* a trap in a thread that blocks its signal ends the process */
        without = *set;
        sigdelset(&without, SIGSEGV);
        set = &without;
    }
    return real_sigmask(how, set, before);
}

int sigprocmask(int how, const sigset_t *set, sigset_t *before)
{
    return pthread_sigmask(how, set, before);
}

__attribute__((constructor)) static void begin(void)
{
    const char *name = getenv("FUSIONREC_TEST_LEVEL");
    if (!name)
        return;
    level = !strcmp(name, "sse4.2") ? SSE42 : !strcmp(name, "avx2") ? AVX2 : AVX512;
    find_real();
    struct sigaction ours = {.sa_sigaction = on_fault, .sa_flags = SA_SIGINFO | SA_NODEFER | SA_ONSTACK};
    real_sigaction(SIGSEGV, &ours, NULL);
    trap(1);
}
