"""Functions that numba compiles, and keeps on disk for the next process.

numba notices that a function's own file has changed, but not that one has from which it takes
inner functions or constants: what it kept before would then run on, with other ideas of where
things lie in memory. Here what is kept belongs to the sources of a whole folder. It lies where
NUMBA_CACHE_DIR says, or in the folder's `__pycache__`, or in the user's cache, or, where none of
these can be written (a container with a random user, say), in the temporary folder.

All that is borrowed from within numba's cache is in this module; without it, nothing is kept.
"""

from __future__ import annotations

import hashlib
import os
import tempfile
from pathlib import Path
from typing import Any

from numba import config, njit

try:
    from numba.core.caching import (
        InTreeCacheLocator,
        UserProvidedCacheLocator,
        UserWideCacheLocator,
    )
except ImportError:  # a numba that keeps it elsewhere
    InTreeCacheLocator = UserProvidedCacheLocator = UserWideCacheLocator = None


def compiled(function: Any) -> Any:
    """Decorate a function with numba's `njit`, without the GIL and with NumPy's division."""
    options = {"nogil": True, "error_model": "numpy"}
    if InTreeCacheLocator is None or not hasattr(config, "CACHE_LOCATOR_CLASSES"):
        return njit(**options)(function)
    before = config.CACHE_LOCATOR_CLASSES
    config.CACHE_LOCATOR_CLASSES = ",".join(f"{__name__}.{kind.__name__}" for kind in _LOCATORS)
    try:
        return njit(cache=True, **options)(function)
    finally:
        config.CACHE_LOCATOR_CLASSES = before


if InTreeCacheLocator is not None:

    class _OfFolder:
        """What is kept is fresh while no module of the function's folder changes."""

        _py_file: str

        def get_source_stamp(self) -> str:
            digest = hashlib.sha256()
            for path in sorted(Path(self._py_file).parent.glob("*.py")):
                digest.update(path.name.encode() + b"\0" + path.read_bytes() + b"\0")
            return digest.hexdigest()

    class Named(_OfFolder, UserProvidedCacheLocator):
        """In NUMBA_CACHE_DIR."""

    class Beside(_OfFolder, InTreeCacheLocator):
        """In `__pycache__`."""

    class OfUser(_OfFolder, UserWideCacheLocator):
        """In the user's cache."""

    class Temporary(_OfFolder, UserWideCacheLocator):
        """In a folder of the temporary one that is this user's alone."""

        def __init__(self, py_func: Any, py_file: str) -> None:
            self._py_file = py_file
            self._lineno = py_func.__code__.co_firstlineno
            own = Path(tempfile.gettempdir()) / f"fusionrec-numba-{os.getuid()}"
            own.mkdir(mode=0o700, exist_ok=True)
            if own.stat().st_uid != os.getuid():  # who could put code there that runs here
                own = Path(tempfile.mkdtemp())
            self._cache_path = str(own / self.get_suitable_cache_subpath(py_file))

    _LOCATORS = (Named, Beside, OfUser, Temporary)
