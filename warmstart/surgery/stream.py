"""Growing a checkpoint from folder to folder, tensor by tensor, in the memory of a few tensors.

A grown tensor's shape is known from the configuration alone, so the new files' headers are written first and their
bytes follow one tensor at a time; an old tensor is mapped only while it is needed. The price: a tensor that two new
ones need (a copied block) is read twice.
"""

from __future__ import annotations

import shutil
import time
import warnings
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
import transformers
from transformers import PretrainedConfig, PreTrainedModel
from transformers.utils.logging import disable_progress_bar

from warmstart.disk import whole_folder
from warmstart.errors import ModelError
from warmstart.models.axes import table_for
from warmstart.models.bounded import bounded
from warmstart.models.config_file import read_config
from warmstart.places import is_file
from warmstart.surgery import Promise
from warmstart.surgery.check import check_inputs, judge, outputs, real_tokens
from warmstart.surgery.plan import Plan
from warmstart.surgery.tensor_files import Checkpoint, Spec, write_shards

if TYPE_CHECKING:
    from warmstart.surgery.grow import Grow

BESIDE = (
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "vocab.json",
    "vocab.txt",
    "merges.txt",
    "tokenizer.model",
    "spiece.model",
    "sentencepiece.bpe.model",
    "chat_template.jinja",
    "generation_config.json",
    "preprocessor_config.json",
    "processor_config.json",
)
"""Files that belong to a model and do not change when it grows."""


@dataclass(frozen=True)
class Report:
    """What a growth did.

    Attributes:
        old_parameters, new_parameters: numbers of weights, tied ones counted once.
        promise, reason: what was promised about the function, and why.
        largest, mean: absolute differences of the logits; None where the check was left out.
        depth_map: the old block of each new block.
        skipped: tensors of the old files that belong to no weight of the model (old buffers), left out.
        seconds: time taken, the check included.
    """

    source: Path
    target: Path
    old_parameters: int
    new_parameters: int
    promise: Promise
    reason: str
    largest: float | None
    mean: float | None
    depth_map: tuple[int, ...]
    skipped: tuple[str, ...]
    seconds: float


def grow_checkpoint(
    source: Path, target: Path, grow: Grow, *, seed: int = 0, check: bool = True, tokens: Any = None
) -> Report:
    """Grows the model folder `source` into the new folder `target`, which appears whole or not at all.

    Args:
        check: run both models on the same tokens. The check loads one model after the other, whole and in fp32 (on a
            CPU half precision is many times slower), so it needs memory for the grown model.
        tokens: token ids for the check, `(tokens,)`; a text under the folder's own tokenizer where none are given.

    Raises:
        ModelError: the folder is no safetensors checkpoint, the growth is not possible, or its promise is broken.
        UserError: the disk is full or `target` cannot be written; nothing is left there.
    """
    start = time.monotonic()
    if target.exists() and (not target.is_dir() or any(target.iterdir())):
        raise ModelError(f"{target} already exists; choose a new folder for the grown model")
    config, kind = read_model_folder(source)
    old = Checkpoint(source)
    promise, reason = grow.preserves(config)
    if promise == "approximately":
        warnings.warn(f"growing keeps the function only approximately: {reason}", stacklevel=3)
    shell = on_meta(kind, config)
    plan = Plan(grow, config, weight_names(shell), seed)
    grown_shell = on_meta(kind, plan.config)
    old_names, skipped = _covered(old, shell, plan)
    layout = _layout(old, old_names, grown_shell, plan)
    with whole_folder(target) as draft:
        write_shards(draft, layout, lambda name: plan.tensor(name, old.tensor), old.shard_bytes)
        plan.config.save_pretrained(draft)
        for name in BESIDE:
            if (source / name).is_file():
                shutil.copyfile(source / name, draft / name)
        difference = None
        if check:
            given = tokens if tokens is not None else real_tokens(source)
            inputs = check_inputs(config, given, seed)
            before = [value.clone() for value in outputs(_load(kind, source), inputs)]
            after = outputs(_load(kind, draft), inputs)
            stored = min((spec.dtype for spec in layout.values()), key=lambda d: torch.finfo(d).bits)
            difference = judge(zip(before, after, strict=True), promise, stored)
    return Report(
        source=source,
        target=target,
        old_parameters=shell.num_parameters(),
        new_parameters=grown_shell.num_parameters(),
        promise=promise,
        reason=reason,
        largest=difference.largest if difference else None,
        mean=difference.mean if difference else None,
        depth_map=plan.depth.source,
        skipped=tuple(skipped),
        seconds=time.monotonic() - start,
    )


