"""Levels of the x86-64 instruction set that programs can be made to see.

    python -m tests.processors.levels avx2 COMMAND ...

runs a command as on a processor of that level. Where a C compiler is at hand and the kernel can
trap CPUID, every library sees it (`mask_cpuid.c`); elsewhere torch and numba are told by their own
variables. A level above the machine's own is the machine's own.
"""

from __future__ import annotations

import hashlib
import os
import platform
import shutil
import subprocess
import sys
import tempfile
from functools import cache
from pathlib import Path

LEVELS = ("sse4.2", "avx2", "avx512")
"""What x86-64 processors of 2009, 2013 and 2017 have; the last without VNNI, bfloat16 and AMX."""

_SOURCE = Path(__file__).with_name("mask_cpuid.c")

_VARIABLES = {
    "sse4.2": {
        "ONEDNN_MAX_CPU_ISA": "SSE41",
        "ATEN_CPU_CAPABILITY": "default",
        "NUMBA_CPU_NAME": "nehalem",
        "NUMBA_CPU_FEATURES": "+sse4.2",
    },
    "avx2": {
        "ONEDNN_MAX_CPU_ISA": "AVX2",
        "ATEN_CPU_CAPABILITY": "avx2",
        "NUMBA_CPU_NAME": "haswell",
        "NUMBA_CPU_FEATURES": "+avx2,+fma",
    },
    "avx512": {
        "ONEDNN_MAX_CPU_ISA": "AVX512_CORE",
        "ATEN_CPU_CAPABILITY": "avx512",
        "NUMBA_CPU_NAME": "skylake-avx512",
        "NUMBA_CPU_FEATURES": "+avx512f,+avx512bw,+avx512dq,+avx512vl",
    },
}


def forced(level: str) -> dict[str, str]:
    """Environment variables under which programs see a processor of this level."""
    library = _mask()
    if library is None:
        return _VARIABLES[level]
    before = os.environ.get("LD_PRELOAD", "")
    return {"FUSIONREC_TEST_LEVEL": level, "LD_PRELOAD": f"{library} {before}".strip()}


def available() -> tuple[str, ...]:
    """Levels that can be forced here, none beyond the machine's own."""
    if platform.machine() != "x86_64":
        return ()
    import torch

    own = torch.cpu.get_capabilities()
    needs = {"sse4.2": "sse4_2", "avx2": "avx2", "avx512": "avx512_bw"}
    return tuple(level for level in LEVELS if own.get(needs[level]))


@cache
def _mask() -> Path | None:
    """The library that masks CPUID, compiled; None where that, or trapping, does not work."""
    compiler = shutil.which("cc") or shutil.which("gcc")
    if sys.platform != "linux" or platform.machine() != "x86_64" or not compiler:
        return None
    source = _SOURCE.read_bytes()
    folder = Path(tempfile.gettempdir()) / f"fusionrec-{os.getuid()}"
    folder.mkdir(mode=0o700, exist_ok=True)
    library = folder / f"mask_cpuid-{hashlib.sha256(source).hexdigest()[:16]}.so"
    if not library.exists():
        made = library.with_suffix(f".{os.getpid()}")
        command = [compiler, "-O2", "-shared", "-fPIC", "-o", str(made), str(_SOURCE), "-ldl"]
        if subprocess.run(command, capture_output=True, check=False).returncode:
            return None
        made.rename(library)
    environment = {**os.environ, "LD_PRELOAD": str(library), "FUSIONREC_TEST_LEVEL": "sse4.2"}
    look = "import llvmlite.binding as b; print(b.get_host_cpu_features()['avx'])"
    seen = subprocess.run(
        [sys.executable, "-c", look], env=environment, capture_output=True, text=True, check=False
    )
    return library if seen.stdout.strip() == "False" else None


if __name__ == "__main__":
    chosen, *rest = sys.argv[1:]
    os.execvpe(rest[0], rest, {**os.environ, **forced(chosen)})
