"""A run of the sample corpus with a real pre-trained encoder, named by its folder."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa

from fusionrec.features.lyrics import tfidf
from fusionrec.tables import matrix
from pipelines.run import run
from pipelines.runtime.workspace import Workspace
from pipelines.words import training_lyrics
from tests.features.lyrics.pretrained import cosines, transformers_vectors
from tests.pipelines.conftest import SETTINGS, copied
from tests.pipelines.inline import load, without_ray


def texts_of_songs(place: Path) -> dict[str, str]:
    """What the lyrics of each song are encoded from, by its id."""
    workspace = Workspace(str(place))
    words = workspace.read("ingest", "vocabulary")["word"].to_pylist()
    parts = workspace.parts("ingest", "lyrics")
    training = pa.concat_tables([training_lyrics(workspace, part) for part in parts])
    weights = tfidf.word_weights(tfidf.count(training, len(words)), "sklearn")
    bags = workspace.read("ingest", "lyrics")
    texts = tfidf.significant_texts(bags, weights, "sklearn", words, SETTINGS["embed.lyrics.words"])
    songs = workspace.read("ingest", "songs", ["song_id", "track_id"]).to_pydict()
    song_of = dict(zip(songs["track_id"], songs["song_id"], strict=True))
    tracks = bags["track_id"].to_pylist()
    return {song_of[track]: text for track, text in zip(tracks, texts, strict=True) if text}


def test_a_run_with_an_encoder_named_by_its_folder(
    minilm: Path, small: Path, undisturbed: Path, tmp_path: Path
) -> None:
    place = copied(undisturbed, tmp_path / "w", "ingest", "split", "label")
    chosen = {"embed__lyrics__encoder": minilm, "embed__lyrics__pooling": "mean"}
    with without_ray():
        manifests = run(load(small, place, **chosen))
    assert "pretrain" not in manifests
    assert manifests["evaluate"]["counts"]["users"] > 20
    told = manifests["embed"]["counts"]["lyrics"]
    assert (told["dimension"], told["path"]) == (384, "packed")
    assert told["encoder"] == str(minilm)

    table = Workspace(str(place)).read("embed", "lyrics").combine_chunks()
    found = dict(zip(table["song_id"].to_pylist(), matrix(table["vector"]), strict=True))
    texts = texts_of_songs(place)
    assert sum(table["present"].to_pylist()) == len(texts) == told["songs_with_lyrics"] > 50
    songs = sorted(texts)[:25]
    expected = transformers_vectors(minilm, [texts[song] for song in songs], ["mean"])["mean"]
    worst = cosines(np.stack([found[song] for song in songs]), expected).min()
    assert worst > (0.9999 if told["dtype"] == "float32" else 0.9995)

    first = Workspace(str(place)).current()
    with without_ray():
        run(load(small, place, **chosen))
        assert Workspace(str(place)).current() == first
        run(load(small, place, **chosen | {"embed__lyrics__pooling": "cls"}))
    other = Workspace(str(place)).current()
    assert {stage for stage in first if other[stage] != first[stage]} == {
        *("embed", "fuse", "train", "recommend", "evaluate")
    }
