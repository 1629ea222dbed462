"""Ingest: the data sets' official files to Parquet, every rejection listed.

`stage` puts it together: `songs`, `lyrics` and `plays` read one kind of source each, `sources` is
what they share.
"""

from pipelines.ingest.stage import STAGE

__all__ = ["STAGE"]
