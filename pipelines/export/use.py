"""How another system uses what was exported: lines of Python that run in its folder."""

from __future__ import annotations

_TABLES = """\
import pyarrow.parquet as pq
songs, users = pq.read_table("songs.parquet"), pq.read_table("users.parquet")
"""

_V = (
    'V = users["vector"].combine_chunks().flatten().to_numpy()'
    '.reshape(-1, users["vector"].type.list_size)\n'
)

VECTORS = f"""\
{_TABLES}F = songs["vector"].combine_chunks().flatten().to_numpy().reshape(len(songs), -1)
{_V}best = (-(F @ V[:1].T)).argsort(axis=0)[:10].ravel()  # of the first user, users["user_id"][0]
print(songs.select(["song_id", "artist_name", "title"]).take(best).to_pylist())
"""
"""By the tables alone."""


def of_index(file: str) -> str:
    """By an index of that name."""
    return f"""\
import faiss
{_TABLES}{_V}for scores, rows in zip(*faiss.read_index("{file}").search(V[:1], 10)):
    print(songs["song_id"].take(rows[rows >= 0]).to_pylist(), scores)  # -1 behind the last song
"""


def of_network(file: str, inputs: list[str], outputs: list[str], fused: str) -> str:
    """By a network, for songs whose fused features lie in a folder of Parquet files."""
    present = """\
here = table["blocks"].combine_chunks().flatten().to_numpy(zero_copy_only=False)
"""
    several = len(inputs) > 1
    given = '"features": x' + (', "present": here.reshape(len(table), -1)' if several else "")
    return f"""\
import onnxruntime, pyarrow.dataset as ds
table = ds.dataset({fused!r}, format="parquet").to_table(filter=ds.field("present"))
x = table["vector"].combine_chunks().flatten().to_numpy().reshape(len(table), -1)
{present if several else ""}session = onnxruntime.InferenceSession("{file}")
{", ".join(outputs)}{"," if len(outputs) == 1 else ""} = session.run(None, {{{given}}})
"""
