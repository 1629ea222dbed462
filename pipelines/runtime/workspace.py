"""Where results live: a folder or URI, addressed by what each result depends on.

Layout: ``<workspace>/<stage>/<key>/<artifact>/part-00000.parquet`` and one
``<workspace>/<stage>/<key>/manifest.json``, written last. The key is a hash of all that the result
depends on (:mod:`pipelines.runtime.stage`), so results of several configs lie side by side, and
nothing that an earlier run left behind can be taken for this one's. A result without a manifest is
unfinished and read by nobody but the run that goes on with it. ``<workspace>/current.json`` is
the one pointer: which result of each stage the last run was of; ``seen`` has, for results of
outside inputs, which one was up to date when a run last looked at these. Every file is written
under a temporary name and renamed.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import re
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatch
from importlib.metadata import PackageNotFoundError, version
from typing import Any, NotRequired, TypedDict, TypeVar

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from pyarrow import fs as pafs

from fusionrec.errors import SchemaVersionError, WorkspaceError
from fusionrec.schemas import SCHEMA_VERSION
from pipelines.runtime.storage import ROW_GROUP, Storage

T = TypeVar("T")

_POINTER, _SEEN, _MANIFEST = "current.json", "seen", "manifest.json"
_NO_RESULT = "none"
_CHOICES = "choices"
SETTLED = ("gpus", "settled.json")
"""In an unfinished result, what was settled about GPUs, each time that it was gone on with."""
KEPT = "kept_results"
"""The folder of an unfinished result that names those that its work needs."""
MANIFEST = "manifest.json"
_KEY = re.compile(r"[0-9a-f]{24}")
_LIBRARIES = ("fusionrec", "ray", "torch", "transformers", "gensim", "scikit-learn", "pyarrow")


def fingerprint(value: Any) -> str:
    """A short stable hash of any JSON value."""
    text = json.dumps(value, sort_keys=True, default=str)
    return hashlib.blake2b(text.encode(), digest_size=12).hexdigest()


def result_key(stage: str, content: Mapping[str, Any]) -> str:
    """The key of a stage's result that depends on `content` (JSON)."""
    return fingerprint([stage, content])


class Manifest(TypedDict):
    """What a finished result's `manifest.json` holds.

    `key` is the hash of `content`, which is all that the result depends on but the choices of its
    environment, `choices`; `identity` covers both, and is what later stages depend on. `lineage`
    has the key of each stage that it was made from, directly or not, and `uses` other results that
    it was made from, as pairs of stage and key. `counts` are what the stage reports of its work;
    `gpus` says how many each worker had and why, of work that may have some, once for each time
    that it was settled otherwise (:mod:`pipelines.runtime.gpus`).
    """

    schema_version: int
    stage: str
    key: str
    identity: str
    content: dict[str, Any]
    choices: dict[str, Any]
    lineage: dict[str, str]
    uses: list[list[str]]
    counts: dict[str, Any]
    gpus: NotRequired[list[dict[str, Any]]]
    seed: int
    run: str
    finished: str
    wall_seconds: float
    libraries: dict[str, str | None]


