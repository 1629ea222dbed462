"""Which lists a user's is shown of: those for everyone, or the evaluation's; and who has none."""

from __future__ import annotations

from typing import Literal

from fusionrec.errors import ConfigError, NotFoundError
from pipelines.opened.catalogue import why_left_out
from pipelines.runtime.workspace import Workspace

Whose = Literal["everyone", "evaluation"]
STAGES: dict[str, str] = {"everyone": "lists", "evaluation": "recommend"}
"""By what `--for` may be: the stage that makes these lists."""

SAYS = {"lists": "list for everyone, by all plays", "recommend": "list of the evaluation"}
"""By stage, what a list's title says of it."""


def stage_of(whose: str) -> str:
    """The stage of `--for`.

    Raises
    ------
    ConfigError
        It is neither.
    """
    if whose not in STAGES:
        raise ConfigError(f"--for {whose}: must be {' or '.join(STAGES)}")
    return STAGES[whose]


def no_song(workspace: Workspace, user: str, stage: str) -> NotFoundError:
    """What to say of a user whose list is empty."""
    candidates = workspace.require(stage)["counts"]["candidates"]
    widen = "widen lists.candidates" if stage == "lists" else "use a larger test part"
    repeat = ", or set lists.repeat" if stage == "lists" else ""
    return NotFoundError(
        f"--user {user}: played all {candidates:,} songs that there are to choose from, so that "
        f"the list is empty; {widen}{repeat}"
    )


def no_list(workspace: Workspace, user: str, code: int) -> NotFoundError:
    """What to say of a user who has no list in the evaluation's result."""
    if code < 0:
        return NotFoundError(
            f"--user {user}: no such user in the plays of {workspace.uri}; user ids are those of "
            "the triplets file"
        )
    reason = why_left_out(workspace, code)
    because = "" if reason is None else f" ({reason})"
    return NotFoundError(
        f"--user {user}: has no list in the evaluation, which left the user out{because}; "
        "`fusionrec recommend --for everyone` makes a list for every user"
    )
