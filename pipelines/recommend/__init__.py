"""Recommend: every user's top list, by an exact ranking of all candidates (paper 3.4).

`stage` ranks, a range of users a task, by `ranking`, which `lists` has in common with it;
`vectors` reads what it ranks by, of the model that the config names: the network's class
probabilities, or the song and user vectors of a blend or of a network trained on taste.
"""

from pipelines.recommend.stage import STAGE
from pipelines.recommend.vectors import song_blocks

__all__ = ["STAGE", "song_blocks"]
