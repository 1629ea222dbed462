"""A folder that appears with all that is in it, or not at all."""

from __future__ import annotations

import contextlib
import errno
import json
import logging
import os
import shutil
import uuid
from collections.abc import Iterator
from pathlib import Path

from fusionrec.errors import ConfigError

log = logging.getLogger("fusionrec")

MANIFEST = "manifest.json"
FORMAT = "fusionrec export"
"""The `format` of a manifest, by which an export is known for one."""


_FILES = ("songs", "users", "index", "network")
"""Of a manifest, what has a `file`."""


def refuse_taken(out: Path, force: bool, at: Path | None = None) -> None:
    """See that a folder may be written, or replaced.

    Parameters
    ----------
    out
        As it is named.
    force
        An export may be replaced.
    at
        Where it lies now, if that is elsewhere.

    Raises
    ------
    ConfigError
        Something is there already, and it is not to be replaced, or is no export or more than one.
    """
    if "://" in str(out) or str(out).startswith(("s3:/", "gs:/")):
        raise ConfigError(f"--out {out}: must be a local folder; copy it from there")
    at = at or out
    if at.is_dir() and os.path.ismount(at):
        raise ConfigError(f"--out {out}: {_MOUNT}")
    if not at.exists() or (at.is_dir() and not any(at.iterdir())):
        return
    if not at.is_dir():
        raise ConfigError(f"--out {out}: is a file: name a new folder")
    files = _files_of_export(at)
    if files is None:
        raise ConfigError(f"--out {out}: has files that are of no export: name a new folder")
    if not force:
        raise ConfigError(f"--out {out}: has an export: name a new folder, or replace it (--force)")
    more = sorted(path.name for path in at.iterdir() if path.name not in files)
    if more:
        raise ConfigError(
            f"--out {out}: has {', '.join(more[:3])}{' and more' if more[3:] else ''} beside an "
            "export: move that elsewhere, or name a new folder"
        )


_MOUNT = "is a mount point, which no folder can take the place of: name a folder below it"


def _files_of_export(folder: Path) -> set[str] | None:
    """The files of the export that is in a folder; None if none is."""
    try:
        manifest = json.loads((folder / MANIFEST).read_bytes())
    except (OSError, ValueError):
        return None
    if not isinstance(manifest, dict) or manifest.get("format") != FORMAT:
        return None
    about = (manifest.get(name) for name in _FILES)
    return {MANIFEST, *(str(each.get("file")) for each in about if isinstance(each, dict))}


@contextlib.contextmanager
def replacing(out: Path, force: bool) -> Iterator[Path]:
    """Yield a temporary folder beside `out`, which takes its place at the end.

    What is there then is looked at again. A link stays, and what it leads to is replaced.

    Raises
    ------
    ConfigError
        The filesystem refuses, or :func:`refuse_taken` does.
    """
    refuse_taken(out, force)
    place = Path(os.path.realpath(out))
    new, old = (place.with_name(f".{place.name}-{uuid.uuid4().hex}") for _ in range(2))
    try:
        with refused(place):
            new.mkdir(parents=True)
        yield new
        with refused(place):
            if place.exists():
                place.rename(old)
                # Nobody writes to `out` any more: what came meanwhile is here, or comes too late.
                refuse_taken(out, force, at=old)
            new.rename(place)
        shutil.rmtree(old, ignore_errors=True)
    finally:
        if old.exists() and not place.exists():  # it was not replaced
            old.rename(place)
        elif old.exists():
            log.warning("export: what was in %s before is in %s", place, old)
        shutil.rmtree(new, ignore_errors=True)


@contextlib.contextmanager
def refused(file: Path) -> Iterator[None]:
    """What a filesystem says that is full or read-only, as an error that names the file.

    Raises
    ------
    ConfigError
        It refuses.
    """
    try:
        yield
    except OSError as error:
        if error.errno == errno.EBUSY:
            raise ConfigError(f"--out: {file}: {_MOUNT}") from None
        raise ConfigError(
            f"--out: {file}: cannot be written ({error.strerror or error}); free space there, or "
            "name another folder"
        ) from None
