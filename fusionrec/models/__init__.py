"""The fusion network (paper section 3.2), and what it learns.

Classes: `network`, `fusion`, `examples`, `training`. Taste, as a `song_tower`: `to_factors`; and
`two_towers` with their `user_tower` and `sampled_softmax`: `ranking`, and `hgnn` on a `graph`.
`epochs` is what all trainings share. `as_onnx`: what is trained, for systems without torch.
"""
