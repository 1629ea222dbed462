"""fusionrec: music recommendation from what songs are (the method, without Ray)."""

__version__ = "0.1.0"
