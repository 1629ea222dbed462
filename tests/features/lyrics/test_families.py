"""Encoders of many families against transformers' own forward pass, and those that are refused."""

from __future__ import annotations

import json
import logging
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
import transformers
from safetensors.torch import load_file, save_file

from fusionrec.errors import ConfigError, EncoderError
from fusionrec.features.lyrics import encoder as encoder_module
from fusionrec.features.lyrics.architecture import Pooling
from fusionrec.features.lyrics.check import check_encoder
from fusionrec.features.lyrics.encoder import hidden_size_of, load_encoder
from fusionrec.features.lyrics.recipes import recipe_of
from tests.features.lyrics.families import POSITIONS, write
from tests.features.lyrics.small_encoder import TEXTS, write_encoder

LONG = "rain:3 you:1 dance:4 " * 40
ENCODERS = {
    "t5": transformers.T5EncoderModel,
    "t5-encoder": transformers.T5EncoderModel,
    "bart": transformers.BartModel,
    "bert": transformers.BertModel,
    "electra": transformers.ElectraModel,
    "roberta": transformers.RobertaModel,
    "mpnet": transformers.MPNetModel,
    "modernbert": transformers.ModernBertModel,
    "xlnet": transformers.XLNetModel,
}
CAUSAL = {
    "gpt2": transformers.GPT2Model,
    "llama": transformers.LlamaModel,
    "bert-decoder": transformers.BertModel,
}
WITHOUT_LIMIT = ("t5", "t5-encoder", "xlnet")


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    torch.set_num_threads(1)
    place = tmp_path_factory.mktemp("families")
    tokenizer = write_encoder(place / "tokenizer")
    return {
        family: write(family, tokenizer, place / family) for family in (*ENCODERS, *CAUSAL, "fnet")
    }


def plain(family: str, folder: Path, text: str, pooling: Pooling) -> np.ndarray:
    """A text's vector by transformers, alone and without padding."""
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    limit = 512 if family in WITHOUT_LIMIT else POSITIONS
    model = (ENCODERS | CAUSAL)[family].from_pretrained(folder).eval()
    model = model.encoder if family == "bart" else model
    with torch.no_grad():
        ids = tokenizer(text, return_tensors="pt", truncation=True, max_length=limit)["input_ids"]
        states = model(input_ids=ids).last_hidden_state[0]
    at = {"cls": states[0], "last": states[-1], "mean": states.mean(0)}
    return at[pooling].numpy()


@pytest.mark.parametrize("pooling", ["cls", "mean", "last"])
@pytest.mark.parametrize("family", ENCODERS)
def test_vectors_are_transformers_own(
    folders: dict[str, Path], family: str, pooling: Pooling
) -> None:
    encoder = load_encoder(str(folders[family]))
    assert encoder.path == ("packed" if family in ("bert", "roberta") else "padded")
    assert encoder.max_tokens == (512 if family in WITHOUT_LIMIT else POSITIONS)
    assert encoder.hidden_size == hidden_size_of(str(folders[family])) == 32
    texts = [*TEXTS, LONG]
    found = encoder.encode(texts, pooling=pooling, token_budget=200)
    expected = np.stack([plain(family, folders[family], text, pooling) for text in texts])
    np.testing.assert_allclose(found, expected, atol=1e-4, rtol=1e-4)
    assert np.abs(expected - expected[0]).max(1)[1:].min() > 1e-2  # so that a mistake shows


