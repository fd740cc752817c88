"""Carries out recipes one after the other in the processes that started this: `python -m torch.distributed.run ...
run_many.py FOLDER OUT`; every FOLDER/NAME.yaml goes to OUT/NAME. Python and PyTorch start once for all of them."""

from __future__ import annotations

import io
import sys
from pathlib import Path

from rich.console import Console

from warmstart.recipe_file import read_recipe
from warmstart.run_recipe import run


def run_all(folder: Path, out: Path) -> None:
    for file in sorted(folder.glob("*.yaml")):
        run(read_recipe(file), out / file.stem, console=Console(file=io.StringIO()))


if __name__ == "__main__":
    run_all(Path(sys.argv[1]), Path(sys.argv[2]))
