"""In-batch comparison over processes: the rows of a step are each other's wrong answers, wherever they are computed.

A step of such an objective is never cut into micro-batches (`Objective.compares_rows`), and several processes exchange
their embeddings, with gradients, so that the loss does not depend on how many share the work.
"""

from __future__ import annotations

import torch
import torch.distributed


def gathered(vectors: torch.Tensor) -> torch.Tensor:
    """The rows of all processes, in their order, with gradients where they have some; the same rows where there is one
    process. Without gradients, as in an evaluation, every process has all rows already: they stay as they are."""
    if not torch.is_grad_enabled() or not torch.distributed.is_available() or not torch.distributed.is_initialized():
        return vectors
    if torch.distributed.get_world_size() == 1:
        return vectors
    import torch.distributed.nn.functional as with_gradients

    return torch.cat(with_gradients.all_gather(vectors.contiguous()))
