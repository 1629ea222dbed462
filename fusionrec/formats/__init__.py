"""File formats of the public data sets: a path in, Arrow tables and rejects out."""
