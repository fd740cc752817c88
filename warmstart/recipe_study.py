"""A study: arms x seeds at equal compute, a metric, a baseline, and the claim that it tests."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Annotated, Any, Literal, TypeVar

from pydantic import (
    Discriminator,
    Field,
    Tag,
    model_validator,
)

from warmstart.errors import nearest
from warmstart.named_models import OWN, named_models
from warmstart.part import Part
from warmstart.recipe import Recipe, incomplete
from warmstart.recipe_form import FolderName, Form, Misfit, Positive
from warmstart.recipe_merge import filled_in
from warmstart.recipe_stage import Budget, Stage
from warmstart.yours import Yours

AnyPart = TypeVar("AnyPart", bound=Part)


class Paper(Form):
    """The publication whose claim a study tests."""

    title: str
    arxiv: str | None = None
    year: int | None = None
    url: str | None = None


class Claim(Form):
    """The claim, in the paper's own setting."""

    what: str
    value: float | None = None
    where: str = ""
    arm: str | None = Field(None, description="The arm that is the paper's method: its verdict is the study's.")


class Compare(Form):
    """How arms are compared."""

    metric: str = "validation/loss"
    better: Literal["lower", "higher"] = "lower"
    baseline: str
    at: Literal["equal-flops", "no-training"] = Field(
        "equal-flops", description="no-training: arms are ways to make rows, and evaluators measure the rows."
    )
    flops: Annotated[float, Field(gt=0)] | None = Field(None, description="Training FLOPs of every arm.")
    seeds: Positive = 3
    references: list[str] = Field(
        default_factory=list,
        description="Arms with another budget, e.g. an upper bound: shown beside the others and never judged.",
    )
    arms: list[str] | None = Field(None, description="Run only these arms (a scale's choice); default: all.")
    stop: Literal["never", "forecast"] = Field(
        "never",
        description="forecast: end runs of arms that cannot beat the baseline any more, by what finished seeds say.",
    )


