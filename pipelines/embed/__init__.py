"""Embed: metadata, lyrics and audio into one vector each per song.

`stage` puts together `metadata`, `lyrics` and `audio`, a module a modality; `weights` are those of
the words, and `features` writes the vectors.
"""

from pipelines.embed.stage import STAGE

__all__ = ["STAGE"]
