"""Arrays to a device and back; on a GPU beside its arithmetic, which waits for none of it.

A batch's ids go up while the batch before it is computed, and its vectors come down while the next
one is: each way has a stream of its own, and host memory that the GPU reads and writes by itself.
Elsewhere nothing is copied twice, and nothing waits.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor


class Transfer:
    """To and from one device."""

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._up: Any = None
        self._down: Any = None

    @property
    def overlaps(self) -> bool:
        """Whether a result may be asked for while the device is still at work on it."""
        return self._device.type == "cuda"

    def up(self, *arrays: NDArray[np.integer] | NDArray[np.bool_]) -> list[Tensor]:
        """Arrays of whole numbers as int32 on the device, in one copy."""
        whole = torch.from_numpy(np.concatenate(arrays, dtype=np.int32, casting="same_kind"))
        whole = self._copied_up(whole) if self.overlaps else whole.to(self._device)
        parts: list[Tensor] = list(torch.split(whole, [len(array) for array in arrays]))
        return parts

    def down(self, found: Tensor) -> Callable[[], NDArray[np.float32]]:
        """Begin to copy a result; the function waits for it, and for no more, and returns it."""
        if not self.overlaps:
            return lambda: found.cpu().numpy()
        if self._down is None:
            self._down = torch.cuda.Stream(self._device)  # type: ignore[no-untyped-call]
        host = torch.empty(found.shape, dtype=found.dtype, pin_memory=True)
        self._down.wait_stream(torch.cuda.current_stream(self._device))
        with torch.cuda.stream(self._down):
            host.copy_(found, non_blocking=True)
            done: Any = torch.cuda.Event()  # type: ignore[no-untyped-call]
            done.record()
        # Else its memory is given away once Python lets go of it, before it has been read.
        found.record_stream(self._down)

        def arrived() -> NDArray[np.float32]:
            done.synchronize()
            vectors: NDArray[np.float32] = host.numpy()
            return vectors

        return arrived

    def _copied_up(self, whole: Tensor) -> Tensor:
        if self._up is None:
            self._up = torch.cuda.Stream(self._device)  # type: ignore[no-untyped-call]
        with torch.cuda.stream(self._up):
            there = whole.pin_memory().to(self._device, non_blocking=True)
        here = torch.cuda.current_stream(self._device)
        here.wait_stream(self._up)
        # Its memory is the other stream's, which may give it away while this one still reads it.
        there.record_stream(here)
        return there
