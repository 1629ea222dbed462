"""Tune: a search of k, eta, p and more by Ray Tune, judged on the validation songs.

`stage` runs the search, `trial` is one configuration's training, and `shared` what all trials read,
once a node.
"""

from pipelines.tune.stage import STAGE

__all__ = ["STAGE"]
