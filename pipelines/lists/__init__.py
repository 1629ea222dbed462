"""Lists: for every user, of the songs that are asked for, by all that the user played.

An evaluation hides plays and ranks test songs for whom it can grade; this is what to show to
people. `stage` ranks, a range of users a task. `candidates` says which songs are ranked, `known`
makes users' vectors of all their plays, by any model, and `lines` writes lists as text.
"""

from pipelines.lists.stage import STAGE

__all__ = ["STAGE"]
