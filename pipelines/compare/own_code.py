"""The code of methods of one's own: found, hashed, and imported as it is now.

A process may outlive an edit, as workers do: what was imported of other code is imported anew.
"""

from __future__ import annotations

import importlib
import importlib.util
import sys
import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec, SourceFileLoader
from pathlib import Path
from types import CodeType, ModuleType
from typing import Any

from fusionrec.errors import ConfigError
from fusionrec.hashing import content_hash
from pipelines.compare.context import Own


@dataclass(frozen=True)
class Code:
    """Where a module's code is: files that are hashed, and what to import anew once they change."""

    files: tuple[Path, ...]
    folder: str
    top: str


def code_of(name: str, module: str, folder: str) -> Code:
    """Find a module's files without running it, unless it is in a package, whose door runs.

    Parameters
    ----------
    name
        `module:Name`, for the messages.
    folder
        Where it may lie, besides what Python's path has.

    Raises
    ------
    ConfigError
        There is none, it is no file of Python code, or its package cannot be imported.
    """
    if folder not in sys.path:
        sys.path.append(folder)  # `fusionrec` as installed looks in its own folder instead
    importlib.invalidate_caches()
    try:
        spec = importlib.util.find_spec(module)
    except ModuleNotFoundError as error:
        missing = error.name or module
        if not f"{module}.".startswith(f"{missing}."):
            raise _broken(name, module, error) from error
        spec = None
    except ValueError:  # of a module without a spec, as __main__
        spec = None
    except (Exception, SystemExit) as error:
        raise _broken(name, module, error) from error
    if spec is None:
        raise ConfigError(
            f"compare.methods names {name!r}, but there is no module {module!r}: start the command "
            f"in the folder that it lies in (now {folder}), put that on PYTHONPATH, or install it"
        )
    origin = spec.origin
    if origin is None or not origin.endswith(".py") or not Path(origin).is_file():
        raise ConfigError(
            f"compare.methods names {name!r}, but {module!r} is no file of Python code "
            f"({origin or 'a folder without __init__.py'}{_hidden(module, origin)}): name the "
            "module with the method"
        )
    return Code(*_files(Path(origin), module))


def _files(file: Path, module: str) -> tuple[tuple[Path, ...], str, str]:
    """The files of a module's outermost package, the folder of that, and its name."""
    names = module.split(".")
    packages = names if file.name == "__init__.py" else names[:-1]
    folder, outermost = file.parent, None
    for depth in range(len(packages), 0, -1):
        if not (folder / "__init__.py").is_file():
            break
        outermost = depth
        folder = folder.parent
    if outermost is None:
        return (file,), str(file.parents[len(names) - 1]), module
    package = folder / names[outermost - 1]
    # Editors lock a file by a link that leads nowhere, `.#name.py`.
    found = (path for path in package.rglob("*.py") if not path.name.startswith("."))
    return (
        tuple(sorted(path for path in found if path.is_file())),
        str(package.parents[outermost - 1]),
        ".".join(names[:outermost]),
    )


def hash_of(name: str, code: Code) -> str:
    """The hash of the files' names and content; a ConfigError if one cannot be read."""
    try:
        return content_hash(code.files)
    except OSError as error:
        raise ConfigError(
            f"compare.methods names {name!r}, but {error.filename or code.files[0]} cannot be read "
            f"({error.strerror or error}): mend it, or move it out of the package"
        ) from None


def _hidden(module: str, origin: str | None) -> str:
    """Of a module of the same name in this folder, which was not found, words that say so."""
    here = Path.cwd().joinpath(*module.split(".")).with_suffix(".py")
    if not here.is_file() or (origin and Path(origin).exists() and here.samefile(origin)):
        return ""
    return f", which hides {here}: give that another name"


_loaded: dict[str, str] = {}
"""Modules, or outermost packages, imported here, and of which code: a worker outlives an edit."""

_KEPT = ("fusionrec", "pipelines")
"""What runs here is of these: imported anew, the fold's classes would not be the same any more."""


class _FromSource(SourceFileLoader):
    """Compiles the source: what Python has stored of it may be of before an edit.

    It tells by whole seconds and the size, which a quick edit can leave as they were.
    """

    def get_code(self, fullname: str) -> CodeType:
        path = self.get_filename(fullname)
        code: CodeType = self.source_to_code(self.get_data(path), path)
        return code


class _Finder(MetaPathFinder):
    """Finds the modules of :data:`_loaded` as all others, but has them loaded from source."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if not any(f"{fullname}.".startswith(f"{top}.") for top in _loaded):
            return None
        for finder in sys.meta_path:
            ask = None if finder is self else getattr(finder, "find_spec", None)
            spec: ModuleSpec | None = ask(fullname, path, target) if ask else None
            if spec is not None:
                if type(spec.loader) is SourceFileLoader:
                    spec.loader = _FromSource(fullname, spec.loader.path)
                return spec
        return None


_FINDER = _Finder()


def _forget(code: Code, own: Own) -> None:
    """Have the code imported from its files, unless it was imported here as it is now."""
    known, _loaded[code.top] = _loaded.get(code.top), own.code
    if _FINDER not in sys.meta_path:
        sys.meta_path.insert(0, _FINDER)
    packages = {"site-packages", "dist-packages"} & set(code.files[0].parts)
    installed = packages or code.top in sys.stdlib_module_names  # others here use them as they are
    if known == own.code or code.top in _KEPT or (known is None and installed):
        return
    for name in [n for n in sys.modules if f"{n}.".startswith(f"{code.top}.")]:
        del sys.modules[name]


def imported(own: Own, code: Code) -> Callable[..., Any]:
    """The method, imported from exactly the code of this hash.

    Raises
    ------
    ConfigError
        The code is another, cannot be imported, or has nothing of the name that can be called.
    """
    module, _, attribute = own.name.partition(":")
    if hash_of(own.name, code) != own.code:
        raise ConfigError(
            f"{code.files[0]} is not the code that the comparison began with: it was changed "
            "meanwhile, or another node has another version; run the command again"
        )
    _forget(code, own)
    try:
        found: Any = importlib.import_module(module)
    except (Exception, SystemExit) as error:
        raise _broken(own.name, module, error) from error
    method = getattr(found, attribute, None)
    file = str(found.__file__)
    where = f"{file}{_hidden(module, file)}"
    if method is None:
        raise ConfigError(
            f"compare.methods names {own.name!r}, but {module!r} has no {attribute!r} ({where})"
        )
    _check_callable(own.name, method, where)
    called_: Callable[..., Any] = method
    return called_


def _check_callable(name: str, method: Any, where: str) -> None:
    if not callable(method):
        raise ConfigError(
            f"compare.methods names {name!r}, which cannot be called: it is a "
            f"{type(method).__name__}, not a function or a class (see fusionrec.methods; {where})"
        )
    if isinstance(method, type) and "__call__" not in dir(method):
        raise ConfigError(
            f"compare.methods names {name!r}, a class without __call__: give it one that takes "
            f"the fold (see fusionrec.methods; {where})"
        )


def _broken(name: str, module: str, error: BaseException) -> ConfigError:
    return ConfigError(
        f"compare.methods names {name!r}, but {module!r} cannot be imported: {in_a_line(error)}"
    )


def in_a_line(error: BaseException) -> str:
    """What an exception says, and the line of the innermost frame that raised it."""
    text = " ".join(f"{type(error).__name__}: {error}".split())[:300]
    frames = traceback.extract_tb(error.__traceback__)
    where = f" ({Path(frames[-1].filename).name}, line {frames[-1].lineno})" if frames else ""
    return f"{text}{where}; --debug shows the traceback"
