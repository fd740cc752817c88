"""Several processes that train one model: who they are, and what they must agree on.

They are started by `accelerate launch` or `torchrun`; with one process everything here does nothing.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator
from typing import Any, TypeVar

import torch
import torch.distributed
from accelerate import PartialState
from torch import nn

from warmstart.errors import Interrupted, UserError

LOST = ("by peer", "Broken pipe", "Timed out", "timed out", "timeout", "Connection refused", "NCCL")
"""Words of gloo and NCCL for another process that is gone or does not answer."""

T = TypeVar("T")


@contextlib.contextmanager
def lost_processes_told(count: int) -> Iterator[None]:
    """Turns the error that the others get when one of `count` processes is gone into one line.

    Raises:
        UserError: another process is gone.
    """
    try:
        yield
    except RuntimeError as error:
        if count == 1 or not any(word in str(error) for word in LOST):
            raise
        raise UserError(
            f"another of the {count} processes ended or does not answer any more (if it could, it said why); saved "
            "states are untouched: start the same line again, with as many processes or another number"
        ) from error


@contextlib.contextmanager
def left_at_the_end() -> Iterator[None]:
    """Around the work of a program whose processes all get to its end: ends the exchange between them there. Otherwise
    threads of the communication library may still run while Python is taken apart, and abort the process."""
    try:
        yield
    except Interrupted:
        _leave()
        raise
    _leave()


def _leave() -> None:
    if torch.distributed.is_available() and torch.distributed.is_initialized():
        torch.distributed.destroy_process_group()


class Processes:
    """The processes of a run, seen from one of them.

    Attributes:
        count: how many there are.
        rank: which one this is.
        device: where this one computes.
    """

    def __init__(self, device: torch.device) -> None:
        self._state = PartialState(cpu=device.type == "cpu")
        self.count, self.rank = int(self._state.num_processes), int(self._state.process_index)
        self.device = self._state.device if self.count > 1 else device

    @property
    def is_main(self) -> bool:
        """Whether this one writes files."""
        return bool(self._state.is_main_process)

    def wait(self) -> None:
        """Until all are here."""
        self._state.wait_for_everyone()

    def wrapped(self, model: nn.Module, *, unused: bool) -> Any:
        """The model whose gradients are the mean over all processes.

        Args:
            unused: there are steps in which some weights get no gradient.
        """
        if self.count == 1:
            return model
        devices = [self.device.index] if self.device.type == "cuda" else None
        return nn.parallel.DistributedDataParallel(
            model,
            devices,
            find_unused_parameters=unused,
            gradient_as_bucket_view=True,  # gradients lie in the memory that is exchanged, not once more beside it
        )

    def no_sync(self, wrapped: Any) -> Any:
        """The context of a backward pass whose gradients are not exchanged yet."""
        return wrapped.no_sync() if self.count > 1 else contextlib.nullcontext()

    def share_gradients(self, weights: Iterable[nn.Parameter]) -> None:
        """Gives weights the mean of their gradients over all processes."""
        for weight in weights if self.count > 1 else ():
            if weight.grad is not None:
                torch.distributed.all_reduce(weight.grad)
                weight.grad /= self.count

    def share_buffers(self, module: nn.Module) -> None:
        """The first process's buffers for everybody."""
        if self.count > 1:
            for buffer in module.buffers():
                torch.distributed.broadcast(buffer, 0)

    def agreed(self, value: T) -> T:
        """The first process's value for everybody: what they decide by must not differ by how one of them rounds."""
        if self.count == 1:
            return value
        box = [value]
        torch.distributed.broadcast_object_list(box, 0)
        return box[0]

    def summed(self, values: torch.Tensor) -> torch.Tensor:
        """The sum over all processes."""
        if self.count > 1:
            torch.distributed.all_reduce(values)
        return values

    def largest(self, value: float) -> float:
        """The largest value over all processes: they must all stop, or go on, at the same step."""
        if self.count == 1:
            return value
        tensor = torch.tensor(value, dtype=torch.float64, device=self.device)
        torch.distributed.all_reduce(tensor, op=torch.distributed.ReduceOp.MAX)
        return float(tensor)
