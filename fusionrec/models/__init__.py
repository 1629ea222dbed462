"""The fusion network (paper section 3.2), and what it learns.

Classes: `network`, `fusion`, `examples`, `training`. Taste, as a `song_tower`: `to_factors`, and
`ranking` with its `user_tower` and `sampled_softmax`.
"""
