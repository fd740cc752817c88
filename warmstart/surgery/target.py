"""From `to: {hidden_size: 512, ...}` to the configuration of the grown model, with every check.

Sizes may be named in the model's own words (`n_embd`), in those of transformers (`hidden_size`), or in general ones
(`width`, `depth`, `heads`, `kv_heads`, `mlp`). Sizes that are not named follow where there is only one sensible
value: heads keep their size, so that a wider model has more of them; the MLP keeps its ratio to the width.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping

from transformers import PretrainedConfig

from warmstart.errors import ModelError, nearest
from warmstart.models.axes import Sizes, Table
from warmstart.surgery.depth import Depth, depth_map

GENERAL = ("width", "depth", "heads", "kv_heads", "mlp")


def target_config(config: PretrainedConfig, table: Table, to: Mapping[str, int], depth: Depth) -> PretrainedConfig:
    """The grown model's configuration; `config` is not changed.

    Args:
        to: the sizes asked for.
        depth: how blocks are added: settings with one entry per block follow their blocks.

    Raises:
        ModelError: an unknown name, a size that cannot grow (or would shrink), or sizes that do not fit each other.
    """
    old = table.sizes(config)
    asked = _asked(config, table, to)
    new = _complete(config, table, old, asked)
    names = table.fields
    grown = copy.deepcopy(config)
    setattr(grown, names.width, new.width)
    setattr(grown, names.depth, new.depth)
    setattr(grown, names.heads, new.heads)
    if names.kv_heads:
        setattr(grown, names.kv_heads, new.kv_heads)
    if getattr(config, names.mlp) is not None or "mlp" in asked:
        setattr(grown, names.mlp, new.mlp)
    for name in names.per_layer:
        entries = getattr(config, name, None)
        if entries is not None:
            setattr(grown, name, [entries[source] for source in depth_map(old.depth, new.depth, depth).source])
    try:
        if hasattr(grown, "validate"):
            grown.validate()
    except Exception as error:  # huggingface_hub raises kinds of its own
        line = str(error).strip().splitlines()[-1].strip()
        raise ModelError(f"to: transformers refuses the grown {config.model_type} configuration: {line}") from error
    return grown


def _asked(config: PretrainedConfig, table: Table, to: Mapping[str, int]) -> dict[str, int]:
    """The sizes asked for, by their general names."""
    own = {getattr(table.fields, name): name for name in GENERAL if getattr(table.fields, name)}
    aliases = {alias: own[name] for alias, name in getattr(config, "attribute_map", {}).items() if name in own}
    known = {name: name for name in GENERAL} | aliases | own
    asked: dict[str, int] = {}
    for name, value in to.items():
        if name in known:
            if asked.get(known[name], value) != value:
                raise ModelError(
                    f"to.{name}: {value} contradicts another name for the same size ({asked[known[name]]})"
                )
            asked[known[name]] = value
        elif hasattr(config, name):
            if getattr(config, name) != value:
                raise ModelError(
                    f"to.{name}: growing cannot change {name} ({getattr(config, name)} -> {value}); "
                    f"what can grow: {', '.join(own)}"
                )
        else:
            raise ModelError(
                f"to.{name}: a {config.model_type} model has no such size{nearest(name, known)}; "
                f"what can grow: {', '.join(own)}"
            )
    return asked


def _complete(config: PretrainedConfig, table: Table, old: Sizes, asked: Mapping[str, int]) -> Sizes:
    """All sizes of the grown model."""

    def field(name: str) -> str:
        return getattr(table.fields, name) or name

    width, depth = asked.get("width", old.width), asked.get("depth", old.depth)
    coupled = table.fields.head_dim is None or getattr(config, table.fields.head_dim, None) is None
    heads = asked.get("heads")
    if heads is None:
        heads = old.heads
        if width != old.width:
            if old.heads * old.head_dim != old.width:
                raise ModelError(
                    f"to: the heads of this model do not add up to its width ({old.heads} x {old.head_dim} against "
                    f"{old.width}), so give {field('heads')} beside {field('width')}"
                )
            heads, rest = divmod(width, old.head_dim)
            if rest:
                raise ModelError(
                    f"to.{field('width')}: {width} is not a multiple of the head size {old.head_dim}, which growing "
                    "keeps" + ("" if coupled else f"; give {field('heads')} too")
                )
    elif coupled and heads * old.head_dim != width:
        raise ModelError(
            f"to.{field('heads')}: {heads} heads in a width of {width} would change the head size {old.head_dim}, "
            f"which growing keeps; use {width / old.head_dim:g} heads or a width of {heads * old.head_dim}"
        )
    kv_heads = asked.get("kv_heads")
    if kv_heads is None:
        kv_heads = heads if old.kv_heads == old.heads else old.kv_heads
    elif kv_heads != old.kv_heads and not (old.kv_heads == old.heads and kv_heads == heads):
        raise ModelError(
            f"to.{field('kv_heads')}: growing keeps the {old.kv_heads} groups of key and value heads, found {kv_heads}"
        )
    if heads % kv_heads:
        raise ModelError(f"to.{field('heads')}: {heads} is not a multiple of the {kv_heads} key and value heads")
    mlp = asked.get("mlp")
    if mlp is None:
        explicit = getattr(config, table.fields.mlp) is not None
        mlp, rest = divmod(old.mlp * width, old.width)
        if rest and explicit:
            raise ModelError(
                f"to: {old.mlp} x {width} / {old.width} is not a whole number of MLP neurons; give {field('mlp')} too"
            )
    new = Sizes(width=width, depth=depth, heads=heads, kv_heads=kv_heads, head_dim=old.head_dim, mlp=mlp)
    for name in GENERAL:
        before, after = getattr(old, name), getattr(new, name)
        if after < before:
            raise ModelError(f"to.{field(name)}: growing cannot shrink {before} to {after}")
    return new