def read_model_folder(folder: Path) -> tuple[PretrainedConfig, type[PreTrainedModel]]:
    """The configuration of a model folder and the model's class.

    Raises:
        ModelError: no model folder, or a class that transformers does not have.
    """
    if not is_file(folder / "config.json"):
        raise ModelError(f"'{folder}' is not a model folder: it has no config.json")
    try:
        config = read_config(folder)
    except ModelError:
        raise
    except Exception as error:  # every version of transformers raises its own kinds
        line = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise ModelError(f"{folder / 'config.json'} cannot be used: {line}") from error
    table_for(config)
    name = (config.architectures or ["?"])[0]
    kind = getattr(transformers, name, None)
    if not (isinstance(kind, type) and issubclass(kind, PreTrainedModel)):
        raise ModelError(f"{folder / 'config.json'}: transformers has no model class '{name}' (field 'architectures')")
    return config, kind


def on_meta(kind: type[PreTrainedModel], config: PretrainedConfig) -> PreTrainedModel:
    """A model without memory: names and shapes only."""
    with torch.device("meta"), bounded(f"the {config.model_type} model"):
        return kind(config)


def weight_names(model: PreTrainedModel) -> list[str]:
    """The names of all weights, tied ones under each of their names."""
    return [name for name, _ in model.named_parameters(remove_duplicate=False)]


def _covered(old: Checkpoint, shell: PreTrainedModel, plan: Plan) -> tuple[list[str], list[str]]:
    """The tensors of the files that grow, and those that belong to no weight."""
    table = plan.table
    needed = {table.bare(name): name for name, _ in shell.named_parameters()}
    head = plan.tied.head if plan.tied else None
    present = {table.bare(name): name for name in old.specs}
    if plan.tied and plan.tied.embedding not in present and head in present:
        raise ModelError(
            f"the checkpoint holds the tied weight only as '{present[head]}', not as '{plan.tied.embedding}'; "
            "load and save it once with transformers"
        )
    missing = [needed[bare] for bare in needed if bare not in present]
    if missing:
        raise ModelError(f"the checkpoint lacks {len(missing)} weights of a {type(shell).__name__}, e.g. {missing[0]}")
    for bare, name in present.items():
        if bare in needed:
            table.get(name)
    names = [name for bare, name in present.items() if bare != head and table.find(name) is not None]
    return names, [name for bare, name in present.items() if bare != head and table.find(name) is None]


def _layout(old: Checkpoint, names: Iterable[str], grown_shell: PreTrainedModel, plan: Plan) -> dict[str, Spec]:
    """Every tensor of the new files: what lies outside the blocks first, then block by block."""
    table = plan.table
    shapes = {table.bare(name): tuple(p.shape) for name, p in grown_shell.named_parameters(remove_duplicate=False)}
    layout: dict[tuple[int, str], Spec] = {}
    for name in names:
        found = table.get(name)
        if found.layer is None:
            new_names = [(-1, name)]
        else:
            new_names = [(new, found.at(new)) for new, source in enumerate(plan.depth.source) if source == found.layer]
        for layer, new_name in new_names:
            shape = shapes.get(table.bare(new_name)) or plan.shape(name, old.specs[name].shape)
            layout[layer, new_name] = Spec(old.specs[name].dtype, shape)
    return {name: layout[layer, name] for layer, name in sorted(layout)}


def _load(kind: type[PreTrainedModel], folder: Path) -> PreTrainedModel:
    disable_progress_bar()  # the check loads two models; their bars would say nothing
    return kind.from_pretrained(folder, use_safetensors=True, trust_remote_code=False, dtype=torch.float32)
