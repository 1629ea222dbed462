"""A finished workspace, opened: what it ranks by, read for people and programs, without Ray.

`stored` is the model that lists were ranked by, as it knows one user or one song, and says why a
song is on a list (`reasons`): means of classes, `blended` or `networked`. `catalogue` has songs and
users by number and name, `models` the trained network.
"""
