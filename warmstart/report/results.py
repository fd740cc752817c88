"""The results file of a study: what was measured, on what, and everything needed to judge and repeat it.

One JSON file per study, committed as it came out. `Results` is its form, its check and its builder::

    results = Results.build(slug="bert2bert", ..., arms={"scratch": {...}, ...})  # adds effects
    results.save(Path("results/weights/bert2bert.json"))
    results = Results.load(Path("results/weights/bert2bert.json"))

The effects in the file are a convenience for readers: they follow from `arms` alone, and
`results.recomputed()` shows what they must be. Numbers that are not finite (a run that diverged) are `null`
in JSON.
"""

from __future__ import annotations

import itertools
import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, model_validator

from warmstart import verdict
from warmstart.disk import write_whole
from warmstart.errors import DataError, nearest


def _finite_or_none(value: Any) -> Any:
    return None if isinstance(value, float) and not math.isfinite(value) else value


Measured = Annotated[float | None, BeforeValidator(_finite_or_none)]
"""None: no finite number, or one that says nothing about the end (measured on other texts)."""
Amount = Annotated[float, Field(ge=0, allow_inf_nan=False)]
Count = Annotated[int, Field(ge=0, lt=2**63)]
MOST_LINEAGE = 10_000


class Form(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class LineageNode(Form):
    """One set of weights. `id` is the SHA-256 of the weights."""

    id: str
    name: str = ""
    parameters: Count | None = None


class LineageEdge(Form):
    """How one set of weights came from another; `from` is null for weights that came from nowhere else.

    Further facts of the operation (`tokens`, `largest_logit_difference`, ...) may stand beside it.
    """

    model_config = ConfigDict(frozen=True, extra="allow", populate_by_name=True)
    from_: str | None = Field(None, alias="from")
    to: str
    operation: str
    stage: str | None = None
    flops: float | None = None


class Lineage(Form):
    """Which weights came from where: the content of `lineage.json`."""

    nodes: list[LineageNode] = Field(default_factory=list, max_length=MOST_LINEAGE)
    edges: list[LineageEdge] = Field(default_factory=list, max_length=MOST_LINEAGE)


class SourceModel(Form):
    """A model that arms start from: what it cost to make. Lists have one number per seed."""

    flops: list[Amount]
    tokens: list[Amount] | Amount | None = None
    seconds: list[Amount] | Amount | None = None
    peak_memory_bytes: list[Amount] | Amount | None = None
    parameters: Count | None = None
    final: list[Measured] | None = None


class Curve(Form):
    """The metric at every evaluation, from before the first step (FLOPs 0) to the end.

    `flops` and `tokens` are one list where all seeds were evaluated at the same moments, else one list per
    seed.
    """

    flops: list[Amount] | list[list[Amount]]
    tokens: list[Amount] | list[list[Amount]]
    values: list[list[Measured]] = Field(description="One list of values per seed.")

    @classmethod
    def of(cls, seeds: Sequence[Sequence[Mapping[str, float]]]) -> Curve:
        """A curve from the evaluations of each seed: mappings with `flops`, `tokens` and `value`."""
        flops, tokens = ([[float(p[key]) for p in points] for points in seeds] for key in ("flops", "tokens"))
        return cls(
            flops=flops[0] if all(f == flops[0] for f in flops) else flops,
            tokens=tokens[0] if all(t == tokens[0] for t in tokens) else tokens,
            values=[[p["value"] for p in points] for points in seeds],
        )

    def axis(self, name: Literal["flops", "tokens"], seed: int) -> list[float]:
        """The FLOPs or tokens at which one seed was evaluated."""
        stored = getattr(self, name)
        return list(stored[seed]) if stored and isinstance(stored[0], list) else list(stored)


class Stop(Form):
    """A run that was ended because its arm could not win any more (`forecast/stopping.py` says what the fields mean).

    `forecast`, `low` and `high` are of the difference from the baseline at the end: a forecast, not a measurement.
    """

    share: Amount
    flops: Amount
    tokens: Amount
    seconds: Amount
    difference: float
    forecast: float
    low: float
    high: float
    pairs: int


class Arm(Form):
    """What one arm spent and reached. Lists have one number per seed."""

    flops: list[Amount]
    tokens: list[Amount] | Amount
    seconds: list[Amount] | Amount
    peak_memory_bytes: list[Amount] | Amount | None = None
    parameters: Count | None = None
    final: list[Measured]
    curve: Curve
    measured: dict[str, list[Measured]] = Field(
        default_factory=dict, description="Everything else that was measured at the end."
    )
    reused_flops: list[Amount | None] = Field(
        default_factory=list,
        description="What the models it started from cost to make; empty: nothing; null: the run was stopped.",
    )
    lineage: list[Lineage] = Field(default_factory=list, description="Where the weights came from, per seed.")
    trial_flops: list[Amount] = Field(
        default_factory=list,
        exclude_if=lambda found: not found,
        description="What trials before training cost (counted in `flops`); empty: there were none.",
    )
    stopped: list[Stop | None] = Field(
        default_factory=list,
        exclude_if=lambda found: not found,
        description="Runs that were ended before their time: these have no final value, and the arm has no verdict.",
    )
    also: dict[str, Curve] = Field(
        default_factory=dict,
        exclude_if=lambda found: not found,
        description="The losses on further held-out sets, by the set's name.",
    )

    def stop(self, seed: int) -> Stop | None:
        """What ended one seed's run; None: nothing did."""
        return self.stopped[seed] if self.stopped else None

    @model_validator(mode="before")
    @classmethod
    def _one_lineage(cls, raw: Any) -> Any:
        if isinstance(raw, Mapping) and isinstance(raw.get("lineage"), Mapping):
            return {**raw, "lineage": [raw["lineage"]]}
        return raw


class Spread(Form):
    mean: float | None
    low: float | None
    high: float | None
    per_seed: list[float | None]


class Saving(Spread):
    reached: list[bool]


class Effect(Form):
    """An arm against the baseline; `warmstart/verdict.py` defines every word."""

    difference: Spread
    saving: Saving
    saving_with_source: Saving
    verdict: verdict.Verdict


class Machine(Form):
    model_config = ConfigDict(frozen=True, extra="allow")
    cpu: str | None = None
    cores: int | None = None
    gpu: str | None = None
    memory_bytes: int | None = None
    precision: str | None = None


class Paper(Form):
    title: str
    arxiv: str | None = None
    year: int | None = None
    url: str | None = None


class Claim(Form):
    what: str
    value: float | None = None
    where: str = ""
    arm: str | None = Field(None, exclude_if=lambda found: found is None, description="The paper's own method.")


class DataFacts(Form):
    model_config = ConfigDict(frozen=True, extra="allow")
    fingerprint: str | None = None
    statistics: dict[str, Any] = Field(default_factory=dict)


class Results(Form):
    """Everything a study measured. See the module's docstring."""

    slug: str
    family: str = ""
    title: str
    idea: str = ""
    scale: str
    commit: str | None = None
    versions: dict[str, str] = Field(default_factory=dict)
    machine: Machine = Machine()
    date: str
    seeds: Annotated[list[int], Field(min_length=1)]
    metric: str
    better: verdict.Better
    baseline: str
    references: list[str] = Field(
        default_factory=list,
        exclude_if=lambda found: not found,
        description="Arms with another budget: shown, never judged.",
    )
    paper: Paper | None = None
    claim: Claim | None = None
    sources: dict[str, SourceModel] = Field(default_factory=dict)
    given: dict[str, str] = Field(
        default_factory=dict,
        exclude_if=lambda found: not found,
        description="Sources that were there before the study: model folders and hub ids.",
    )
    arms: Annotated[dict[str, Arm], Field(min_length=1)]
    effects: dict[str, Effect] = Field(default_factory=dict)
    data: DataFacts = DataFacts()
    recipe: str = Field("", description="The resolved study, as YAML text.")

    @model_validator(mode="after")
    def _consistent(self) -> Results:
        n = len(self.seeds)
        for name, source in self.sources.items():
            _count(f"sources.{name}.flops", source.flops, n)
        for name, arm in self.arms.items():
            where = f"arms.{name}"
            _count(f"{where}.flops", arm.flops, n)
            _count(f"{where}.final", arm.final, n)
            _count(f"{where}.curve.values", arm.curve.values, n)
            for name, values in arm.measured.items():
                _count(f"{where}.measured.{name}", values, n)
            if arm.reused_flops:
                _count(f"{where}.reused_flops", arm.reused_flops, n)
            if arm.trial_flops:
                _count(f"{where}.trial_flops", arm.trial_flops, n)
            if arm.stopped:
                _count(f"{where}.stopped", arm.stopped, n)
            for name, curve in arm.also.items():
                _count(f"{where}.also.{name}.values", curve.values, n)
            for seed in range(n):
                _check_curve(f"{where}.curve", arm, seed)
        return self

    @classmethod
    def build(cls, **fields: Any) -> Results:
        """Checks what was measured and adds the effects.

        Raises:
            DataError: the fields do not make up a results file; the message names the first wrong one.
        """
        measured = _validated(cls, fields, "the results")
        return measured.model_copy(update={"effects": measured.recomputed()})

    def recomputed(self) -> dict[str, Effect]:
        """The effects as they follow from the arms' curves."""
        found = verdict.effects(self.model_dump(mode="json", by_alias=True))
        return {name: Effect.model_validate(effect) for name, effect in found.items()}

    def about(self, name: str) -> Results:
        """The same study seen on a further held-out set: the arms that were measured on it, with those losses."""
        arms = {
            arm: found.model_copy(
                update={
                    "curve": found.also[name],
                    "final": [
                        None if found.stop(seed) else values[-1] for seed, values in enumerate(found.also[name].values)
                    ],
                }
            )
            for arm, found in self.arms.items()
            if name in found.also
        }
        return self.model_copy(
            update={"metric": f"{name}/loss", "better": "lower", "arms": arms, "effects": {}, "claim": None}
        )

    @property
    def trained(self) -> bool:
        """Whether any arm spent FLOPs; without training there are no savings and no curves."""
        return any(flops > 0 for arm in self.arms.values() for flops in arm.flops)

    @property
    def also(self) -> list[str]:
        """The names of the further held-out sets that any arm was measured on, without the one that arms are compared
        on."""
        names = dict.fromkeys(name for arm in self.arms.values() for name in arm.also)
        return [name for name in names if f"{name}/loss" != self.metric]

    @property
    def remarks(self) -> list[str]:
        """What a reader should know before believing the effects; one sentence each."""
        found = verdict.remarks(self.model_dump(mode="json", by_alias=True))
        for model in dict.fromkeys(self.given.values()):
            found.append(
                f"'{model}' was given, not made: unless it lies in a run folder, what it cost is not known, and 'with "
                "source' leaves it out."
            )
        return found

    def text(self) -> str:
        """The file's content: JSON, short lists of numbers on one line, so that a diff can be read."""
        return _json(self.model_dump(mode="json", by_alias=True)) + "\n"

    def save(self, path: Path | str) -> Path:
        """Writes the file whole or not at all.

        Raises:
            UserError: it cannot be written (no permission, full disk); an earlier file is untouched.
        """
        return write_whole(Path(path), self.text())

    @classmethod
    def load(cls, path: Path | str) -> Results:
        """Reads a results file.

        Raises:
            DataError: there is no such file, it is not JSON, or it is not a results file.
        """
        try:
            raw = json.loads(Path(path).read_text(encoding="utf-8"))
        except OSError as error:
            raise DataError(f"cannot read the results file {path}: {error.strerror}") from None
        except (ValueError, RecursionError) as error:
            raise DataError(f"{path} is not JSON: {error}") from None
        return _validated(cls, raw, str(path))


def _validated(cls: type[Results], raw: Any, where: str) -> Results:
    try:
        return cls.model_validate(raw)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        field = ".".join(str(step) for step in first["loc"])
        message = first["msg"].removeprefix("Value error, ")
        hint = nearest(str(first["loc"][-1]), cls.model_fields) if first["type"] == "extra_forbidden" else ""
        raise DataError(f"{where}: {field + ': ' if field else ''}{message}{hint}") from None


def _count(where: str, values: Sequence[Any], seeds: int) -> None:
    if len(values) != seeds:
        raise ValueError(f"{where}: {len(values)} values for {seeds} seeds")


def _check_curve(where: str, arm: Arm, seed: int) -> None:
    """A curve starts before the first step, never goes back, and ends with what the arm reports."""
    values = arm.curve.values[seed]
    for axis_name in ("flops", "tokens"):
        stored = getattr(arm.curve, axis_name)
        if stored and isinstance(stored[0], list) and len(stored) != len(arm.curve.values):
            raise ValueError(f"{where}.{axis_name}: {len(stored)} lists for {len(arm.curve.values)} seeds")
        axis = arm.curve.axis(axis_name, seed)
        if len(axis) != len(values):
            raise ValueError(f"{where}: {len(axis)} {axis_name} for {len(values)} values")
        trials = arm.trial_flops[seed] if arm.trial_flops and axis_name == "flops" else 0
        if not axis or axis[0] != trials:
            raise ValueError(f"{where}.{axis_name}: a curve starts with an evaluation before the first step (0)")
        if any(after < before for before, after in itertools.pairwise(axis)):
            raise ValueError(f"{where}.{axis_name}: must not decrease")
    end = arm.curve.axis("flops", seed)[-1]
    if abs(end - arm.flops[seed]) > 0.01 * max(arm.flops[seed], 1):
        raise ValueError(f"{where}: ends at {end:.4g} FLOPs, but the arm spent {arm.flops[seed]:.4g}")
    if arm.stop(seed) is not None:
        if arm.final[seed] is not None:
            raise ValueError(f"{where}: was stopped, so the arm has no final value; found {arm.final[seed]}")
    elif values[-1] != arm.final[seed]:
        raise ValueError(f"{where}: ends at {values[-1]}, but the arm's final value is {arm.final[seed]}")


def _json(value: Any, indent: int = 0) -> str:
    pad = " " * (indent + 1)
    if isinstance(value, dict) and value:
        inner = ",\n".join(
            f"{pad}{json.dumps(k, ensure_ascii=False)}: {_json(v, indent + 1)}" for k, v in value.items()
        )
        return f"{{\n{inner}\n{' ' * indent}}}"
    if isinstance(value, list) and any(isinstance(v, dict | list) for v in value):
        inner = ",\n".join(pad + _json(v, indent + 1) for v in value)
        return f"[\n{inner}\n{' ' * indent}]"
    return json.dumps(_finite_or_none(value), ensure_ascii=False)