@pytest.mark.parametrize("pooling", ["mean", "last"])
@pytest.mark.parametrize("family", CAUSAL)
def test_causal_models_by_their_last_token_or_the_mean(
    folders: dict[str, Path], family: str, pooling: Pooling
) -> None:
    encoder = load_encoder(str(folders[family]))
    assert (encoder.path, encoder.max_tokens) == ("padded", POSITIONS)
    texts = [*TEXTS, LONG]
    found = encoder.encode(texts, pooling=pooling, token_budget=200)
    expected = np.stack([plain(family, folders[family], text, pooling) for text in texts])
    np.testing.assert_allclose(found, expected, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("family", CAUSAL)
def test_a_causal_models_first_token_is_refused(folders: dict[str, Path], family: str) -> None:
    folder = str(folders[family])
    same = [plain(family, folders[family], text, "cls") for text in (TEXTS[0], TEXTS[4])]
    np.testing.assert_allclose(same[0], same[1], atol=1e-6)  # the reason why
    for refused in (load_encoder(folder).encode, lambda texts: check_encoder(folder)):
        with pytest.raises(ConfigError, match=r"pooling = cls.*causal.*pooling=last") as caught:
            refused(TEXTS)
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("family", [*ENCODERS, *CAUSAL])
def test_what_the_first_token_sees_is_found_in_each_precision(
    folders: dict[str, Path], family: str, dtype: encoder_module.Dtype
) -> None:
    if (family, dtype) == ("xlnet", "bfloat16"):  # which transformers' module cannot
        with pytest.raises(EncoderError, match=r"BFloat16.* set embed\.lyrics\.dtype=float32"):
            load_encoder(str(folders[family]), dtype=dtype)
        return
    encoder = load_encoder(str(folders[family]), dtype=dtype)
    assert encoder.first_sees_all == (family in ENCODERS)


def test_a_model_without_a_mask_is_refused(folders: dict[str, Path]) -> None:
    """FNet mixes by a Fourier transform over all tokens of a batch, padding too."""
    with pytest.raises(EncoderError, match="FNetModel has no mask for padding"):
        load_encoder(str(folders["fnet"]))


def test_a_model_of_something_else_is_refused(folders: dict[str, Path], tmp_path: Path) -> None:
    folder = shutil.copytree(folders["bert"], tmp_path / "images")
    config = transformers.ViTConfig(
        hidden_size=16,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=16,
        image_size=8,
        patch_size=4,
    )
    transformers.ViTModel(config).save_pretrained(folder)
    with pytest.raises(EncoderError, match=r"embed\.lyrics\.encoder = .*images: ") as caught:
        load_encoder(str(folder))
    assert "\n" not in str(caught.value)


def test_no_cls_token_is_said_once(
    folders: dict[str, Path], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    folder = shutil.copytree(folders["t5"], tmp_path / "t5")
    for name, changed in (
        ("tokenizer.json", {"post_processor": None}),
        ("tokenizer_config.json", {"tokenizer_class": "PreTrainedTokenizerFast"}),
    ):
        content = json.loads((folder / name).read_text())
        (folder / name).write_text(json.dumps(content | changed))
    encoder = load_encoder(str(folder))
    with caplog.at_level(logging.WARNING, logger="fusionrec"):
        encoder.encode(TEXTS, pooling="mean")
        assert not caplog.records
        encoder.encode(TEXTS)
        encoder.encode(TEXTS)
    assert [record.getMessage().count("has no CLS token") for record in caplog.records] == [1]


def test_a_check_names_what_it_found(folders: dict[str, Path]) -> None:
    found = check_encoder(str(folders["modernbert"]), pooling="mean")
    assert (found.hidden_size, found.max_tokens) == (32, POSITIONS)
    assert (found.dtype, found.path) == ("float32", "padded")


def test_a_check_encodes_the_longest_text(
    folders: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever the reason why the limit is wrong: here it is one too many."""
    monkeypatch.setattr(encoder_module, "position_limit", lambda *_: POSITIONS + 1)
    with pytest.raises(EncoderError, match=r"41 tokens \(IndexError.*model_max_length") as caught:
        check_encoder(str(folders["bert"]))
    assert str(folders["bert"]) in str(caught.value)


def test_a_check_finds_damaged_weights(folders: dict[str, Path], tmp_path: Path) -> None:
    folder = shutil.copytree(folders["bert"], tmp_path / "nan")
    weights = load_file(folder / "model.safetensors")
    weights["encoder.layer.1.output.dense.bias"][0] = torch.nan
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(EncoderError, match=r"embed\.lyrics\.encoder = .*NaN or infinity"):
        check_encoder(str(folder))


@pytest.mark.parametrize("family", ENCODERS)
def test_a_recipe_knows_the_limit_without_the_weights(
    folders: dict[str, Path], family: str
) -> None:
    encoder = load_encoder(str(folders[family]))
    how = recipe_of(str(folders[family]), ["love", "you"])
    assert how.max_tokens == min(512, encoder.max_tokens)
