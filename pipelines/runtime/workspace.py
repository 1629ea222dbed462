"""Where artifacts live: a folder or URI, with a manifest a stage and resume by parts.

Layout: ``<workspace>/<stage>/<artifact>/part-00000.parquet`` and one
``<workspace>/<stage>/manifest.json``, written last. A stage without a manifest is
unfinished and never read; its ``inprogress.json`` says which key its parts belong to,
so a repeated run keeps the finished ones. Every file is written under a temporary name
and renamed.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import time
import uuid
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, TypedDict

import pyarrow as pa
import pyarrow.parquet as pq
from pyarrow import fs as pafs

from fusionrec.errors import SchemaVersionError, WorkspaceError
from fusionrec.formats import files
from fusionrec.schemas import SCHEMA_VERSION

ROW_GROUP = 100_000
_LIBRARIES = ("fusionrec", "ray", "torch", "transformers", "gensim", "scikit-learn", "pyarrow")


def fingerprint(value: Any) -> str:
    """A short stable hash of any JSON value."""
    text = json.dumps(value, sort_keys=True, default=str)
    return hashlib.blake2b(text.encode(), digest_size=12).hexdigest()


class Manifest(TypedDict):
    """What a finished stage's `manifest.json` holds.

    `key` is the hash of `config`, which is all that the result depends on; `counts` are what the
    stage reports of its work.
    """

    schema_version: int
    stage: str
    key: str
    config: dict[str, Any]
    counts: dict[str, Any]
    seed: int
    run: str
    finished: str
    wall_seconds: float
    libraries: dict[str, str | None]


class Workspace:
    """A root on any filesystem pyarrow knows; cheap to make, picklable.

    Parameters
    ----------
    uri
        A local folder, or a URI such as ``s3://bucket/prefix``.
    linked
        Stages that are read elsewhere on the same filesystem: the root of each.

    Raises
    ------
    WorkspaceError
        If no filesystem serves the URI.
    """

    def __init__(self, uri: str, linked: Mapping[str, str] | None = None) -> None:
        self.linked = dict(linked or {})
        self.uri = uri if "://" in uri else str(Path(uri).expanduser().resolve())
        try:
            self.fs, self.root = pafs.FileSystem.from_uri(self.uri)
        except (pa.ArrowInvalid, OSError) as error:
            raise WorkspaceError(
                f"workspace {uri!r}: no such filesystem ({error}); "
                "use a local folder or a URI that pyarrow reads"
            ) from None

    def __reduce__(self) -> tuple[type[Workspace], tuple[str, dict[str, str]]]:
        return Workspace, (self.uri, self.linked)

    def variant(self, *parts: str, stages: Sequence[str]) -> Workspace:
        """A workspace below this one that reads some `stages` here and has others of its own."""
        linked = {stage: self.linked.get(stage, self.root) for stage in stages}
        return Workspace(files.join(self.uri, "/".join(parts)), linked)

    def path(self, *parts: str) -> str:
        """A path below the root, as its filesystem spells it."""
        root = self.linked.get(parts[0], self.root) if parts else self.root
        return "/".join((root, *parts))

    # --- files -------------------------------------------------------------------------

    def exists(self, *parts: str) -> bool:
        """Whether a file or folder is there."""
        kind = self.fs.get_file_info(self.path(*parts)).type
        return bool(kind != pafs.FileType.NotFound)

    def read_bytes(self, *parts: str) -> bytes:
        """A file's content."""
        with self.fs.open_input_stream(self.path(*parts)) as stream:
            return bytes(stream.read())

    @contextlib.contextmanager
    def replacing(self, *parts: str) -> Iterator[Any]:
        """A stream to write a file; it appears with all that was written, or not at all.

        Raises
        ------
        WorkspaceError
            The filesystem refuses: it is full, or read-only.
        """
        target = self.path(*parts)
        folder, _, name = target.rpartition("/")
        temporary = f"{folder}/.tmp-{uuid.uuid4().hex}-{name}"
        try:
            self.fs.create_dir(folder, recursive=True)
            with self.fs.open_output_stream(temporary) as stream:
                yield stream
            self.fs.move(temporary, target)
        except BaseException as error:
            with contextlib.suppress(OSError):
                self.fs.delete_file(temporary)
            if isinstance(error, OSError):
                raise WorkspaceError(
                    f"{target}: cannot be written ({error}); "
                    "free space there, or choose another folder with --set workspace=..."
                ) from None
            raise

    def write_bytes(self, content: bytes, *parts: str) -> None:
        """Write a file atomically: all of it appears, or nothing."""
        with self.replacing(*parts) as stream:
            stream.write(content)

    def read_json(self, *parts: str) -> Any:
        """A JSON file's value."""
        try:
            return json.loads(self.read_bytes(*parts))
        except ValueError:
            raise WorkspaceError(
                f"{self.path(*parts)}: is not JSON; delete the stage's folder and run again"
            ) from None

    def write_json(self, value: Any, *parts: str) -> None:
        """Write a JSON file atomically."""
        self.write_bytes(json.dumps(value, indent=1, default=str).encode(), *parts)

    def write_table(self, table: pa.Table, *parts: str) -> None:
        """Write one Parquet file atomically."""
        sink = pa.BufferOutputStream()
        pq.write_table(table, sink, row_group_size=ROW_GROUP, compression="zstd")
        self.write_bytes(sink.getvalue(), *parts)

    def delete(self, *parts: str) -> None:
        """Remove a folder and all in it, if it is there."""
        if self.exists(*parts):
            self.fs.delete_dir(self.path(*parts))

    # --- tables ------------------------------------------------------------------------

    def parts(self, stage: str, artifact: str) -> list[str]:
        """File names of an artifact's parts, in order."""
        selector = pafs.FileSelector(self.path(stage, artifact), allow_not_found=True)
        names = [info.base_name for info in self.fs.get_file_info(selector)]
        return sorted(n for n in names if n.startswith("part-") and n.endswith(".parquet"))

    def read_part(
        self,
        stage: str,
        artifact: str,
        part: str,
        columns: Sequence[str] | None = None,
        filters: Any = None,
    ) -> pa.Table:
        """One part of an artifact."""
        return pq.read_table(
            self.path(stage, artifact, part),
            filesystem=self.fs,
            columns=list(columns) if columns is not None else None,
            filters=filters,
            partitioning=None,
        )

    def read(
        self,
        stage: str,
        artifact: str,
        columns: Sequence[str] | None = None,
        filters: Any = None,
    ) -> pa.Table:
        """All parts of an artifact as one table: as large as the artifact's chosen columns."""
        names = self.parts(stage, artifact)
        if not names:
            raise WorkspaceError(
                f"{self.path(stage, artifact)}: has no parts; run `fusionrec {stage}` first"
            )
        return pa.concat_tables(
            [self.read_part(stage, artifact, name, columns, filters) for name in names]
        )

    # --- stages ------------------------------------------------------------------------

    def manifest(self, stage: str) -> Manifest | None:
        """A finished stage's manifest, else None.

        Raises
        ------
        SchemaVersionError
            If the stage was written with another schema version.
        """
        if not self.exists(stage, "manifest.json"):
            return None
        manifest: Manifest = self.read_json(stage, "manifest.json")
        found = manifest.get("schema_version")
        if found != SCHEMA_VERSION:
            raise SchemaVersionError(
                f"{self.path(stage)}: written with schema version {found!r}, but this fusionrec "
                f"reads version {SCHEMA_VERSION}; use the release that wrote it or a new workspace"
            )
        return manifest

    def require(self, stage: str) -> Manifest:
        """A finished stage's manifest.

        Raises
        ------
        WorkspaceError
            If the stage is not finished.
        """
        manifest = self.manifest(stage)
        if manifest is None:
            raise WorkspaceError(
                f"{self.path(stage)}: this stage is not finished; run `fusionrec {stage}` first"
            )
        return manifest

    def begin(self, stage: str, key: Mapping[str, Any]) -> StageRun | None:
        """Start a stage, or continue an interrupted run of it; None if it is up to date.

        `key` is everything the stage's result depends on. Parts left by an interrupted
        run with the same key are kept; anything else of the stage is deleted, its
        manifest first.
        """
        digest = fingerprint(key)
        manifest = self.manifest(stage)
        if manifest is not None and manifest["key"] == digest:
            return None
        run = StageRun(self, stage, digest, dict(key), time.time())
        if manifest is not None:
            self.fs.delete_file(self.path(stage, "manifest.json"))
        elif (
            self.exists(stage, "inprogress.json")
            and self.read_json(stage, "inprogress.json").get("key") == digest
        ):
            return run
        self.delete(stage)
        self.write_json({"key": digest, "schema_version": SCHEMA_VERSION}, stage, "inprogress.json")
        return run


