"""What the page asks for beside lists, and is answered: parts of the OpenAPI description."""

from __future__ import annotations

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, model_validator
from pydantic_core import PydanticCustomError

from pipelines.serve.forms import _TOP, Answer, Heard, Id, Plays, Song, Text, _Form

MOST_SONGS = 100
"""Songs that one request asks for by their ids."""

Ids = Annotated[
    list[Id],
    Field(
        min_length=1,
        max_length=MOST_SONGS,
        description="Songs of the catalogue.",
        examples=[["SOAXGDH12A8C13F8A1"]],
    ),
]


# --- questions -----------------------------------------------------------------------------


class SongsForm(_Form):
    """Some songs."""

    song_ids: Ids


class ReasonsForm(SongsForm):
    """Songs, and for whom they are explained: one of `user_id`, `plays` and `like`."""

    model_config = ConfigDict(
        json_schema_extra={"oneOf": [{"required": [name]} for name in ("user_id", "plays", "like")]}
    )

    user_id: Id = Field("", description="A user of the workspace with a stored list.")
    plays: Plays = Field({}, description="What somebody played: {song id: plays}.")
    like: Id = Field("", description="The song that these are like.")

    @model_validator(mode="after")
    def _one_of_them(self) -> ReasonsForm:
        if len({"user_id", "plays", "like"} & self.model_fields_set) != 1:
            raise PydanticCustomError("one_of", "Give one of user_id, plays and like")
        return self


class MixturesForm(_Form):
    """Songs, and of whose history the mixture is: at most one of `user_id` and `plays`."""

    model_config = ConfigDict(json_schema_extra={"not": {"required": ["user_id", "plays"]}})

    song_ids: list[Id] = Field([], max_length=MOST_SONGS, description="Songs of the catalogue.")
    user_id: Id = Field("", description="A user of the workspace with a stored list.")
    plays: Plays = Field({}, description="What somebody played: {song id: plays}.")

    @model_validator(mode="after")
    def _not_both(self) -> MixturesForm:
        if {"user_id", "plays"} <= self.model_fields_set:
            raise PydanticCustomError("one_of", "Give one of user_id and plays, or none")
        return self


class PointQuery(_Form):
    """A point of the map."""

    number: int = Field(ge=0, lt=2**32, description="The number of its song, as the map has it.")
    result: str = Field(max_length=128, description="The key of the result that the map is of.")


class UsersQuery(_Form):
    """Users by the beginning of their ids."""

    q: Text = Field("", description="What an id begins with.")
    top: int = Field(20, ge=1, description="Users of the answer, at most.")


class HistoryQuery(_Form):
    """A user of the workspace."""

    user_id: Id = Field(description="The id of a user of the workspace with a stored list.")
    top: int = _TOP


# --- answers -------------------------------------------------------------------------------


class Genre(BaseModel):
    """A class of songs."""

    number: int
    tags: list[str] = Field(description="The tags that are most typical of it.")
    songs: int = Field(description="Songs that have it by their tags.")


class GenreList(Answer):
    """The classes; none where the workspace has none, and why in `says`."""

    classes: list[Genre]
    says: str | None


class Mixtures(Answer):
    """Class probabilities, by class number; null where they are not known."""

    classes: int = Field(description="How many there are.")
    songs: list[list[float] | None] = Field(description="Of each song that was asked for.")
    user: list[float] | None = Field(description="Of the history, by plays.")
    says: str | None = Field(description="Why there are none.")


class UserIds(Answer):
    """Users, in the order of the workspace."""

    users: list[str]


class Played(Song):
    """A song of a history, and how often it was played."""

    plays: float


class History(Answer):
    """What a user's list was made of, most played first."""

    user_id: str
    songs: int = Field(description="Songs of the history.")
    played: list[Played]


