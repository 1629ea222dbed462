"""Memory that the data-parallel workers of one node share, and how they wait for each other.

A process group of gloo sends what workers exchange through sockets. On one node they need not send
at all: each writes into memory that the others see. Order comes from semaphores in that memory,
one for each pair of workers, on which a worker spins for some microseconds and then sleeps; that of
a worker and itself says that it has failed.

The memory has no name anywhere (`memfd_create`), and so is gone with the last process that has it,
however that ends.
"""

from __future__ import annotations

import contextlib
import ctypes
import logging
import mmap
import os
import secrets
import select
import struct
import time
from functools import cache

import torch
import torch.distributed as dist
from torch import Tensor

from fusionrec.errors import StageError

log = logging.getLogger("fusionrec")

_LINE = 64
"""Bytes of a cache line, at which each worker's begin; a semaphore takes half of one."""
_TOKEN = 16
"""Random bytes with which the memory begins: another process's of the same number has others."""
_SLEEP = 1.0
"""Seconds of sleep after which a worker looks whether the one it waits for still lives."""
_SPINS = 100
"""Tries before a worker sleeps, of about half a microsecond each."""
_LEAST = 1 << 16
"""Bytes for a worker's exchanges, to begin with."""
_HUGE = 1 << 21
"""Bytes of a huge page."""


class _Timespec(ctypes.Structure):
    _fields_ = (("seconds", ctypes.c_long), ("nanoseconds", ctypes.c_long))


class NodeMemory:
    """A worker's view of what it shares with the others of the process group.

    All workers make the same calls in the same order; each call but :meth:`region` returns when
    all have made it.

    Parameters
    ----------
    rank, world
        Of this worker, and how many there are.
    seconds
        How long it waits for another.
    control
        The first memory, whose semaphores are ready.
    processes
        Of each other worker, a descriptor of its process, which is this object's to close.
    """

    def __init__(
        self,
        rank: int,
        world: int,
        seconds: float,
        control: mmap.mmap,
        processes: dict[int, int],
    ) -> None:
        self.rank, self.world, self.seconds = rank, world, seconds
        self._control, self._processes = control, processes
        self._first = _address(control) + _LINE
        self._exchange: Tensor | None = None
        self._turn = 0

    @staticmethod
    def join(rank: int, world: int, seconds: float | None = None) -> NodeMemory | None:
        """The memory that all workers of the default process group share, or None.

        None for all of them where one is on another node, or in a container of its own, or where
        the system has no such memory. One line of the log says which it is.

        Parameters
        ----------
        seconds
            How long a worker waits for another: by default, as long as process groups do.
        """
        if seconds is None:
            seconds = dist.default_pg_timeout.total_seconds()
        control, without = _opened(rank, world, (1 + world * world) * _LINE, world * world)
        processes: dict[int, int] = {}
        if control is not None:
            processes, without = _processes(rank, world)
        if control is None or without:
            if rank == 0:
                log.info("workers: they exchange through %s (%s)", dist.get_backend(), without)
            return None
        if rank == 0:
            log.info("workers: all %d exchange through memory that they share", world)
        return NodeMemory(rank, world, seconds, control, processes)

    def barrier(self) -> None:
        """Wait for all workers; what each wrote before is seen by all after.

        Raises
        ------
        StageError
            One has ended or failed, or takes too long.
        """
        for other in self._processes:
            _libc().sem_post(self._semaphore(self.rank, other))
        for other in self._processes:
            self._wait(other)

    def fail(self) -> None:
        """Tell the others that this worker comes to no further call, though its process may live.

        They notice it within a second, in the next call in which they wait for it.
        """
        _libc().sem_post(self._semaphore(self.rank, self.rank))

    def _failed(self, other: int) -> bool:
        value = ctypes.c_int()
        _libc().sem_getvalue(self._semaphore(other, other), ctypes.byref(value))
        return value.value > 0

    def region(self, size: int) -> Tensor:
        """Further memory of so many bytes, zeros, the same on all workers; uint8 (size,)."""
        found, without = _opened(self.rank, self.world, _LINE + size)
        if found is None:
            raise StageError(
                f"train: {size / 2**20:,.0f} MB cannot be shared by workers: {without}"
            )
        return torch.frombuffer(found, dtype=torch.uint8, offset=_LINE, count=size)

    def gather(self, x: Tensor) -> Tensor:
        """Every worker's `x`, on a CPU and of one shape, (world, *x.shape)."""
        return self._seen(x).clone()

    def sum(self, x: Tensor) -> Tensor:
        """The sum over the workers, in the order of their ranks."""
        return self._seen(x).sum(0)

    def _seen(self, x: Tensor) -> Tensor:
        """Every worker's `x` where it lies, which the second exchange after this one overwrites.

        A worker that comes to that one has passed the one between, for which all have read this.
        """
        size = x.numel() * x.element_size()
        room = _lines(size)
        if self._exchange is None or self._exchange.shape[-1] < room:
            room = max(_LEAST, 1 << (room - 1).bit_length())
            self._exchange = self.region(2 * self.world * room).view(2, self.world, room)
        self._turn ^= 1
        slots = self._exchange[self._turn, :, :size].view(x.dtype)
        slots[self.rank].copy_(x.detach().reshape(-1))
        self.barrier()
        return slots.view(self.world, *x.shape)

    def _semaphore(self, of: int, waits: int) -> ctypes.c_void_p:
        return ctypes.c_void_p(self._first + (of * self.world + waits) * _LINE)

    def _wait(self, other: int) -> None:
        semaphore = self._semaphore(other, self.rank)
        for _ in range(_SPINS):
            if not _libc().sem_trywait(semaphore):
                return
        begun, ended, failed = time.monotonic(), False, False
        while True:
            until = time.time() + (0.0 if ended or failed else _SLEEP)
            at = _Timespec(int(until), int(until % 1 * 1e9))
            if not _libc().sem_timedwait(semaphore, ctypes.byref(at)):
                return
            if failed:
                raise StageError(
                    f"train: worker {other} has failed; worker {self.rank} waited for it"
                )
            if ended:
                raise StageError(
                    f"train: worker {other} has ended; worker {self.rank} waited for it"
                )
            # Its last deed may have been what is waited for: once more, then.
            ended = bool(select.select([self._processes[other]], [], [], 0)[0])
            failed = self._failed(other)
            if time.monotonic() - begun > self.seconds:
                raise StageError(
                    f"workers: {self.rank} has waited {self.seconds:,.0f} s for worker {other}"
                )

    def __del__(self) -> None:
        for process in self._processes.values():
            os.close(process)


