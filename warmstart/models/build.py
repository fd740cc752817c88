"""A new model with random weights from a `transformers` model type and the fields of its configuration."""

from __future__ import annotations

from typing import Any

import torch
from transformers import AutoConfig, PretrainedConfig, PreTrainedModel

from warmstart.errors import ModelError, nearest
from warmstart.models.load import auto_class
from warmstart.randomness import derive_seed


def configuration(like: str, settings: dict[str, Any], tokenizer: Any = None) -> PretrainedConfig:
    """The configuration of a new model: the type's defaults, `settings`, and the tokenizer's vocabulary.

    Raises:
        ModelError: no such model type, a field that the type does not have, or a field with a bad value.
    """
    from transformers.models.auto.configuration_auto import CONFIG_MAPPING

    if like not in CONFIG_MAPPING:
        raise ModelError(f"init.like: transformers has no model type '{like}'{nearest(like, CONFIG_MAPPING)}")
    kind = CONFIG_MAPPING[like]
    allowed = set(kind().to_dict()) | set(getattr(kind, "attribute_map", {}))
    for name in settings:
        if name not in allowed:
            raise ModelError(f"init.{name}: a {like} configuration has no such field{nearest(name, allowed)}")
    fields = dict(settings)
    if tokenizer is not None:
        fields.setdefault("vocab_size", len(tokenizer))
        for role in ("bos", "eos", "pad"):
            fields.setdefault(f"{role}_token_id", getattr(tokenizer, f"{role}_token_id"))
    try:
        return AutoConfig.for_model(like, **fields)
    except (TypeError, ValueError) as error:
        raise ModelError(f"init: transformers refuses this {like} configuration: {one_line(error)}") from error


def new_model(config: PretrainedConfig, head: str, seed: int) -> PreTrainedModel:
    """A model with random weights drawn from `seed`, fp32, on the CPU; the global random state is left alone.

    Args:
        head: which head (`causal`, `masked`, `image-classification`, `none`).

    Raises:
        ModelError: `transformers` has no such head for this model type, or the sizes do not fit each other.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(derive_seed(seed, "init"))
        try:
            return auto_class(head).from_config(config, dtype=torch.float32)
        except (ValueError, AssertionError, RuntimeError, TypeError, ZeroDivisionError) as error:
            raise ModelError(f"init: a {config.model_type} model cannot be built: {one_line(error)}") from error


def one_line(error: BaseException) -> str:
    """The first line of an error's text, shortened."""
    text = str(error).strip().splitlines()
    return (text[0] if text else type(error).__name__)[:300]
