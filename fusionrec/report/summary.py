"""What a comparison's tables are made of, in memory as in ``comparison.json``."""

from __future__ import annotations

from typing import Literal, TypedDict


class ClassMeasures(TypedDict, total=False):
    """How well a network knows the classes; empty for what is no network."""

    accuracy: float | None
    macro_f1: float | None
    majority: float | None
    lookup_accuracy: float | None
    lookup_known: float | None
    nmi: float | None
    silhouette: float | None


class Measured(ClassMeasures):
    """A method as measured; means over users, and over seeds.

    `k`, `modalities` and `operator` are those of a method that has them, `by_seed` the mAP of each
    seed and `spread` its standard deviation, `without_input` the candidates that it knows nothing
    of. `auc` is None where lists made elsewhere leave relevant songs out. It and the measures of
    the lists (`coverage` to `novelty`) are means over the folds and seeds in which they are
    defined, None if in none. `recall_short` and `ndcg_short` are of the first 20 songs of a list.
    `seconds`, of one CPU, are of all its `rankings` (folds and seeds), learning included, without
    statistics of the lists, and `ranking_seconds` those of ranking alone; both are 0 of lists made
    elsewhere, as `dimensions` are, which are a song vector's.
    """

    name: str
    method: str
    k: int | None
    modalities: list[str] | None
    operator: str | None
    reference: bool
    seeds: int
    average_precision: float
    recall: float
    ndcg: float
    recall_short: float
    ndcg_short: float
    reciprocal_rank: float
    auc: float | None
    random_level: float
    spread: float | None
    by_seed: list[float]
    without_input: int
    seconds: float
    ranking_seconds: float
    rankings: int
    dimensions: int
    lift: float
    coverage: float | None
    gini: float | None
    popularity: float | None
    popularity_bias: float | None
    diversity: float | None
    novelty: float | None


class Row(Measured):
    """With the intervals of its mAP: over users and groups of songs, and over users alone."""

    low: float
    high: float
    users_low: float
    users_high: float


class Difference(TypedDict):
    """The mAP of method `a` less that of `b`; p-values as they are, and by Holm's correction."""

    a: str
    b: str
    difference: float
    low: float
    high: float
    p: float
    p_holm: float
    p_holm_against: float | None


class Evaluated(TypedDict):
    """What a split's methods were evaluated on, and a hash of it."""

    folds: list[int]
    fold_seeds: int
    users: int
    distinct_users: int
    evaluable: int
    users_left_out: dict[str, int]
    candidates_mean: float
    relevant_mean: float
    relevant_quantiles: dict[str, int]
    hash: str


class ExternalLists(TypedDict):
    """Lists made elsewhere: how many, of which users and songs the corpus does not have how many.

    `without_list` are rankings (users in folds) for which there is no list, `without_candidate`
    those whose list has no candidate of the fold.
    """

    lists: int
    unknown_users: int
    unknown_songs: int
    without_list: int
    without_candidate: int


class Summary(TypedDict):
    """The comparison under one split, which is also what its JSON file holds of it.

    `against` is the method that all are compared with, `failed` has the reasons by method,
    `ceilings` the best mAP by k, and `external` what was not found of lists made elsewhere, by
    name.
    """

    by: str
    against: str
    rows: list[Row]
    differences: list[Difference]
    failed: dict[str, str]
    ceilings: dict[str, float]
    external: dict[str, ExternalLists]
    folds: Evaluated


ClassMeasure = Literal[
    "accuracy",
    "macro_f1",
    "majority",
    "lookup_accuracy",
    "lookup_known",
    "nmi",
    "silhouette",
]
BeyondMeasure = Literal["coverage", "gini", "popularity_bias", "diversity", "novelty"]
