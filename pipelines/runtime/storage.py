"""Files of a workspace on any filesystem that pyarrow knows: read whole, and written whole."""

from __future__ import annotations

import contextlib
import fcntl
import json
import time
import uuid
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from pyarrow import fs as pafs

from fusionrec.errors import WorkspaceError
from pipelines.runtime.rows_file import RowsFile

ROW_GROUP = 100_000
_LOCK = ".lock"
_SECONDS_FOR_A_LOCK = 10.0
"""It is held for milliseconds; who holds it for longer was stopped in the midst."""


class Storage(ABC):
    """A root on a filesystem; below it, paths whose first part is a stage.

    Parameters
    ----------
    uri
        A local folder, or a URI such as ``s3://bucket/prefix``.

    Raises
    ------
    WorkspaceError
        If no filesystem serves the URI.
    """

    def __init__(self, uri: str) -> None:
        self.uri = uri if "://" in uri else str(Path(uri).expanduser().resolve())
        try:
            self.fs, self.root = pafs.FileSystem.from_uri(self.uri)
        except (pa.ArrowInvalid, OSError) as error:
            raise WorkspaceError(
                f"workspace {uri!r}: no such filesystem ({error}); "
                "use a local folder or a URI that pyarrow reads"
            ) from None

    @abstractmethod
    def path(self, *parts: str) -> str:
        """A path below the root, as its filesystem spells it."""

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
        with self._replacing(self.path(*parts)) as stream:
            yield stream

    @contextlib.contextmanager
    def _replacing(self, target: str) -> Iterator[Any]:
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

    @contextlib.contextmanager
    def _alone(self) -> Iterator[None]:
        """While it lasts, no other process or thread of this machine is in such a block.

        On a local folder only: elsewhere, and where the filesystem has no locks, it is not waited.
        The system takes the lock from a process that dies.
        """
        with contextlib.ExitStack() as stack:
            if isinstance(self.fs, pafs.LocalFileSystem):
                with contextlib.suppress(OSError):
                    self.fs.create_dir(self.root, recursive=True)
                    lock = stack.enter_context(Path(self.root, _LOCK).open("ab"))
                    _wait_for(lock.fileno())
            yield

    def read_json(self, *parts: str) -> Any:
        """A JSON file's value."""
        return self._json(self.read_bytes(*parts), self.path(*parts))

    @staticmethod
    def _json(content: bytes, path: str) -> Any:
        try:
            return json.loads(content)
        except ValueError:
            raise WorkspaceError(
                f"{path}: is not JSON; delete the folder that it is in and run again"
            ) from None

    def write_json(self, value: Any, *parts: str) -> None:
        """Write a JSON file atomically."""
        self.write_bytes(json.dumps(value, indent=1, default=str).encode(), *parts)

    def write_table(self, table: pa.Table, *parts: str, group: int = ROW_GROUP) -> None:
        """Write one Parquet file atomically, in groups of rows that can be read alone."""
        sink = pa.BufferOutputStream()
        pq.write_table(
            table,
            sink,
            row_group_size=group,
            compression="zstd",
            use_dictionary=_repeating(table.schema),
        )
        self.write_bytes(sink.getvalue(), *parts)

    def write_arrays(self, arrays: Mapping[str, np.ndarray], *parts: str) -> None:
        """Write one safetensors file atomically."""
        from safetensors.numpy import save  # not for who only reads

        whole = {name: np.ascontiguousarray(array) for name, array in arrays.items()}
        self.write_bytes(save(whole), *parts)

    @contextlib.contextmanager
    def reading_rows(self, *parts: str) -> Iterator[RowsFile]:
        """A safetensors file, of which some rows are read."""
        with self.fs.open_input_file(self.path(*parts)) as stream:
            yield RowsFile(stream, self.path(*parts))

    def delete(self, *parts: str) -> None:
        """Remove a folder and all in it, if it is there."""
        if self.exists(*parts):
            with contextlib.suppress(FileNotFoundError):  # another run removes it, too
                self.fs.delete_dir(self.path(*parts))

    def try_to_write(self) -> None:
        """Write a file and remove it.

        Raises
        ------
        WorkspaceError
            The filesystem refuses.
        """
        path = f"{self.root}/.written-{uuid.uuid4().hex}"
        with self._replacing(path) as stream:
            stream.write(b"x")
        self.remove_file(path)

    def remove_file(self, path: str) -> None:
        """Remove a file, given as its filesystem spells it, if it is there."""
        with contextlib.suppress(FileNotFoundError):
            self.fs.delete_file(path)

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

    def read_user(
        self,
        stage: str,
        artifact: str,
        part: str,
        user: int,
        columns: Sequence[str] | None = None,
    ) -> pa.Table:
        """One user's rows of a part whose rows are by `user`: of the groups that may have them.

        By hand: a filter of pyarrow's imports pandas, as its `to_numpy` does, which takes longer
        than all that is read.
        """
        chosen = None if columns is None else ["user", *columns]
        with (
            self.fs.open_input_file(self.path(stage, artifact, part)) as stream,
            pq.ParquetFile(stream) as file,
        ):
            groups = _groups_of(file.metadata, user)
            table = file.read_row_groups(groups, chosen, use_threads=False)
        users = np.concatenate([np.zeros(0, np.int32), *map(np.from_dlpack, table["user"].chunks)])
        first, last = np.searchsorted(users, [user, user + 1]).tolist()
        found = table.slice(first, last - first)
        return found if columns is None else found.select(list(columns))

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

    def _folders(self, path: str) -> list[str]:
        found = self.fs.get_file_info(pafs.FileSelector(path, allow_not_found=True))
        return sorted(info.base_name for info in found if info.type == pafs.FileType.Directory)

    def _content(self, path: str) -> bytes | None:
        """A file's content; None if it is not there."""
        try:
            with self.fs.open_input_stream(path) as stream:
                return bytes(stream.read())
        except FileNotFoundError:
            return None
        except OSError as error:
            raise WorkspaceError(
                f"{path}: cannot be read ({error}); see to it, or choose another folder with "
                "--set workspace=..."
            ) from None

    def files(self, *parts: str) -> list[pafs.FileInfo]:
        """Files right below a folder of a stage's result."""
        return self._files(self.path(*parts))

    def names(self, *parts: str) -> set[str]:
        """Names of files and folders right below a folder of a stage's result."""
        found = self.fs.get_file_info(pafs.FileSelector(self.path(*parts), allow_not_found=True))
        return {info.base_name for info in found}

    def _files(self, folder: str) -> list[pafs.FileInfo]:
        found = self.fs.get_file_info(pafs.FileSelector(folder, allow_not_found=True))
        return [info for info in found if info.type == pafs.FileType.File]


def _groups_of(metadata: pq.FileMetaData, user: int) -> list[int]:
    """Groups of rows that may have a user's."""
    names = [metadata.schema.column(number).path for number in range(len(metadata.schema))]
    place = names.index("user")
    found = []
    for group in range(metadata.num_row_groups):
        known = metadata.row_group(group).column(place).statistics
        if known is None or not known.has_min_max or known.min <= user <= known.max:
            found.append(group)
    return found


def _repeating(schema: pa.Schema) -> bool | list[str]:
    """Columns worth a dictionary: all, but vectors.

    Of a vector no number comes again: with a dictionary it is written three times as slowly.
    """
    vectors = {field.name for field in schema if pa.types.is_fixed_size_list(field.type)}
    return [name for name in schema.names if name not in vectors] if vectors else True


def _wait_for(lock: int) -> None:
    end = time.monotonic() + _SECONDS_FOR_A_LOCK
    while True:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() > end:
                return
            time.sleep(0.01)
        else:
            return
