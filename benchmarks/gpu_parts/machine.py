"""What this runs on, and how quickly it multiplies matrices."""

from __future__ import annotations

import contextlib
import importlib.metadata
import os
import platform
import subprocess
import time
from pathlib import Path

from gpu_parts.report import Options, Report

PACKAGES = ("transformers", "numpy", "pyarrow", "numba", "sentence-transformers", "ray")


def run(report: Report, options: Options) -> None:
    """Choose the device; the machine, the versions, and the peak."""
    started = time.perf_counter()
    import torch

    report.figure("importing torch", time.perf_counter() - started, "s")
    there = torch.cuda.is_available()
    if options.device == "cuda" and not there:
        build = torch.version.cuda or "none: this is a build for CPUs"
        raise RuntimeError(
            f"PyTorch {torch.__version__} (CUDA {build}) finds no GPU; driver: {driver()}"
        )
    device = "cuda" if there and options.device != "cpu" else "cpu"
    if device == "cuda":
        properties = torch.cuda.get_device_properties(0)
        report.figure("GPU", properties.name)
        report.figure("GPU memory", properties.total_memory / 2**30, "GiB")
        report.figure("driver", driver())
        report.figure("CUDA", str(torch.version.cuda))
    report.figure("torch", torch.__version__)
    report.figure("Python", platform.python_version())
    for name in PACKAGES:
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            report.figure(name, importlib.metadata.version(name))
    report.figure("CPU", cpu_model())
    report.figure("cores", len(os.sched_getaffinity(0)))
    report.figure("RAM", os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30, "GiB")
    from gpu_parts.peak import peak

    small = Options(device, options.pace)
    report.figure("matrix product, bfloat16", peak("bfloat16", small) / 1e12, "TFLOP/s")
    # Last, and what the runner goes by: a device on which a product fails is none.
    report.figure("device", device)


def driver() -> str:
    """The NVIDIA driver's version."""
    try:
        query = ["nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader"]
        return subprocess.run(query, capture_output=True, text=True, timeout=20).stdout.strip()
    except (OSError, subprocess.TimeoutExpired):
        return "none"


def cpu_model() -> str:
    """The processor's name."""
    with contextlib.suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    return platform.processor() or platform.machine()
