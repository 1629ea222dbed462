"""Update: songs and plays that came since the last run, by the models that it has fitted.

`stage` puts it together. `base` is the run that it stands on, and `sources` finds the files that
are new; `reading` reads them, as ingest does, `numbering` says who and what in them is known, and
`songs` makes vectors of the songs. `users` brings old and new plays together, `lists` ranks,
`old_lists` merges, and `distance` says how far the new songs lie from what the models saw.
"""

from pipelines.update.stage import STAGE, anything_new, withdraw

__all__ = ["STAGE", "anything_new", "withdraw"]
