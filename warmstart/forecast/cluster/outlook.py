"""Memory and time of a training step under given settings, and the settings that fit.

Two times stand for what nobody knows beforehand, how much of the exchange is hidden behind computing: all of it
(`seconds`), or nothing (`seconds_in_turn`). Collating is hidden in neither: the loop does it before the step begins.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from transformers import PretrainedConfig

from warmstart.forecast.cluster.activations import Batch, activations
from warmstart.forecast.cluster.communication import exchange_seconds, exchanged
from warmstart.forecast.cluster.compute import compute_seconds, step_flops
from warmstart.forecast.cluster.data import collate_seconds
from warmstart.forecast.cluster.machine import H100, Machine, Rates
from warmstart.forecast.cluster.memory import Parts, parts_of_step
from warmstart.forecast.cluster.shape import Shape, shape_of


@dataclass(frozen=True)
class Outlook:
    """What a step asks for.

    Attributes:
        batch: a micro-batch of one process.
        parts: bytes of every process by kind.
        compute, exchange, collate: seconds of a step.
    """

    batch: Batch
    processes: int
    accumulate: int
    parts: Parts
    compute: float
    exchange: float
    collate: float

    @property
    def rows(self) -> int:
        """Blocks of a step, over all processes (`train.batch_size`)."""
        return self.batch.rows * self.accumulate * self.processes

    @property
    def memory(self) -> int:
        """Bytes that every process holds at most."""
        return sum(self.parts.values())

    @property
    def seconds(self) -> float:
        """Of a step whose exchange is hidden behind computing as far as that goes."""
        return max(self.compute, self.exchange) + self.collate

    @property
    def seconds_in_turn(self) -> float:
        """Of a step whose exchange is hidden behind nothing."""
        return self.compute + self.exchange + self.collate

    def fits(self, machine: Machine) -> bool:
        return self.memory <= machine.usable


def outlook(
    config: PretrainedConfig,
    batch: Batch,
    processes: int,
    accumulate: int = 1,
    *,
    machine: Machine = H100,
    rates: Rates | None = None,
    shape: Shape | None = None,
) -> Outlook:
    """What a step of a causal model asks for.

    Args:
        rates: of the host; without them collating counts for nothing.
        shape: `shape_of(config)`, if it is at hand.
    """
    shape = shape or shape_of(config)
    rows = batch.rows * accumulate * processes
    flops = step_flops(shape, rows, batch.length, checkpointing=batch.checkpointing)
    return Outlook(
        batch,
        processes,
        accumulate,
        parts_of_step(shape, batch, activations(config, batch), processes, accumulate),
        compute_seconds(flops, processes, machine),
        exchange_seconds(exchanged(shape, batch, processes, accumulate), processes, machine),
        collate_seconds(rows, batch.length, rates) if rates else 0.0,
    )


def fastest(
    config: PretrainedConfig,
    like: Batch,
    rows: int,
    processes: int,
    *,
    machine: Machine = H100,
    rates: Rates | None = None,
) -> Outlook | None:
    """The fastest settings that fit: copies or shares, activation checkpointing or not, and how many micro-batches.

    Args:
        like: length, precision, kind of loss and of documents.
        rows: blocks of a step, over all processes; the processes must divide them.

    Returns:
        None where nothing fits. Of equally fast ones the one that needs least memory.
    """
    shape, own = shape_of(config), rows // processes
    found = []
    for shares in (False, True):
        for checkpointing in (False, True):
            for accumulate in (n for n in range(1, own + 1) if own % n == 0):
                batch = replace(like, rows=own // accumulate, shares=shares, checkpointing=checkpointing)
                one = outlook(config, batch, processes, accumulate, machine=machine, rates=rates, shape=shape)
                if one.fits(machine):
                    found.append(one)
    return min(found, key=lambda one: (one.seconds, one.memory), default=None)


def most_rows(config: PretrainedConfig, like: Batch, processes: int, *, machine: Machine = H100) -> int:
    """The most blocks of a micro-batch that fit on each process, without accumulating; 0 where not even one does."""
    shape, most = shape_of(config), 0
    while outlook(config, replace(like, rows=most + 1), processes, machine=machine, shape=shape).fits(machine):
        most += 1
    return most