def _lines(size: int) -> int:
    """So many bytes, rounded up to whole cache lines."""
    return -(-size // _LINE) * _LINE


def _told(numbers: list[int], world: int) -> list[list[int]]:
    """What each worker of the default process group says, by a sum: some backends have no more."""
    said = torch.zeros(world, len(numbers), dtype=torch.int64)
    said[dist.get_rank()] = torch.tensor(numbers)
    dist.all_reduce(said)
    told: list[list[int]] = said.tolist()
    return told


def _opened(rank: int, world: int, size: int, semaphores: int = 0) -> tuple[mmap.mmap | None, str]:
    """Memory of so many bytes that all workers have mapped, or None and why.

    It has its token and then the semaphores, a line each.
    """
    mapped, fault, about = None, "worker 0 has made none", [0] * 5
    if rank == 0:
        try:
            descriptor, mapped, token = _made(size, semaphores)
            about = [os.getpid(), descriptor, size, *struct.unpack("qq", token)]
        except (OSError, AttributeError) as error:
            fault = f"no shared memory: {error}"
    process, descriptor, given, *halves = _told(about, world)[0]
    if rank and process and given == size:
        mapped = _found(process, descriptor, size, struct.pack("qq", *halves))
    have = _told([int(mapped is not None)], world)
    if rank == 0 and process:
        os.close(descriptor)
    without = [str(other) for other, (has,) in enumerate(have) if not has]
    if process and without:
        fault = f"worker 0 shares no memory with {', '.join(without)}"
    return (None, fault) if without else (mapped, "")


def _made(size: int, semaphores: int) -> tuple[int, mmap.mmap, bytes]:
    descriptor = os.memfd_create("fusionrec")
    try:
        os.ftruncate(descriptor, size)
        mapped = _mapped(descriptor, size)
        token = mapped[:_TOKEN] = secrets.token_bytes(_TOKEN)
        first = _address(mapped) + _LINE
        for number in range(semaphores):
            if _libc().sem_init(ctypes.c_void_p(first + number * _LINE), 1, 0):
                raise OSError(ctypes.get_errno(), "no semaphores between processes")
    except BaseException:
        os.close(descriptor)
        raise
    return descriptor, mapped, token


def _found(process: int, descriptor: int, size: int, token: bytes) -> mmap.mmap | None:
    """What worker 0 has made, if that is a process that this one sees."""
    try:
        mine = os.open(f"/proc/{process}/fd/{descriptor}", os.O_RDWR | os.O_CLOEXEC)
    except OSError:
        return None
    try:
        mapped = _mapped(mine, size) if os.fstat(mine).st_size == size else None
    except OSError:
        return None
    finally:
        os.close(mine)
    return mapped if mapped is not None and mapped[:_TOKEN] == token else None


def _mapped(descriptor: int, size: int) -> mmap.mmap:
    mapped = mmap.mmap(descriptor, size)
    if size >= _HUGE:
        # A product reads a layer's weights from one page instead of from hundreds.
        with contextlib.suppress(OSError):  # a kernel without huge pages for such memory
            mapped.madvise(mmap.MADV_HUGEPAGE)
    return mapped


def _processes(rank: int, world: int) -> tuple[dict[int, int], str]:
    """Descriptors of the other workers' processes, by rank, or why not all workers have them."""
    found: dict[int, int] = {}
    with contextlib.suppress(OSError, AttributeError):
        for other, (process,) in enumerate(_told([os.getpid()], world)):
            if other != rank:
                found[other] = os.pidfd_open(process)
    if all(count == world - 1 for (count,) in _told([len(found)], world)):
        return found, ""
    for descriptor in found.values():
        os.close(descriptor)
    return {}, "no descriptors of processes"


def _address(mapped: mmap.mmap) -> int:
    return ctypes.addressof(ctypes.c_char.from_buffer(mapped))


@cache
def _libc() -> ctypes.CDLL:
    return ctypes.CDLL(None, use_errno=True)
