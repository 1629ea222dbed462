"""Ingest: the data sets' official files, or tables, to Parquet, every rejection listed.

`stage` puts it together: `songs`, `lyrics` and `plays` read one kind of source each, `others` says
what is known of songs that have plays and nothing else, `reading` carries what they read to its
parts, `lookup` writes what finds songs by id and by number, `sources` is what they share; `listing`
says in which state the sources are, and `crashes` which files workers died on. `catalogue` decides
which tracks are songs, `user_codes` and `song_codes` number what was played, `by_user` puts plays
in parts, and `song_groups` says which parts a task takes together. `joining` brings to the songs'
parts what names a song.

Of tables, `tables` says which there are and cuts them; `table_songs`, `table_lyrics` and `vectors`
read one kind each, `plays` plays of both sorts, and `vocabulary` finds the words.
"""

from pipelines.ingest.stage import STAGE

__all__ = ["STAGE"]
