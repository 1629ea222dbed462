"""Compare: every baseline beside the network on the same folds (the paper's Table 2).

`stage` runs the tasks and writes the tables: a task of `jobs` is one of the `methods` (those that
learn from audio or features in `content`) on one of the `folds`, with the plays and features of
its `context`. `own` calls methods of one's own, `external` has lists made elsewhere; `ranking`
ranks what any of them gives. `audio_words` and `quality` make what some of them need; `rankings`
reads what they found, and `summary` puts it together.
"""

from pipelines.compare.stage import STAGE

__all__ = ["STAGE"]