@dataclass(frozen=True)
class StageRun:
    """A stage being written. Picklable, so that workers write their parts themselves."""

    workspace: Workspace
    stage: str
    key: str
    config: dict[str, Any]
    started: float
    resources: Mapping[str, float] = field(default_factory=dict)
    """Custom resources that its work asks for, wherever it runs."""

    def has(self, artifact: str, part: int) -> bool:
        """Whether an earlier, interrupted run already wrote this part."""
        return self.workspace.exists(self.stage, artifact, part_name(part))

    def write(self, table: pa.Table, artifact: str, part: int = 0) -> None:
        """Write one part of an artifact."""
        self.workspace.write_table(table, self.stage, artifact, part_name(part))

    @contextlib.contextmanager
    def writing(
        self, schema: pa.Schema, artifact: str, part: int, *, wanted: bool = True
    ) -> Iterator[pq.ParquetWriter]:
        """Write one part of an artifact table by table; it appears, whole, at the end.

        If it is not `wanted`, what is written goes nowhere.
        """
        if not wanted:
            with pq.ParquetWriter(pa.BufferOutputStream(), schema) as writer:
                yield writer
            return
        with (
            self.workspace.replacing(self.stage, artifact, part_name(part)) as stream,
            pq.ParquetWriter(stream, schema, compression="zstd") as writer,
        ):
            yield writer

    def write_json(self, value: Any, *parts: str) -> None:
        """Write a JSON file of the stage."""
        self.workspace.write_json(value, self.stage, *parts)

    def read_json(self, *parts: str) -> Any:
        """Read a JSON file of the stage."""
        return self.workspace.read_json(self.stage, *parts)

    def write_bytes(self, content: bytes, *parts: str) -> None:
        """Write any file of the stage."""
        self.workspace.write_bytes(content, self.stage, *parts)

    def commit(self, counts: Mapping[str, Any], *, seed: int = 0, run: str = "") -> Manifest:
        """Write the manifest, which makes the stage readable."""
        manifest: Manifest = {
            "schema_version": SCHEMA_VERSION,
            "stage": self.stage,
            "key": self.key,
            "config": self.config,
            "counts": dict(counts),
            "seed": seed,
            "run": run,
            "finished": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
            "wall_seconds": round(time.time() - self.started, 2),
            "libraries": {name: _version(name) for name in _LIBRARIES},
        }
        self.workspace.write_json(manifest, self.stage, "manifest.json")
        if self.workspace.exists(self.stage, "progress.json"):
            self.workspace.fs.delete_file(self.workspace.path(self.stage, "progress.json"))
        self.workspace.fs.delete_file(self.workspace.path(self.stage, "inprogress.json"))
        return manifest


def part_name(part: int) -> str:
    """The file name of part number `part`."""
    return f"part-{part:05d}.parquet"


def part_number(name: str) -> int:
    """The inverse of :func:`part_name`."""
    return int(name.removeprefix("part-").removesuffix(".parquet"))


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None
