"""Train: the fusion network under Ray Train, then F(s) of all songs.

`stage` puts it together: `examples` brings the features and labels to the workers, in memory or
streamed by Ray Data; `monitor` writes the curves.
"""

from pipelines.train.stage import STAGE, key_settings, settings_of

__all__ = ["STAGE", "key_settings", "settings_of"]
