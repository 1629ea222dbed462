"""Lists brought up to date with late songs and plays: by whom, of which files, what it tells."""
