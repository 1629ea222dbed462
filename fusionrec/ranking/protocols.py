"""Which songs make a user's profile and which count as relevant: the evaluation protocols.

The paper never ranks a song the user listened to (3.4), and so leaves nothing to be right
about; the three protocols here say what is hidden from the profile.

========= ================================== ============================ ===================
name      profile H_u                        candidates                   relevant R_u
========= ================================== ============================ ===================
heldout   the visible half of u's test songs test songs that are not in   the hidden half
                                             H_u
oord      u's songs outside the test part    all test songs               u's test songs
paper     as `heldout`                       as `heldout`                 as `heldout`
========= ================================== ============================ ===================

`paper` differs from `heldout` in what the labels were fitted on, not in the users' songs.
Everywhere a song needs a vector: one without is in no set.

Under a split by time (:mod:`fusionrec.ranking.timeline`) `oord` is what a user played before the
cut, and the new songs that they played from then on; rows that are neither are to be left out
before. The visible half of the others would be a profile of the future: they mean nothing there.
"""

from __future__ import annotations

import typing
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from fusionrec.errors import ConfigError
from fusionrec.hashing import mix, stable_hash

Protocol = Literal["heldout", "oord", "paper"]


class Ids(typing.Protocol):
    """Ids by code: a list of strings, a mapping from codes, or anything else to be indexed."""

    def __getitem__(self, code: int, /) -> str: ...


NO_PROFILE = "no song in profile"
NO_RELEVANT = "no relevant song"


@dataclass(frozen=True)
class SongLists:
    """One list of songs a user, one after the other.

    Attributes
    ----------
    indptr
        Shape (users + 1,), int64: user u's songs are `songs[indptr[u]:indptr[u + 1]]`.
    songs
        int32, ascending within a user: song codes, or columns of a candidate matrix.
    plays
        int64, like `songs`.
    """

    indptr: NDArray[np.int64]
    songs: NDArray[np.int32]
    plays: NDArray[np.int64]

    @staticmethod
    def of_plays(
        users: NDArray[np.int32], songs: NDArray[np.int32], plays: NDArray[np.int32], count: int
    ) -> SongLists:
        """All that each of `count` users played, from rows in any order; no song for who has none.

        Rows of the same user and song are added up.
        """
        user, song, summed = _distinct(users, songs, plays)
        sizes = np.bincount(user, minlength=count)
        return SongLists(np.concatenate([[0], np.cumsum(sizes)]).astype(np.int64), song, summed)

    @property
    def sizes(self) -> NDArray[np.int64]:
        """Songs of each user."""
        return np.diff(self.indptr)

    def where(self, kept: NDArray[np.bool_]) -> SongLists:
        """The lists with some of the songs, a mask of all rows; none of the users leaves."""
        indptr = np.concatenate([[0], np.cumsum(kept)])[self.indptr]
        return SongLists(indptr.astype(np.int64), self.songs[kept], self.plays[kept])

    def to_columns(self, candidates: NDArray[np.int32], catalogue: int) -> SongLists:
        """Keep the songs that are candidates, named by their position in `candidates`.

        Parameters
        ----------
        candidates
            Song codes, ascending (:func:`candidate_songs`).
        catalogue
            Songs altogether, i.e. the first number that is not a song code.
        """
        column = np.full(catalogue, -1, dtype=np.int32)
        column[candidates] = np.arange(len(candidates), dtype=np.int32)
        columns = column[self.songs]
        return replace(self, songs=columns).where(columns >= 0)

    def of(self, kept: NDArray[np.bool_]) -> SongLists:
        """The lists of some of the users, shape (users,)."""
        sizes = self.sizes
        rows = np.repeat(kept, sizes)
        indptr = np.concatenate([[0], np.cumsum(sizes[kept])]).astype(np.int64)
        return SongLists(indptr, self.songs[rows], self.plays[rows])


@dataclass(frozen=True)
class EvaluatedUsers:
    """The users of a shard that a protocol can evaluate.

    Attributes
    ----------
    users
        Shape (users,), int32: their codes, ascending.
    profiles
        H_u, a row for each of `users`, never empty.
    relevant
        R_u, a row for each of `users`, never empty and disjoint from H_u.
    without
        Codes of the users left out, int32, ascending, by reason: :data:`NO_PROFILE` (looked at
        first), :data:`NO_RELEVANT`. A user without a row is in neither.
    without_vector
        Songs of users that the protocol would have used but for their missing vector.
    outside_split
        Songs of users that are in no part of the split.
    """

    users: NDArray[np.int32]
    profiles: SongLists
    relevant: SongLists
    without: dict[str, NDArray[np.int32]]
    without_vector: int
    outside_split: int

    @property
    def left_out(self) -> dict[str, int]:
        """How many users are left out, by reason."""
        return {reason: len(users) for reason, users in self.without.items()}

    def of(self, kept: NDArray[np.bool_]) -> EvaluatedUsers:
        """Some of them, shape (users,); the counts stay."""
        profiles, relevant = self.profiles.of(kept), self.relevant.of(kept)
        return replace(self, users=self.users[kept], profiles=profiles, relevant=relevant)


