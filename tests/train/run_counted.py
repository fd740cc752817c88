"""Carries out recipes like `run_many.py`, and counts what the processes say to each other: OUT/NAME.json has for every
step how often each of DistributedDataParallel's buckets was exchanged, and how many other tensors were while gradients
were made; and how many losses were computed in chunks. Recipes whose name begins with `chunked` have tiny chunks."""

from __future__ import annotations

import io
import json
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from torch.distributed.algorithms.ddp_comm_hooks.default_hooks import allreduce_hook
from torch.nn.parallel import DistributedDataParallel

from warmstart.objectives import chunked_cross_entropy, output_layer
from warmstart.recipe_file import read_recipe
from warmstart.run_recipe import run
from warmstart.train.loop import Training


class Counted:
    """What was counted since the last recipe began."""

    def __init__(self) -> None:
        self.steps: list[dict[str, Any]] = []
        self.buckets: Counter[int] = Counter()
        self.reduced = self.chunked = 0
        self.inside = False

    def patch(self) -> None:
        reduce, start = torch.distributed.all_reduce, DistributedDataParallel.__init__
        backward, chunked = Training.backward, chunked_cross_entropy.chunked_cross_entropy

        def counted_reduce(*args: Any, **settings: Any) -> Any:
            self.reduced += self.inside and not settings.get("async_op", False)
            return reduce(*args, **settings)

        def hook(state, bucket):  # type: ignore[no-untyped-def]  # PyTorch reads annotations, and these would be text
            self.buckets[bucket.index()] += 1
            return allreduce_hook(state, bucket)

        def start_with_hook(module: Any, *args: Any, **settings: Any) -> None:
            start(module, *args, **settings, bucket_cap_mb=0.01)
            module.register_comm_hook(None, hook)

        def counted_backward(*args: Any, **settings: Any) -> Any:
            self.buckets, self.reduced, self.inside = Counter(), 0, True
            try:
                return backward(*args, **settings)
            finally:
                self.inside = False
                self.steps.append({"buckets": sorted(self.buckets.items()), "others": self.reduced})

        def counted_chunked(*args: Any, **settings: Any) -> Any:
            self.chunked += 1
            return chunked(*args, **settings)

        torch.distributed._DEFAULT_FIRST_BUCKET_BYTES = 4096  # several buckets, although the models are tiny
        torch.distributed.all_reduce = counted_reduce
        DistributedDataParallel.__init__ = start_with_hook  # type: ignore[method-assign]
        Training.backward = counted_backward  # type: ignore[method-assign]
        output_layer.chunked_cross_entropy = counted_chunked


def run_all(folder: Path, out: Path) -> None:
    counted = Counted()
    counted.patch()
    usual = chunked_cross_entropy.CHUNK["cpu"]
    for file in sorted(folder.glob("*.yaml")):
        chunked_cross_entropy.CHUNK["cpu"] = 2000 if file.stem.startswith("chunked") else usual
        counted.steps, counted.chunked = [], 0
        run(read_recipe(file), out / file.stem, console=Console(file=io.StringIO()))
        if torch.distributed.get_rank() == 0:
            (out / f"{file.stem}.json").write_text(json.dumps({"steps": counted.steps, "chunked": counted.chunked}))


if __name__ == "__main__":
    run_all(Path(sys.argv[1]), Path(sys.argv[2]))
