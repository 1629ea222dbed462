"""Lyrics into vectors: bags of words (paper section 3.1.5), and texts as they are written.

`tfidf` weighs words and chooses a song's; `pieces` makes token ids of them, by a recipe that
`recipes` has of an encoder, `texts` of whole texts, and `tokens` cuts these into batches.
`encoder` turns batches into vectors by a transformer that `hub` finds and `architecture` loads and
tries out, through `packed` (its forward pass without padding), `products` (its linear layers),
`flow` (batch after batch) and `transfer` (to the device and back). `shard` is what comes before and
after, for a shard of songs; `check` tries an encoder before a run.
"""
