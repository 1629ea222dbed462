"""What goes in and out, as the OpenAPI description has it."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    StringConstraints,
    model_validator,
)
from pydantic_core import PydanticCustomError

from pipelines.opened.asked import Choice
from pipelines.opened.plays import MOST_PLAYS
from pipelines.serve.engine import Takeover

MOST_ID = 512
"""Letters of an id that is given."""

MOST_TEXT = 256
"""Letters that are searched for."""

Id = Annotated[str, StringConstraints(min_length=1, max_length=MOST_ID)]
Text = Annotated[str, StringConstraints(max_length=MOST_TEXT)]


def _number(given: Any) -> Any:
    """Only numbers: pydantic takes `true` and "1" for 1, too."""
    if isinstance(given, bool | str | bytes):
        raise PydanticCustomError("number", "Input should be a number")
    return given


Count = Annotated[int, Field(ge=1, le=MOST_PLAYS), BeforeValidator(_number)]
Plays = dict[Id, Count]

_PLAYS = Field(
    description="What somebody played: {song id: plays}.",
    examples=[{"SOAXGDH12A8C13F8A1": 3, "SOBONKR12A58A7A7E0": 1}],
)
_TOP = Field(20, ge=1, description="Songs of the answer, at most.")


class _Form(BaseModel):
    model_config = ConfigDict(extra="forbid")


# --- questions -----------------------------------------------------------------------------


class UserQuery(_Form):
    """A user of the workspace."""

    user_id: Id = Field(description="The id of a user of the workspace.")
    top: int = _TOP


class SongQuery(_Form):
    """A song."""

    song_id: Id = Field(description="The id of a song of the catalogue.")


class SimilarQuery(SongQuery):
    """Songs like one."""

    top: int = _TOP


class SearchQuery(_Form):
    """Words of artists and titles, of which the last may be typed in part."""

    q: Text = Field("", description="What is to be in the artist or the title.")
    artist: Text = Field("", description="What is to be in the artist.")
    title: Text = Field("", description="What is to be in the title.")
    top: int = _TOP


class ListForm(_Form):
    """Plays to rank for."""

    plays: Plays = _PLAYS
    top: Annotated[int, BeforeValidator(_number)] = _TOP
    user_id: Id = Field(
        "",
        description="A user of the workspace whose plays these are: a blend has learned of its own "
        "users what no history gives.",
    )
    candidates: Choice = Field(
        "all", description="Songs to choose from: all, or the new ones that nobody played."
    )
    exclude_heard: bool = Field(
        True, strict=True, description="Whether the songs that were played stay off the list."
    )


class WhyForm(_Form):
    """A song, and for whom it is explained: one of `user_id` and `plays`."""

    model_config = ConfigDict(
        json_schema_extra={"oneOf": [{"required": ["user_id"]}, {"required": ["plays"]}]}
    )

    song_id: Id = Field(description="Any song of the catalogue with a vector.")
    user_id: Id = Field("", description="A user of the workspace with a stored list.")
    plays: Plays = Field({}, description="What somebody played: {song id: plays}.")

    @model_validator(mode="after")
    def _one_of_both(self) -> WhyForm:
        if len({"user_id", "plays"} & self.model_fields_set) != 1:
            raise PydanticCustomError("one_of", "Give one of user_id and plays")
        return self


# --- answers -------------------------------------------------------------------------------


class Song(BaseModel):
    """What a song is called."""

    song_id: str
    artist: str
    title: str
    release: str


class ListedSong(Song):
    """A song of a list: `score` is what it is sorted by, `match` the same from 0 to 1."""

    rank: int
    score: float
    match: float


class Answer(BaseModel):
    """Of which result it is."""

    model: Literal["genre", "network", "blend"]
    result: str = Field(
        description="The key of what made the songs' vectors; behind - that of an update."
    )


class SongList(Answer):
    """Songs, best first."""

    match: str = Field(description="What the songs' `match` says.")
    songs: list[ListedSong]


class UserList(SongList):
    """A stored list."""

    user_id: str
    lists: Literal["lists", "recommend"] = Field(
        description="The stage that made it: lists for everyone, or those of the evaluation."
    )


class MadeList(SongList):
    """A list made for some plays."""

    fallback: bool = Field(
        description="Whether the model knows nothing of the plays: the list is that of most people."
    )
    used: int = Field(description="Songs played that the user's vector is made of.")
    unused: int = Field(description="Songs played of which the model knows nothing.")
    unknown: int = Field(description="Songs played that the workspace does not have.")


class SimilarList(SongList):
    """Songs like one."""

    like: Song


class Found(Answer):
    """Songs that were searched for, best first."""

    songs: list[Song]


class Heard(Song):
    """A song of the history, and what it adds to the score."""

    share: float


class Why(Answer):
    """What a score is made of: each of `signals`, `modalities` and `kinds` adds up to it."""

    song: Song
    score: float
    signals: dict[str, float]
    modalities: dict[str, float]
    kinds: dict[str, float]
    songs: list[Heard] = Field(description="The songs of the history that add most.")


class Health(Answer):
    """The service answers, by this result."""

    status: Literal["ok"]
    songs: int = Field(description="Songs of the catalogue.")
    loaded: float = Field(description="When the result was read, seconds since the epoch.")
    results: dict[str, str] = Field(
        description="The keys of all results that are served, by stage: others after a takeover."
    )
    version: str
    takeover: Takeover = Field(
        description="Of a newer result of the workspace, if there is one: reading, or failed, and "
        "then the log says why."
    )


class FieldError(BaseModel):
    """What is wrong with one field."""

    field: str
    what: str


class Problem(BaseModel):
    """What went wrong (RFC 9457)."""

    type: str
    title: str
    status: int
    detail: str
    errors: list[FieldError] = []
