"""Ray's authentication token: where it is looked for, and what is said where it is refused."""

from __future__ import annotations

import os
import secrets
from pathlib import Path
from typing import NamedTuple

MODE, TOKEN, TOKEN_PATH = "RAY_AUTH_MODE", "RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH"


class Token(NamedTuple):
    """A token, and the variable or file that it is from."""

    value: str
    origin: str


def find() -> Token | None:
    """The token that Ray would use, looked for in the order in which Ray looks."""
    if os.environ.get(TOKEN):
        return Token(os.environ[TOKEN].strip(), TOKEN)
    if os.environ.get(TOKEN_PATH):
        return _read(Path(os.environ[TOKEN_PATH]), f"{TOKEN_PATH} ({os.environ[TOKEN_PATH]})")
    try:
        return _read(Path.home() / ".ray" / "auth_token", "~/.ray/auth_token")
    except RuntimeError:  # a user without a home
        return None


def _read(path: Path, origin: str) -> Token | None:
    try:
        return Token(path.read_text(encoding="utf-8").strip(), origin)
    except (OSError, UnicodeDecodeError):
        return None


def draw_for_this_session() -> str | None:
    """Give a Ray that is started here a token of its own, if there is none; that, if it was drawn.

    Ray draws one itself otherwise, and leaves it in ~/.ray/auth_token: from then on every
    `ray start` of this user demands it.
    """
    if os.environ.get(MODE, "token").lower() != "token" or find() is not None:
        return None
    os.environ.pop(TOKEN_PATH, None)  # it names no file that can be read
    os.environ[TOKEN] = secrets.token_hex(32)
    return os.environ[TOKEN]


def refused(place: str) -> str:
    """What to tell where a cluster takes no work without its token, or not with ours."""
    token = find()
    if os.environ.get(MODE, "token").lower() != "token":
        ours = f"{MODE}={os.environ[MODE]} is set here, so none was sent"
    elif token is None:
        ours = "there is none here"
    else:
        ours = f"the one in {token.origin} is not the cluster's"
    return (
        f"{place}: the cluster asks for its authentication token, and {ours}; set {MODE}=token and "
        f"{TOKEN} (or put it into ~/.ray/auth_token) as on the cluster's head"
    )
