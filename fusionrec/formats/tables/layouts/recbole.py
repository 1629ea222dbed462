"""RecBole's atomic files."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from fusionrec.errors import SourceError
from fusionrec.formats import files
from fusionrec.formats.tables import text_files
from fusionrec.formats.tables.layouts.finding import Tables, once, plain
from fusionrec.formats.tables.names import plain_name
from fusionrec.formats.tables.places import below
from fusionrec.formats.tables.spec import TableSpec


def recbole(root: str, times: bool) -> Tables:
    """RecBole's atomic files: NAME.inter and NAME.item.

    Tab-separated, with headers such as `user_id:token` and `genre:token_seq`, whose items are
    separated by spaces (recbole.io/docs/user_guide/data/atomic_files.html, and data_settings.html
    there). The parts of a data set that was split beforehand (NAME.train.inter, ...) are read
    together. Of its own data sets, some have artists for items (`artist_id`), and say `weight` or
    `num_repeat` for how often they were played.
    """
    there = once(below(root))
    inter = [name for name in there if plain(name).endswith(".inter")]
    names = {name.rsplit("/", 1)[-1].split(".")[0] for name in inter}
    if len(names) != 1:
        listed = f"those of {', '.join(sorted(names))}" if names else "none"
        raise SourceError(
            f"{root}: source.format: recbole needs one data set's .inter file, and finds {listed}; "
            "name its folder in source.root"
        )
    (name,) = names
    spec = TableSpec("plays", tuple(files.join(root, each) for each in inter), separator=" ")
    found: Tables = {
        "plays": replace(
            spec, columns=_recbole_columns(spec, {"plays": ("weight", "numrepeat", "numrepeats")})
        )
    }
    item = [each for each in there if plain(each.rsplit("/", 1)[-1]) == f"{name}.item"]
    if item:
        spec = replace(spec, kind="songs", paths=(files.join(root, item[0]),))
        found["songs"] = replace(
            spec, columns=_recbole_columns(spec, {"title": ("movietitle",), "tags": ("class",)})
        )
    return found


def _recbole_columns(spec: TableSpec, more: Mapping[str, Sequence[str]]) -> dict[str, str]:
    """Columns that RecBole's data sets call in ways that others do not."""
    names, _ = text_files.names_of(spec.paths[0], spec)
    plain = {plain_name(name): name for name in names}
    found = {}
    if not plain.keys() & {"songid", "itemid", "trackid"}:
        more = {**more, "song_id": ("artistid", "artistsid")}
    for wanted, used in more.items():
        there = [plain[each] for each in used if each in plain]
        if there and plain_name(wanted) not in plain:
            found[wanted] = there[0]
    return found
