"""A blend of songs that it was not fitted on: their rows of F and of atoms, with nothing fitted.

Each signal says beside its features what makes them: a :class:`SongMaps`, of :mod:`parts`, which
compare a song with reference songs (`references`) or look it up by its artist; `read` has the songs
as parts ask for them, `encoder` joins the maps of all signals of a blend and applies them, and
`stored` makes arrays and JSON of it, and it of these.
"""

from fusionrec.signals.unseen.encoder import UnseenSongs
from fusionrec.signals.unseen.maps import SongMap, SongMaps

__all__ = ["SongMap", "SongMaps", "UnseenSongs"]
