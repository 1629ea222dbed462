"""Ingest: the data sets' official files to Parquet, every rejection listed.

`stage` puts it together: `songs`, `lyrics` and `plays` read one kind of source each, `sources` is
what they share; `listing` says in which state the sources are, and `crashes` which files workers
died on.
"""

from pipelines.ingest.stage import STAGE

__all__ = ["STAGE"]
