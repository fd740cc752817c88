"""What every process holds in a step, by kind.

Copies (`train.shard: never`): everything is whole on every process; gradients lie in the buckets that PyTorch's
DistributedDataParallel exchanges, which are there all the time. Shares (`always`): one n-th of weights, gradients and
moments, and for a while whole layers. Weights, sums of gradients and moments are fp32 in both.

A process holds most in the forward and backward pass of a step (warmstart/train/loop.py). The parts are added up
although some are never there together, so that the sum is an upper bound.

What the loop does beside its steps needs less: where FLOPs are measured, once for each shape of batch, each gradient is
let go at once; the exported model is put together tensor by tensor, on the first process's host.
"""

from __future__ import annotations

from warmstart.forecast.cluster.activations import Activations, Batch
from warmstart.forecast.cluster.shape import Shape, entries, share

Parts = dict[str, int]
FP32 = 4


def parts_of_step(shape: Shape, batch: Batch, found: Activations, processes: int, accumulate: int = 1) -> Parts:
    """Bytes of every process, by kind.

    Args:
        found: what a micro-batch needs (`activations`).
        processes: over all nodes.
        accumulate: micro-batches of a step.
    """
    lasting = lasting_parts(shape, batch.shares, processes)
    whole = {"layers put together": max(put_together(shape, batch, processes).values())} if batch.shares else {}
    step = gradients_of_step(shape, batch, processes, accumulate)
    return {**lasting, **whole, **step, "activations": found.peak}


def lasting_parts(shape: Shape, shares: bool, processes: int) -> Parts:
    """What is there all the time: weights, and AdamW's two moments."""
    held = share(shape.tensors, processes) if shares else shape.weights
    return {"weights": FP32 * held, "moments": 2 * FP32 * held}


def put_together(shape: Shape, batch: Batch, processes: int) -> dict[str, int]:
    """Bytes of whole weights with shares, while something outside the blocks computes, and while a block does.

    What is outside is whole from its first use to the end of the backward pass, and once more in the buffer that it
    came in; then the block that computes and one on its way, or in the buffer that it came in.
    """
    root, layer = (processes * share(part, processes) for part in (shape.root, shape.largest_layer))
    return {"outside": batch.bytes_per_weight * 2 * root, "in a block": batch.bytes_per_weight * (root + 2 * layer)}


def gradients_of_step(shape: Shape, batch: Batch, processes: int, accumulate: int) -> Parts:
    """Gradients that wait for the optimizer, and whole ones on their way there.

    With shares and several micro-batches (`accumulate`) no gradient is exchanged before the last one: until then each
    process sums up all of them, whole and in fp32.
    """
    if not batch.shares:
        return {"gradients": FP32 * shape.weights}
    layer, root = entries(shape.largest_layer), entries(shape.root)
    parts = {
        "gradients": FP32 * share(shape.tensors, processes),
        "gradients, whole, on their way": batch.bytes_per_weight * (layer + root) + FP32 * max(layer, root),
    }
    if accumulate > 1:
        parts["gradients, whole, of earlier micro-batches"] = FP32 * shape.weights
    return parts
