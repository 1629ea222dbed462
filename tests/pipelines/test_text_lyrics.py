"""Lyrics as they are written, through the stage that embeds them."""

import logging
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import transformers

from fusionrec.errors import EncoderError
from fusionrec.features.lyrics import recipes
from fusionrec.tables import matrix
from pipelines import embed
from pipelines.embed.lyrics import check_encoder
from pipelines.run import run
from pipelines.runtime import stream
from pipelines.runtime.workspace import Workspace
from tests.features.lyrics.pretrained import transformers_vectors
from tests.features.lyrics.small_encoder import POSITIONS, without_ends, write_encoder
from tests.pipelines.inline import load, without_ray
from tests.pipelines.tables import TABLES, stand_in

LYRICS = {**TABLES, "embed__modalities": "[lyrics]"}


@pytest.fixture(autouse=True)
def _no_ray(undisturbed, monkeypatch) -> Iterator[None]:
    stand_in(monkeypatch, undisturbed)
    with without_ray():
        yield


@pytest.fixture(scope="module")
def encoder(tmp_path_factory) -> Path:
    return write_encoder(tmp_path_factory.mktemp("encoder"))


def embedded(corpus: Path, place: Path, **more: object) -> tuple[dict, dict[str, np.ndarray]]:
    """Counts of the lyrics, and the vectors of the songs that have one, by their tracks."""
    chosen = load(corpus, place, **LYRICS, **more)
    for stage in (*embed.STAGE.needs(chosen), embed.STAGE):
        stage.run(chosen)
    workspace = Workspace(str(place))
    table = workspace.read("embed", "lyrics")
    tracks = workspace.read("ingest", "songs")["track_id"].to_pylist()
    rows = zip(tracks, table["present"].to_pylist(), matrix(table["vector"]), strict=True)
    counts = workspace.require("embed")["counts"]["lyrics"]
    return counts, {track: vector for track, present, vector in rows if present}


def texts(place: Path) -> dict[str, str]:
    table = Workspace(str(place)).read("ingest", "lyrics_text")
    return dict(zip(table["track_id"].to_pylist(), table["text"].to_pylist(), strict=True))


def test_a_run_encodes_texts_as_texts_and_bags_as_words(small, encoder, tmp_path) -> None:
    place = tmp_path / "w"
    chosen = {"embed__lyrics__encoder": encoder, "embed__lyrics__pooling": "mean"}
    counts, cut = embedded(small, place, **chosen)
    written = texts(place)
    tokenizer = transformers.AutoTokenizer.from_pretrained(encoder)
    longer = {t for t, text in written.items() if len(tokenizer(text)["input_ids"]) > POSITIONS}
    assert 0 < len(longer) < len(written) < len(cut) == counts["songs_with_lyrics"]
    assert counts["texts"] == {
        "songs": len(written),
        "songs_by_words": 0,
        "longer": len(longer),
        "long": "cut",
    }
    expected = transformers_vectors(
        encoder, list(written.values()), ["mean"], max_length=POSITIONS
    )["mean"]
    np.testing.assert_allclose(np.stack([cut[t] for t in written]), expected, atol=2e-5)

    first = Workspace(str(place)).current()["embed"]
    counts, windows = embedded(small, place, **chosen, embed__lyrics__long="windows")
    assert Workspace(str(place)).current()["embed"] != first
    assert counts["texts"]["long"] == "windows"
    for track in cut:
        same = np.allclose(windows[track], cut[track], atol=2e-5)
        assert same == (track not in longer), track
    run(load(small, place, **LYRICS, **chosen, recommend__model="genre"))  # what follows it works


def test_windows_that_cannot_be_made_end_the_stage_before_it_begins(
    small, encoder, tmp_path, monkeypatch
) -> None:
    """And a look at the encoder, but for a source of bags, of which there are none."""
    windows = {"embed__lyrics__encoder": encoder, "embed__lyrics__long": "windows"}
    with_texts, bags = load(small, tmp_path, **LYRICS, **windows), load(small, tmp_path, **windows)
    check_encoder(with_texts, 0.0)
    monkeypatch.setattr(recipes, "load_tokenizer", lambda *_: without_ends())
    check_encoder(bags, 0.0)
    with pytest.raises(EncoderError, match=r"set embed\.lyrics\.long=cut"):
        check_encoder(with_texts, 0.0)

    def streamed(*_: object, **__: object) -> None:
        raise AssertionError("a part was begun")

    monkeypatch.setattr(stream, "stream", streamed)
    with pytest.raises(EncoderError, match=r"set embed\.lyrics\.long=cut"):
        embedded(small, tmp_path / "w", **windows)


def test_the_corpus_own_encoder_takes_the_words_and_says_so(
    small, undisturbed, tmp_path, caplog
) -> None:
    place = tmp_path / "w"
    with caplog.at_level(logging.WARNING, "fusionrec"):
        counts, found = embedded(small, place, embed__lyrics__encoder="pretrain")
    written = texts(place)
    assert counts["texts"]["songs"] == 0
    assert counts["texts"]["songs_by_words"] == len(written)
    assert f"the text of {len(written)} songs' lyrics is left unread" in caplog.text
    bags = Workspace(str(undisturbed)).read("embed", "lyrics")
    present = bags["present"].to_numpy(zero_copy_only=False)
    np.testing.assert_array_equal(np.stack(list(found.values())), matrix(bags["vector"])[present])


def test_what_is_long_is_of_sources_with_texts_alone(small, tmp_path) -> None:
    """Of bags, and where words are encoded, another value redoes nothing."""

    def key(**more: object) -> str:
        chosen = load(small, tmp_path / "w", **{"embed__lyrics__encoder": "some", **more})
        return embed.STAGE.plan(chosen, Workspace(str(tmp_path / "w"))).key

    windows = {"embed__lyrics__long": "windows"}
    assert key() == key(**windows)
    assert key(**LYRICS) != key(**LYRICS, **windows)
    trained = {"embed__lyrics__encoder": "pretrain"}
    assert key(**LYRICS, **trained) == key(**LYRICS, **trained, **windows)
