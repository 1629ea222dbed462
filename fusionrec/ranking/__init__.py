"""Splits, evaluation protocols, user vectors and top-K ranking (paper section 3.4).

`split` and `protocols` say which songs are ranked for whom, `users` makes user vectors. `topk` is
what ranks; `topk_blocks` does so for songs that do not fit in memory, `limited` with few songs an
artist. Below them, `on_cpu` chooses
between compiled code (`kernel`, of `vector_code`) and NumPy (`plain`), and `on_device` is for GPUs.
`packing` lays vectors out for them, `lists` is what they fill.
"""
