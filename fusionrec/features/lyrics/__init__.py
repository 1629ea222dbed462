"""Bags of words into vectors (paper section 3.1.5).

`tfidf` weighs words and writes a song's as a text; `encoder` turns texts into vectors by a
transformer that `hub` finds and `architecture` loads and tries out, through `pieces` (its tokens),
`packed` (its forward pass without padding) and `products` (its linear layers); `check` tries an
encoder before a run; `shard` does all of it for a shard of songs.
"""
