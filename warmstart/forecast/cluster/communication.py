"""Bytes that processes hand each other in a step, and how long that takes.

`exchanged` says how large the tensors are that are exchanged. What each process sends for that depends on the way it
is done. For large tensors every library comes close to the bound of a ring: (n - 1) / n of the tensor for gathering it
or scattering a sum, twice that for all-reduce (Patarasuk and Yuan 2009, "Bandwidth optimal all-reduce algorithms for
clusters of workstations").

Over several nodes the slower of two flows decides: what a GPU sends inside its node, and what a node sends to others,
(k - 1) / k of the tensor for k nodes, over all of its network adapters. Latency is left out: beside messages of
megabytes it is small; for small models on many nodes it is not.
"""

from __future__ import annotations

from warmstart.forecast.cluster.activations import Batch
from warmstart.forecast.cluster.machine import Machine
from warmstart.forecast.cluster.shape import Shape, share

ROUNDS = {"all-reduce": 2, "all-gather": 1, "reduce-scatter": 1}
"""How often a ring goes round."""


def exchanged(shape: Shape, batch: Batch, processes: int, accumulate: int = 1) -> dict[str, int]:
    """Bytes of the tensors exchanged in a step, by kind.

    Copies: all gradients once, in fp32. Shares: every micro-batch gathers each block twice (forward and backward) and
    what is outside the blocks once, in the type that layers compute in; gradients are scattered once a step, in fp32.
    Tensors that do not divide are padded.
    """
    if processes == 1:
        return {}
    if not batch.shares:
        return {"all-reduce": 4 * shape.weights}
    blocks = processes * sum(share(layer, processes) for layer in shape.layers)
    root = processes * share(shape.root, processes)
    return {
        "all-gather": accumulate * batch.bytes_per_weight * (2 * blocks + root),
        "reduce-scatter": 4 * (blocks + root),
    }


def sent(tensors: dict[str, int], processes: int) -> float:
    """Bytes that each process sends for that, at the bound of a ring."""
    return sum(ROUNDS[kind] * size * (processes - 1) / processes for kind, size in tensors.items())


def exchange_seconds(tensors: dict[str, int], processes: int, machine: Machine) -> float:
    """How long exchanging such tensors takes."""
    nodes = -(-processes // machine.gpus)
    seconds = 0.0
    for kind, size in tensors.items():
        local = size * (processes - 1) / processes / machine.inside
        remote = size * (nodes - 1) / nodes / (machine.outside * machine.gpus)
        seconds += ROUNDS[kind] * max(local, remote)
    return seconds / machine.efficiency
