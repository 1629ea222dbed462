"""Train: the fusion network under Ray Train, then F(s) of all songs.

`stage` trains on classes: `examples` brings the features and labels to the workers, in memory or
streamed by Ray Data. `taste` trains on the `plays` that may be seen, on their factors or to rank,
and `users` makes the users' vectors. Of either, `epochs` runs the epochs, with checkpoints, and
`monitor` writes the curves.
"""

from pipelines.train.stage import STAGE, check, key_settings, of_classes, settings_of

__all__ = ["STAGE", "check", "key_settings", "of_classes", "settings_of"]
