"""Beyond classes: signals of what a user will play among songs without plays, and their blend.

Every signal is a pair of matrices, score(u, s) = V_u . F(s). `songs` and `histories` are what
they read, `signal` what one is. `kernels` has similarities and their features; `content` and
`context` (with `pagerank`) make the kernels, by `readers`, which have what each of them fixed;
`basis` is what signals share of them, which `memo` keeps as long as there is room. `neighbours`,
`taste`, `colistened`, `catalogue` and `popularity` (with `neighbour_means`) are the signals,
`registry` lists them. `inner` simulates a cold start, `lists` samples it, `tuning` chooses settings
by it and `weights` the signals' weights; `blend` joins them, `compress` shortens them, `reduced`
makes users of any plays, with what `strangers` tells of them beside the songs, `explain` says why a
song came first. `unseen/` makes of songs that nothing was fitted on what a blend has of its own.
"""
