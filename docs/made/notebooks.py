"""Notebooks as pages: their texts, and their code in blocks."""

from __future__ import annotations

import json
from pathlib import Path


def page(notebook: Path) -> str:
    """A notebook as Markdown, without what its cells print: it is stored without."""
    parts = []
    for cell in json.loads(notebook.read_text("utf-8"))["cells"]:
        text = "".join(cell["source"]).strip()
        if text:
            parts.append(f"```python\n{text}\n```" if cell["cell_type"] == "code" else text)
    name = f"examples/{notebook.name}"
    title, *rest = parts
    origin = f"*A page of the notebook `{name}`, which can be run.*"
    heading, _, text = title.partition("\n")
    return "\n\n".join([heading, origin, text.strip(), *rest]) + "\n"
