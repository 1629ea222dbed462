"""A blend of songs that it was not fitted on: their rows of F and of atoms, with nothing fitted.

Each signal says beside its features what makes them: a :class:`SongMaps` (`maps`) of `parts`,
which compare a song with reference songs (`references`) or look it up by its artist; `fitted` makes
those of a fold's features. `joining` makes the maps of all signals of a blend, in the dimensions
that its weights left, one `encoder`, which applies them to songs; `read` has these as parts ask for
them, and `stored` makes arrays and JSON of an encoder, and it of these.

What is kept are landmarks (some thousand songs, however many there are), what an artist's songs
have in common, a row an artist, vocabularies, and for the attention to songs of the same artist all
songs with plays.
"""

from fusionrec.signals.unseen.encoder import UnseenSongs
from fusionrec.signals.unseen.maps import SongMap, SongMaps

__all__ = ["SongMap", "SongMaps", "UnseenSongs"]
