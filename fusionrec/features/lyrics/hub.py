"""Finding an encoder's files: a local directory, the Hugging Face cache or the hub.

Only safetensors weights are taken: pickled ones can run code.
"""

from __future__ import annotations

import logging
from pathlib import Path

from fusionrec.errors import EncoderError

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
_HUB_TIMEOUT = 5.0
"""Seconds to wait for the hub's first answer."""

_WAYS_OUT = (
    "either set embed.lyrics.encoder to a local directory with config.json, the tokenizer and "
    "model.safetensors (or fill the Hugging Face cache that HF_HOME names), or pretrain an "
    "encoder on the corpus's own lyrics: --set embed.lyrics.encoder=pretrain"
)


def local_copy(name: str) -> Path:
    """The directory that holds the model `name`, downloaded to the cache if need be."""
    import huggingface_hub as hub
    from huggingface_hub.errors import HFValidationError

    directory = Path(name).expanduser()
    if name and directory.is_dir():
        fault = _fault({path.name for path in directory.iterdir()})
        if fault:
            raise EncoderError(f"embed.lyrics.encoder = {name}: {fault}")
        return directory
    try:
        cached = hub.try_to_load_from_cache(name, "config.json")
    except HFValidationError:
        raise EncoderError(
            f"embed.lyrics.encoder = {name} is neither a directory nor a hub name; {_WAYS_OUT}"
        ) from None
    if isinstance(cached, str):
        fault = _fault({path.name for path in Path(cached).parent.iterdir()})
        if fault is None:
            return Path(cached).parent
        log.info("the cached copy of %s is not complete: %s", name, fault)
    return _download(name)


def _download(name: str) -> Path:
    """Fetch the files the encoder needs from the hub into the cache."""
    import huggingface_hub as hub

    if hub.is_offline_mode():
        raise EncoderError(
            f"embed.lyrics.encoder = {name} is not a directory nor in the Hugging Face cache, and "
            f"HF_HUB_OFFLINE is set; {_WAYS_OUT}"
        )
    try:
        # Asked first and once: the download itself retries an unreachable hub for minutes.
        api = hub.HfApi()
        siblings = api.model_info(name, timeout=_HUB_TIMEOUT).siblings or []
        files = {sibling.rfilename for sibling in siblings}
        fault = _fault(files)
        if fault:
            raise EncoderError(f"embed.lyrics.encoder = {name} on the hub: {fault}")
        log.info("downloading %s from the Hugging Face hub", name)
        wanted = [f for f in files if f.endswith((".json", ".txt", ".model", ".safetensors"))]
        return Path(api.snapshot_download(name, allow_patterns=[f for f in wanted if "/" not in f]))
    except EncoderError:
        raise
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
