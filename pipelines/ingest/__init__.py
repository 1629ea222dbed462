"""Ingest: the data sets' official files to Parquet, every rejection listed.

`stage` puts it together: `songs`, `lyrics` and `plays` read one kind of source each, `others` says
what is known of songs that have plays and nothing else, `reading` carries what they read to its
parts, `lookup` writes what finds songs by id and by number, `sources` is what they share; `listing`
says in which state the sources are, and `crashes` which files workers died on. `catalogue` decides
which tracks are songs, `user_codes` and `song_codes` number what was played, `by_user` puts plays
in parts, and `song_groups` says which parts a task takes together.
"""

from pipelines.ingest.stage import STAGE

__all__ = ["STAGE"]
