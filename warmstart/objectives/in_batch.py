"""In-batch comparison over processes: the rows of a step are each other's wrong answers, wherever they are computed.

A step of such an objective is never cut into micro-batches (`Objective.compares_rows`), and several processes exchange
their embeddings, with gradients, so that the loss does not depend on how many share the work. The same goes for a
statistic of a whole step, of which each process knows a summand.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.distributed


def gathered(vectors: torch.Tensor) -> torch.Tensor:
    """The rows of all processes, in their order, with gradients where they have some; the same rows where there is one
    process. Without gradients, as in an evaluation, every process has all rows already: they stay as they are."""
    return _Gathered.apply(vectors.contiguous()) if _share_a_step() else vectors


def summed(values: torch.Tensor) -> torch.Tensor:
    """The sum of all processes' values, with gradients; the values themselves where there is one process, and in an
    evaluation."""
    return _Summed.apply(values) if _share_a_step() else values


def _share_a_step() -> bool:
    if not torch.is_grad_enabled() or not torch.distributed.is_available() or not torch.distributed.is_initialized():
        return False
    return torch.distributed.get_world_size() > 1


class _Gathered(torch.autograd.Function):
    @staticmethod
    def forward(context: Any, vectors: torch.Tensor) -> torch.Tensor:
        context.rows = len(vectors)
        parts = [torch.empty_like(vectors) for _ in range(torch.distributed.get_world_size())]
        torch.distributed.all_gather(parts, vectors)
        return torch.cat(parts)

    @staticmethod
    def backward(context: Any, gradient: torch.Tensor) -> torch.Tensor:
        """Every process's loss depends on these rows."""
        total = gradient.contiguous().clone()
        torch.distributed.all_reduce(total)
        return total[context.rows * torch.distributed.get_rank() :][: context.rows]


class _Summed(torch.autograd.Function):
    @staticmethod
    def forward(context: Any, values: torch.Tensor) -> torch.Tensor:
        total = values.clone()
        torch.distributed.all_reduce(total)
        return total

    @staticmethod
    def backward(context: Any, gradient: torch.Tensor) -> torch.Tensor:
        total = gradient.contiguous().clone()
        torch.distributed.all_reduce(total)
        return total
