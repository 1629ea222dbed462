"""A corpus with a planted truth, of any size, in the data sets' own formats or as tables.

`corpus` is the door of the official formats, `tables` that of CSV files and vectors, with the
songs of `table_songs`; `model` draws who is what and who likes whom, `similarity` who is like
whom, `words` and `ids` name them, `tracks` writes the HDF5 files and `files` all others; `pool`
draws by several processes, `marker` is the file that says whether a sample is whole.
"""

from fusionrec.formats.sample.corpus import write_sample
from fusionrec.formats.sample.tables import write_tables

__all__ = ["write_sample", "write_tables"]
