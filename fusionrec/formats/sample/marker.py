"""`truth.json`: by it a folder is known to hold a sample, and whether it is whole."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fusionrec.errors import ConfigError


@dataclass(frozen=True)
class Marker:
    """The file of one form of sample.

    Attributes
    ----------
    format
        What the file says that it is of.
    what
        The same for people.
    """

    format: str
    what: str

    def begin(self, root: Path) -> None:
        """Make the folder, and mark it as a sample that is not yet complete.

        Raises
        ------
        ConfigError
            It holds something else.
        """
        occupied = root.exists() and (not root.is_dir() or any(root.iterdir()))
        if occupied and self._content(root) is None:
            raise ConfigError(
                f"{root}: exists and is not {self.what}; name an empty or a new folder"
            )
        root.mkdir(parents=True, exist_ok=True)
        self._write(root, {"complete": False})

    def complete(self, root: Path, truth: Mapping[str, Any]) -> None:
        """Say what was planted, and that all files are there."""
        self._write(root, {"complete": True, **truth})

    def read(self, root: Path) -> dict[str, Any]:
        """What was planted.

        Raises
        ------
        ConfigError
            The folder holds no such sample, or one whose writing was cut short.
        """
        content = self._content(root)
        if content is None or not content.pop("complete"):
            raise ConfigError(f"{root}: no complete sample corpus (truth.json); write one first")
        content.pop("format")
        return content

    def _content(self, root: Path) -> dict[str, Any] | None:
        try:
            content = json.loads((root / "truth.json").read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return None
        if not isinstance(content, dict) or content.get("format") != self.format:
            return None
        return content

    def _write(self, root: Path, content: Mapping[str, Any]) -> None:
        text = json.dumps({"format": self.format, **content}, indent=2) + "\n"
        part = root / "truth.json.part"
        part.write_text(text, encoding="utf-8")
        part.replace(root / "truth.json")
