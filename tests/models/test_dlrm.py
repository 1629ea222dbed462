"""DLRM's form as a song tower: its forward pass, and fields that are drawn to be unknown."""

from dataclasses import replace
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import torch

from fusionrec.models.categories import UNKNOWN, categories, singles
from fusionrec.models.dlrm import DlrmModel, DlrmTower, DlrmTraining, Field
from fusionrec.models.settings import DlrmSettings, FusionSettings, RankingSettings, Settings
from fusionrec.models.song_tower import SongInputs
from fusionrec.signals.histories import Histories
from tests.models import planted as planted_corpus
from tests.models.planted import Planted, planted

SONGS = 60
TRAIN = np.arange(40)
SETTINGS = Settings(p=0.0)
SHAPE = DlrmSettings(embedding=6, rows=9, bottom=(7,), top=(8, 5))


def songs() -> SongInputs:
    rng = np.random.default_rng(0)
    present = rng.random((SONGS, 2)) < 0.8
    x = rng.normal(size=(SONGS, 5)).astype(np.float32)
    return SongInputs(x, present, FusionSettings((3, 2)))


def fields(unknown: float = 0.5, untagged: float = 0.1) -> dict[str, Field]:
    """Artists of four songs each, two releases each, and up to three of five tags with votes."""
    rng = np.random.default_rng(1)
    artists = pa.array([f"artist {song // 4}" for song in range(SONGS)])
    releases = pa.array([f"release {song // 2}" for song in range(SONGS)])
    tags = [list(rng.choice(list("abcde"), rng.integers(0, 4))) for _ in range(SONGS)]
    votes = [rng.integers(1, 9, len(each)).tolist() for each in tags]
    kept = {"train": TRAIN, "most": SHAPE.rows, "seed": 0}
    return {
        "artist": Field(categories(singles(artists), **kept), unknown),
        "release": Field(categories(singles(releases), **kept), unknown, "artist"),
        "tags": Field(categories(pa.array(tags), pa.array(votes), **kept), untagged),
    }


def tower(shape: DlrmSettings = SHAPE, settings: Settings = SETTINGS, **rates: float) -> DlrmTower:
    return DlrmTower(songs(), fields(**rates), 4, settings, shape)


def begin(tower: DlrmTower, epoch: int, songs: int) -> None:
    """Training mode, before a batch of so many songs."""
    tower.train()
    tower.begin(epoch)
    tower.share(songs)


def dense(tower: DlrmTower, song: int) -> np.ndarray:
    """A song's output, by loops over layers, table rows and pairs."""
    state = {name: value.numpy().astype(float) for name, value in tower.state_dict().items()}

    def network(name: str, x: np.ndarray) -> np.ndarray:
        layers = [key.removesuffix(".weight") for key in state if key.startswith(f"{name}.")]
        layers = [layer for layer in layers if not layer.endswith(".bias")]
        for place, layer in enumerate(layers):
            x = state[f"{layer}.weight"] @ x + state[f"{layer}.bias"]
            if place < len(layers) - 1:
                x = np.maximum(x, 0)
        return x

    inputs = songs()
    x = inputs.x[song] * np.repeat(inputs.present[song], (3, 2))
    vectors = [np.maximum(network("bottom", x), 0)]
    for name, field in fields().items():
        one_hot = np.zeros(field.categories.size)
        for entry in range(field.categories.indptr[song], field.categories.indptr[song + 1]):
            one_hot[field.categories.rows[entry]] += field.categories.shares[entry]
        assert one_hot.sum() == pytest.approx(1)
        vectors.append(one_hot @ state[f"tables.{name}.weight"])
    found = list(np.concatenate(vectors)) if tower.shape.embeddings_too else list(vectors[0])
    for first in range(len(vectors)):
        for second in range(first + 1, len(vectors)):
            found.append(sum(a * b for a, b in zip(vectors[first], vectors[second], strict=True)))
    return network("top", np.array(found))


