"""Carries out recipes one after the other in the processes that started this, so that Python and PyTorch start once:

    python -m torch.distributed.run ... run_many.py FOLDER OUT [--rows FOLDER] [--stop-at STEP]

Every FOLDER/NAME.yaml goes to OUT/NAME. With `--rows` each process writes down which rows it computed at which step;
with `--stop-at` one process is sent SIGTERM in that step. Codes of speech are chosen without the noise that, like
dropout, every process draws for itself.
"""

from __future__ import annotations

import argparse
import io
import os
import signal
import sys
import traceback
from pathlib import Path

import torch
from rich.console import Console

from warmstart.errors import Interrupted
from warmstart.objectives import Batch
from warmstart.recipe_file import read_recipe
from warmstart.run_recipe import run
from warmstart.train.loop import Training
from warmstart.train.processes import left_at_the_end


def write_down_rows(folder: Path) -> None:
    """One line a step and row: the step and the row's tokens; in a file of this process."""
    folder.mkdir(exist_ok=True)
    shared_out = Training._own_micro_batches

    def watched(self: Training, batch: Batch) -> list[Batch]:
        own = shared_out(self, batch)
        with (folder / f"{self.processes.count}-{self.processes.rank}.txt").open("a") as file:
            for part in own:
                for row in part["input_ids"].tolist():
                    file.write(f"{self.counts.step} {' '.join(map(str, row))}\n")
        return own

    Training._own_micro_batches = watched  # type: ignore[method-assign]


def stop_at(step: int) -> None:
    """The last process asks all to stop."""
    whole_step = Training.step

    def watched(self: Training):  # type: ignore[no-untyped-def]
        if self.counts.step == step and self.processes.rank == self.processes.count - 1:
            os.kill(os.getpid(), signal.SIGTERM)
        return whole_step(self)

    Training.step = watched  # type: ignore[method-assign]


def choose_without_noise(logits: torch.Tensor, tau: float = 1.0, hard: bool = False) -> torch.Tensor:
    """`gumbel_softmax` without its noise."""
    soft = torch.softmax(logits / tau, dim=-1)
    first = torch.zeros_like(soft).scatter_(-1, soft.argmax(dim=-1, keepdim=True), 1.0)
    return first - soft.detach() + soft


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("folder", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--rows", type=Path)
    parser.add_argument("--stop-at", type=int)
    given = parser.parse_args()
    torch.nn.functional.gumbel_softmax = choose_without_noise
    if given.rows:
        write_down_rows(given.rows)
    if given.stop_at is not None:
        stop_at(given.stop_at)
    failed = []
    with left_at_the_end():
        for file in sorted(given.folder.glob("*.yaml")):
            try:
                run(read_recipe(file), given.out / file.stem, console=Console(file=io.StringIO()))
            except Interrupted:
                pass
            except Exception as error:  # the others shall be carried out too; all processes come here together
                traceback.print_exc()
                failed.append(f"{file.stem}: {error}")
    if failed:
        sys.exit("\n".join(failed))


if __name__ == "__main__":
    main()
