"""Which files a table is in, and what kind of file each is."""

from __future__ import annotations

import glob
import os
import re
from typing import Literal

from pyarrow import fs as pafs

from fusionrec.errors import SourceError
from fusionrec.formats import files
from fusionrec.formats.tables.spec import TableSpec
from fusionrec.formats.trouble import is_trouble_of_fetching, patiently

Form = Literal["parquet", "text", "json", "npy", "npz"]

_COMPRESSED = (".gz", ".bz2", ".zst")
_FORMS: dict[str, Form] = {
    ".parquet": "parquet",
    ".pq": "parquet",
    ".csv": "text",
    ".tsv": "text",
    ".tab": "text",
    ".jsonl": "json",
    ".ndjson": "json",
    ".json": "json",
    ".npy": "npy",
    ".npz": "npz",
}
"""Extensions by which the files of a folder are known; of a file that is named, any other one is
taken for delimited text."""

_MAGIC = re.compile(r"[*?\[]")
_MAGIC_OF_URI = re.compile(r"[*\[]")  # behind a ? stand a filesystem's options


def extension(path: str) -> str:
    """The extension in lower case, without that of a compression: `.csv` of `Plays.CSV.gz`."""
    name = path.partition("?")[0].lower() if files.is_uri(path) else path.lower()
    stem, ending = os.path.splitext(name)
    return os.path.splitext(stem)[1] if ending in _COMPRESSED else ending


def form_of(path: str) -> Form:
    """What kind of file it is, by its name."""
    return _FORMS.get(extension(path), "text")


def table_files(spec: TableSpec) -> list[str]:
    """The files of a table.

    Of a folder they are those with a known extension, at any depth, without those whose name or
    whose folder's name begins with `.` or `_`.

    Returns
    -------
    list of str
        Ascending, each once.

    Raises
    ------
    SourceError
        A path has no files, or a folder has files of several kinds.
    """
    found: set[str] = set()
    for path in spec.paths:
        found.update(_files_of(path, spec.kind))
    if not found:
        raise SourceError(f"source.tables.{spec.kind} names no file; give its paths")
    return sorted(found)


def is_hidden(path: str) -> bool:
    """Whether a name below a folder, or that of a folder in it, begins with `.` or `_`."""
    return any(part.startswith((".", "_")) for part in path.split("/"))


def _files_of(path: str, kind: str) -> list[str]:
    key = f"source.tables.{kind}.paths"
    if files.is_folder(path):
        names = [name for name in below(path) if not is_hidden(name) and extension(name) in _FORMS]
        forms = {form_of(name): name for name in reversed(names)}
        if len(forms) > 1:
            listed = " and ".join(sorted(forms.values()))
            raise SourceError(
                f"{path}: holds {listed}, which are different kinds of files; name those that are "
                f"meant by a glob in {key}, such as {files.join(path, '*' + extension(names[0]))}"
            )
        if not names:
            raise SourceError(
                f"{path}: this folder has no Parquet, CSV, TSV, JSON lines or NumPy file; see {key}"
            )
        return [files.join(path, name) for name in names]
    if files.exists(path):
        return [path]
    if not (_MAGIC_OF_URI if files.is_uri(path) else _MAGIC).search(path):
        raise SourceError(f"{path}: no such file or folder; see {key}")
    matches = _matching_uris(path) if files.is_uri(path) else _matching_paths(path)
    if not matches:
        raise SourceError(f"{path}: no file matches; see {key}")
    return matches


def below(folder: str) -> list[str]:
    """The files in a folder and in its folders, below it, ascending.

    Links to folders are followed, but for those to one that has been listed: links in a circle
    lead nowhere. (What is left out for its name is listed apart, so that it hides nothing.)
    """

    def local() -> list[str]:
        found: list[str] = []
        seen: set[tuple[int, int, bool]] = set()
        waiting = [folder]
        while waiting:
            links: list[str] = []
            for top in waiting:  # all that lies there itself comes before what links lead to
                for place, inner, names in os.walk(top):
                    within = os.path.relpath(place, folder)
                    status = os.stat(place)
                    key = (status.st_dev, status.st_ino, within != os.curdir and is_hidden(within))
                    if key in seen:
                        inner.clear()
                        continue
                    seen.add(key)
                    found += [os.path.normpath(os.path.join(within, name)) for name in names]
                    paths = (os.path.join(place, name) for name in inner)
                    links += [path for path in paths if os.path.islink(path)]
            waiting = sorted(links)
        return sorted(found)

    def remote() -> list[str]:
        filesystem, inner = files.resolve(folder)
        selector = pafs.FileSelector(inner, recursive=True, allow_not_found=True)
        infos = filesystem.get_file_info(selector)
        start = len(inner.rstrip("/")) + 1
        return sorted(info.path[start:] for info in infos if info.type == pafs.FileType.File)

    of_uri = files.is_uri(folder)
    return patiently(files.shown(folder), remote if of_uri else local, is_trouble_of_fetching)


def _matching_paths(pattern: str) -> list[str]:
    if "**" in pattern.split("/"):
        # Python's glob goes round in circles of links.
        magic = _MAGIC.search(pattern)
        assert magic is not None
        base = pattern[: pattern.rfind("/", 0, magic.start()) + 1]
        wanted = re.compile(_expression(pattern[len(base) :], of_uri=False))
        names = below(base or os.curdir) if os.path.isdir(base or os.curdir) else []
        return [
            base + name
            for name in names
            if wanted.fullmatch(name)
            and not any(part.startswith(".") for part in name.split("/"))
            and os.path.isfile(base + name)
        ]
    return [path for path in glob.glob(pattern, recursive=True) if os.path.isfile(path)]


def _matching_uris(pattern: str) -> list[str]:
    path, mark, options = pattern.partition("?")
    magic = _MAGIC_OF_URI.search(path)
    assert magic is not None
    base = path[: path.rindex("/", 0, magic.start())]
    folder = base + mark + options
    if not files.is_folder(folder):
        return []
    wanted = re.compile(_expression(path[len(base) + 1 :]))
    return [files.join(folder, name) for name in below(folder) if wanted.fullmatch(name)]


def _expression(pattern: str, of_uri: bool = True) -> str:
    """A regular expression of a glob: `*` and `[..]` within a name, `**/` across folders, and `?`
    where no options stand behind it."""
    found, at = "", 0
    while at < len(pattern):
        if pattern.startswith("**/", at):
            found, at = found + "(?:.*/)?", at + 3
        elif pattern[at:] == "**" and pattern[:at][-1:] in ("", "/"):
            found, at = found + ".*", at + 2
        elif pattern[at] == "?" and not of_uri:
            found, at = found + "[^/]", at + 1
        elif pattern[at] == "*":
            found, at = found + "[^/]*", at + 1
        elif pattern[at] == "[" and "]" in pattern[at + 2 :]:
            stop = pattern.index("]", at + 2)
            inside = pattern[at + 1 : stop].replace("\\", r"\\")
            found += f"[{'^' + inside[1:] if inside[0] == '!' else inside}]"
            at = stop + 1
        else:
            found, at = found + re.escape(pattern[at]), at + 1
    return found