@pytest.mark.parametrize("shape", [SHAPE, replace(SHAPE, embeddings_too=True)])
def test_the_forward_pass_is_dlrms(shape) -> None:
    found = tower(shape)
    assert found.top[0].in_features == (6 if shape == SHAPE else 6 * 4) + 4 * 3 // 2
    rows = np.array([3, 59, 3, 20, 45])
    expected = np.array([dense(found, song) for song in rows])
    np.testing.assert_allclose(found.outputs(rows).numpy(), expected, rtol=1e-4, atol=1e-5)
    everything = found.outputs(np.arange(SONGS)).numpy()
    assert everything.shape == (SONGS, 4)
    np.testing.assert_allclose(everything[rows], expected, rtol=1e-4, atol=1e-5)


def test_a_field_drawn_to_be_unknown_is_that_of_a_cold_song() -> None:
    """Of a song of an artist, release and tags that no training song has."""
    found = tower(unknown=1.0, untagged=1.0)
    begin(found, 1, SONGS)
    with torch.no_grad():
        drawn = found.embeddings(np.arange(SONGS))
    for table, vectors in zip(found.tables.values(), drawn, strict=True):
        expected = table.weight[UNKNOWN].detach().expand(SONGS, -1)
        torch.testing.assert_close(vectors, expected, rtol=0, atol=0)


def test_fields_are_drawn_as_often_as_told_and_a_release_not_without_its_artist() -> None:
    found = tower(unknown=0.4, untagged=0.2)
    rows = np.random.default_rng(0).choice(TRAIN, 20_000)
    with torch.no_grad():
        known = found.eval().embeddings(rows)
        begin(found, 1, len(rows))
        drawn = found.embeddings(rows)
        begin(found, 1, len(rows))
        again = found.embeddings(rows)
        begin(found, 2, len(rows))
        other = found.embeddings(rows)
    artist, release, tags = ((a != b).any(dim=1) for a, b in zip(known, drawn, strict=True))
    assert artist.float().mean().item() == pytest.approx(0.4, abs=0.02)
    assert release[artist].all()
    assert release[~artist].float().mean().item() == pytest.approx(0.4, abs=0.02)
    tagged = (known[2] != found.tables["tags"].weight[UNKNOWN]).any(dim=1)
    for part in (artist & tagged, ~artist & tagged):
        assert tags[part].float().mean().item() == pytest.approx(0.2, abs=0.02)
    assert all(torch.equal(a, b) for a, b in zip(drawn, again, strict=True))
    assert not any(torch.equal(a, b) for a, b in zip(drawn, other, strict=True))


def test_what_is_unknown_is_learned_from_training_songs() -> None:
    """Its row has a gradient only where songs are drawn to be without the field."""
    for unknown in (0.0, 1.0):
        found = tower(unknown=unknown)
        begin(found, 1, len(TRAIN))
        found(TRAIN).square().mean().backward()
        gradients = (found.tables["artist"].weight.grad != 0).any(dim=1)
        assert gradients[UNKNOWN].item() is bool(unknown)
        assert gradients[1:].any().item() is not bool(unknown)


def test_a_modality_that_is_dropped_is_absent() -> None:
    """Of two modalities one is left, and nothing else is drawn."""
    found = tower(settings=replace(SETTINGS, modality_dropout=1.0), unknown=0.0, untagged=0.0)
    rows = np.flatnonzero(songs().present.all(axis=1))
    begin(found, 1, len(rows))
    with torch.no_grad():
        drawn = found(rows)
    alone = []
    for modality in range(2):
        found.present_NM = torch.zeros(SONGS, 2, dtype=torch.bool)
        found.present_NM[:, modality] = True
        alone.append(found.outputs(rows))
    is_of = torch.stack([torch.isclose(drawn, each).all(dim=1) for each in alone])
    assert (is_of.sum(dim=0) == 1).all()
    assert is_of.any(dim=1).all()


def test_the_seed_and_nothing_else_is_random() -> None:
    settings = Settings(p=0.3)
    outputs = []
    for seed in (0, 0, 1):
        torch.manual_seed(len(outputs))
        found = tower(settings=replace(settings, seed=seed))
        begin(found, 1, len(TRAIN))
        outputs.append(found(TRAIN).detach())
    assert torch.equal(outputs[0], outputs[1])
    assert not torch.equal(outputs[0], outputs[2])


