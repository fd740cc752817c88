"""A recipe: stages that follow each other, and what they lack to be carried out.

The same words in YAML and in Python::

    Recipe(stages=[Stage(init={"like": "gpt2"}, tokenizer={"train": 4096}, data={"source": "python-stdlib"},
                         budget={"steps": 10})])

Reading a file (with line numbers in errors, `--set`, scales) is `warmstart/recipe_file.py`.
"""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import Field, model_validator

from warmstart.data.batch import Packing
from warmstart.objectives import Objective
from warmstart.recipe_form import Form, Misfit
from warmstart.recipe_merge import filled_in
from warmstart.recipe_stage import Stage


class Recipe(Form):
    """A list of stages; each stage but the first goes on from the one before unless it says otherwise."""

    title: str = "recipe"
    seed: int = 0
    stages: Annotated[list[Stage], Field(min_length=1)]

    @model_validator(mode="before")
    @classmethod
    def _fill_in(cls, raw: Any) -> Any:
        """Puts the settings of the stage before under a stage that carries on."""
        return filled_in(raw)

    @model_validator(mode="after")
    def _complete(self) -> Recipe:
        problems = incomplete(self.stages, ("stages",))
        if problems:
            raise Misfit(problems)
        return self

    def stage_name(self, number: int) -> str:
        """The stage's folder name, e.g. `00-pretrain`."""
        return f"{number:02d}-{self.stages[number].name or 'stage'}"


def incomplete(stages: list[Stage], where: tuple[str | int, ...]) -> list[tuple[tuple[str | int, ...], str]]:
    """What stages that follow each other still lack, each with its place below `where`."""
    problems: list[tuple[tuple[str | int, ...], str]] = []
    for number, stage in enumerate(stages):
        place = (*where, number)
        units = "steps, tokens, flops, seconds"
        if number == 0 and stage.init is None and stage.from_ is None:
            problems.append((place, "the first stage needs 'init' (new weights) or 'from' (existing weights)"))
        if stage.data is None:
            problems.append((place, "'data' is missing"))
        elif (found := wrong_packing(stage.objective, stage.data.packing)) is not None:
            problems.append(((*place, "data", "packing"), found))
        if stage.budget is None:
            problems.append((place, f"'budget' is missing: one of {units} (or, in a study, compare.flops)"))
        elif stage.budget.unit == "share":
            problems.append(((*place, "budget", "share"), "'share' has a meaning only in a study with compare.flops"))
        if stage.carry_on:
            problems += [((*place, *steps), text) for steps, text in cannot_carry_on(stages, number)]
        if stage.init is not None and stage.tokenizer is None:
            problems.append((place, "a new model needs a 'tokenizer' ('train' a size or 'load' one)"))
    names = [stage.name for stage in stages]
    for number, name in enumerate(names):
        if name is not None and name in names[:number]:
            problems.append(
                ((*where, number, "name"), f"the name '{name}' is already used by stage {names.index(name)}")
            )
    return problems


def wrong_packing(objective: Objective, packing: Packing) -> str | None:
    """Why an objective cannot train on what a packing makes; None where it can."""
    if objective.packings and packing.name not in objective.packings:
        allowed = ", ".join(objective.packings)
        return f"found '{packing.name}', but the objective {objective.name} takes only: {allowed}"
    return None


def cannot_carry_on(stages: list[Stage], number: int) -> list[tuple[tuple[str | int, ...], str]]:
    """Why a stage cannot carry on the training of the one before, each reason with its place inside the stage."""
    stage = stages[number]
    if number == 0:
        return [(("carry_on",), "there is no stage before the first one")]
    before = stages[number - 1]
    problems: list[tuple[tuple[str | int, ...], str]] = []
    for name, given in (("init", stage.init), ("from", stage.from_), ("surgery", stage.surgery)):
        if given:
            problems.append(((name,), "a stage that carries on trains the weights of the stage before; leave it out"))
    if stage.tokenizer not in (None, before.tokenizer):
        problems.append((("tokenizer",), "a stage that carries on has the tokenizer of the stage before; leave it out"))
    if stage.objective != before.objective:
        problems.append((("objective",), f"must be that of the stage before ({before.objective.name}) to carry on"))
    for name in ("optimizer", "trainable", "schedule", "learning_rate"):
        if getattr(stage.train, name) != getattr(before.train, name):
            problems.append((("train", name), "must be as in the stage before to carry on; leave it out"))
    if stage.budget is not None and before.budget is not None and stage.budget.unit != before.budget.unit:
        text = f"must be in {before.budget.unit} as in the stage before to carry on, found {stage.budget.unit}"
        problems.append((("budget",), text))
    return problems
