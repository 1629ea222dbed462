"""Finding an encoder's files: a local directory, the Hugging Face cache or the hub.

Only safetensors weights are taken: pickled ones can run code.
"""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fusionrec.errors import EncoderError
from fusionrec.hashing import content_hash

if TYPE_CHECKING:
    from huggingface_hub import ModelInfo

log = logging.getLogger(__name__)

_WEIGHTS = ("model.safetensors", "model.safetensors.index.json")
_PICKLED = ("pytorch_model.bin", "pytorch_model.bin.index.json")
_TOKENIZERS = (
    {"tokenizer.json"},
    {"vocab.json", "merges.txt"},
    {"vocab.txt"},
    {"sentencepiece.bpe.model"},
    {"spiece.model"},
)
_READ = (".json", ".txt", ".model", ".safetensors")
"""Ends of the names of the files that config, tokenizer and weights are in."""

_HUB_TIMEOUT = 5.0
"""Seconds to wait for the hub's first answer."""

_WAYS_OUT = (
    "either set embed.lyrics.encoder to a local directory with config.json, the tokenizer and "
    "model.safetensors (or fill the Hugging Face cache that HF_HOME names), or pretrain an "
    "encoder on the corpus's own lyrics: --set embed.lyrics.encoder=pretrain"
)


def local_copy(name: str) -> Path:
    """The directory that holds the model `name`, downloaded to the cache if need be."""
    return _on_disk(name) or _download(name)


def encoder_fingerprint(name_or_dir: str) -> str:
    """What distinguishes an encoder from every other, for the keys of what it computes.

    Of a directory, a hash of the names and contents of the files that loading reads; of a hub
    name, its commit: that of the copy in the Hugging Face cache, and where there is none, the one
    that the hub would give now. Nothing is downloaded.

    Raises
    ------
    EncoderError
        As :func:`fusionrec.features.lyrics.encoder.load_encoder`, when files are missing or the
        model cannot be found.
    """
    found = _on_disk(name_or_dir)
    if found is None:
        return f"hub:{name_or_dir}@{_on_hub(name_or_dir).sha}"
    if found != Path(name_or_dir).expanduser():
        return f"hub:{name_or_dir}@{found.name}"  # a snapshot's folder is named for its commit
    return content_hash(encoder_files(found))


def encoder_files(directory: Path) -> list[Path]:
    """The files of a directory that an encoder is loaded from."""
    return sorted(p for p in directory.iterdir() if p.suffix in _READ and p.is_file())


def _on_disk(name: str) -> Path | None:
    """The directory of that name, or the cached copy of that model; None if there is neither."""
    import huggingface_hub as hub
    from huggingface_hub.errors import HFValidationError

    directory = Path(name).expanduser()
    if name and directory.is_dir():
        fault = _fault({path.name for path in directory.iterdir()})
        if fault:
            raise encoder_fault(name, fault)
        return directory
    try:
        cached = hub.try_to_load_from_cache(name, "config.json")
    except HFValidationError:
        raise EncoderError(
            f"embed.lyrics.encoder = {name} is neither a directory nor a hub name; {_WAYS_OUT}"
        ) from None
    if not isinstance(cached, str):
        return None
    fault = _fault({path.name for path in Path(cached).parent.iterdir()})
    if fault is None:
        return Path(cached).parent
    log.info("the cached copy of %s is not complete: %s", name, fault)
    return None


def _download(name: str) -> Path:
    """Fetch the files the encoder needs from the hub into the cache."""
    import huggingface_hub as hub

    # Asked first and once: the download itself retries an unreachable hub for minutes.
    info = _on_hub(name)
    files = {sibling.rfilename for sibling in info.siblings or []}
    fault = _fault(files)
    if fault:
        raise encoder_fault(f"{name} on the hub", fault)
    log.info("downloading %s from the Hugging Face hub", name)
    wanted = [file for file in files if file.endswith(_READ) and "/" not in file]
    with _hub_error(name):
        return Path(hub.HfApi().snapshot_download(name, allow_patterns=wanted))


def _on_hub(name: str) -> ModelInfo:
    """What the hub says about a model: its files, and the commit it stands at."""
    import huggingface_hub as hub

    if hub.is_offline_mode():
        raise EncoderError(
            f"embed.lyrics.encoder = {name} is not a directory nor in the Hugging Face cache, and "
            f"HF_HUB_OFFLINE is set; {_WAYS_OUT}"
        )
    with _hub_error(name):
        return hub.HfApi().model_info(name, timeout=_HUB_TIMEOUT)


@contextlib.contextmanager
def _hub_error(name: str) -> Iterator[None]:
    try:
        yield
    except Exception as error:  # the hub client's, the HTTP library's and the system's own
        raise EncoderError(
            f"embed.lyrics.encoder = {name} is not a directory nor in the Hugging Face cache, and "
            f"the hub does not give it ({first_line(error)}); {_WAYS_OUT}"
        ) from error


def _fault(files: set[str]) -> str | None:
    """What keeps a directory of `files` from being an encoder, and what to do; else None."""
    if "config.json" not in files:
        return "config.json is missing; copy the whole model directory"
    if not any(needed <= files for needed in _TOKENIZERS):
        return "tokenizer.json is missing; copy the whole model directory"
    if files.isdisjoint(_WEIGHTS):
        if files.isdisjoint(_PICKLED):
            return "model.safetensors is missing; copy the whole model directory"
        return (
            "its weights are pickled (pytorch_model.bin), which can run code; convert them to "
            "model.safetensors, or take a model that has it"
        )
    return None


def first_line(error: Exception) -> str:
    """What an exception says, on one line."""
    return (str(error).strip() or "no message").splitlines()[0]


def encoder_fault(name: str, fault: str) -> EncoderError:
    """The error of an encoder at fault, on one line that names the key."""
    return EncoderError(f"embed.lyrics.encoder = {name}: {fault}")


@contextlib.contextmanager
def as_encoder_error(name: str) -> Iterator[None]:
    """Turn whatever transformers raises on a damaged or foreign model into one line."""
    try:
        yield
    except Exception as error:  # tokenizers raises bare Exception
        raise encoder_fault(
            name,
            f"transformers cannot load it ({type(error).__name__}: {first_line(error)}); "
            "it must be an encoder that AutoModel loads without code of its own",
        ) from error


@contextlib.contextmanager
def quiet_transformers() -> Iterator[None]:
    """Silence transformers' and the hub client's warnings and progress bars, for a while."""
    import huggingface_hub.utils
    import transformers.utils.logging

    # Neither library types these functions.
    hub: Any = huggingface_hub.utils
    noise: Any = transformers.utils.logging
    levels = noise.get_verbosity(), hub.logging.get_verbosity()
    bars = noise.is_progress_bar_enabled(), not hub.are_progress_bars_disabled()
    noise.set_verbosity_error()
    hub.logging.set_verbosity_error()
    noise.disable_progress_bar()
    hub.disable_progress_bars()
    try:
        yield
    finally:
        noise.set_verbosity(levels[0])
        hub.logging.set_verbosity(levels[1])
        if bars[0]:
            noise.enable_progress_bar()
        if bars[1]:
            hub.enable_progress_bars()
