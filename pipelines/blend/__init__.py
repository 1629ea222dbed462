"""Blend: all signals of what a user likes, weighted as a simulated cold start says.

`stage` runs it; `inputs` reads the songs and the plays that it may learn from; `vectors` writes and
reads its song and user vectors; `blocks` factorises many plays in tasks.
"""

from pipelines.blend.stage import STAGE, check_run, key_settings

__all__ = ["STAGE", "check_run", "key_settings"]
