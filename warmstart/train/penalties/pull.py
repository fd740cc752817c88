"""The quadratic pull that EWC, synaptic intelligence and RWalk share: weights that mattered are drawn back.

    pull = sum_i importance_i * (weight_i - anchor_i)^2

The methods differ in how they measure the importance; they all keep two tensors of a weight's shape for it. Weights
that nothing is known of are free: what a model grew since, new rows of an embedding, new layers.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import nn

from warmstart.errors import ModelError

Tensors = dict[str, torch.Tensor]


def quadratic_pull(
    weights: Mapping[str, torch.Tensor], importance: Mapping[str, torch.Tensor], anchor: Mapping[str, torch.Tensor]
) -> torch.Tensor:
    """sum_i importance_i * (weight_i - anchor_i)^2 over the weights that have an importance; a scalar with a gradient.

    Args:
        weights, importance, anchor: by name, of equal shapes; importances are not negative.

    Example:
        In one's own loop, with the `importance` of old data (see `warmstart/train/penalties/ewc.py`)::

            weights = dict(model.named_parameters())
            anchor = snapshot(weights)
            for batch in new_batches:
                loss = loss_of(batch) + 0.3 * quadratic_pull(weights, importance, anchor)
                loss.backward()
                optimizer.step()
                optimizer.zero_grad()
    """
    pulls = [
        (importance[name] * (weight - anchor[name]).square()).sum()
        for name, weight in weights.items()
        if name in importance
    ]
    return sum(pulls, start=torch.zeros(()))


def snapshot(weights: Mapping[str, torch.Tensor]) -> Tensors:
    """The weights as they are now."""
    return {name: weight.detach().clone() for name, weight in weights.items()}


def gradients_of(weights: Mapping[str, nn.Parameter]) -> Tensors:
    """The gradients that stand in the weights; zero where a step gave none."""
    return {
        name: torch.zeros_like(weight) if weight.grad is None else weight.grad.detach().clone()
        for name, weight in weights.items()
    }


def fitted(saved: Tensors, weights: Mapping[str, torch.Tensor], who: str) -> Tensors:
    """Tensors of an earlier stage in the shapes that the weights have now: what was added is 0.

    Tensors of weights that do not train now are kept as they are, for stages in which they do.

    Args:
        who: the part, for the message.

    Raises:
        ModelError: a weight is smaller than it was.
    """
    result = dict(saved)
    for name, weight in weights.items():
        if name not in saved:
            continue
        old = saved[name].to(weight.device)
        if old.shape != weight.shape:
            if old.ndim != weight.ndim or any(now < then for now, then in zip(weight.shape, old.shape, strict=True)):
                raise ModelError(
                    f"penalties {who}: the weight '{name}' has the shape {tuple(weight.shape)}, but what is remembered "
                    f"of the stage before {tuple(old.shape)}; weights may grow, not shrink"
                )
            corner = tuple(slice(size) for size in old.shape)
            old, small = torch.zeros_like(weight, dtype=old.dtype), old
            old[corner] = small
        result[name] = old
    return result


def packed(groups: Mapping[str, Tensors]) -> Tensors:
    """Several mappings as one, `group/name`, for saving."""
    return {f"{group}/{name}": tensor for group, members in groups.items() for name, tensor in members.items()}


def unpacked(tensors: Tensors, group: str, weights: Mapping[str, torch.Tensor]) -> Tensors:
    """One of the mappings again, on the weights' device."""
    found = {key[len(group) + 1 :]: tensor for key, tensor in tensors.items() if key.startswith(f"{group}/")}
    return {name: tensor.to(weights[name].device) if name in weights else tensor for name, tensor in found.items()}
