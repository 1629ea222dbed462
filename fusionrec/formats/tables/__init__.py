"""Catalogues of one's own: songs, plays, lyrics and vectors in tables, Arrow out.

`spec` says where a table lies and what its columns are called; readers turn a range of it into a
:class:`fusionrec.formats.batch.Batch`, with each row or cell that is of no use among the rejects.
"""
