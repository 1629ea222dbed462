"""Identifiers of the sample corpus, in the forms the real data sets use."""

from __future__ import annotations

import hashlib
import math
from dataclasses import dataclass

_PREFIXES = 26**3
_PER_FOLDER = 57  # tracks in a folder of the real tree, on average
_STRIDE = 0.6180339887498949


@dataclass(frozen=True)
class Identifiers:
    """Ids by index: 18 characters for tracks, songs and artists, 40 hex digits for users.

    Distinct indices give distinct ids of a kind. Tracks fill as few folders of the
    MillionSong/data/A/B/C tree as hold them at the real tree's density.

    Attributes
    ----------
    seed
        The corpus seed.
    tracks
        Number of tracks with an id, damaged files included.
    """

    seed: int
    tracks: int

    def track(self, index: int) -> str:
        """Track id, as ``TRAADQX128F422B4CF``."""
        folders = min(_PREFIXES, -(-self.tracks // _PER_FOLDER))
        return self._identifier("TR", index, folders * 26**2, "128F")

    def song(self, index: int) -> str:
        """Song id, as ``SOGQTRZ12A8C13C8B0``."""
        return self._identifier("SO", index, 26**5, "12A8C")

    def artist(self, index: int) -> str:
        """Artist id, as ``ARF3GX71187FB3EB66``."""
        return self._identifier("AR", index, 26**5, "1187")

    def user(self, index: int) -> str:
        """Listener id: 40 lower-case hexadecimal digits."""
        return self.digest("user", index)

    def digest(self, kind: str, index: int) -> str:
        """40 lower-case hexadecimal digits that look random."""
        return hashlib.sha1(f"{self.seed}/{kind}/{index}".encode()).hexdigest()

    def _identifier(self, kind: str, index: int, numbers: int, stem: str) -> str:
        stride = int(numbers * _STRIDE)
        while math.gcd(stride, numbers) != 1:
            stride += 1
        # A stride prime to `numbers` visits each number once, so no two ids agree.
        number = (stride * index + int(self.digest(kind, -1), 16)) % numbers
        letters = ""
        for _ in range(5):
            number, letter = divmod(number, 26)
            letters = chr(ord("A") + letter) + letters
        return f"{kind}{letters}{stem}{self.digest(kind, index)[: 11 - len(stem)].upper()}"


def track_path(track: str) -> str:
    """The track's file below the corpus root, in the official A/B/C tree."""
    return f"MillionSong/data/{track[2]}/{track[3]}/{track[4]}/{track}.h5"