class Workspace(Storage):
    """A root on any filesystem pyarrow knows; cheap to make, picklable.

    Parameters
    ----------
    uri
        A local folder, or a URI such as ``s3://bucket/prefix``.
    keys
        Which result of each stage is read; of a stage that is not named, the current one.

    Raises
    ------
    WorkspaceError
        If no filesystem serves the URI.
    """

    def __init__(self, uri: str, keys: Mapping[str, str] | None = None) -> None:
        super().__init__(uri)
        self.keys = dict(keys or {})

    def __eq__(self, other: object) -> bool:
        """Of the same place, with the same results: what was read of one is there for the other."""
        if not isinstance(other, Workspace):
            return NotImplemented
        return (self.uri, self.keys) == (other.uri, other.keys)

    def __hash__(self) -> int:
        return hash((self.uri, frozenset(self.keys.items())))

    def __reduce__(self) -> tuple[type[Workspace], tuple[str, dict[str, str]]]:
        return Workspace, (self.uri, self.keys)

    def at(self, keys: Mapping[str, str]) -> Workspace:
        """The same workspace, with these results of these stages."""
        return Workspace(self.uri, {**self.keys, **keys})

    def of(self, stage: str) -> Workspace:
        """The workspace as this stage saw it: its result, and each that it was made from.

        Raises
        ------
        WorkspaceError
            If the stage is not finished.
        """
        manifest = self.require(stage)
        return self.at({**manifest["lineage"], stage: manifest["key"]})

    def key(self, stage: str) -> str | None:
        """The key of the result that is read of a stage; None if there is none."""
        return self.keys.get(stage) or self.current().get(stage)

    def path(self, *parts: str) -> str:
        """A path below a stage's result (the first of `parts` is the stage), or the root."""
        if not parts:
            return str(self.root)
        stage, *below = parts
        return "/".join((self.root, stage, self.key(stage) or _NO_RESULT, *below))

    # --- the pointer and the results ---------------------------------------------------

    def current(self) -> dict[str, str]:
        """The key of each stage's current result."""
        path = f"{self.root}/{_POINTER}"
        content = self._content(path)
        return {} if content is None else dict(self._json(content, path)["stages"])

    def point(self, keys: Mapping[str, str]) -> None:
        """Make these results of these stages the current ones.

        Of two runs that end together, none takes the other's away where the workspace is a local
        folder. Elsewhere it may happen; what is read is not affected, but what `status` shows and
        `clean` keeps.
        """
        if keys.items() <= self.current().items():
            return
        with self._alone():
            self._write_pointer({**self.current(), **keys})

    def _write_pointer(self, keys: Mapping[str, str]) -> None:
        value = {"schema_version": SCHEMA_VERSION, "stages": dict(keys)}
        with self._replacing(f"{self.root}/{_POINTER}") as stream:
            stream.write(json.dumps(value, indent=1).encode())

    def point_to_none(self, stage: str) -> None:
        """Let no result of this stage be the current one; those that there are stay."""
        with self._alone():
            current = self.current()
            if current.pop(stage, None) is not None:
                self._write_pointer(current)

    def see(self, stage: str, settings: str, key: str) -> None:
        """Note which result of a stage is up to date with its outside inputs, for these settings.

        Parameters
        ----------
        settings
            A hash of all that it depends on but the outside inputs.
        """
        if self.last_seen(stage, settings) != key:
            with self._replacing(self._seen(stage, settings)) as stream:
                stream.write(key.encode())

    def last_seen(self, stage: str, settings: str) -> str | None:
        """What :meth:`see` noted last; None if nothing."""
        content = self._content(self._seen(stage, settings))
        return None if content is None else content.decode()

    def _seen(self, stage: str, settings: str) -> str:
        return f"{self.root}/{_SEEN}/{stage}-{settings}"

    def results(self, stage: str) -> list[str]:
        """Keys of all results of a stage, finished or not; other folders are not ours."""
        return [name for name in self._folders(f"{self.root}/{stage}") if _KEY.fullmatch(name)]

    def stages(self) -> list[str]:
        """Every stage that has a result, finished or not."""
        return [name for name in self._folders(self.root) if name != _SEEN]

    # --- manifests -----------------------------------------------------------------------

    def manifest(self, stage: str) -> Manifest | None:
        """The manifest of a stage's finished result, else None.

        Raises
        ------
        SchemaVersionError
            If it was written with another schema version.
        """
        key = self.key(stage)
        content = None if key is None else self._content(self.path(stage, MANIFEST))
        if content is None:
            self._refuse_old_layout(stage)
            return None
        manifest: Manifest = self._json(content, self.path(stage, MANIFEST))
        found = manifest.get("schema_version")
        if found != SCHEMA_VERSION:
            raise self._other_version(stage, found)
        return manifest

    def _refuse_old_layout(self, stage: str) -> None:
        """Until schema version 4 a stage had one result, right below its folder."""
        content = self._content(f"{self.root}/{stage}/{MANIFEST}")
        if content is not None:
            raise self._other_version(stage, json.loads(content).get("schema_version"))

    def _other_version(self, stage: str, found: object) -> SchemaVersionError:
        return SchemaVersionError(
            f"{self.root}/{stage}: written with schema version {found!r}, but this fusionrec "
            f"reads version {SCHEMA_VERSION}; use the release that wrote it or a new workspace"
        )

    def require(self, stage: str) -> Manifest:
        """The manifest of a stage's finished result.

        Raises
        ------
        WorkspaceError
            If the stage is not finished.
        """
        manifest = self.manifest(stage)
        if manifest is None:
            raise WorkspaceError(
                f"{self.root}/{stage}: this stage is not finished; run `fusionrec {stage}` first"
            )
        return manifest

    def begin(
        self, stage: str, content: Mapping[str, Any], lineage: Mapping[str, str] | None = None
    ) -> StageRun | None:
        """Start the result that depends on `content` (JSON), or go on with it; None if finished.

        What is made from other results names them in its `lineage`; those of this workspace, if
        none are given.
        """
        digest = result_key(stage, content)
        reading = self.at({stage: digest})
        if reading.manifest(stage) is not None:
            return None
        lineage = self.keys if lineage is None else lineage
        return StageRun(reading, stage, digest, dict(content), dict(lineage), time.time())

    def publish(self, stage: str, patterns: Sequence[str]) -> None:
        """Copy the files of a stage's result that people open to where they look: its folder.

        They are for people only: nothing reads them.
        """
        if not patterns:
            return

        def published(path: str) -> list[pafs.FileInfo]:
            """Not the manifest, nor what another run writes at this moment, nor anyone's notes."""
            return [
                info
                for info in self._files(path)
                if any(fnmatch(info.base_name, pattern) for pattern in patterns)
                and info.base_name != MANIFEST
                and not info.base_name.startswith(".")
            ]

        folder = f"{self.root}/{stage}"
        there = {info.base_name for info in published(folder)}
        chosen = published(self.path(stage))
        for info in chosen:
            content = self._content(info.path)
            if content != self._content(f"{folder}/{info.base_name}"):
                with self._replacing(f"{folder}/{info.base_name}") as stream:
                    stream.write(content)
        for name in there - {info.base_name for info in chosen}:
            self.remove_file(f"{folder}/{name}")


