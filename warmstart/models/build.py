"""A new model with random weights: a `transformers` model type or the shape of an existing model, and fields of the
configuration."""

from __future__ import annotations

import copy
from typing import Any

import torch
from transformers import AutoConfig, PretrainedConfig, PreTrainedModel

from warmstart.errors import ModelError, nearest
from warmstart.models.bounded import TooLarge, bounded
from warmstart.models.config_file import check_config, read_config
from warmstart.models.load import auto_class
from warmstart.models.packaged import local
from warmstart.places import expanded, is_folder
from warmstart.randomness import derive_seed


def configuration(like: str, settings: dict[str, Any], tokenizer: Any = None) -> PretrainedConfig:
    """The configuration of a new model: the type's (or the existing model's) own, `settings`, and the tokenizer's
    vocabulary.

    Args:
        like: a model type, or a model folder or hub id. With the tokenizer that came with that model, the vocabulary
            stays as large as the model has it, so that both models have the same weights.

    Raises:
        ModelError: no such model type or model, a field that the type does not have, or a field with a bad value.
    """
    from transformers.models.auto.configuration_auto import CONFIG_MAPPING

    model = None if like in CONFIG_MAPPING else _configuration_of(like, CONFIG_MAPPING)
    kind = CONFIG_MAPPING[like if model is None else model.model_type]
    _check_fields(kind, settings, "init")
    check_config(settings, "init")
    fields = dict(settings)
    if tokenizer is not None:
        known = {f"{role}_token_id": getattr(tokenizer, f"{role}_token_id") for role in ("bos", "eos", "pad")}
        if model is None or not _is_own(tokenizer, like):
            known["vocab_size"] = len(tokenizer)
        fields = _with_vocabulary(kind, settings, known)
    try:
        if model is None:
            return AutoConfig.for_model(like, **fields)
        old = model.to_dict()
        for name in kind.sub_configs:
            if name in fields:
                fields[name] = {**old[name], **_own_names(getattr(model, name), fields[name])}
        return type(model).from_dict({**old, **_own_names(model, fields)})
    except Exception as error:  # huggingface_hub's checks raise kinds of their own
        raise ModelError(f"init: transformers refuses this {like} configuration: {one_line(error)}") from error


def with_vocabulary(like: str, settings: dict[str, Any], known: dict[str, Any]) -> dict[str, Any]:
    """Settings of a new model with what is known of its vocabulary, where they do not say it themselves.

    Args:
        known: fields such as `vocab_size` and `eos_token_id`; of a model with a text part they go there.

    Raises:
        ModelError: no such model type or model.
    """
    from transformers.models.auto.configuration_auto import CONFIG_MAPPING

    model_type = like if like in CONFIG_MAPPING else _configuration_of(like, CONFIG_MAPPING).model_type
    return _with_vocabulary(CONFIG_MAPPING[model_type], settings, known)


def _with_vocabulary(kind: Any, settings: dict[str, Any], known: dict[str, Any]) -> dict[str, Any]:
    if "text_config" not in kind.sub_configs:
        return known | settings
    text = settings.get("text_config")
    if text is not None and not isinstance(text, dict):
        return settings  # what is wrong with it is said where fields are checked
    return settings | {"text_config": known | (text or {})}


def _check_fields(kind: Any, settings: dict[str, Any], where: str) -> None:
    """Makes sure that a configuration has these fields, and the configurations inside it those that are theirs.

    Raises:
        ModelError: it has not.
    """
    default = kind()
    allowed = set(default.to_dict()) | set(getattr(kind, "attribute_map", {}))
    for name, value in settings.items():
        if name not in allowed:
            raise ModelError(
                f"{where}.{name}: a {kind.model_type} configuration has no such field{nearest(name, allowed)}"
            )
        if name not in kind.sub_configs:
            continue
        if not isinstance(value, dict):
            raise ModelError(f"{where}.{name}: expected a mapping of fields, found {value!r}")
        inner = type(getattr(default, name))
        if "model_type" in value and value["model_type"] != inner.model_type:
            inner = _kind_of(value["model_type"], f"{where}.{name}.model_type")
        _check_fields(inner, value, f"{where}.{name}")


def _kind_of(model_type: Any, where: str) -> Any:
    from transformers.models.auto.configuration_auto import CONFIG_MAPPING

    if model_type not in CONFIG_MAPPING:
        near = nearest(str(model_type), CONFIG_MAPPING)
        raise ModelError(f"{where}: transformers has no model type '{model_type}'{near}")
    return CONFIG_MAPPING[model_type]


def _configuration_of(model: str, model_types: Any) -> PretrainedConfig:
    """The configuration of a model folder, a hub id or a packaged model."""
    model = str(local(model))
    folder = expanded(model)
    if not is_folder(folder) and "/" not in model:
        raise ModelError(f"init.like: transformers has no model type '{model}'{nearest(model, model_types)}")
    if not is_folder(folder) and model.startswith((".", "/", "~")):
        raise ModelError(f"init.like: there is no model folder '{model}'")
    try:
        return read_config(folder if is_folder(folder) else model, model)
    except ModelError as error:
        raise ModelError(f"init.like: {error}") from error
    except Exception as error:  # transformers and the hub's client raise many kinds
        raise ModelError(f"init.like: '{model}' has no usable configuration: {one_line(error)}") from error


def _is_own(tokenizer: Any, model: str) -> bool:
    """Whether a tokenizer was loaded from this model folder or hub id."""
    origin = str(getattr(tokenizer, "name_or_path", "") or "")
    return bool(origin) and expanded(origin).resolve() == expanded(local(model)).resolve()


def _own_names(config: PretrainedConfig, fields: dict[str, Any]) -> dict[str, Any]:
    """Fields by the configuration's own names: GPT-2 calls `hidden_size` `n_embd`."""
    return {config.attribute_map.get(name, name): value for name, value in fields.items()}


def new_model(config: PretrainedConfig, head: str, seed: int) -> PreTrainedModel:
    """A model with random weights drawn from `seed`, fp32, on the CPU; the global random state is left alone.

    Args:
        head: which head (`causal`, `masked`, `image-classification`, `none`).

    Raises:
        ModelError: `transformers` has no such head for this model type, or the sizes do not fit each other.
    """
    check_size(config, head)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(derive_seed(seed, "init"))
        try:
            return auto_class(head).from_config(config, dtype=torch.float32)
        except (ValueError, AssertionError, RuntimeError, TypeError, ZeroDivisionError) as error:
            raise cannot_build(config, head, error) from error


def check_size(config: PretrainedConfig, head: str) -> None:
    """Makes sure that a new model fits into memory, before any is taken for it.

    Raises:
        ModelError: it does not.
    """
    with torch.random.fork_rng(devices=[]), torch.device("meta"), bounded(f"init: the {config.model_type} model"):
        try:
            auto_class(head).from_config(copy.deepcopy(config), dtype=torch.float32)
        except TooLarge:
            raise
        except Exception:  # said in a better place: where the model is really built
            return


def cannot_build(config: PretrainedConfig, head: str, error: Exception) -> ModelError:
    """Why there is no model of this configuration with this head, in one line."""
    if str(error).startswith("Unrecognized configuration class"):
        return ModelError(f"init: transformers has no {config.model_type} model with a {head} head")
    return ModelError(f"init: a {config.model_type} model cannot be built with these settings: {one_line(error)}")


def one_line(error: BaseException) -> str:
    """The first line of an error's text, shortened."""
    text = str(error).strip().splitlines()
    return (text[0] if text else type(error).__name__)[:300]
