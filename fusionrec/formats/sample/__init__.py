"""A corpus with a planted truth, of any size, in the data sets' own formats.

`corpus` is the door; `model` draws who is what and who likes whom, `similarity` who is like whom,
`words` and `ids` name them, `tracks` writes the HDF5 files and `files` all others.
"""

from fusionrec.formats.sample.corpus import write_sample

__all__ = ["write_sample"]