@dataclass
class Pulse:
    """When the driver last saw a stage's work go on, on its own monotonic clock, and where it was.

    Attributes
    ----------
    last
        Seconds of that clock.
    where
        The step that is counted, and how far it is; "" between such steps.
    """

    last: float = field(default_factory=time.monotonic)
    where: str = ""

    def beat(self, where: str) -> None:
        """It goes on."""
        self.last = time.monotonic()
        self.where = where


@dataclass(frozen=True)
class StageRun:
    """A result being written. Picklable, so that workers write their parts themselves.

    Attributes
    ----------
    workspace
        With this result and each that it is made from.
    content
        All that the result depends on; `key` is its hash.
    resources
        Custom resources that its work asks for, wherever it runs.
    gpus
        GPUs that each worker of its work asks for.
    used
        Stage and key of other results that it is made from.
    pulse
        Beats with the progress that the driver sees.
    """

    workspace: Workspace
    stage: str
    key: str
    content: dict[str, Any]
    lineage: dict[str, str]
    started: float
    resources: Mapping[str, float] = field(default_factory=dict)
    gpus: float = 0.0
    used: set[tuple[str, str]] = field(default_factory=set)
    pulse: Pulse = field(default_factory=Pulse)

    def choose(self, name: str, choice: Callable[[], T]) -> T:
        """What the environment decides for the whole result (JSON); asked once, also for a resume.

        A result whose parts were computed in two precisions would be of neither.
        """
        path = (self.stage, _CHOICES, f"{name}.json")
        if not self.workspace.exists(*path):
            self.workspace.write_json(choice(), *path)
        chosen: T = self.workspace.read_json(*path)
        return chosen

    def use(self, manifest: Manifest) -> None:
        """Note another result that this one is made from; in the manifest, if in the driver."""
        found = [*manifest["lineage"].items(), (manifest["stage"], manifest["key"])]
        self.used.update(found)
        self.keep(found, f"{manifest['stage']}-{manifest['key']}")

    def keep(self, results: Iterable[tuple[str, str]], name: str) -> None:
        """Let nobody remove these results, pairs of stage and key, while this one is unfinished."""
        self.write_json([list(pair) for pair in results], KEPT, f"{name}.json")

    def artifacts(self) -> set[str]:
        """Names of all that the result holds so far."""
        return self.workspace.names(self.stage)

    def has(self, artifact: str, part: int) -> bool:
        """Whether an earlier, interrupted run already wrote this part."""
        return self.workspace.exists(self.stage, artifact, part_name(part))

    def write(
        self, table: pa.Table, artifact: str, part: int = 0, *, group: int = ROW_GROUP
    ) -> None:
        """Write one part of an artifact, in groups of rows that can be read alone."""
        self.workspace.write_table(table, self.stage, artifact, part_name(part), group=group)

    def write_arrays(self, arrays: Mapping[str, np.ndarray], artifact: str, name: str) -> None:
        """Write one safetensors file of an artifact, of which rows can be read alone."""
        self.workspace.write_arrays(arrays, self.stage, artifact, name)

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
        """Write the manifest, which makes the result readable."""
        choices = {
            info.base_name.removesuffix(".json"): self.read_json(_CHOICES, info.base_name)
            for info in self.workspace.files(self.stage, _CHOICES)
            if not info.base_name.startswith(".")
        }
        settled = self.workspace.exists(self.stage, *SETTLED)
        manifest: Manifest = {
            "schema_version": SCHEMA_VERSION,
            "stage": self.stage,
            "key": self.key,
            "identity": fingerprint([self.key, choices]) if choices else self.key,
            "content": self.content,
            "choices": choices,
            "lineage": self.lineage,
            "uses": [list(pair) for pair in sorted(self.used)],
            "counts": dict(counts),
            **({"gpus": self.read_json(*SETTLED)} if settled else {}),  # type: ignore[typeddict-item]
            "seed": seed,
            "run": run,
            "finished": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
            "wall_seconds": round(time.time() - self.started, 2),
            "libraries": {name: _version(name) for name in _LIBRARIES},
        }
        self.workspace.write_json(manifest, self.stage, MANIFEST)
        return manifest

    def path(self, *parts: str) -> str:
        """A path below the result, as its filesystem spells it."""
        return self.workspace.path(self.stage, *parts)


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
