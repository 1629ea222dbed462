"""What a run left out, and what it says of results that mean little."""

from dataclasses import asdict, replace

import pytest

from pipelines.cli.remarks import OTHER_SONGS, LeftOut, left_out, remarks
from pipelines.evaluate import Evaluation

INGEST = {
    "tracks": 800,
    "tracks_rejected": 2,
    "tracks_mismatched": 4,
    "tracks_sharing_a_song_id": 19,
    "songs": 777,
    "lyrics": 600,
    "lyrics_rejected": 1,
    "lyrics_repeated": 0,
    "lyrics_of_other_tracks": 30,
    "tracks_with_lyrics": 570,
    "songs_with_lyrics": 560,
    "triplets": 23_119,
    "triplets_rejected": 9,
    "triplets_on_corpus": 7_900,
    "triplets_on_mismatched_songs": 156,
    "plays": 7_744,
}
GOOD = Evaluation(
    test_accuracy=0.6,
    train_accuracy=0.7,
    majority_share=0.3,
    train_songs=1_200,
    test_songs=400,
    classes=8,
    map=0.08,
    map_interval=[0.07, 0.09],
    random_map=0.02,
    lift=4.0,
    auc=0.7,
    auc_interval=[0.6, 0.8],
    recall=0.9,
    ndcg=0.3,
    reciprocal_rank=0.2,
    candidates=1_990.0,
    candidate_songs=2_000,
    relevant=4.5,
    users=960,
    users_left_out={},
    level=0.95,
    top=500,
)


def test_all_that_ingest_did_not_use_is_counted_to_the_last() -> None:
    found = left_out({"ingest": INGEST})
    assert LeftOut("plays", 15_219, 23_128, OTHER_SONGS) in found
    assert LeftOut("tracks", 2, 802, "damaged") in found
    sums = {what: sum(each.count for each in found if each.what == what) for what in
            ("tracks", "lyrics", "plays")}  # fmt: skip
    totals = {each.what: each.of for each in found}
    assert totals["tracks"] - sums["tracks"] == INGEST["songs"]
    assert totals["lyrics"] - sums["lyrics"] == INGEST["songs_with_lyrics"]
    assert totals["plays"] - sums["plays"] == INGEST["plays"]
    assert all(each.count > 0 for each in found)


def test_a_corpus_without_lyrics_has_left_none_out() -> None:
    """Ingest counts no damaged ones where `source.lyrics` is empty."""
    counts = {name: n for name, n in INGEST.items() if "lyrics" not in name}
    counts |= {"lyrics": 0, "tracks_with_lyrics": 0, "songs_with_lyrics": 0}
    found = left_out({"ingest": counts})
    assert [each.what for each in found] == ["tracks"] * 3 + ["plays"] * 3


def test_songs_and_users_that_later_stages_left_out_are_named() -> None:
    counts = {
        "ingest": INGEST,
        "label": {"songs_without_tags": 100},
        "fuse": {"songs": 777, "songs_with_features": 770},
        "recommend": {"plays_without_vector": 41},
        "evaluate": {"users": 90, "users_left_out": {"no relevant song": 10, "none": 0}},
    }
    found = left_out(counts)[-4:]
    assert [(each.what, each.count, each.of) for each in found] == [
        ("songs", 100, 777),
        ("songs", 7, 777),
        ("plays", 41, 7_744),
        ("users", 10, 100),
    ]
    # Songs that the split left out for their tags are not named twice.
    counts["split"] = {"left_out_without_tags": 100}
    whys = [each.why for each in left_out(counts) if each.what == "songs"]
    assert whys == ["without tags (split.require_tags)", "without features: in no list"]


def test_nothing_left_out_and_good_results_are_not_remarked_on() -> None:
    assert left_out({}) == []
    assert left_out({"evaluate": asdict(GOOD)}) == []
    assert remarks(GOOD) == []


@pytest.mark.parametrize(
    ("changed", "begins"),
    [
        ({"map": 0.02}, "mAP@500 0.0200 is at or below the random level 0.0200"),
        ({"map": 0.01}, "mAP@500 0.0100 is at or below"),
        ({"map_interval": [0.02, 0.2]}, "The interval of mAP@500 0.0800 begins at 0.0200"),
        ({"users": 29}, "Only 29 users are in the means"),
        ({"candidate_songs": 500}, "recall@500 is 1 for any method"),
        ({"test_songs": 37}, "Test accuracy is over 37 songs only"),
        ({"test_accuracy": 0.3}, "Test accuracy 30.0% is no better"),
        ({"test_accuracy": None, "majority_share": None}, "No test song has a class"),
    ],
)
def test_a_result_that_means_little_is_remarked_on(changed, begins) -> None:
    (remark,) = remarks(replace(GOOD, **changed))
    assert remark.startswith(begins)


@pytest.mark.parametrize("changed", [{"users": 100}, {"candidate_songs": 501}, {"test_songs": 100}])
def test_at_the_border_there_is_no_remark(changed) -> None:
    assert remarks(replace(GOOD, **changed)) == []
