"""Embed: metadata, lyrics and audio into one vector each per song, and vectors of one's own.

`stage` puts together `metadata`, `lyrics` and `audio`, a module a modality, and `own`, which takes
vectors that the source has; `features` writes the vectors.
"""

from pipelines.embed.stage import STAGE

__all__ = ["STAGE"]
