"""What a stage would hold on every process, in words, and which setting to change first where it does not fit."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import TYPE_CHECKING

from transformers import PretrainedConfig

from warmstart.errors import UserError
from warmstart.forecast.cluster.activations import Batch
from warmstart.forecast.cluster.machine import Machine
from warmstart.forecast.cluster.outlook import Outlook, outlook
from warmstart.objectives.chunked_cross_entropy import pays

if TYPE_CHECKING:
    from warmstart.recipe_stage import Stage

Choice = tuple[str, Batch, int]
"""What to set, and the micro-batch and the number of micro-batches that it makes."""


def lines_of(stage: Stage, config: PretrainedConfig, processes: int, machine: Machine) -> Iterator[str]:
    """Memory by kind, whether it fits, and what to change first.

    Raises:
        UserError: the processes do not divide the batch.
    """
    train = stage.train
    if stage.objective.name != "causal":
        yield f"    memory       not known: it is computed for the objective causal, not for {stage.objective.name}"
        return
    if train.batch_size % (processes * train.accumulate):
        raise UserError(
            f"train.batch_size: {train.batch_size} blocks cannot be shared by {processes} processes x "
            f"{train.accumulate} micro-batches"
        )
    batch = batch_of(stage, config, processes)
    try:
        found = outlook(config, batch, processes, train.accumulate, machine=machine)
    except Exception as error:  # a model's code may need more than shapes
        text = (str(error).strip().splitlines() or [type(error).__name__])[0]
        yield f"    memory       not known: this {config.model_type} model does not run without data ({text[:160]})"
        return
    kinds = ", ".join(f"{name} {gb(size)}" for name, size in found.parts.items())
    yield f"    memory       of each of {processes} processes, at most {gb(found.memory)} GB in a step: {kinds}"
    limit = f"{gb(machine.usable)} GB ({gb(machine.memory)} less a tenth)"
    if found.fits(machine):
        yield f"    fits         into {limit}"
    else:
        yield f"    too large    for {limit}; {advice(stage, config, found, machine)}"


def batch_of(stage: Stage, config: PretrainedConfig, processes: int) -> Batch:
    """A stage's micro-batch on each process. `auto` is taken as it is on a GPU: bf16, and copies."""
    assert stage.data is not None
    train = stage.train
    batch = Batch(
        rows=train.batch_size // (processes * train.accumulate),
        length=stage.data.length,
        precision="fp32" if train.precision == "fp32" else "bf16",
        shares=train.shard == "always" and processes > 1,
        checkpointing=bool(getattr(train, "activation_checkpointing", False)),
        isolated=stage.data.documents == "isolated" and train.layout != "unpadded",
    )
    return replace(batch, chunked=in_chunks(batch, config))


def in_chunks(batch: Batch, config: PretrainedConfig) -> bool:
    """Whether the library computes the loss of such a micro-batch in chunks, on a GPU."""
    return pays(batch.rows * batch.length, int(config.vocab_size), "cuda")


def advice(stage: Stage, config: PretrainedConfig, found: Outlook, machine: Machine) -> str:
    """The first change that makes it fit, or the changes that do so together."""
    taken: list[str] = []
    batch, accumulate = found.batch, found.accumulate
    for words, changed, pieces in changes(stage, found):
        changed = replace(changed, shares=changed.shares or batch.shares)
        changed = replace(changed, checkpointing=changed.checkpointing or batch.checkpointing)
        changed = replace(changed, chunked=in_chunks(changed, config))
        one = outlook(config, changed, found.processes, pieces, machine=machine)
        before = outlook(config, batch, found.processes, accumulate, machine=machine)
        if one.memory >= before.memory:
            continue
        taken = [*(word for word in taken if word.split(":")[0] != words.split(":")[0]), words]
        batch, accumulate = changed, pieces
        if one.fits(machine):
            return f"first set {' and '.join(taken)} ({gb(one.memory)} GB)"
    left = outlook(config, batch, found.processes, accumulate, machine=machine)
    tried = f"with {' and '.join(taken)} it is {gb(left.memory)} GB; " if taken else ""
    return f"{tried}use more processes, a smaller train.batch_size or a shorter data.length"


def changes(stage: Stage, found: Outlook) -> Iterator[Choice]:
    """What can be changed without changing what is learned, cheapest first: shares cost an exchange, checkpointing a
    third more FLOPs, and micro-batches, with shares, a whole gradient each."""
    batch, accumulate = found.batch, found.accumulate
    if not batch.shares and found.processes > 1:
        batch = replace(batch, shares=True)
        yield "train.shard: always", batch, accumulate
    if not batch.checkpointing:
        batch = replace(batch, checkpointing=True)
        yield "train.activation_checkpointing: true", batch, accumulate
    while batch.rows % 2 == 0:
        batch, accumulate = replace(batch, rows=batch.rows // 2), accumulate * 2
        yield f"train.accumulate: {accumulate}", batch, accumulate


def gb(size: float) -> str:
    """Bytes as GB (10^9) with enough digits."""
    return f"{size / 1e9:.1f}" if size >= 1e8 else f"{size / 1e9:.2g}"
