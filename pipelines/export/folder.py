"""A folder that appears with all that is in it, or not at all."""

from __future__ import annotations

import contextlib
import json
import shutil
import uuid
from collections.abc import Iterator
from pathlib import Path

from fusionrec.errors import ConfigError

MANIFEST = "manifest.json"
FORMAT = "fusionrec export"
"""The `format` of a manifest, by which an export is known for one."""


def refuse_taken(out: Path, force: bool) -> None:
    """See that a folder may be written, or replaced.

    Raises
    ------
    ConfigError
        Something is there already, and it is not to be replaced, or is no export.
    """
    if "://" in str(out) or str(out).startswith(("s3:/", "gs:/")):
        raise ConfigError(f"--out {out}: must be a local folder; copy it from there")
    if not out.exists() or (out.is_dir() and not any(out.iterdir())):
        return
    if not out.is_dir():
        raise ConfigError(f"--out {out}: is a file: name a new folder")
    if not _is_export(out):
        raise ConfigError(f"--out {out}: has files that are of no export: name a new folder")
    if not force:
        raise ConfigError(f"--out {out}: has an export: name a new folder, or replace it (--force)")


def _is_export(folder: Path) -> bool:
    try:
        manifest = json.loads((folder / MANIFEST).read_bytes())
    except (OSError, ValueError):
        return False
    return isinstance(manifest, dict) and manifest.get("format") == FORMAT


@contextlib.contextmanager
def replacing(out: Path) -> Iterator[Path]:
    """Yield a temporary folder beside `out`, which takes its place at the end.

    Raises
    ------
    ConfigError
        The filesystem refuses.
    """
    out = out.absolute()
    new, old = (out.with_name(f".{out.name}-{uuid.uuid4().hex}") for _ in range(2))
    try:
        with refused(out):
            new.mkdir(parents=True)
        yield new
        with refused(out):
            if out.exists():
                out.rename(old)
            new.rename(out)
    finally:
        if old.exists() and not out.exists():  # it was not replaced
            old.rename(out)
        for folder in (new, old):
            shutil.rmtree(folder, ignore_errors=True)


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
        raise ConfigError(
            f"--out: {file}: cannot be written ({error.strerror or error}); free space there, or "
            "name another folder"
        ) from None
