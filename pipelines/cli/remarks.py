"""What a run left out, and which of its results mean little: pure functions of stages' counts."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

Counts = Mapping[str, Any]

FEW_USERS = 100
FEW_SONGS = 100
"""Below these a mean over users, or a share of songs, moves by whole per cents by chance alone."""


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
    if "tracks" in counts:
        tracks = counts["tracks"] + counts["tracks_rejected"]
        yield LeftOut("tracks", counts["tracks_rejected"], tracks, "damaged")
        yield LeftOut("tracks", counts["tracks_mismatched"], tracks, "listed as mismatched")
        same = "have the song id of another track"
        yield LeftOut("tracks", counts["tracks_sharing_a_song_id"], tracks, same)
    if "lyrics" in counts:
        lyrics = counts["lyrics"] + counts["lyrics_rejected"]
        unused = counts["tracks_with_lyrics"] - counts["songs_with_lyrics"]
        yield LeftOut("lyrics", counts["lyrics_rejected"], lyrics, "damaged")
        yield LeftOut("lyrics", counts["lyrics_repeated"], lyrics, "a track's second")
        yield LeftOut("lyrics", counts["lyrics_of_other_tracks"], lyrics, "track not in the corpus")
        yield LeftOut("lyrics", unused, lyrics, "of a track left out above")
    if "triplets" in counts:
        plays = counts["triplets"] + counts["triplets_rejected"]
        other = counts["triplets"] - counts["triplets_on_corpus"]
        yield LeftOut("plays", counts["triplets_rejected"], plays, "damaged")
        yield LeftOut("plays", other, plays, "song not in the corpus")
        mismatched = counts["triplets_on_mismatched_songs"]
        yield LeftOut("plays", mismatched, plays, "song listed as mismatched")


def _of_songs(counts: Mapping[str, Counts]) -> Iterator[LeftOut]:
    songs = counts.get("ingest", {}).get("songs", 0)
    without_tags = counts.get("split", {}).get("left_out_without_tags", 0)
    yield LeftOut("songs", without_tags, songs, "without tags (split.require_tags)")
    if not without_tags:
        unlabelled = counts.get("label", {}).get("songs_without_tags", 0)
        yield LeftOut("songs", unlabelled, songs, "without tags: no class to learn from")
    fused = counts.get("fuse", {})
    featureless = fused.get("songs", 0) - fused.get("songs_with_features", 0)
    yield LeftOut("songs", featureless, songs, "without features: in no list")
    ranked = counts.get("recommend", {}).get("plays_without_vector", 0)
    plays = counts.get("ingest", {}).get("plays", 0)
    yield LeftOut("plays", ranked, plays, "song without features")


def _of_users(counts: Counts) -> Iterator[LeftOut]:
    reasons = counts.get("users_left_out", {})
    for reason, users in reasons.items():
        yield LeftOut("users", users, counts["users"] + sum(reasons.values()), reason)


def remarks(counts: Counts) -> list[str]:
    """Why some results of `evaluate` mean little, a sentence each; none where all is well."""
    return [*_on_ranking(counts), *_on_accuracy(counts)]


def _on_ranking(counts: Counts) -> Iterator[str]:
    top, chance = counts["top"], counts["random_map"]
    measured = f"mAP@{top} {counts['map']:.4f}"
    if counts["map"] <= chance:
        yield f"{measured} is at or below the random level {chance:.4f}: the lists tell nothing."
    elif counts["map_interval"][0] <= chance:
        low = counts["map_interval"][0]
        yield (
            f"The interval of {measured} begins at {low:.4f}, and the random level is "
            f"{chance:.4f}: this may be chance."
        )
    if counts["users"] < FEW_USERS:
        yield f"Only {counts['users']} users are in the means: another sample may differ a lot."
    candidates = counts.get("candidate_songs")
    if candidates is not None and candidates <= top:
        yield (
            f"recall@{top} is 1 for any method: there are only {candidates:,} candidate songs, so "
            f"every list holds them all (recommend.top, or more test songs)."
        )


def _on_accuracy(counts: Counts) -> Iterator[str]:
    accuracy, songs = counts["test_accuracy"], counts.get("test_songs")
    majority = counts["majority_share"]
    if accuracy is None:
        yield "No test song has a class: there is no test accuracy."
        return
    if songs is not None and songs < FEW_SONGS:
        yield f"Test accuracy is over {songs} songs only."
    if majority is not None and accuracy <= majority:
        yield (
            f"Test accuracy {accuracy:.1%} is no better than always naming the largest class "
            f"({majority:.1%})."
        )
