"""What a submission would upload: measured before it is sent, since the cluster takes only so much.

The files are those that Ray itself would pack, so they are found by Ray's own walk.
"""

from __future__ import annotations

import logging
import os
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from fusionrec.errors import ConfigError

_NEEDED = ("fusionrec", "pipelines", "cluster")
_SHOWN = 5


def check(folder: Path, excludes: Sequence[str], file: Path) -> None:
    """Refuse a folder that is too large to be uploaded, and say what makes it so.

    Parameters
    ----------
    folder
        Is uploaded, less the `excludes`, and less what .gitignore and .rayignore name.
    file
        Where the `excludes` are from.

    Raises
    ------
    ConfigError
        It is larger than what Ray's dashboard takes.
    """
    from ray._private.ray_constants import DASHBOARD_CLIENT_MAX_SIZE as LIMIT

    sizes = uploaded(folder, excludes)
    total = sum(sizes.values())
    if total < LIMIT:  # files are packed as they are, not compressed
        return
    largest = ", ".join(f"{path} ({_mb(size)})" for path, size in sizes.most_common(_SHOWN))
    raise ConfigError(
        f"--working-dir {folder}: {_mb(total)} in {len(sizes)} files would be uploaded, but the "
        f"cluster takes {_mb(LIMIT)}; the largest are {largest}; add "
        f"{', '.join(_patterns(sizes, total - LIMIT))} to excludes in {file}, or to .rayignore"
    )


def uploaded(folder: Path, excludes: Sequence[str]) -> Counter[Path]:
    """Bytes of each file that Ray would upload, by its path below the folder."""
    from ray._private.runtime_env import packaging

    sizes: Counter[Path] = Counter()

    def note(path: Path) -> None:
        if path.is_file():
            sizes[path.relative_to(folder)] = path.stat().st_size

    packaging._dir_travel(
        folder,
        [packaging._get_excludes(folder, list(excludes))],
        note,
        include_gitignore=os.environ.get("RAY_RUNTIME_ENV_IGNORE_GITIGNORE", "0") != "1",
        logger=logging.getLogger("fusionrec.upload"),
    )
    return sizes


def _patterns(sizes: Counter[Path], excess: int) -> list[str]:
    """Excludes that take away enough: folders at the top, or files of what the job needs."""
    groups: Counter[str] = Counter()
    for path, size in sizes.items():
        top = path.parts[0]
        groups[f"/{path.as_posix()}" if top in _NEEDED else f"/{top}"] += size
    chosen = []
    for pattern, size in groups.most_common():
        if excess < 0:
            break
        chosen.append(f'"{pattern}"')
        excess -= size
    return chosen


def _mb(size: int) -> str:
    return f"{size / 2**20:.0f} MB" if size >= 10 * 2**20 else f"{size / 2**20:.1f} MB"
