"""Data sets in the layouts that they were published in, as tables.

A function of each says which files it looks for below a folder, where their form is described, and
what becomes of them. Every file of text may also be compressed (`.gz`, `.bz2`, `.zst`) as long as
it holds no more than one task can read, 2 GiB of ids and text; larger ones have to be unpacked.

- `recbole`: RecBole's atomic files
- `lastfm`: LFM-1b, LFM-2b, Last.fm-360K
- `music4all`, `yambda`, `spotify`: Music4All-Onion, Yambda, the Million Playlist Dataset
- `finding`: files by their published names
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from fusionrec.formats import files
from fusionrec.formats.tables.layouts.finding import Tables
from fusionrec.formats.tables.layouts.lastfm import lastfm_360k, lfm_1b, lfm_2b
from fusionrec.formats.tables.layouts.music4all import onion, onion_features
from fusionrec.formats.tables.layouts.recbole import recbole
from fusionrec.formats.tables.layouts.spotify import spotify_playlists
from fusionrec.formats.tables.layouts.yambda import yambda, yambda_features
from fusionrec.formats.tables.spec import TableSpec


@dataclass(frozen=True)
class Layout:
    """A published layout.

    Attributes
    ----------
    name
        What `source.format` calls it.
    title
        The data sets that are in it.
    find
        Of a folder: its tables, `plays` and, where it has one, `songs`; `times` asks for plays that
        say when they were, where there is a choice. A SourceError names what is missing.
    find_features
        Of a folder: tables of vectors, by what they are called.
    choice
        Plays may be in files that say when they were and in others that do not, so that `times`
        has a say.
    timed
        Plays say when they were, in all data sets of the layout or in some; else in none.
    """

    name: str
    title: str
    find: Callable[[str, bool], Tables]
    find_features: Callable[[str], dict[str, TableSpec]] = lambda root: {}
    choice: bool = False
    timed: bool = True

    def tables(self, root: str, times: bool = False) -> Tables:
        """The tables in a folder; see `find`."""
        return self.find(_expanded(root), times)

    def features(self, root: str) -> dict[str, TableSpec]:
        """The tables of vectors in a folder; see `find_features`."""
        return self.find_features(_expanded(root))


def _expanded(root: str) -> str:
    return root if files.is_uri(root) else os.path.expanduser(root)


LAYOUTS: Mapping[str, Layout] = {
    layout.name: layout
    for layout in (
        Layout("recbole", "RecBole's atomic files", recbole),
        Layout("lfm-1b", "LFM-1b", lfm_1b),
        Layout("lfm-2b", "LFM-2b and its subsets", lfm_2b, choice=True),
        Layout("music4all-onion", "Music4All-Onion", onion, onion_features, choice=True),
        Layout("yambda", "Yambda", yambda, yambda_features),
        Layout("spotify-mpd", "Spotify's Million Playlist Dataset", spotify_playlists, timed=False),
        Layout("lastfm-360k", "Last.fm-360K, of artists", lastfm_360k, timed=False),
    )
}
