"""When an update says that the models are due to be fitted again."""

from __future__ import annotations

from pipelines.config.section import Section
from pipelines.config.section import key as _key


class UpdateConfig(Section):
    """Songs and plays that came since the last run.

    Neither key changes a list, though an update by another value is another result, which is made
    anew: what a result reports is of its own config.
    """

    most_new: float = _key(
        0.2,
        "a refit is due where more than this share of all songs, or of all plays, is new: the "
        "evaluation tells how good lists are where a fifth of the songs were not seen "
        "(`split.folds: 5`), not beyond",
        gt=0,
        le=1,
    )
    chance: float = _key(
        0.001,
        "and where new songs lie farther from what the models saw than all but this share of "
        "equally large draws, by artist, of the songs that the last run held out",
        gt=0,
        le=0.5,
    )
