"""Bytes and seconds of a saved state, how often to save, and what failures cost.

The first process alone writes, whole tensors: fp32 weights, AdamW's two moments, and a step count for each tensor
(warmstart/train/checkpoint.py). The training stands still while it copies them into its memory; with shares all
processes put the tensors together for that, one at a time. Then a thread writes, and only a save that comes before it
has finished waits.

How often: a save that stops the training for `stall` seconds, with a failure every `between` seconds on average, costs
least every sqrt(2 x stall x between) seconds (Young 1974, "A first order approximation to the optimum checkpoint
interval"; Daly 2006 has the higher orders, which do not matter where stall is far below between).
"""

from __future__ import annotations

import math

from warmstart.forecast.cluster.communication import exchange_seconds
from warmstart.forecast.cluster.machine import Machine, Rates
from warmstart.forecast.cluster.shape import Shape

DAY = 86400.0


def state_bytes(shape: Shape) -> dict[str, int]:
    """Bytes of the tensors in each file of a state; the files' headers are some hundred bytes a tensor more."""
    return {"model": 4 * shape.weights, "optimizer": 8 * shape.weights + 4 * len(shape.tensors)}


def host_bytes(shape: Shape) -> int:
    """Memory of the first process's host while a state is saved: the copy that is written."""
    return sum(state_bytes(shape).values())


def stall_seconds(shape: Shape, processes: int, machine: Machine, *, shares: bool) -> float:
    """How long the training stands still for a save that is written in the background."""
    size = sum(state_bytes(shape).values())
    seconds = size / (machine.to_host * machine.efficiency)
    if shares:
        seconds += exchange_seconds({"all-gather": size}, processes, machine)
    return seconds


def write_seconds(shape: Shape, rates: Rates) -> float:
    """How long the first process then writes, checksums included."""
    return sum(state_bytes(shape).values()) / rates.save


def best_interval(stall: float, between: float) -> float:
    """Seconds between saves that cost least (Young).

    Args:
        stall: seconds that a save stops the training.
        between: mean seconds between failures.
    """
    return math.sqrt(2 * stall * between)


def lost_share(interval: float, stall: float, between: float, *, write: float = 0.0, restart: float = 0.0) -> float:
    """The share of the time that is lost to saving and to failures.

    A failure loses half an interval on average, the time that the newest state needed to get to the disk, and the
    restart.
    """
    return stall / interval + (interval / 2 + write + restart) / between


def lost_hours_a_day(interval: float, between: float, *, write: float = 0.0, restart: float = 0.0) -> float:
    """Hours of work that are expected to be done again, and of restarts, in a day."""
    return DAY / between * (interval / 2 + write + restart) / 3600


def time_between_failures(gpus: int, of_one: float) -> float:
    """Mean seconds between failures of any, if each fails every `of_one` seconds, independently of the others."""
    return of_one / gpus
