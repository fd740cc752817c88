"""The training of a stage, without a run around it."""

from __future__ import annotations

from pathlib import Path

from warmstart.data.prepare import prepare
from warmstart.models.build import configuration, new_model
from warmstart.models.tokenizer import tokenizer_for
from warmstart.recipe_stage import Stage
from warmstart.train.loop import Training


def training_of(stage: Stage, folder: Path) -> Training:
    """A new model of seed 7, its data and its training, in a folder that is made."""
    assert stage.data is not None
    assert stage.tokenizer is not None
    assert stage.init is not None
    tokenizer = tokenizer_for(stage.tokenizer, stage.data, stage.objective.head)
    data = prepare(stage.data, tokenizer)
    model = new_model(configuration(stage.init.like, stage.init.settings, tokenizer), stage.objective.head, 7)
    folder.mkdir(exist_ok=True)
    return Training(model, tokenizer, stage, data, seed=7, number=0, folder=folder)