class ReasonOfSong(BaseModel):
    """What a song's score is made of: each of `signals`, `modalities`, `kinds` adds up to it."""

    song_id: str
    score: float
    signals: dict[str, float]
    modalities: dict[str, float]
    kinds: dict[str, float]
    songs: list[Heard] = Field(description="The songs of the history that add most.")


class Reasons(Answer):
    """Reasons, in the order that was asked for; null for a song without a vector."""

    reasons: list[ReasonOfSong | None]


class MapAbout(Answer):
    """The catalogue as a map; `/v1/map/points` has its points."""

    points: int
    songs: int = Field(description="Songs with a vector: more than points where they are a sample.")
    catalogue: int = Field(description="All songs.")
    explained: list[float] = Field(
        description="What share of the vectors' variance each of the two directions has."
    )
    projected: str = Field(description="What is projected.")


class Place(BaseModel):
    """Where a song lies, and its class; null where nothing says it."""

    x: float
    y: float
    genre: int | None


class Places(Answer):
    """Where songs lie on the map; null for a song without a vector."""

    places: list[Place | None]


class Gap(BaseModel):
    """A method's mAP less that of the one that all are compared with."""

    difference: float
    low: float
    high: float
    p: float | None = Field(description="By Holm's correction.")


class Published(BaseModel):
    """What was published for the method, of other songs and users."""

    value: float
    by: str


class MethodRow(BaseModel):
    """A method of the comparison; `low` and `high` are the ends of its mAP's interval."""

    name: str
    method: str
    reference: bool
    average_precision: float | None
    low: float | None
    high: float | None
    lift: float | None
    auc: float | None
    recall: float | None
    ndcg: float | None
    seeds: int | None
    spread: float | None = Field(description="The standard deviation of its mAP over seeds.")
    difference: Gap | None
    published: Published | None


class ComparedSplit(BaseModel):
    """All methods under one split."""

    by: str
    against: str
    random_level: float | None
    rankings: int
    users: int
    folds: list[int] = Field(description="The folds that were tested.")
    cuts: int = Field(description="How often the songs were cut into folds.")
    candidates: float | None
    relevant: float | None
    users_left_out: dict[str, int]
    rows: list[MethodRow]
    failed: dict[str, str]
    ceilings: dict[str, float | None] = Field(
        description="By number of classes, the mAP of knowing each song's class and how each user "
        "likes each class."
    )
    external: list[str] = Field(
        description="Of lists made elsewhere: what to know of their figures, and of each what was "
        "not found."
    )


class Comparison(BaseModel):
    """The workspace's comparison of methods; `make` is the command where there is none."""

    make: str | None
    splits: list[ComparedSplit]


class RungRow(BaseModel):
    """A rung of the ladder, and its difference to the one before."""

    rung: int
    name: str
    change: str
    context: str
    beside: bool
    average_precision: float | None
    low: float | None
    high: float | None
    ratio: float | None
    difference: float | None
    difference_low: float | None
    difference_high: float | None
    p_holm: float | None


class LadderSplit(BaseModel):
    """The rungs under one split."""

    by: str
    rungs: list[RungRow]


class Ladder(BaseModel):
    """The workspace's ladder; `make` is the command where there is none."""

    make: str | None
    splits: list[LadderSplit]
    left_out: dict[str, str]


class StageCounts(BaseModel):
    """What a stage counted."""

    stage: str
    counts: dict[str, bool | float | str | None]


class Example(BaseModel):
    """One thing that was left out."""

    source: str | None
    item: str | None
    detail: str | None


class Reject(BaseModel):
    """What was left out or changed for one reason."""

    reason: str
    action: str
    count: int
    examples: list[Example]


class UsersLeftOut(BaseModel):
    """Users without a list."""

    reason: str
    users: int


class RunReport(Answer):
    """What the run that is served read, what it left out and why, and its evaluation."""

    stages: list[StageCounts]
    rejects: list[Reject]
    users_left_out: list[UsersLeftOut]
    evaluation: dict[str, object] | None


class PointSong(Answer):
    """The song of a point."""

    song: Song
