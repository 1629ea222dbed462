"""What a run left out, and which of its results mean little: pure functions of stages' counts."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pipelines.cli.counts import inner, whole

if TYPE_CHECKING:
    from pipelines.evaluate import Evaluation
    from pipelines.runtime.stage import Counts

FEW_USERS = 100
FEW_SONGS = 100
"""Below these a mean over users, or a share of songs, moves by whole per cents by chance alone."""

OTHER_SONGS = "song not in the corpus: kept to learn from only"
"""Why a play of such a song is named: no list will have the song, but the play is no waste."""


@dataclass(frozen=True)
class LeftOut:
    """How many of all `of` things of a kind are not used, and why."""

    what: str
    count: int
    of: int
    why: str


def left_out(counts: Mapping[str, Counts]) -> list[LeftOut]:
    """What the stages of a run did not use, given the counts of each.

    A stage that the run did not have, and what was left out nowhere, is not named.
    """
    found = [
        *_of_ingest(counts.get("ingest", {})),
        *_of_songs(counts),
        *_of_users(counts.get("evaluate", {})),
    ]
    return [each for each in found if each.count > 0]


def _of_ingest(counts: Counts) -> Iterator[LeftOut]:
    def n(name: str) -> int:
        return whole(counts, name)

    if "tracks" in counts:
        tracks = n("tracks") + n("tracks_rejected")
        yield LeftOut("tracks", n("tracks_rejected"), tracks, "damaged")
        yield LeftOut("tracks", n("tracks_mismatched"), tracks, "listed as mismatched")
        same = "have the song id of another track"
        yield LeftOut("tracks", n("tracks_sharing_a_song_id"), tracks, same)
    if "lyrics_rejected" in counts:  # else there is no source of lyrics
        lyrics = n("lyrics") + n("lyrics_rejected")
        unused = n("tracks_with_lyrics") - n("songs_with_lyrics")
        yield LeftOut("lyrics", n("lyrics_rejected"), lyrics, "damaged")
        yield LeftOut("lyrics", n("lyrics_repeated"), lyrics, "a track's second")
        yield LeftOut("lyrics", n("lyrics_of_other_tracks"), lyrics, "track not in the corpus")
        yield LeftOut("lyrics", unused, lyrics, "of a track left out above")
    if "triplets" in counts:
        plays = n("triplets") + n("triplets_rejected")
        other = n("triplets") - n("triplets_on_corpus")
        yield LeftOut("plays", n("triplets_rejected"), plays, "damaged")
        yield LeftOut("plays", other, plays, OTHER_SONGS)
        mismatched = n("triplets_on_mismatched_songs")
        yield LeftOut("plays", mismatched, plays, "song listed as mismatched")


def _of_songs(counts: Mapping[str, Counts]) -> Iterator[LeftOut]:
    def n(stage: str, name: str) -> int:
        found = counts.get(stage, {})
        return whole(found, name) if name in found else 0

    songs = n("ingest", "songs")
    without_tags = n("split", "left_out_without_tags")
    yield LeftOut("songs", without_tags, songs, "without tags (split.require_tags)")
    if not without_tags:
        unlabelled = n("label", "songs_without_tags")
        yield LeftOut("songs", unlabelled, songs, "without tags: no class to learn from")
    featureless = n("fuse", "songs") - n("fuse", "songs_with_features")
    yield LeftOut("songs", featureless, songs, "without features: in no list")
    plays = n("ingest", "plays")
    later = "at the cut or later, of songs known before"
    yield LeftOut("plays", n("split", "plays_after_cut"), plays, later)
    yield LeftOut("plays", n("split", "plays_without_time"), plays, "without a time")
    ranked = n("recommend", "plays_without_vector")
    yield LeftOut("plays", ranked, plays, "song without features")


def _of_users(counts: Counts) -> Iterator[LeftOut]:
    if "users_left_out" in counts:
        reasons = inner(counts, "users_left_out")
        left = {reason: whole(reasons, reason) for reason in reasons}
        users = whole(counts, "users") + sum(left.values())
        for reason, count in left.items():
            yield LeftOut("users", count, users, reason)


def remarks(results: Evaluation) -> list[str]:
    """Why some results mean little, a sentence each; none where all is well."""
    return [*_on_ranking(results), *_on_accuracy(results)]


def _on_ranking(results: Evaluation) -> Iterator[str]:
    top, chance, low = results.top, results.random_map, results.map_interval[0]
    measured = f"mAP@{top} {results.map:.4f}"
    if results.map <= chance:
        yield f"{measured} is at or below the random level {chance:.4f}: the lists tell nothing."
    elif low <= chance:
        yield (
            f"The interval of {measured} begins at {low:.4f}, and the random level is "
            f"{chance:.4f}: this may be chance."
        )
    if results.users < FEW_USERS:
        yield f"Only {results.users} users are in the means: another sample may differ a lot."
    if results.candidate_songs <= top:
        yield (
            f"recall@{top} is 1 for any method: there are only {results.candidate_songs:,} "
            f"candidate songs, so every list holds them all (recommend.top, or more test songs)."
        )


def _on_accuracy(results: Evaluation) -> Iterator[str]:
    if results.classes is None:
        return
    accuracy, majority = results.test_accuracy, results.majority_share
    if accuracy is None:
        yield "No test song has a class: there is no test accuracy."
        return
    if results.test_songs < FEW_SONGS:
        yield f"Test accuracy is over {results.test_songs} songs only."
    if majority is not None and accuracy <= majority:
        yield (
            f"Test accuracy {accuracy:.1%} is no better than always naming the largest class "
            f"({majority:.1%})."
        )
