"""The lyrics encoder against transformers itself, one text at a time, and its refusals."""

from __future__ import annotations

import json
import logging
import os
import shutil
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import huggingface_hub
import numpy as np
import pytest
import torch
import transformers
from huggingface_hub import constants
from transformers import (
    AutoModel,
    AutoTokenizer,
    BertConfig,
    BertModel,
    RobertaForMaskedLM,
)

from fusionrec.errors import EncoderError
from fusionrec.features.lyrics import encoder as encoder_module
from fusionrec.features.lyrics.encoder import (
    dtype_for,
    hidden_size_of,
    load_encoder,
)
from fusionrec.features.lyrics.hub import encoder_fingerprint, quiet_transformers
from fusionrec.features.lyrics.packed import PackedEncoder
from fusionrec.probes import Finding
from tests.features.lyrics.small_encoder import POSITIONS, TEXTS, write_encoder


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_encoder(tmp_path_factory.mktemp("encoder"))


@pytest.fixture
def no_hub(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """An empty cache, and a hub whose name cannot be resolved."""
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(constants, "ENDPOINT", "http://hub.invalid")
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    return tmp_path / "cache"


def one_by_one(directory: Path, max_length: int = POSITIONS) -> list[torch.Tensor]:
    """Last hidden states of each text alone, by transformers, each of shape (T, H)."""
    tokenizer = AutoTokenizer.from_pretrained(directory)
    model = AutoModel.from_pretrained(directory).eval()
    states = []
    with torch.no_grad():
        for text in TEXTS:
            inputs = tokenizer(text, return_tensors="pt", truncation=True, max_length=max_length)
            states.append(model(**inputs).last_hidden_state[0])
    return states


@pytest.mark.processor
@pytest.mark.parametrize("token_budget", [1, 50, 4096])
def test_cls_equals_transformers_one_text_at_a_time(directory: Path, token_budget: int) -> None:
    encoder = load_encoder(str(directory))
    vectors = encoder.encode(TEXTS, token_budget=token_budget)
    assert vectors.dtype == np.float32
    assert vectors.shape == (len(TEXTS), encoder.hidden_size) == (len(TEXTS), 32)
    expected = np.stack([state[0].numpy() for state in one_by_one(directory)])
    np.testing.assert_allclose(vectors, expected, atol=1e-5)
    # The texts differ enough for a wrong order to be noticed.
    assert np.abs(expected[0] - expected[4]).max() > 0.05


@pytest.mark.processor
def test_mean_is_over_the_texts_own_tokens(directory: Path) -> None:
    vectors = load_encoder(str(directory)).encode(TEXTS, pooling="mean")
    expected = np.stack([state.mean(0).numpy() for state in one_by_one(directory)])
    np.testing.assert_allclose(vectors, expected, atol=1e-5)


def test_batches_stay_within_the_token_budget(
    directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    encoder = load_encoder(str(directory))
    assert encoder.path == "packed"
    batches: list[list[int]] = []
    packed = PackedEncoder.__call__

    def watched(self: PackedEncoder, rows: list[list[int]], pooling: str) -> torch.Tensor:
        batches.append([len(row) for row in rows])
        return packed(self, rows, pooling)

    monkeypatch.setattr(PackedEncoder, "__call__", watched)
    encoder.encode(TEXTS * 5, token_budget=100)
    assert sum(map(len, batches)) == 5 * len(TEXTS)
    assert all(len(batch) * max(batch) <= 100 for batch in batches)
    assert len(batches) < 5 * len(TEXTS)
    lengths = [length for batch in batches for length in batch]
    assert lengths == sorted(lengths, reverse=True)
    batches.clear()
    encoder.encode(TEXTS[-1:], token_budget=3)
    assert batches == [[POSITIONS]]


@pytest.mark.processor
@pytest.mark.parametrize("pooling", ["cls", "mean", "last"])
def test_packed_equals_padded_equals_compiled(
    directory: Path, pooling: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    packed = load_encoder(str(directory)).encode(TEXTS * 3, pooling=pooling, token_budget=200)
    monkeypatch.setattr(encoder_module, "supports", lambda model: False)
    padded = load_encoder(str(directory))
    assert padded.path == "padded"
    expected = padded.encode(TEXTS * 3, pooling=pooling, token_budget=200)
    np.testing.assert_allclose(packed, expected, atol=1e-5)
    monkeypatch.setattr(torch, "compile", lambda model, **options: model)
    compiled = load_encoder(str(directory), compiled=True)
    assert compiled.path == "compiled"
    np.testing.assert_array_equal(
        compiled.encode(TEXTS * 3, pooling=pooling, token_budget=200), expected
    )


def test_an_architecture_that_is_not_packed(directory: Path, tmp_path: Path) -> None:
    """DistilBERT has its layers under other names: transformers runs it."""
    place = tmp_path / "distilbert"
    shutil.copytree(directory, place)
    tokenizer = transformers.AutoTokenizer.from_pretrained(directory)
    config = transformers.DistilBertConfig(
        vocab_size=len(tokenizer), dim=32, n_layers=1, n_heads=2, hidden_dim=64, pad_token_id=1
    )
    transformers.DistilBertModel(config).save_pretrained(place)
    encoder = load_encoder(str(place))
    assert encoder.path == "padded"
    assert encoder.encode(TEXTS).shape == (len(TEXTS), 32)


def test_truncation_to_max_tokens_and_to_the_models_positions(directory: Path) -> None:
    encoder = load_encoder(str(directory))
    assert encoder.max_tokens == POSITIONS
    cut = encoder.encode(TEXTS, max_tokens=6)
    expected = np.stack([state[0].numpy() for state in one_by_one(directory, max_length=6)])
    np.testing.assert_allclose(cut, expected, atol=1e-5)
    assert np.abs(cut - encoder.encode(TEXTS)).max() > 0.05


def test_a_berts_positions_are_all_used(directory: Path, tmp_path: Path) -> None:
    shutil.copy(directory / "tokenizer.json", tmp_path)
    shutil.copy(directory / "tokenizer_config.json", tmp_path)
    sizes = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
    BertModel(
        BertConfig(vocab_size=300, max_position_embeddings=12, pad_token_id=1, **sizes)
    ).save_pretrained(tmp_path)
    encoder = load_encoder(str(tmp_path))
    assert encoder.max_tokens == 12
    assert encoder.encode(TEXTS).shape == (len(TEXTS), 16)


def test_empty_text_and_no_text(directory: Path) -> None:
    encoder = load_encoder(str(directory))
    assert encoder.encode([]).shape == (0, 32)
    with pytest.raises(ValueError, match="text 1 of 2 is empty"):
        encoder.encode(["love:1", " \n"])
    with pytest.raises(ValueError, match="token_budget"):
        encoder.encode(TEXTS, token_budget=0)
    with pytest.raises(ValueError, match="max_tokens"):
        encoder.encode(TEXTS, max_tokens=2)


@pytest.mark.processor
def test_bfloat16_is_close_and_is_float32_outside(directory: Path) -> None:
    encoder = load_encoder(str(directory), dtype="bfloat16")
    assert encoder.dtype == "bfloat16"
    vectors = encoder.encode(TEXTS)
    assert vectors.dtype == np.float32
    full = load_encoder(str(directory), dtype="float32").encode(TEXTS)
    np.testing.assert_allclose(vectors, full, atol=0.2)
    assert np.abs(vectors - full).max() > 0  # it did compute in bfloat16
    assert not np.array_equal(vectors, full)


def test_auto_dtype(
    directory: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    for pays in (True, False):
        trial = Finding(pays, "as tried")
        monkeypatch.setattr(encoder_module, "bfloat16_pays", lambda device, trial=trial: trial)
        expected = "bfloat16" if pays else "float32"
        assert dtype_for("auto", "cpu", 768) == (expected, "auto: as tried")
        assert dtype_for("auto", "cpu", 255)[0] == "float32"
        assert dtype_for("bfloat16", "cpu", 8)[0] == "bfloat16"
    with caplog.at_level(logging.INFO, logger="fusionrec"):
        assert load_encoder(str(directory)).dtype == "float32"
    assert "float32 on cpu (auto: hidden size 32" in caplog.text
    assert hidden_size_of(str(directory)) == 32


def test_loading_leaves_the_random_state_and_the_librarys_settings(
    directory: Path, tmp_path: Path
) -> None:
    # A masked-word model has no pooler, which loading then draws at random.
    headed = shutil.copytree(directory, tmp_path / "headed")
    RobertaForMaskedLM.from_pretrained(directory).save_pretrained(headed)
    noise = transformers.utils.logging
    before = (torch.get_rng_state(), noise.get_verbosity(), noise.is_progress_bar_enabled())
    load_encoder(str(headed))
    assert torch.equal(torch.get_rng_state(), before[0])
    assert (noise.get_verbosity(), noise.is_progress_bar_enabled()) == before[1:]
    with quiet_transformers():
        assert noise.get_verbosity() == logging.ERROR
        assert not noise.is_progress_bar_enabled()


@pytest.mark.parametrize(
    ("removed", "named"),
    [
        (["config.json"], "config.json is missing"),
        (["tokenizer.json", "vocab.json"], "tokenizer.json is missing"),
        (["model.safetensors"], "model.safetensors is missing"),
    ],
)
def test_missing_file_is_named(
    directory: Path, tmp_path: Path, removed: list[str], named: str
) -> None:
    broken = shutil.copytree(directory, tmp_path / "broken")
    for name in removed:
        (broken / name).unlink()
    with pytest.raises(EncoderError, match=named) as caught:
        load_encoder(str(broken))
    assert "\n" not in str(caught.value)
    assert str(broken) in str(caught.value)


def test_pickled_weights_are_refused(directory: Path, tmp_path: Path) -> None:
    pickled = shutil.copytree(directory, tmp_path / "pickled")
    model = AutoModel.from_pretrained(pickled)
    (pickled / "model.safetensors").unlink()
    torch.save(model.state_dict(), pickled / "pytorch_model.bin")
    with pytest.raises(EncoderError, match=r"convert them to model\.safetensors"):
        load_encoder(str(pickled))


def test_damaged_and_mismatched_files(directory: Path, tmp_path: Path) -> None:
    def changed(name: str, content: str) -> str:
        copy = shutil.copytree(directory, tmp_path / str(len(list(tmp_path.iterdir()))))
        (copy / name).write_text(content)
        return str(copy)

    config = json.loads((directory / "config.json").read_text())
    deeper = json.dumps(config | {"num_hidden_layers": 3})
    smaller = json.dumps(config | {"model_type": "no-such-family"})
    for name, content, message in [
        ("model.safetensors", "not tensors", "transformers cannot load it"),
        ("tokenizer.json", "{", "transformers cannot load it"),
        ("config.json", "{", "transformers cannot load it"),
        ("config.json", smaller, "transformers cannot load it"),
        ("config.json", deeper, r"lack 16 tensors of the model .* encoder\.layer\.2"),
    ]:
        with pytest.raises(EncoderError, match=message) as caught:
            load_encoder(changed(name, content))
        assert "\n" not in str(caught.value)


def test_code_that_comes_with_a_model_is_never_run(directory: Path, tmp_path: Path) -> None:
    copy = shutil.copytree(directory, tmp_path / "custom")
    witness = tmp_path / "ran"
    (copy / "own.py").write_text(f"open({str(witness)!r}, 'w')\n")
    config = json.loads((copy / "config.json").read_text())
    config |= {"model_type": "own", "auto_map": {"AutoConfig": "own.C", "AutoModel": "own.M"}}
    (copy / "config.json").write_text(json.dumps(config))
    with pytest.raises(EncoderError, match="code of its own"):
        load_encoder(str(copy))
    assert not witness.exists()


def test_too_large_a_tokenizer_is_refused(directory: Path, tmp_path: Path) -> None:
    copy = shutil.copytree(directory, tmp_path / "large")
    tokenizer = AutoTokenizer.from_pretrained(copy)
    tokenizer.add_tokens(["another"])
    tokenizer.save_pretrained(copy)
    with pytest.raises(EncoderError, match="more tokens than"):
        load_encoder(str(copy))


@pytest.mark.timeout(60)  # requests alone would try for minutes
@pytest.mark.parametrize("offline", [True, False])
def test_no_network_fails_fast_and_names_both_ways_out(
    no_hub: Path, monkeypatch: pytest.MonkeyPatch, offline: bool
) -> None:
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", offline)
    with pytest.raises(EncoderError) as caught:
        load_encoder("FacebookAI/roberta-base")
    message = str(caught.value)
    assert "\n" not in message
    for part in (
        "FacebookAI/roberta-base",
        "embed.lyrics.encoder to a local directory",
        "model.safetensors",
        "HF_HOME",
        "--set embed.lyrics.encoder=pretrain",
    ):
        assert part in message
    assert ("HF_HUB_OFFLINE" in message) == offline


@pytest.mark.parametrize("name", ["/no/such/directory", "a b", "x/y/z", ""])
def test_neither_directory_nor_hub_name(no_hub: Path, name: str) -> None:
    with pytest.raises(EncoderError, match="neither a directory nor a hub name"):
        load_encoder(name)


def test_filled_cache_needs_no_network(directory: Path, no_hub: Path) -> None:
    model = no_hub / "models--some--encoder"
    shutil.copytree(directory, model / "snapshots" / ("a" * 40))
    (model / "refs").mkdir()
    (model / "refs" / "main").write_text("a" * 40)
    encoder = load_encoder("some/encoder")
    assert encoder.name == "some/encoder"
    expected = load_encoder(str(directory)).encode(TEXTS)
    np.testing.assert_array_equal(encoder.encode(TEXTS), expected)


class _Hub(BaseHTTPRequestHandler):
    """The few answers of the Hugging Face hub that loading a model takes."""

    folder: Path
    hidden: frozenset[str] = frozenset()
    asked: list[str]

    def _answer(self, status: int, body: bytes, **headers: str) -> None:
        self.send_response(status)
        for key, value in {"Content-Length": str(len(body)), **headers}.items():
            self.send_header(key.replace("_", "-"), value)
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(body)

    def do_GET(self) -> None:
        path = self.path.split("?")[0]
        files = sorted(p for p in self.folder.iterdir() if p.name not in self.hidden)
        if path.startswith("/api/models/some/encoder/tree/"):
            tree = [
                {"type": "file", "path": p.name, "size": p.stat().st_size, "oid": p.name}
                for p in files
            ]
            self._answer(200, json.dumps(tree).encode(), Content_Type="application/json")
        elif path.startswith("/api/models/some/encoder"):
            siblings = [{"rfilename": p.name} for p in files]
            info = {"id": "some/encoder", "sha": "b" * 40, "siblings": siblings}
            self._answer(200, json.dumps(info).encode(), Content_Type="application/json")
        elif path.startswith("/some/encoder/resolve/"):
            name = path.rsplit("/", 1)[1]
            self.asked.append(name)
            body = (self.folder / name).read_bytes()
            self._answer(200, body, ETag=f'"{name}"', X_Repo_Commit="b" * 40)
        else:
            self._answer(404, b"", X_Error_Code="RepoNotFound")

    do_HEAD = do_GET

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def hub(
    directory: Path, no_hub: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[type[_Hub]]:
    """A hub on this machine that holds the small encoder, and pickled weights beside it."""
    folder = shutil.copytree(directory, tmp_path / "hub")
    (folder / "pytorch_model.bin").write_bytes(b"pickle")
    handler = type("Hub", (_Hub,), {"folder": folder, "asked": []})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    endpoint = f"http://127.0.0.1:{server.server_port}"
    monkeypatch.setattr(constants, "ENDPOINT", endpoint)
    template = f"{endpoint}/{{repo_id}}/resolve/{{revision}}/{{filename}}"
    monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
    yield handler
    server.shutdown()
    server.server_close()
    thread.join()


def test_the_fingerprint_of_a_directory_is_that_of_what_is_loaded(
    directory: Path, tmp_path: Path
) -> None:
    here = encoder_fingerprint(str(directory))
    copy = shutil.copytree(directory, tmp_path / "elsewhere")
    assert encoder_fingerprint(str(copy)) == here
    os.utime(copy / "model.safetensors", (1, 1))
    (copy / "README.md").write_text("of no consequence")
    assert encoder_fingerprint(str(copy)) == here
    for name in ("config.json", "tokenizer.json", "model.safetensors"):
        content = bytearray((copy / name).read_bytes())
        content[-2] ^= 1
        (copy / name).write_bytes(content)
        assert encoder_fingerprint(str(copy)) != here, name
        shutil.copy(directory / name, copy)
        assert encoder_fingerprint(str(copy)) == here
    (copy / "model.safetensors").unlink()
    with pytest.raises(EncoderError, match=r"model\.safetensors is missing"):
        encoder_fingerprint(str(copy))


def test_the_fingerprint_of_a_hub_name_is_its_commit(
    directory: Path, hub: type[_Hub], no_hub: Path
) -> None:
    """Asked from the hub while there is no copy, from the copy once there is; they agree."""
    expected = f"hub:some/encoder@{'b' * 40}"
    assert encoder_fingerprint("some/encoder") == expected
    assert hub.asked == []
    load_encoder("some/encoder")
    hub.hidden = frozenset(path.name for path in directory.iterdir())
    assert encoder_fingerprint("some/encoder") == expected


def test_the_fingerprint_of_what_cannot_be_had(no_hub: Path) -> None:
    with pytest.raises(EncoderError, match="neither a directory nor a hub name"):
        encoder_fingerprint("/no/such/directory")
    with pytest.raises(EncoderError, match="HF_HOME"):
        encoder_fingerprint("some/encoder")


def test_download_from_the_hub_once(directory: Path, hub: type[_Hub]) -> None:
    encoder = load_encoder("some/encoder")
    expected = load_encoder(str(directory)).encode(TEXTS)
    np.testing.assert_array_equal(encoder.encode(TEXTS), expected)
    assert "model.safetensors" in hub.asked
    assert "pytorch_model.bin" not in hub.asked
    hub.asked.clear()
    load_encoder("some/encoder")
    assert hub.asked == []


def test_hub_without_safetensors_and_without_the_model(hub: type[_Hub]) -> None:
    hub.hidden = frozenset({"model.safetensors"})
    with pytest.raises(EncoderError, match=r"on the hub: .* convert them"):
        load_encoder("some/encoder")
    assert hub.asked == []
    with pytest.raises(EncoderError, match="the hub does not give it") as caught:
        load_encoder("some/other")
    assert isinstance(caught.value.__cause__, huggingface_hub.errors.RepositoryNotFoundError)
