"""FLOPs of a token and seconds of a step.

6 FLOPs for each weight that a token is multiplied with (2 forward, 4 backward), and 12 for each entry of a query and
each token that it is compared with; causal attention is not discounted. That is what the FLOP meter counts
(warmstart/train/compute.py). "6 N" with all weights counts the embedding too, which multiplies nothing.
"""

from __future__ import annotations

from warmstart.forecast.cluster.machine import Machine
from warmstart.forecast.cluster.shape import Shape


def flops_per_token(shape: Shape, length: int, *, checkpointing: bool = False) -> float:
    """Forward and backward pass of one token in a block of `length`.

    With activation checkpointing the blocks are computed once more, but for the last matrix of each: nothing needs what
    comes out of it.
    """
    products = 6 * (shape.layer_products + shape.root_products)
    attention = 12 * length * shape.attention
    if checkpointing:
        products += 2 * (shape.layer_products - shape.last_products)
        attention += 4 * length * shape.attention
    return float(products + attention)


def step_flops(shape: Shape, rows: int, length: int, *, checkpointing: bool = False) -> float:
    """Of a step of `rows` blocks, over all processes."""
    return rows * length * flops_per_token(shape, length, checkpointing=checkpointing)


def compute_seconds(flops: float, processes: int, machine: Machine) -> float:
    """Of a step, if each process computes at the assumed share of its peak."""
    return flops / (processes * machine.peak * machine.utilisation)
