"""Load a model from a folder or a hub id: safetensors only, no remote code, one clear line when it cannot be."""

from __future__ import annotations

import copy
import inspect
from pathlib import Path
from typing import Any

import torch
from transformers import (
    MODEL_MAPPING,
    AutoModel,
    AutoModelForCausalLM,
    AutoModelForCTC,
    AutoModelForImageClassification,
    AutoModelForMaskedLM,
    AutoModelForPreTraining,
    AutoModelForTokenClassification,
    PretrainedConfig,
    PreTrainedModel,
)

from warmstart.errors import ModelError, nearest, of_a_library
from warmstart.finished import check_exported
from warmstart.models.bounded import bounded
from warmstart.models.config_file import read_config
from warmstart.models.packaged import local
from warmstart.models.weight_files import check_folder
from warmstart.places import expanded, is_file, is_folder
from warmstart.randomness import derive_seed

LABELS = {0: "original", 1: "replaced"}


class Detection:
    """Models that say of each token whether it is the original one: ELECTRA with its own head, every other encoder as a
    token classifier with two classes."""

    @staticmethod
    def from_config(config: PretrainedConfig, **settings: Any) -> PreTrainedModel:
        config = copy.deepcopy(config)
        config.id2label, config.label2id = dict(LABELS), {label: number for number, label in LABELS.items()}
        return Detection._kind(config).from_config(config, **settings)

    @staticmethod
    def from_pretrained(name: str, **settings: Any) -> Any:
        return Detection._kind(read_config(name)).from_pretrained(name, **settings)

    @staticmethod
    def _kind(config: PretrainedConfig) -> Any:
        return AutoModelForPreTraining if config.model_type == "electra" else AutoModelForTokenClassification


class Embedding:
    """Models without a head, and without the pooler that some have: texts are pooled from the hidden states, and
    checkpoints of other heads (masked) have no pooler."""

    @staticmethod
    def from_config(config: PretrainedConfig, **settings: Any) -> PreTrainedModel:
        return AutoModel.from_config(config, **settings, **Embedding._without_pooler(config))

    @staticmethod
    def from_pretrained(name: str, **settings: Any) -> Any:
        config = read_config(name)
        return AutoModel.from_pretrained(name, **settings, **Embedding._without_pooler(config))

    @staticmethod
    def _without_pooler(config: PretrainedConfig) -> dict[str, Any]:
        kind: Any = AutoModel._model_mapping.get(type(config), None)
        takes = kind is not None and "add_pooling_layer" in inspect.signature(kind.__init__).parameters
        return {"add_pooling_layer": False} if takes else {}


class ImageText:
    """Models with an image tower and a text tower in one space: CLIP, SigLIP, or any two encoders."""

    @staticmethod
    def from_config(config: PretrainedConfig, **settings: Any) -> PreTrainedModel:
        _check_image_text(config)
        return AutoModel.from_config(config, **settings)

    @staticmethod
    def from_pretrained(name: str, **settings: Any) -> Any:
        _check_image_text(read_config(name))
        return AutoModel.from_pretrained(name, **settings)


def _check_image_text(config: PretrainedConfig) -> None:
    made = MODEL_MAPPING.get(type(config), None)
    if not (hasattr(made, "get_image_features") and hasattr(made, "get_text_features")):
        raise ValueError(f"Unrecognized configuration class: {config.model_type} has no two towers for images and text")


HEADS: dict[str, Any] = {
    "causal": AutoModelForCausalLM,
    "masked": AutoModelForMaskedLM,
    "detection": Detection,
    "embedding": Embedding,
    "image-classification": AutoModelForImageClassification,
    "image-text": ImageText,
    "speech": AutoModel,
    "ctc": AutoModelForCTC,
    "none": AutoModel,
}


NEW_WEIGHTS = {"ctc": ("lm_head.weight", "lm_head.bias")}
"""Of heads that learn a task: weights that are drawn where a model has none of them, as training begins there."""


def auto_class(head: str) -> Any:
    """The `AutoModel...` class of a head."""
    if head not in HEADS:
        raise ModelError(f"unknown head '{head}'{nearest(head, HEADS)}; heads: {', '.join(HEADS)}")
    return HEADS[head]


def load_model(
    name: str | Path, head: str, *, dtype: torch.dtype = torch.float32, seed: int = 0, vocabulary: int | None = None
) -> PreTrainedModel:
    """The model of a folder, a hub id or a packaged model (`packaged:NAME`), on the CPU.

    Args:
        seed: draws the head of a task that the model was not trained for yet; the global random state is left alone.
        vocabulary: how many tokens such a head tells apart, where the model does not say.

    Raises:
        ModelError: the folder or id does not exist, has no safetensors weights or broken ones, asks for code or for
            more than there is memory, or has weights of another head.
        StateError: a run left it, and its files are not what the run wrote.
        DataError: a packaged model cannot be fetched.
    """
    said, name = name, local(name)
    tensors = None
    if str(name).startswith((".", "/", "~")) or is_folder(name) or is_file(name):
        name = expanded(name)
        tensors = check_folder(name, said)
        check_exported(Path(name), lambda file: file == "config.json" or file.endswith((".safetensors", ".index.json")))
    settings: dict[str, Any] = {"use_safetensors": True, "trust_remote_code": False, "dtype": dtype}
    try:
        config = read_config(name, said)
        if head in NEW_WEIGHTS and vocabulary is not None and getattr(config, "vocab_size", 0) is None:
            settings["vocab_size"] = vocabulary
        with torch.random.fork_rng(devices=[]), bounded(f"the model '{said}'", tensors):
            torch.manual_seed(derive_seed(seed, "head"))
            model, report = auto_class(head).from_pretrained(str(name), output_loading_info=True, **settings)
    except ModelError:
        raise
    except BaseException as error:  # every library below raises its own kind
        if not of_a_library(error):
            raise
        text = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise ModelError(f"the model '{said}' cannot be loaded: {text[:300]}") from error
    missing = sorted(set(report["missing_keys"]) - set(NEW_WEIGHTS.get(head, ())))
    if missing:
        raise ModelError(
            f"the model '{said}' lacks {len(missing)} weights that a model with a {head} head needs, e.g. {missing[0]}"
        )
    return model
