"""The rate of matrix products: the limit that others are measured against."""

from __future__ import annotations

import torch

from gpu_parts.report import Clock, Options


def peak(dtype: str, options: Options) -> float:
    """Operations per second of a large square product of random numbers, the best of several."""
    size = 8192 if options.on_gpu else 1024
    return product(size, size, size, dtype, options)


def product(rows: int, inner: int, columns: int, dtype: str, options: Options) -> float:
    """Operations per second of (rows, inner) @ (inner, columns), the best of several turns."""
    kind = getattr(torch, dtype)
    a = torch.randn(rows, inner, dtype=kind, device=options.device)
    b = torch.randn(inner, columns, dtype=kind, device=options.device)
    a @ b
    best = 0.0
    for _ in range(3):
        clock = Clock(options.seconds(0.2, 0.05), options.device)
        for _ in clock:
            # Several between two waits, which cost as much as a small product.
            for _ in range(5 if options.on_gpu else 1):
                a @ b
        best = max(best, 2.0 * rows * inner * columns * clock.count / clock.seconds)
    return best * (5 if options.on_gpu else 1)
