"""The configuration of a model that somebody else wrote: read as plain values and looked at before a class takes it.

Nothing that a configuration names is run: no `auto_map`, no kernel of the hub. And no number in it makes `transformers`
write lists of a billion entries before a model is even begun.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from transformers import AutoConfig, PretrainedConfig

from warmstart.errors import ModelError
from warmstart.places import is_file

LARGEST_FILE = 10_000_000
"""Bytes of a config.json."""
MOST = 4096
"""Of layers, blocks, heads and experts."""
COUNTED = re.compile(r"(layer|block|depth|stage|expert|head|tower)s?(_|$)")
NOT_COUNTED = re.compile(r"size|dim|width|_id|chunk|stride|window|length")
IMPLEMENTATIONS = ("attn_implementation", "experts_implementation")


def read_config(name: str | Path, said: str | Path | None = None) -> PretrainedConfig:
    """The configuration of a model folder or a hub id.

    Args:
        said: what the user called it.

    Raises:
        ModelError: it asks for code, or for a number of something that no model has; its file is too large.
        Exception: whatever else `transformers` finds wrong with it.
    """
    from transformers.models.auto.configuration_auto import CONFIG_MAPPING

    said = name if said is None else said
    file = Path(name) / "config.json"
    if is_file(file) and file.stat().st_size > LARGEST_FILE:
        raise ModelError(f"{file} is larger than {LARGEST_FILE // 1_000_000} MB; that is no configuration")
    raw, _ = PretrainedConfig.get_config_dict(str(name))
    check_config(raw, f"the config.json of '{said}'")
    model_type = raw.get("model_type")
    if not (isinstance(model_type, str) and model_type in CONFIG_MAPPING) and "auto_map" in raw:
        raise ModelError(
            f"the config.json of '{said}' asks for code of its own (auto_map), which is never run; "
            "a model must be of a type that transformers has"
        )
    return AutoConfig.from_pretrained(str(name), trust_remote_code=False)


def check_config(raw: Mapping[str, Any], where: str) -> None:
    """Makes sure that plain values of a configuration are harmless.

    Raises:
        ModelError: they are not.
    """
    for path, key, value in _values(raw, (), 0, where):
        if any(key.endswith(name) for name in IMPLEMENTATIONS) and "/" in str(value):
            raise ModelError(f"{where}: {path}: found {value!r:.80}: code of the hub is never run; leave it out")
        if type(value) is int and value > MOST and COUNTED.search(key) and not NOT_COUNTED.search(key):
            raise ModelError(f"{where}: {path}: found {value:.3g}; at most {MOST:,}")


def _values(value: Any, steps: tuple[str, ...], depth: int, where: str) -> Iterator[tuple[str, str, Any]]:
    """(path, the innermost name on it, value) of every value; of an implementation also the mapping itself."""
    if depth > 20:
        raise ModelError(f"{where}: nested too deeply")
    path, key = ".".join(steps[-4:]), next((step for step in reversed(steps) if not step.isdecimal()), "")
    if isinstance(value, Mapping):
        if key.endswith(IMPLEMENTATIONS):
            yield path, key, list(value.values())
        for name, inner in value.items():
            yield from _values(inner, (*steps, str(name)), depth + 1, where)
    elif isinstance(value, list):
        for number, inner in enumerate(value):
            yield from _values(inner, (*steps, str(number)), depth + 1, where)
    else:
        yield path, key, value
