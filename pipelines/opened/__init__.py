"""A finished workspace, opened: what it ranks by, read for people and programs, without Ray.

:class:`Recommender` is the object to have from Python (`recommender`): `lists` for any `plays`, by
all songs held in memory (`ranked`) and `users`' vectors that are made at once, with what a blend
makes of `strangers`, why a song is on one (`explained`), and what is `made_songs` of `new_songs`
with `new_lyrics`, or `new_by_blend`.

Many requests are ranked at once by `batches` (what is `asked`, and answered), and songs like some
by `likes`.

`stored` is the model that lists were ranked by, as it knows one user or one song, and says why a
song is on a list (`reasons`): means of classes, `blended` or `networked`. `catalogue` has songs and
users by number and name, `models` the trained network.
"""

from pipelines.opened.recommender import Recommender

__all__ = ["Recommender"]
