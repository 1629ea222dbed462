import gzip
import os
import pickle

import numpy as np
import pytest
from gensim.models import KeyedVectors

from fusionrec.errors import ConfigError
from fusionrec.features.words import FieldWord2Vec, load_vectors, tokenize, vectors_fingerprint

TITLES = ["Don't Stop", "Stop the Music", None, "", "Música Ligera 2"]


def test_words_are_lower_case_of_any_script() -> None:
    assert tokenize("Don’t STOP -- (Live)") == ["don't", "stop", "live"]
    assert tokenize("Música 99 Luftballons 愛") == ["música", "99", "luftballons", "愛"]
    assert tokenize(None) == tokenize("") == tokenize("...") == []


def test_a_text_is_the_mean_of_its_known_words() -> None:
    model = FieldWord2Vec.fit(TITLES, dimension=6, epochs=2, seed=0)
    row = {word: model.vectors[i] for i, word in enumerate(model.words)}
    vectors, known, unknown = model.transform(["stop unknownword music", "unknownword", None])
    assert unknown == 2
    np.testing.assert_allclose(vectors[0], (row["stop"] + row["music"]) / 2, rtol=1e-6)
    assert not vectors[1:].any()
    assert known.tolist() == [True, False, False]


def test_bytes_and_back() -> None:
    model = FieldWord2Vec.fit(TITLES, dimension=6, epochs=2, seed=0)
    again = FieldWord2Vec.from_bytes(model.to_bytes())
    assert again.words == model.words
    np.testing.assert_array_equal(again.vectors, model.vectors)


def test_no_text_at_all_gives_zero_vectors() -> None:
    model = FieldWord2Vec.fit([None, ""], dimension=6)
    vectors, known, _ = model.transform(["a"])
    assert vectors.shape == (1, 6)
    assert not known.any()


@pytest.fixture
def own(tmp_path):
    vectors = KeyedVectors(6)
    vectors.add_vectors(["stop", "other"], np.full((2, 6), 3.0, np.float32))
    vectors.save_word2vec_format(str(tmp_path / "own.txt"))
    vectors.save_word2vec_format(str(tmp_path / "own.bin"), binary=True)
    vectors.save(str(tmp_path / "own.kv"))
    return tmp_path


@pytest.mark.parametrize("name", ["own.txt", "own.bin"])
def test_training_starts_from_the_users_vectors(own, name) -> None:
    initial = load_vectors(str(own / name))
    model = FieldWord2Vec.fit(TITLES, dimension=6, epochs=1, seed=0, initial=initial)
    moved = np.abs(model.vectors[model.words.index("stop")] - 3.0).max()
    assert moved < 0.1
    assert "other" not in model.words
    with pytest.raises(ConfigError, match=r"set embed\.metadata\.dimension"):
        FieldWord2Vec.fit(TITLES, dimension=7, initial=initial)


def test_pickles_and_strange_files_are_refused(own) -> None:
    (own / "bad.txt").write_text("this is\nnot a word2vec file\n")
    for name, message in (
        ("own.kv", "pickled model is not loaded"),
        ("none.txt", "no such file"),
        ("bad.txt", "not in the word2vec format"),
    ):
        with pytest.raises(ConfigError, match=message):
            load_vectors(str(own / name))


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("Rock ’n’ Roll", ["rock", "n", "roll"]),
        ("AC/DC", ["ac", "dc"]),
        ("Cafe\u0301 BJÖRK", ["café", "björk"]),
        ("İstanbul", ["i\u0307stanbul"]),  # lower-cased, its dot is a character of its own
        ("हिन्दी गीत", ["हिन्दी", "गीत"]),
        ("'quoted'", ["quoted"]),
    ],
)
def test_marks_and_apostrophes_belong_to_their_word(text, words) -> None:
    assert tokenize(text) == words


def test_a_word_counts_as_often_as_it_occurs() -> None:
    model = FieldWord2Vec(("love", "blue"), np.array([[1, 2], [3, 6]], np.float32))
    np.testing.assert_allclose(model.transform(["Love love BLUE"])[0], [[5 / 3, 10 / 3]], rtol=1e-6)


def test_the_seed_decides() -> None:
    fits = [FieldWord2Vec.fit(TITLES, dimension=5, epochs=2, seed=s) for s in (1, 1, 2)]
    np.testing.assert_array_equal(fits[0].vectors, fits[1].vectors)
    assert not np.array_equal(fits[0].vectors, fits[2].vectors)


def test_a_model_without_words_and_one_of_another_script_survive_a_file() -> None:
    for model in (FieldWord2Vec.fit([None], dimension=4), FieldWord2Vec.fit(["हिन्दी é"])):
        again = FieldWord2Vec.from_bytes(model.to_bytes())
        assert again.words == model.words
        np.testing.assert_array_equal(again.vectors, model.vectors)


@pytest.mark.parametrize("name", ["own.vec", "own.txt.gz", "own.bin.gz"])
def test_gzipped_vectors_are_read(tmp_path, name) -> None:
    vectors = KeyedVectors(3)
    vectors.add_vectors(["rock", "métal"], np.arange(6, dtype=np.float32).reshape(2, 3))
    vectors.save_word2vec_format(str(tmp_path / name), binary=".bin" in name)
    loaded = load_vectors(str(tmp_path / name))
    assert loaded.index_to_key == ["rock", "métal"]
    np.testing.assert_allclose(loaded.vectors, vectors.vectors, rtol=1e-6)


class _Bomb:
    def __init__(self, place) -> None:
        self.place = place

    def __reduce__(self):
        return os.mkdir, (str(self.place),)


@pytest.mark.parametrize("name", ["own.pkl", "own.model", "own.txt", "own.bin", "own"])
def test_a_pickle_is_never_opened_whatever_its_name(tmp_path, name) -> None:
    (tmp_path / name).write_bytes(pickle.dumps(_Bomb(tmp_path / "exploded")))
    with pytest.raises(ConfigError, match="save_word2vec_format"):
        load_vectors(str(tmp_path / name))
    assert not (tmp_path / "exploded").exists()
    pickle.loads((tmp_path / name).read_bytes())
    assert (tmp_path / "exploded").exists()  # so the check above could have failed


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("empty.txt", b""),
        ("short.txt", b"2 3\nrock 1 2 3\n"),
        ("ragged.txt", b"1 3\nrock 1 2\n"),
        ("letters.txt", b"1 2\nrock x y\n"),
        ("short.bin", b"2 3\nrock \0\0"),
        ("not.bin.gz", b"not gzip"),
        ("cut.txt.gz", gzip.compress(b"2 3\nrock 1 2 3\njazz 4 5 6\n", mtime=0)[:-12]),
        ("huge.txt", b"100000000000000 100000\nrock 1\n"),
        ("huger.txt", b"1" * 40 + b" 100\nrock 1\n"),
    ],
)
def test_a_damaged_file_is_a_config_error(tmp_path, name, content) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(ConfigError, match=rf"{name}: not in the word2vec format"):
        load_vectors(str(tmp_path / name))


def test_the_fingerprint_of_vectors_is_that_of_their_content(tmp_path) -> None:
    file = tmp_path / "own.txt"
    file.write_text("1 2\nstop 0.5 0.25\n")
    before = vectors_fingerprint(str(file))
    os.utime(file, (1, 1))
    assert vectors_fingerprint(str(file)) == before
    file.write_text("1 2\nstop 0.5 0.26\n")
    assert vectors_fingerprint(str(file)) != before
    with pytest.raises(ConfigError, match=r"embed\.metadata\.vectors: .*no such file"):
        vectors_fingerprint(str(tmp_path / "absent.txt"))