# --- in training -------------------------------------------------------------------------

TRAINING = Settings(epochs=8, eta=0.01, p=0.1, patience=8, dtype="float32")
RANKING = RankingSettings(dimensions=12, pairs=256, negatives=40, history=6, cold=0.5)
WIDE = DlrmSettings(embedding=8, rows=30, bottom=(16,), top=(32,), unknown=0.5)


@pytest.fixture(scope="module")
def data() -> Planted:
    return planted()


def training(
    data: Planted,
    plays: Histories,
    settings: Settings = TRAINING,
    tags_alone: bool = False,
    **workers: Any,
) -> DlrmTraining:
    """With tags that say which tastes a song is of and how much, and dense features that do.

    With `tags_alone`, there are no dense features, and the top network sees the embeddings.
    """
    tags = pa.array(
        [[f"{d}{'+' if t > 0 else '-'}" for d, t in enumerate(ts)] for ts in data.taste]
    )
    shape = replace(WIDE, embeddings_too=tags_alone)
    votes = pa.array(np.abs(data.taste).round(1).tolist())
    artists = pa.array([f"artist {song // 3}" for song in range(len(data.taste))])
    kept = {"train": planted_corpus.TRAIN, "most": WIDE.rows, "seed": 0}
    found = {
        "artist": Field(categories(singles(artists), **kept), WIDE.unknown),
        "tags": Field(categories(tags, votes, **kept), WIDE.untagged),
    }
    songs = replace(data.songs, x=np.zeros_like(data.songs.x)) if tags_alone else data.songs
    return DlrmTraining(
        songs,
        found,
        plays,
        data.factors.songs,
        train=planted_corpus.TRAIN,
        validation=planted_corpus.VALIDATION,
        settings=settings,
        ranking=RANKING,
        shape=shape,
        **workers,
    )


def fitted(data: Planted, plays: Histories, *more: Settings, tags_alone: bool = False) -> DlrmModel:
    return training(data, plays, *more, tags_alone=tags_alone).run()


@pytest.fixture(scope="module")
def model(data) -> DlrmModel:
    return fitted(data, data.plays)


@pytest.mark.parametrize("tags_alone", [False, True])
def test_cold_songs_are_ranked_by_what_they_are(data, model, tags_alone) -> None:
    found = fitted(data, data.plays, tags_alone=True) if tags_alone else model
    V = found.users(data.seen().counts, np.arange(planted_corpus.USERS))
    F = found.content[planted_corpus.TEST]
    chance = data.precision(np.random.default_rng(0).permutation(F), V)
    assert data.precision(F, V) > 1.5 * chance


def test_hidden_plays_and_factors_change_nothing(data, model) -> None:
    test, users = planted_corpus.TEST, np.arange(planted_corpus.USERS)
    counts, rng = data.plays.counts.toarray(), np.random.default_rng(0)
    counts[:, test] = rng.integers(0, 5, (len(counts), len(test)))
    of, songs = np.nonzero(counts)
    plays = Histories.of(of, songs, counts[of, songs].astype(int), counts.shape)
    factors = data.factors.songs.copy()
    factors[test] = rng.normal(size=(len(test), factors.shape[1]))
    again = fitted(replace(data, factors=replace(data.factors, songs=factors)), plays)
    np.testing.assert_array_equal(again.warm, model.warm)
    np.testing.assert_array_equal(
        again.users(data.seen().counts, users), model.users(data.seen().counts, users)
    )


def test_a_training_is_that_of_its_seed(data) -> None:
    short = replace(TRAINING, epochs=1)
    first = fitted(data, data.plays, short).warm
    np.testing.assert_array_equal(first, fitted(data, data.plays, short).warm)
    assert (first != fitted(data, data.plays, replace(short, seed=1)).warm).any()


def test_a_restored_training_goes_on_as_if_it_had_never_stopped(data) -> None:
    settings = replace(TRAINING, epochs=2)
    first = training(data, data.plays, settings)
    first.run_epoch()
    second = training(data, data.plays, settings)
    second.restore(first.save())
    np.testing.assert_array_equal(second.run().warm, first.run().warm)
    assert second.curve[1].loss == first.curve[1].loss