def candidate_songs(part: NDArray[np.object_], usable: NDArray[np.bool_]) -> NDArray[np.int32]:
    """Codes of the test songs that have a vector, ascending: the columns of a ranking.

    Those of them that are in a user's H_u are to be excluded for that user.
    """
    return np.flatnonzero((part == "test") & usable).astype(np.int32)


def profiles_and_relevant(
    users: NDArray[np.int32],
    songs: NDArray[np.int32],
    plays: NDArray[np.int32],
    *,
    part: NDArray[np.object_],
    usable: NDArray[np.bool_],
    protocol: Protocol,
    user_ids: Ids,
    song_ids: Ids,
    seed: int,
) -> EvaluatedUsers:
    """Divide the songs of a shard of users into H_u and R_u.

    Under `heldout` and `paper`, a user's n test songs are put in the order of a hash of the
    seed, the user's id and the song's; the first ceil(n/2) are visible and the others hidden. A
    user with one test song thus has nothing hidden and is left out. The halves are cut before
    songs without a vector are taken away: what is hidden does not change with the features.

    Parameters
    ----------
    users, songs, plays
        Shape (rows,), schema :data:`fusionrec.schemas.PLAYS`, in any order. All rows of a user
        must be in one shard. Rows of the same user and song are added up.
    part
        Shape (songs,), by song code: `train`, `validation`, `test`; anything else (empty, None)
        where the song is not in the split.
    usable
        Shape (songs,), by song code: the song has a vector.
    protocol
        One of the three names above.
    user_ids, song_ids
        Ids by code; only those of rows of test songs are looked up.
    seed
        Another seed hides other songs.

    Raises
    ------
    ConfigError
        The protocol is not known.
    """
    if protocol not in ("heldout", "oord", "paper"):
        raise ConfigError(f"recommend.protocol is {protocol!r}: set it to heldout, oord or paper")
    user, song, count = _distinct(users, songs, plays)
    test_song = part == "test"
    fitted_song = (part == "train") | (part == "validation")
    test = test_song[song]

    # One mask divides the rows, and a row is all there is of a user and a song: no song can
    # be in both H_u and R_u.
    if protocol == "oord":
        in_profile = ~test
        considered = (test_song | fitted_song)[song]
    else:
        in_profile = np.zeros(len(user), dtype=np.bool_)
        in_profile[test] = _visible(user[test], song[test], user_ids, song_ids, seed)
        considered = test
    with_vector = considered & usable[song]

    shard, row_user = np.unique(user, return_inverse=True)
    profile_sizes = np.bincount(row_user[with_vector & in_profile], minlength=len(shard))
    relevant_sizes = np.bincount(row_user[with_vector & ~in_profile], minlength=len(shard))
    evaluated = (profile_sizes > 0) & (relevant_sizes > 0)
    kept = with_vector & evaluated[row_user]

    def lists(sizes: NDArray[np.int64], rows: NDArray[np.bool_]) -> SongLists:
        indptr = np.concatenate([[0], np.cumsum(sizes[evaluated])]).astype(np.int64)
        return SongLists(indptr, song[rows], count[rows])

    return EvaluatedUsers(
        users=shard[evaluated],
        profiles=lists(profile_sizes, kept & in_profile),
        relevant=lists(relevant_sizes, kept & ~in_profile),
        without={
            NO_PROFILE: shard[profile_sizes == 0],
            NO_RELEVANT: shard[(profile_sizes > 0) & (relevant_sizes == 0)],
        },
        without_vector=int(np.sum(considered & ~usable[song])),
        outside_split=int(np.sum(~(test_song | fitted_song)[song])),
    )


def _distinct(
    users: NDArray[np.int32], songs: NDArray[np.int32], plays: NDArray[np.int32]
) -> tuple[NDArray[np.int32], NDArray[np.int32], NDArray[np.int64]]:
    """Rows by (user, song), each pair once with its plays summed."""
    order = np.lexsort((songs, users))
    users, songs = users[order], songs[order]
    first = np.ones(len(users), dtype=np.bool_)
    first[1:] = (users[1:] != users[:-1]) | (songs[1:] != songs[:-1])
    summed = np.zeros(int(first.sum()), dtype=np.int64)
    np.add.at(summed, np.cumsum(first) - 1, plays[order])
    return users[first], songs[first], summed


def _visible(
    user: NDArray[np.int32],
    song: NDArray[np.int32],
    user_ids: Ids,
    song_ids: Ids,
    seed: int,
) -> NDArray[np.bool_]:
    """Which of the distinct rows, sorted by user, are in their user's visible half."""
    user_key = _hash_codes(user, user_ids, seed, "visible user")
    song_key = _hash_codes(song, song_ids, seed, "visible song")
    # Mixed, not only combined: the order of two songs must not be the same for all users.
    order = np.lexsort((song, mix(user_key ^ song_key), user))
    _, start, size = np.unique(user, return_index=True, return_counts=True)
    rank = np.arange(len(user)) - np.repeat(start, size)
    visible = np.empty(len(user), dtype=np.bool_)
    visible[order] = rank < np.repeat((size + 1) // 2, size)
    return visible


def _hash_codes(codes: NDArray[np.int32], ids: Ids, seed: int, purpose: str) -> NDArray[np.uint64]:
    distinct, inverse = np.unique(codes, return_inverse=True)
    return stable_hash((ids[int(c)] for c in distinct), seed=seed, purpose=purpose)[inverse]
