"""What tests of penalties and gradients share: a ground without a training, and recipes of several stages."""

from __future__ import annotations

import copy
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from corpora import tiny_recipe, write_corpus
from torch import nn

from warmstart.objectives import Loss, Row
from warmstart.recipe import Recipe
from warmstart.run_recipe import RunResult, run
from warmstart.train.penalties import Ground, Moment
from warmstart.train.progress import Reporter


class Point(nn.Module):
    """A model that is a point; its loss on a row `x` is half the squared distance, scaled by `scale`."""

    def __init__(self, start: Sequence[float], scale: Sequence[float] | None = None) -> None:
        super().__init__()
        self.place = nn.Parameter(torch.tensor(start, dtype=torch.float64))
        self.scale = torch.tensor(scale or [1.0] * len(start), dtype=torch.float64)


class Distance:
    """The objective of a `Point`."""

    name = "distance"

    def loss(self, model: Point, batch: dict[str, torch.Tensor], extra: None = None) -> Loss:
        apart = model.place - batch["x"]
        return Loss((model.scale * apart.square()).sum(dim=1).mean() / 2, torch.tensor(len(batch["x"])))

    loss_without_logits = loss


class Words:
    """A tokenizer, as far as memories look at one."""

    def __init__(self, *words: str) -> None:
        self.words = words or ("a", "b")

    def get_vocab(self) -> dict[str, int]:
        return {word: number for number, word in enumerate(self.words)}


def ground_of(model: nn.Module, rows: Sequence[Sequence[float]] = ((0.0,),), batch_size: int = 2, **more: Any) -> Any:
    """A ground over rows of numbers."""
    kept: list[Row] = [{"x": np.array(row, dtype=np.float64)} for row in rows]

    def batch_of(chosen: Sequence[Row], purpose: tuple[Any, ...]) -> dict[str, torch.Tensor]:
        return {"x": torch.from_numpy(np.stack([row["x"] for row in chosen]))}

    settings: dict[str, Any] = {
        "model": model,
        "tokenizer": Words(),
        "objective": Distance(),
        "extra": None,
        "device": torch.device("cpu"),
        "precision": "fp32",
        "seed": 0,
        "batch_size": batch_size,
        "rows": lambda: iter(kept),
        "batch_of": batch_of,
    }
    return Ground(**(settings | more))


NOW = Moment(0, 0.0)


def take_step(state: Any, model: Point, rows: torch.Tensor, rate: float) -> float:
    """One step of plain gradient descent as the loop takes it; the loss before it, the penalty left aside."""
    batch = {"x": rows}
    loss = Distance().loss(model, batch)
    plain = float(loss.total.detach())
    extra = state.loss(batch, loss, NOW) if state.active(NOW) else None
    model.place.grad = None
    (loss.total if extra is None else loss.total + extra).backward()
    if state.active(NOW):
        state.before_update(NOW)
    with torch.no_grad():
        model.place -= rate * model.place.grad
    if state.active(NOW):
        state.after_update(NOW)
    return plain


def stages(folder: Path, penalties: Sequence[dict[str, Any]] = (), count: int = 2, **train: Any) -> dict[str, Any]:
    """A recipe of `count` stages, each on a corpus of its own."""
    raw = tiny_recipe(write_corpus(folder / "0.jsonl", seed=0), steps=6, save_every=2)
    first = raw["stages"][0]
    first["train"] |= {"penalties": list(penalties)} | train
    for number in range(1, count):
        later = copy.deepcopy({key: value for key, value in first.items() if key not in ("init", "tokenizer")})
        later["data"]["source"]["path"] = str(write_corpus(folder / f"{number}.jsonl", seed=number))
        raw["stages"].append(later | {"name": f"stage-{number}"})
    return raw


def carried_out(raw: dict[str, Any], out: Path) -> RunResult:
    return run(Recipe.model_validate(raw), out, reporter=Reporter())


def weights_of(result: RunResult) -> list[str]:
    return [str(stage["weights"]) for stage in result.stages]


def lines_of(result: RunResult, number: int) -> list[dict[str, Any]]:
    """The metrics of a stage."""
    path = result.folder / "stages" / str(result.stages[number]["folder"]) / "metrics.jsonl"
    return [json.loads(line) for line in path.read_text().splitlines()]
