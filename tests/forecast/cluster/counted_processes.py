"""Carries out recipes in the processes that started this, and writes down what each holds and hands to the others:

    python -m torch.distributed.run ... counted_processes.py FOLDER OUT

Every FOLDER/NAME.yaml gives OUT/NAME-RANK.json: a list with one entry a step.
"""

from __future__ import annotations

import inspect
import io
import json
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from rich.console import Console
from torch import nn
from torch.distributed.algorithms.ddp_comm_hooks.default_hooks import allreduce_hook
from torch.distributed.fsdp import FSDPModule
from torch.distributed.tensor import DTensor
from torch.multiprocessing.reductions import StorageWeakRef

from warmstart.recipe_file import read_recipe
from warmstart.run_recipe import run
from warmstart.train.loop import Training

sent: Counter[str] = Counter()
held: Counter[str] = Counter()
on_their_way: list[StorageWeakRef] = []
sizes: list[int] = []
COLLECTIVES = {  # by their new names and their old ones
    "all-gather": ("all_gather_single", "all_gather_into_tensor"),
    "reduce-scatter": ("reduce_scatter_single", "reduce_scatter_tensor"),
}
steps: list[dict[str, Any]] = []


def bytes_of(tensors: Any) -> int:
    """Bytes on this process, every storage once."""
    found = {}
    for tensor in tensors:
        if isinstance(tensor, torch.Tensor):
            storage = (tensor.to_local() if isinstance(tensor, DTensor) else tensor).untyped_storage()
            found[storage._cdata] = storage.nbytes()
    return sum(found.values())


def counted_collective(kind: str, collective: Any) -> Any:
    signature = inspect.signature(collective)

    def call(*given: Any, **more: Any) -> Any:
        bound = list(signature.bind(*given, **more).arguments.values())
        whole = bound[0 if kind == "all-gather" else 1]
        sent[kind] += whole.nbytes
        if kind == "all-gather":
            on_their_way.append(StorageWeakRef(whole.untyped_storage()))
            sizes.append(whole.untyped_storage().nbytes())
        return collective(*given, **more)

    return call


def count_exchange() -> None:
    """What goes through the collectives that FSDP2 and DDP use, by kind: bytes of the whole tensor."""
    for kind, names in COLLECTIVES.items():
        for name in names:
            if hasattr(dist, name):
                setattr(dist, name, counted_collective(kind, getattr(dist, name)))
    made = nn.parallel.DistributedDataParallel.__init__

    def with_hook(self: Any, *given: Any, **settings: Any) -> None:
        made(self, *given, **settings)

        def hook(group: Any, bucket: Any) -> Any:
            sent["all-reduce"] += bucket.buffer().nbytes
            held["buckets"] = max(held["buckets"], 0) + bucket.buffer().nbytes
            return allreduce_hook(group, bucket)

        hook.__annotations__.clear()  # PyTorch takes them at their word
        self.register_comm_hook(None, hook)

    nn.parallel.DistributedDataParallel.__init__ = with_hook  # type: ignore[method-assign]


def put_together(model: nn.Module) -> int:
    """Bytes of the weights that are whole at the moment, or on their way."""
    total = sum(size for size, one in zip(sizes, on_their_way, strict=True) if not one.expired())
    for module in model.modules():
        if isinstance(module, FSDPModule):
            group = module._get_fsdp_state()._fsdp_param_group
            for one in group.fsdp_params if group else ():
                if hasattr(one, "_unsharded_param"):
                    total += one._unsharded_param.untyped_storage().nbytes()
    return total


def whole_gradients(model: nn.Module) -> int:
    """Bytes of whole gradients that wait for those of later micro-batches."""
    total = 0
    for module in model.modules():
        if isinstance(module, FSDPModule):
            group = module._get_fsdp_state()._fsdp_param_group
            for one in group.fsdp_params if group else ():
                waiting = one.unsharded_accumulated_grad
                if waiting is None and hasattr(one, "_unsharded_param"):
                    waiting = one._unsharded_param.grad
                total += 0 if waiting is None else waiting.nbytes
    return total


def watch_layers(model: nn.Module) -> None:
    """The most that is put together while a module runs, and the gradients that wait whole."""

    layers = [module for module in model.modules() if isinstance(module, FSDPModule) and module is not model]
    blocks = {below for layer in layers for below in layer.modules()}

    def look(module: nn.Module, *_: Any) -> None:
        where = "put together in a block" if module in blocks else "put together outside"
        held[where] = max(held[where], put_together(model))
        if isinstance(module, nn.Embedding) and torch.is_grad_enabled():  # a micro-batch begins
            held["waiting"] = max(held["waiting"], whole_gradients(model))

    for module in model.modules():
        if any(module.children()):
            continue
        module.register_forward_hook(look)
        if not isinstance(module, nn.Embedding):
            module.register_full_backward_hook(look)


def count_steps() -> None:
    step, backward = Training.step, Training.backward

    def counted_backward(self: Training, *given: Any) -> Any:
        if not hasattr(self, "_watched") and self.weights.in_shares:
            self._watched = True  # type: ignore[attr-defined]
            watch_layers(self.model)
        for kept in (sent, held, on_their_way, sizes):
            kept.clear()
        loss = backward(self, *given)
        held["gradients"] = bytes_of(p.grad for p in self.model.parameters())
        return loss

    def counted(self: Training) -> Any:
        found = step(self)
        if found[0] is not None:
            held["weights"] = bytes_of(self.model.parameters())
            moments = [s[key] for s in self.optimizer.state.values() for key in ("exp_avg", "exp_avg_sq")]
            held["moments"] = bytes_of(moments)
            steps.append({"sent": dict(sent), "held": dict(held)})
        return found

    Training.step, Training.backward = counted, counted_backward  # type: ignore[method-assign]


def main(folder: Path, out: Path) -> None:
    count_exchange()
    count_steps()
    for file in sorted(folder.glob("*.yaml")):
        steps.clear()
        run(read_recipe(file), out / file.stem, console=Console(file=io.StringIO()))
        (out / f"{file.stem}-{dist.get_rank()}.json").write_text(json.dumps(steps))


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
