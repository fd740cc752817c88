"""What there is to run in a study: every arm and every source at every seed, and what each of them waits for."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from warmstart.errors import RecipeError, nearest
from warmstart.forecast.stopping import Stop, read_stop
from warmstart.named_models import located, named_models
from warmstart.recipe import Recipe
from warmstart.recipe_study import Study
from warmstart.train.checkpoint import newest_step

Key = tuple[str, str, int]
"""(group, name, seed) of a task."""


@dataclass
class Task:
    """One recipe at one seed: an arm, or a source model that arms start from."""

    group: str
    name: str
    seed: int
    recipe: Recipe
    folder: Path
    needs: list[Path] = field(default_factory=list)
    after: list[Task] = field(default_factory=list)
    state: str = "waiting"
    shown: dict[str, Any] = field(default_factory=dict)

    @property
    def key(self) -> Key:
        return self.group, self.name, self.seed

    @property
    def title(self) -> str:
        return f"{self.name} (seed {self.seed})"

    @property
    def finished(self) -> bool:
        last = len(self.recipe.stages) - 1
        return (self.folder / "stages" / self.recipe.stage_name(last) / "stage.json").is_file()

    @property
    def stop(self) -> Stop | None:
        """What ended the run before its time."""
        return None if self.finished else read_stop(self.folder)

    @property
    def ready(self) -> bool:
        """Whether all that it waits for is there."""
        there = all((need / "stage.json").is_file() for need in self.needs)
        return there and all(task.state in ("finished", "stopped") for task in self.after)

    def saved(self) -> tuple[int, int]:
        """How far its saved state has come: (finished stages, step of the stage that it is in)."""
        folders = [self.folder / "stages" / self.recipe.stage_name(n) for n in range(len(self.recipe.stages))]
        done = sum((folder / "stage.json").is_file() for folder in folders)
        return done, newest_step(folders[done] / "state") if done < len(folders) else 0


def plan(study: Study, arms: list[str], seeds: int, out: Path) -> list[Task]:
    """Every run of the study, sources first."""
    tasks = []
    for seed in range(seeds):
        made: dict[str, Path] = {}
        for name in study.needed(stage for arm in arms for stage in study.arms[arm]):
            recipe = study.source_recipe(name, seed)
            folder = out / "sources" / name / f"seed-{seed}"
            tasks.append(_task("sources", name, seed, recipe, folder, made, study.given_sources))
            made[name] = folder / "stages" / recipe.stage_name(len(recipe.stages) - 1)
        for arm in arms:
            recipe = study.recipe(arm, seed)
            folder = out / "arms" / arm / f"seed-{seed}"
            tasks.append(_task("arms", arm, seed, recipe, folder, made, study.given_sources))
    if study.compare.stop == "never":
        return sorted(tasks, key=lambda task: (task.group != "sources", task.seed))
    baseline = study.compare.baseline
    judged = [task for task in tasks if task.group == "arms" and task.name not in study.compare.references]
    for task in judged:
        if task.name != baseline and task.seed:
            task.after = [t for t in judged if t.seed < task.seed or (t.name, t.seed) == (baseline, task.seed)]
    return sorted(tasks, key=lambda task: (task.group != "sources", task.name != baseline, task.seed))


def _task(
    group: str, name: str, seed: int, recipe: Recipe, folder: Path, made: dict[str, Path], given: dict[str, str]
) -> Task:
    """A run that waits for the sources that it names, with their folders in the place of their names."""
    needs = dict.fromkeys(made[name] for stage in recipe.stages for name in named_models(stage) if name in made)
    models = given | {source: str((stage / "model").resolve()) for source, stage in made.items()}
    recipe = recipe.model_copy(update={"stages": [located(stage, models) for stage in recipe.stages]})
    return Task(group, name, seed, recipe, folder, list(needs))


def chosen_arms(study: Study, arms: list[str] | None) -> list[str]:
    """The arms that are asked for, in the study's order; the baseline is always among them.

    Raises:
        RecipeError: an arm that the study does not have.
    """
    for arm in arms or []:
        if arm not in study.arms:
            raise RecipeError(
                f"--arms: there is no arm '{arm}'{nearest(arm, study.arms)}; arms: {', '.join(study.arms)}"
            )
    wanted = set(arms or study.compare.arms or study.arms) | {study.compare.baseline}
    return [arm for arm in study.arms if arm in wanted]


def forget(tasks: list[Task]) -> None:
    """What earlier runs finished no longer counts: no arm begins from a source that is about to be made anew."""
    for task in tasks:
        for stage in task.folder.glob("stages/*/stage.json"):
            stage.unlink()
