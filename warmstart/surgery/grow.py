"""Grow: a larger model that starts from what a smaller one knows.

    grow("small", "large", to={"hidden_size": 512, "num_hidden_layers": 12}, width="aki", depth="stack")

| width    | keeps the function                                | new neurons                            |
|----------|---------------------------------------------------|----------------------------------------|
| `fpi`    | exactly at integer ratios, else approximately      | copies, equal for ever                 |
| `exact`  | exactly at any ratio (post-norm: integer ratios)   | padding and unequal copies: all differ |
| `aki`    | no                                                | the next block's                       |
| `direct` | no                                                | random                                 |
| `random` | no: nothing of the old model is kept              | random                                 |

Growing is architecture-blind: everything it knows about a model is the model's table in `warmstart/models/axes`.

Source: bert2BERT (arXiv 2110.07143), AquilaMoE (arXiv 2408.06567) for grouped-query heads and interleaved depth,
LEMON (arXiv 2310.07999) for the exact mode.
"""

from __future__ import annotations

import copy
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

import torch
from pydantic import Field, ValidationError
from transformers import PretrainedConfig, PreTrainedModel
from transformers.initialization import no_init_weights

from warmstart.errors import ModelError
from warmstart.models.axes import table_for
from warmstart.places import expanded, is_folder
from warmstart.surgery import Promise, Surgery
from warmstart.surgery.depth import Depth
from warmstart.surgery.maps import Spread
from warmstart.surgery.plan import Plan
from warmstart.surgery.stream import Report, grow_checkpoint, weight_names
from warmstart.surgery.target import target_config
from warmstart.surgery.width import Variant

Width = Literal["fpi", "aki", "exact", "direct", "random"]


class Grow(Surgery):
    """Widen and deepen a model."""

    type: Literal["grow"] = "grow"
    to: dict[str, Annotated[int, Field(gt=0)]] = Field(
        min_length=1, description="Sizes of the grown model, e.g. {hidden_size: 512, num_hidden_layers: 12}."
    )
    width: Width = Field("fpi", description="How layers are widened.")
    depth: Depth = Field("stack", description="How blocks are added.")
    variant: Variant = Field("columns", description="aki: what is borrowed from the block above.")
    mapping: Spread = Field("balanced", description="What is copied: each in turn, or each drawn at random.")
    noise: Annotated[float, Field(ge=0)] = Field(
        0.0,
        description="Noise on new entries of matrices, as a multiple of the weight's own standard deviation.",
    )

    def target(self, config: PretrainedConfig) -> PretrainedConfig:
        """The grown model's configuration.

        Raises:
            ModelError: the growth is not possible.
        """
        table = table_for(config)
        grown = target_config(config, table, self.to, self.depth)
        old, new = table.sizes(config), table.sizes(grown)
        if self.width == "exact" and new.width != old.width:
            if table.pre_norm:
                eps = float(getattr(config, table.fields.eps))
                setattr(grown, table.fields.eps, eps * old.width / new.width)
            elif new.width % old.width:
                raise ModelError(
                    f"to.{table.fields.width}: {old.width} -> {new.width} cannot be exact in a {config.model_type} "
                    "model: its residual stream is itself normalised, so that every entry needs equally many copies; "
                    f"use a multiple of {old.width}, or width: fpi"
                )
        return grown

    def preserves(self, config: PretrainedConfig) -> tuple[Promise, str]:
        """What growing promises about a model's function, and why."""
        table = table_for(config)
        old, new = table.sizes(config), table.sizes(self.target(config))
        wider, deeper = (
            (old.width, old.heads, old.mlp) != (new.width, new.heads, new.mlp),
            new.depth != old.depth,
        )
        if self.width == "random":
            return "nothing", "all weights are drawn anew"
        if wider and self.width == "direct":
            return "nothing", "new weights are random"
        if wider and self.width == "aki" and old.depth > 1:
            return "nothing", "new neurons come from the next block"
        if deeper and self.depth != "identity":
            return "nothing", "copied blocks act more than once"
        uneven = new.width % old.width or (new.width != old.width and self.mapping == "random")
        if uneven and self.width != "exact":
            return (
                "approximately",
                "entries of the residual stream have unequal numbers of copies, which its norms feel",
            )
        if deeper and not table.pre_norm:
            return "approximately", "in a post-norm model new blocks still normalise the residual stream"
        if self.noise and wider:
            return "approximately", "new entries get noise"
        return (
            "exactly",
            "copies are shared out among their readers" if wider else "old weights keep their roles",
        )

    def apply(self, model: PreTrainedModel, *, seed: int = 0) -> PreTrainedModel:
        """The grown model, in the dtypes of the old one, on the CPU; the old one is not changed.

        Warns where copies cannot keep the function exactly although the width is grown by copies.
        """
        promise, reason = self.preserves(model.config)
        if promise == "approximately":
            warnings.warn(f"growing keeps the function only approximately: {reason}", stacklevel=2)
        plan = Plan(self, model.config, weight_names(model), seed)
        old = dict(model.named_parameters(remove_duplicate=False))
        with torch.random.fork_rng(devices=[]), no_init_weights():
            grown = type(model)(plan.config)
        for name, parameter in grown.named_parameters():
            tensor = plan.tensor(name, lambda old_name: old[old_name].detach().cpu())
            assert tensor.shape == parameter.shape, (name, tensor.shape, parameter.shape)
            parameter.data = tensor
        grown.tie_weights()
        if getattr(model, "generation_config", None) is not None:
            grown.generation_config = copy.deepcopy(model.generation_config)
        return grown.train(model.training)


def grow(
    model: str | Path,
    out: str | Path,
    *,
    to: Mapping[str, int],
    width: Width = "fpi",
    depth: Depth = "stack",
    variant: Variant = "columns",
    mapping: Spread = "balanced",
    noise: float = 0.0,
    seed: int = 0,
    check: bool = True,
    tokens: Any = None,
) -> Report:
    """Grows the model of a folder or hub id into the new folder `out`, tensor by tensor, and checks the result.

    Args:
        model: a folder with safetensors weights, or a hub id.
        to: sizes of the grown model, e.g. `{"hidden_size": 512}`; those that are not named follow.
        check: run both models on the same tokens and record the largest logit difference.
        tokens: token ids `(tokens,)` for the check; a text under the model's own tokenizer where none are given.

    The other arguments are the fields of `Grow`.

    Raises:
        ModelError: no such model, or a growth that is not possible, or a broken promise.
        UserError: the disk is full or `out` cannot be written; nothing is left there.
    """
    try:
        settings = Grow(to=dict(to), width=width, depth=depth, variant=variant, mapping=mapping, noise=noise)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        where = ".".join(str(step) for step in first["loc"])
        raise ModelError(f"{where}: found {first['input']!r}; {first['msg']}") from None
    return grow_checkpoint(_folder(model), Path(out), settings, seed=seed, check=check, tokens=tokens)


def _folder(model: str | Path) -> Path:
    """The model's folder; a hub id's files are fetched first."""
    folder = expanded(model)
    if is_folder(folder):
        return folder
    if str(model).startswith((".", "/", "~")) or str(model).count("/") > 1:
        raise ModelError(f"there is no model folder '{model}'")
    from huggingface_hub import snapshot_download

    try:
        found = snapshot_download(str(model), allow_patterns=["*.json", "*.safetensors", "*.txt", "*.model", "*.jinja"])
    except Exception as error:  # the hub's client raises many kinds
        line = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise ModelError(f"there is no model folder '{model}', nor can it be fetched from the hub: {line}") from error
    return Path(found)