class Study(Form):
    """Several recipes (arms) x seeds at equal compute, a metric, a baseline arm, and the claim it tests."""

    title: str
    family: FolderName = "weights"
    idea: str = Field("", description="One line: what the method does.")
    modality: str = "text"
    paper: Paper | None = None
    claim: Claim | None = None
    compare: Compare
    shared: dict[str, Any] = Field(
        default_factory=dict, description="Fields that every stage has unless it says otherwise."
    )
    sources: dict[
        FolderName,
        Annotated[
            Annotated[list[Stage], Tag("list of stages")] | Annotated[str, Tag("model")],
            Discriminator(lambda value: "model" if isinstance(value, str) else "list of stages"),
        ],
    ] = Field(
        default_factory=dict,
        description="Models that arms start `from`: made by stages, once per seed, or given as a folder or hub id.",
    )
    arms: Annotated[dict[FolderName, list[Stage]], Field(min_length=1)]
    yours: Yours | None = Field(None, description="Where a user's own model and data go (`--model`, `--data`).")
    scales: dict[FolderName, dict[str, Any]] = Field(
        default_factory=dict,
        description="Named overrides (smoke, demo, laptop, gpu): dotted paths or nested mappings.",
    )

    @model_validator(mode="before")
    @classmethod
    def _fill_in(cls, raw: Any) -> Any:
        """Puts `shared` under every stage before the stages are checked."""
        return filled_in(raw)

    @model_validator(mode="after")
    def _consistent(self) -> Study:
        baseline = self.compare.baseline
        if baseline not in self.arms:
            known = ", ".join(self.arms)
            text = f"found '{baseline}'{nearest(baseline, self.arms)}; must be one of the arms: {known}"
            raise Misfit([(("compare", "baseline"), text)])
        problems: list[tuple[tuple[str | int, ...], str]] = []
        if self.claim is not None and self.claim.arm not in (None, *self.arms):
            text = f"found '{self.claim.arm}'; must be one of the arms: {', '.join(self.arms)}"
            problems.append((("claim", "arm"), text))
        for field in ("arms", "references"):
            for number, arm in enumerate(getattr(self.compare, field) or []):
                if arm not in self.arms:
                    text = f"found '{arm}'{nearest(arm, self.arms)}; must be one of the arms: {', '.join(self.arms)}"
                    problems.append((("compare", field, number), text))
        if baseline in self.compare.references:
            problems.append((("compare", "references"), f"'{baseline}' is the baseline, which others are judged by"))
        if self.compare.at == "no-training":
            problems += self._trained()
            if problems:
                raise Misfit(problems)
            return self
        for group, members in (("arms", self.arms), ("sources", self.made_sources)):
            for name, stages in members.items():
                if not stages:
                    problems.append(((group, name), "has no stages"))
                    continue
                try:
                    budgeted = self._budgeted(stages) if group == "arms" else stages
                except ValueError as error:
                    problems.append(((group, name), str(error)))
                else:
                    problems += incomplete(budgeted, (group, name))
        problems += self._unmade()
        if problems:
            raise Misfit(problems)
        totals = {arm: self._total_flops(arm) for arm in self.arms if arm not in self.compare.references}
        known_totals = {arm: total for arm, total in totals.items() if total is not None}
        if len(known_totals) < len(totals) and self.compare.flops is None:
            text = "equal-flops needs budgets in flops (or set compare.flops and leave the budgets out)"
            raise Misfit([(("arms", arm), text) for arm in totals if arm not in known_totals])
        reference = self.compare.flops or known_totals[baseline]
        for arm, total in known_totals.items():
            if abs(total - reference) > 0.01 * reference:
                text = f"its stages' budgets add up to {total:.3g} FLOPs, not the {reference:.3g} of every arm"
                problems.append((("arms", arm), text))
        if problems:
            raise Misfit(problems)
        return self

    def _trained(self) -> list[tuple[tuple[str | int, ...], str]]:
        """What has no place in a study without training, and what such a study lacks."""
        problems: list[tuple[tuple[str | int, ...], str]] = []
        if self.compare.flops is not None:
            problems.append((("compare", "flops"), "without training there are no FLOPs"))
        if self.compare.stop != "never":
            problems.append((("compare", "stop"), "without training there is nothing to stop"))
        if self.sources:
            problems.append((("sources",), "without training no model is started from"))
        for name, stages in self.arms.items():
            if len(stages) != 1:
                problems.append((("arms", name), f"without training an arm is one stage, found {len(stages)}"))
                continue
            stage = stages[0]
            for field in sorted(stage.model_fields_set - {"name", "data", "evaluate"}):
                shown = "from" if field == "from_" else field
                problems.append((("arms", name, 0, shown), "has no meaning in a study with compare.at: no-training"))
            if stage.data is None:
                problems.append((("arms", name, 0), "'data' is missing"))
            for number, part in enumerate(stage.evaluate.evaluators):
                if not part.of_rows:
                    place = ("arms", name, 0, "evaluate", "evaluators", number)
                    problems.append((place, f"'{part.name}' needs a model; without training rows are measured"))
        return problems

    def _unmade(self) -> list[tuple[tuple[str | int, ...], str]]:
        """Sources that cannot be made, or cannot be called by their names."""
        problems: list[tuple[tuple[str | int, ...], str]] = []
        for name in self.sources:
            if name == OWN:
                problems.append((("sources", name), f"'{OWN}' means a stage's own model; choose another name"))
            try:
                self.needed(self.made_sources.get(name, ()), (name,))
            except ValueError as error:
                problems.append((("sources", name), str(error)))
        return problems

    def needed(self, stages: Iterable[Stage], above: tuple[str, ...] = ()) -> list[str]:
        """The sources that stages name and that have to be made, and those that these need in turn: each after all that
        it needs.

        Args:
            above: the sources on the way down to these stages.

        Raises:
            ValueError: sources need each other in a circle.
        """
        found: dict[str, None] = {}
        self._need(stages, above, found)
        return list(found)

    def _need(self, stages: Iterable[Stage], above: tuple[str, ...], found: dict[str, None]) -> None:
        """Adds what stages need to `found`, each source once: a source that many need is looked at only once."""
        made = self.made_sources
        for stage in stages:
            for name in named_models(stage):
                if name in above:
                    raise ValueError(f"sources need each other in a circle: {' -> '.join((*above, name))}")
                if name in made and name not in found:
                    self._need(made[name], (*above, name), found)
                    found[name] = None

    def _drawn(self, stages: list[Stage], seed: int) -> list[Stage]:
        """Without training the seed is that of the draws in the curation and in the evaluators."""
        result = []
        for stage in stages:
            assert stage.data is not None
            data = stage.data.model_copy(update={"curate": _seeded(stage.data.curate, seed)})
            evaluate = stage.evaluate.model_copy(update={"evaluators": _seeded(stage.evaluate.evaluators, seed)})
            result.append(stage.model_copy(update={"data": data, "evaluate": evaluate}))
        return result

    def _budgeted(self, stages: list[Stage]) -> list[Stage]:
        """Stages with `share` (or no budget at all: the rest) turned into FLOPs."""
        total = self.compare.flops
        if total is None:
            return stages
        shares = [s.budget.share if s.budget is not None else None for s in stages]
        rest = 1.0 - sum(share for share in shares if share is not None)
        open_stages = [s for s in stages if s.budget is None]
        result = []
        for stage, share in zip(stages, shares, strict=True):
            if stage.budget is None:
                if rest <= 0:
                    raise ValueError("the stages' shares leave nothing for a stage without a budget")
                share = rest / len(open_stages)
            if share is not None:
                stage = stage.model_copy(update={"budget": Budget(flops=share * total)})
            result.append(stage)
        return result

    def recipe(self, arm: str, seed: int) -> Recipe:
        """The recipe of one arm at one seed; a `from` that names a source is left as it is."""
        if self.compare.at == "no-training":
            stages = self._drawn(self.arms[arm], seed)
            return Recipe.model_construct(title=f"{self.title} · {arm}", seed=seed, stages=stages)
        return Recipe(title=f"{self.title} · {arm}", seed=seed, stages=self._budgeted(self.arms[arm]))

    @property
    def made_sources(self) -> dict[str, list[Stage]]:
        """The sources that the study makes."""
        return {name: stages for name, stages in self.sources.items() if not isinstance(stages, str)}

    @property
    def given_sources(self) -> dict[str, str]:
        """The sources that are there already: folders and hub ids."""
        return {name: model for name, model in self.sources.items() if isinstance(model, str)}

    def source_recipe(self, name: str, seed: int) -> Recipe:
        """The recipe that makes a source model at one seed."""
        return Recipe(title=f"{self.title} · {name}", seed=seed, stages=self.made_sources[name])

    def _total_flops(self, arm: str) -> float | None:
        budgets = [stage.budget for stage in self.recipe(arm, 0).stages]
        if any(b is None or b.unit != "flops" for b in budgets):
            return None
        return sum(b.amount for b in budgets if b is not None)


def _seeded(found: Sequence[AnyPart], seed: int) -> list[AnyPart]:
    """Parts with the seed of a run, where they have one."""
    return [part.model_copy(update={"seed": seed}) if "seed" in type(part).model_fields else part for part in found]
