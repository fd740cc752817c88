"""What does a saved state cost the training?

    python benchmarks/saving.py                  # about three minutes on two cores

The same model is trained twice over, in turns: one training writes its states in the background (the default), one
waits for the disk. What is measured is what `Training.save` takes of the training's own time, how long the disk then
takes, and how much slower the steps are while a state is written beside them. The share is that of the default
interval, `train.save_every: 200`:

    share = (time in save + what the steps meanwhile lost) / (200 x time of a step)
"""

from __future__ import annotations

import argparse
import os
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

INTERVAL = 200


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--width", type=int, default=256)
    parser.add_argument("--layers", type=int, default=4)
    parser.add_argument("--rounds", type=int, default=8)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="warmstart-saving-") as folder:
        os.environ["WARMSTART_CACHE"] = str(Path(folder) / "cache")
        measure(args, Path(folder))


def training(args: argparse.Namespace, folder: Path, background: bool) -> Any:
    from warmstart.data.prepare import prepare
    from warmstart.models.build import configuration, new_model
    from warmstart.models.tokenizer import tokenizer_for
    from warmstart.recipe import Recipe
    from warmstart.train.loop import Training

    stage = {
        "init": {"like": "gpt2", "n_embd": args.width, "n_layer": args.layers, "n_head": 4, "n_positions": 128},
        "tokenizer": {"train": 2048},
        "data": {"source": "python-stdlib", "max_documents": 60, "length": 128, "split": {"validation": 0.1}},
        "objective": "causal",
        "train": {"batch_size": 16, "trackers": [], "save_in_background": background},
        "budget": {"steps": 10**6},
        "evaluate": {"evaluators": []},
    }
    form = Recipe.model_validate({"title": "saving", "stages": [stage]}).stages[0]
    assert form.data is not None
    assert form.tokenizer is not None
    assert form.init is not None
    tokenizer = tokenizer_for(form.tokenizer, form.data, "causal")
    data = prepare(form.data, tokenizer)
    model = new_model(configuration("gpt2", form.init.settings, tokenizer), "causal", 0)
    return Training(model, tokenizer, form, data, seed=0, number=0, folder=folder / str(background))


def measure(args: argparse.Namespace, folder: Path) -> None:
    loops = {background: training(args, folder, background) for background in (True, False)}
    found: dict[bool, dict[str, list[float]]] = {b: {"step": [], "save": [], "disk": [], "lost": []} for b in loops}
    for loop in loops.values():
        for _ in range(3):
            loop.step()
    for _ in range(args.rounds):
        for background, loop in loops.items():
            plain = [timed(loop.step) for _ in range(6)]
            step = statistics.median(plain)
            save = timed(loop.save)
            began, meanwhile = time.perf_counter(), []
            while background and loop.saving.busy:
                meanwhile.append(timed(loop.step))
            disk = time.perf_counter() - began if background else save
            loop.saving.wait()
            for name, value in (
                ("step", step),
                ("save", save),
                ("disk", disk),
                ("lost", sum(meanwhile) - step * len(meanwhile)),
            ):
                found[background][name].append(value)
    size = sum(file.stat().st_size for file in next((folder / "True" / "state").glob("step-*")).iterdir())
    weights = sum(p.numel() for p in loops[True].model.parameters())
    print(
        f"{weights / 1e6:.2f}M weights, a state of {size / 1e6:.1f} MB, {args.rounds} rounds; seconds: median (range)"
    )
    for background, values in found.items():
        print("in the background" if background else "training waits")
        for name, many in values.items():
            print(f"  {name:5} {statistics.median(many):7.4f} ({min(many):.4f} .. {max(many):.4f})")
        shares = [
            100 * (save + max(0.0, lost)) / (INTERVAL * step)
            for save, lost, step in zip(values["save"], values["lost"], values["step"], strict=True)
        ]
        print(
            f"  share of {INTERVAL} steps: {statistics.median(shares):.2f} % ({min(shares):.2f} .. {max(shares):.2f})"
        )


def timed(function: Any) -> float:
    began = time.perf_counter()
    function()
    return time.perf_counter() - began


if __name__ == "__main__":
    main()
