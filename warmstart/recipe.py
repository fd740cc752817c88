"""Recipe, Stage and Study: everything that a user may write, with its checks.

The same words in YAML and in Python::

    Recipe(stages=[Stage(init={"like": "gpt2"}, tokenizer={"train": 4096}, data={"source": "python-stdlib"},
                         budget={"steps": 10})])

Reading a file (with line numbers in errors, `--set`, scales) is `warmstart/recipe_file.py`.
"""

from __future__ import annotations

import copy
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Annotated, Any, Literal, TypeVar

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Discriminator,
    Field,
    Tag,
    field_validator,
    model_validator,
)

from warmstart.data.batch import Packing
from warmstart.data.curate import Curation
from warmstart.data.mix import Mix
from warmstart.data.rewrite import Rewrite
from warmstart.data.sources import Source
from warmstart.decode import Decoding
from warmstart.errors import nearest
from warmstart.evaluate import Evaluator
from warmstart.named_models import OWN, ModelName, named_models
from warmstart.objectives import Objective
from warmstart.part import Part
from warmstart.surgery import Surgery
from warmstart.train.gradients import Gradients
from warmstart.train.guards import Guard
from warmstart.train.layout import Layout
from warmstart.train.optimizers import Optimizer
from warmstart.train.penalties import Penalty
from warmstart.train.probe import Probe
from warmstart.train.schedules import Schedule
from warmstart.train.trainable import Trainable
from warmstart.yours import Yours

Positive = Annotated[int, Field(gt=0)]


LONGEST_NAME = 64
DEVICES = re.compile(r"(?i)con|prn|aux|nul|com[0-9]|lpt[0-9]")


def folder_name(name: str) -> str:
    """The name itself, where a folder can be called so on every system and lies where it is made.

    Raises:
        ValueError: anything but letters, digits, - and _; too long; what Windows calls a device.
    """
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_-]*", name):
        raise ValueError(f"the name '{name[:LONGEST_NAME]}' must consist of letters, digits, - and _")
    if len(name) > LONGEST_NAME:
        raise ValueError(f"the name '{name[:20]}...' has {len(name)} characters; at most {LONGEST_NAME}")
    if DEVICES.fullmatch(name):
        raise ValueError(f"'{name}' is what Windows calls a device, so no folder can be called so; choose another name")
    return name


FolderName = Annotated[str, AfterValidator(folder_name)]
AnyPart = TypeVar("AnyPart", bound=Part)


class Misfit(ValueError):
    """Values that are fine one by one but do not go together; each problem with its place in the form."""

    def __init__(self, problems: list[tuple[tuple[str | int, ...], str]]) -> None:
        super().__init__(
            "; ".join(": ".join(filter(None, [".".join(map(str, steps)), text])) for steps, text in problems)
        )
        self.problems = problems


class Form(BaseModel):
    """A mapping in a recipe: unknown fields are errors, values never change after the check."""

    model_config = ConfigDict(
        frozen=True, extra="forbid", populate_by_name=True, validate_default=True, allow_inf_nan=False
    )


class Init(BaseModel):
    """A new model with random weights: a `transformers` model type, or the shape of an existing model, and any fields
    of the configuration."""

    model_config = ConfigDict(frozen=True, extra="allow")
    like: str = Field(
        description="A transformers model type (gpt2, llama, qwen3, bert, vit, ...), or a model folder or hub id whose "
        "configuration is taken."
    )

    @property
    def settings(self) -> dict[str, Any]:
        return dict(self.model_extra or {})


class Tokenizer(Form):
    """Train a byte-level BPE tokenizer, or one of single characters, on the stage's own training documents, or load
    one."""

    train: Annotated[int, Field(ge=260, description="Vocabulary size of a tokenizer to train.")] | None = None
    characters: Annotated[int, Field(ge=3)] | None = Field(
        None,
        description="Vocabulary size of a tokenizer of single characters, for spelling transcripts of speech: small "
        "letters, digits, apostrophes and spaces, the most frequent ones; two are the blank and the unknown one.",
    )
    load: ModelName | None = Field(None, description="A folder or hub id with a tokenizer, or a source of the study.")

    @model_validator(mode="after")
    def _one(self) -> Tokenizer:
        if sum(given is not None for given in (self.train, self.characters, self.load)) != 1:
            raise ValueError(
                "give exactly one of 'train' (a vocabulary size), 'characters' (likewise) and 'load' (a folder or hub "
                "id)"
            )
        return self

    @property
    def size(self) -> int | None:
        """The most tokens that a tokenizer to be trained may have; None of one that is loaded."""
        return self.train or self.characters


class Split(Form):
    """Which documents are held out. By the hash of the document's text (or of a column's value): no document is on both
    sides."""

    validation: Annotated[float, Field(gt=0, lt=1, description="Share of the documents held out.")] = 0.05
    train: tuple[Annotated[float, Field(ge=0, le=1)], Annotated[float, Field(ge=0, le=1)]] = Field(
        (0.0, 1.0), description="The part of the training side that is read; disjoint parts share no document."
    )
    by: str | None = Field(
        None, description="A column: rows with the same value stay together (a book, a project); default: the text."
    )

    @model_validator(mode="after")
    def _forwards(self) -> Split:
        if self.train[0] >= self.train[1]:
            raise ValueError(f"train must go from a smaller to a larger number, found {list(self.train)}")
        return self


class Data(Form):
    """Where rows come from and how they become blocks of tokens."""

    # The tag says which of the two forms was meant, so that an error speaks of that form alone.
    source: Annotated[
        Annotated[Source, Tag("one source")] | Annotated[list[Source], Tag("list of sources"), Field(min_length=1)],
        Discriminator(lambda value: "list of sources" if isinstance(value, list) else "one source"),
    ]
    curate: list[Curation] = Field(default_factory=lambda: ["exact-duplicates"], validate_default=True)
    split: Split = Split()
    rewrite: list[Rewrite] = Field(default_factory=list, description="What is made of the rows, after the split.")
    begin_of_text: bool = Field(
        False, description="Put the begin-of-text token before each document where the tokenizer does not do so itself."
    )
    end_of_text: bool = Field(
        True,
        description="Put the end-of-text token after each document where the tokenizer does not end it itself; without "
        "it, a text that answers its context is the only target.",
    )
    length: Annotated[int, Field(ge=8, description="Tokens per block.")] = 128
    packing: Packing = Field("concat", validate_default=True)
    documents: Literal["isolated", "joined"] = Field(
        "isolated",
        description="isolated: no token sees another document; joined: attention runs over the whole block.",
    )
    mix: Mix = Field("proportional", validate_default=True)
    on_error: Literal["raise", "skip"] = Field("raise", description="What to do with a row that cannot be used.")
    max_documents: Positive | None = Field(None, description="Read at most so many documents of each source.")

    @property
    def sources(self) -> list[Source]:
        return self.source if isinstance(self.source, list) else [self.source]


class Budget(Form):
    """How long a stage trains: exactly one unit. No step is begun that would go past it."""

    steps: Positive | None = None
    tokens: Positive | None = None
    flops: Annotated[float, Field(gt=0)] | None = None
    seconds: Annotated[float, Field(gt=0)] | None = None
    share: Annotated[float, Field(gt=0, le=1)] | None = Field(
        None, description="In a study: the share of `compare.flops` that this stage may use."
    )

    @model_validator(mode="after")
    def _one(self) -> Budget:
        given = [name for name in type(self).model_fields if getattr(self, name) is not None]
        if len(given) != 1:
            found = "none" if not given else " and ".join(given)
            raise ValueError(f"a budget has exactly one of steps, tokens, flops, seconds, share; found {found}")
        return self

    @property
    def unit(self) -> str:
        return next(name for name in type(self).model_fields if getattr(self, name) is not None)

    @property
    def amount(self) -> float:
        return float(getattr(self, self.unit))


def _probe(value: Any) -> Any:
    return {"type": value} if isinstance(value, str) else value


class Training(Form):
    """The training settings of a stage."""

    learning_rate: Annotated[
        Annotated[float, Tag("number"), Field(gt=0)] | Annotated[Probe, BeforeValidator(_probe), Tag("probe")],
        Discriminator(lambda value: "probe" if isinstance(value, str | Mapping | Probe) else "number"),
    ] = Field(1e-3, description="Peak learning rate; `probe`: measure it before the stage trains.")
    batch_size: Positive = Field(32, description="Blocks per optimizer step, over all processes.")
    accumulate: Positive = Field(1, description="Micro-batches per step; batch_size must be divisible by it.")
    clip: Annotated[float, Field(gt=0)] | None = Field(1.0, description="Largest norm of the gradient.")
    precision: Literal["auto", "fp32", "bf16"] = Field(
        "auto", description="auto: bf16 autocast where the hardware computes it natively, fp32 elsewhere."
    )
    layout: Layout = Field(
        "padded",
        description="padded: every row as long as a block; bucketed: rows of similar length together, padded to the "
        "longest; unpadded: real tokens only. The last two compute less where blocks have padding.",
    )
    compile: bool = Field(False, description="Use torch.compile.")
    activation_checkpointing: bool = Field(
        False,
        description="Compute each block again in the backward pass instead of keeping what it made: less memory, about "
        "a third more FLOPs, which are counted.",
    )
    liger: bool = Field(False, description="Use the kernels of liger-kernel (`warmstart[gpu]`); CUDA only.")
    device: Literal["auto", "cpu", "cuda"] = "auto"
    shard: Literal["auto", "never", "always"] = Field(
        "auto",
        description="Several processes share out weights, gradients and moments (FSDP2) instead of having copies of "
        "all; auto: where `accelerate launch --use_fsdp` started them.",
    )
    optimizer: Optimizer = Field("adamw", validate_default=True)
    schedule: Schedule = Field("cosine", validate_default=True)
    moments: Literal["reset", "load"] = Field(
        "reset",
        description="The optimizer's moments at the start: fresh, or those that the run of the starting weights saved.",
    )
    trainable: Trainable = Field("all", validate_default=True)
    penalties: list[Penalty] = Field(default_factory=list, description="What is added to the loss of every step.")
    gradients: Gradients = Field("plain", validate_default=True)
    guard: Guard = Field(
        default_factory=Guard,
        description="What becomes of a step whose loss or gradient is not a number, or far from what it was.",
    )
    save_every: Positive = Field(200, description="Steps between saved states (also saved at the end and on Ctrl-C).")
    save_in_background: bool = Field(
        True, description="Write states while training goes on, from a copy in memory; false: training waits."
    )
    keep: Annotated[int, Field(ge=2)] = Field(2, description="How many saved states are kept.")
    log_every: Positive = Field(10, description="Steps between lines of metrics.jsonl.")
    trackers: list[str] = Field(
        default_factory=lambda: ["tensorboard"],
        description="Experiment trackers of accelerate, by name; metrics.jsonl is always written.",
    )

    @model_validator(mode="after")
    def _divides(self) -> Training:
        if self.batch_size % self.accumulate:
            raise ValueError(f"batch_size {self.batch_size} is not divisible by accumulate {self.accumulate}")
        once = [penalty.name for penalty in self.penalties if penalty.once]
        for name in once:
            if once.count(name) > 1:
                raise ValueError(f"penalties: '{name}' stands there {once.count(name)} times; it may stand only once")
        if self.compile and self.layout != "padded":
            raise ValueError(f"compile needs steps of one shape; layout '{self.layout}' has none: use 'padded'")
        return self


# The first words of metrics' names that are taken: no further held-out set may be called so.
RESERVED = ("validation", "mix", "stream")


class Evaluation(Form):
    """When and with what the model is evaluated. Always also before the first step and after the last."""

    every: Annotated[float, Field(gt=0)] = Field(
        0.1, description="A share of the budget (below 1) or a number of steps (1 and above)."
    )
    evaluators: list[Evaluator] = Field(default_factory=lambda: ["held-out"], validate_default=True)
    decode: Decoding | None = Field(
        None,
        description="What the evaluators look at in the place of the trained model alone: its composition with others.",
    )
    also: dict[FolderName, Data] = Field(
        default_factory=dict,
        description="Further held-out sets by name, e.g. the corpus that the model comes from: their metrics are "
        "`<name>/loss`, ... beside `validation/loss`. What a set does not say is as in the stage's own data.",
    )

    @field_validator("also")
    @classmethod
    def _no_clash(cls, also: dict[str, Data]) -> dict[str, Data]:
        for name in also:
            if name in RESERVED:
                raise ValueError(f"'{name}' is what other metrics are called; choose another name")
        return also

    @model_validator(mode="after")
    def _of_weights(self) -> Evaluation:
        for number, evaluator in enumerate(self.evaluators if self.decode is not None else ()):
            if evaluator.needs_start:
                text = (
                    f"'{evaluator.name}' looks at weights, which a composition has none of; leave out evaluate.decode"
                )
                raise Misfit([(("evaluators", number), text)])
        return self

    @property
    def name_of_metrics(self) -> str:
        return ", ".join(e.name for e in self.evaluators)


class Stage(Form):
    """Weights in -> [surgery] -> data x objective x training -> weights out, evaluated."""

    name: Annotated[FolderName, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_-]*$")] | None = None
    init: Init | None = Field(None, description="Start from a new random model.")
    from_: ModelName | None = Field(
        None, alias="from", description="Start from a folder, a hub id, or a source of the study."
    )
    carry_on: bool = Field(
        False,
        description="Go on with the training of the stage before: its weights, its optimizer's moments and step count, "
        "and one schedule over both budgets. `train` and `objective` are then as in the stage before.",
    )
    surgery: list[Surgery] = Field(default_factory=list)
    tokenizer: Tokenizer | None = Field(None, description="Default: the tokenizer that came with the weights.")
    data: Data | None = None
    objective: Objective = Field("causal", validate_default=True)
    train: Training = Field(default_factory=Training)
    budget: Budget | None = None
    evaluate: Evaluation = Field(default_factory=Evaluation)

    @model_validator(mode="before")
    @classmethod
    def _inherit(cls, raw: Any) -> Any:
        """Puts the stage's own data settings under those of its further held-out sets."""
        return with_own_data(raw)

    @model_validator(mode="after")
    def _start(self) -> Stage:
        if self.init is not None and self.from_ is not None:
            raise ValueError("a stage starts either from 'init' (new weights) or 'from' (existing weights), not both")
        if self.train.moments == "load" and (self.init is not None or self.surgery):
            raise ValueError(
                "train.moments: 'load' needs weights that were trained as they are (no 'init', no 'surgery')"
            )
        if self.train.layout not in self.objective.layouts:
            allowed = ", ".join(self.objective.layouts)
            found = f"found '{self.train.layout}', but the objective {self.objective.name} takes only: {allowed}"
            raise Misfit([(("train", "layout"), found)])
        if self.objective.compares_rows and self.train.accumulate > 1:
            found = (
                f"found {self.train.accumulate}, but the objective {self.objective.name} compares all rows of a step: 1"
            )
            raise Misfit([(("train", "accumulate"), found)])
        if self.train.guard.rolls_back and self.objective.refresh_every(self.train.batch_size):
            found = f"'roll-back' does not go with the objective {self.objective.name}, which looks ahead; use 'skip'"
            raise Misfit([(("train", "guard"), found)])
        if self.evaluate.decode is not None and self.objective.head != "causal":
            found = f"composes causal models, but the objective {self.objective.name} trains another kind"
            raise Misfit([(("evaluate", "decode"), found)])
        return self


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


def filled_in(raw: Any) -> Any:
    """The raw mapping of a recipe or study with what its stages inherit written under each of them: what the study
    shares, the training of the stage before where it is carried on, a stage's own data under its further held-out
    sets."""
    if not isinstance(raw, Mapping) or not isinstance(raw.get("shared", {}), Mapping):
        return raw
    result = dict(raw)
    if "stages" in raw:
        result["stages"] = _filled_stages(raw["stages"], {})
    for group in ("sources", "arms"):
        if isinstance(raw.get(group), Mapping):
            result[group] = {n: _filled_stages(stages, raw.get("shared", {})) for n, stages in raw[group].items()}
    return result


def _filled_stages(stages: Any, shared: Mapping[str, Any]) -> Any:
    if not isinstance(stages, list):
        return stages
    filled: list[Any] = []
    for stage in stages:
        if isinstance(stage, Mapping):
            before = filled[-1] if filled else None
            under = shared
            if stage.get("carry_on") is True and isinstance(before, Mapping):
                under = merge(shared, {key: before[key] for key in ("train", "objective") if key in before})
            stage = with_own_data(merge(under, stage))
        filled.append(stage)
    return filled


def with_own_data(stage: Any) -> Any:
    """A stage's raw mapping with its `data` merged under every set of `evaluate.also`."""
    if not isinstance(stage, Mapping):
        return stage
    data, evaluate = stage.get("data"), stage.get("evaluate")
    if isinstance(data, Data):
        data = data.model_dump(mode="json", by_alias=True)
    if (
        not isinstance(data, Mapping)
        or not isinstance(evaluate, Mapping)
        or not isinstance(evaluate.get("also"), Mapping)
    ):
        return stage
    filled = {
        name: merge(data, given) if isinstance(given, Mapping) else given for name, given in evaluate["also"].items()
    }
    return {**stage, "evaluate": {**evaluate, "also": filled}}


# Keys of which a mapping has only one: the one on top removes the others below it.
ALTERNATIVES = (
    frozenset({"init", "from"}),
    frozenset({"steps", "tokens", "flops", "seconds", "share"}),
    frozenset({"train", "characters", "load"}),
)


def merge(base: Any, over: Any) -> Any:
    """`over` on top of `base`: mappings are merged key by key, everything else is replaced.

    A mapping that names another part or model (`type` or `like` differs) replaces the old one whole; one of
    several alternatives (`init` and `from`, the units of a budget) removes the others. Settings on top of a
    part's bare name are settings of that part.
    """
    if isinstance(base, str) and isinstance(over, Mapping) and "type" not in over:
        base = {"type": base}
    if not (isinstance(base, Mapping) and isinstance(over, Mapping)):
        return copy.deepcopy(over)
    if any(key in over and over[key] != base.get(key) for key in ("type", "like")):
        return copy.deepcopy(dict(over))
    dropped: set[Any] = set()
    for group in ALTERNATIVES:
        if group & set(over):
            dropped |= group - set(over)
    merged = {key: copy.deepcopy(value) for key, value in base.items() if key not in dropped}
    for key, value in over.items():
        merged[key] = merge(merged[key], value) if key in merged else copy.deepcopy(value)
    return merged


def override(raw: Any, path: str, value: Any) -> Any:
    """A copy of `raw` with another value at a dotted path (mappings are merged); `*` stands for every key.

    Raises:
        KeyError: the path goes through something that is not there, or is neither a mapping nor a list; its
            argument is the part of the path that was reached.
    """
    return _overridden(raw, path.split("."), "", value)


def _overridden(node: Any, steps: list[str], done: str, value: Any) -> Any:
    if not steps:
        return merge(node, value)
    if isinstance(node, str):
        node = {"type": node}  # a part's bare name, about to get settings
    result = {} if node is None else copy.copy(node)
    for key in _keys(result, steps[0], f"{done}{steps[0]}"):
        old = result[key] if isinstance(result, list) else result.get(key)
        new = _overridden(old, steps[1:], f"{done}{steps[0]}.", value)
        if isinstance(result, list):
            result[key] = new
        else:
            for group in ALTERNATIVES:
                if key in group:
                    result = {k: v for k, v in result.items() if k not in group or k == key}
            result[key] = new
    return result


def position(step: str) -> int | None:
    """The position in a list that a step of a dotted path means; None where it is no number."""
    return int(step) if re.fullmatch(r"-?[0-9]{1,9}", step) else None


def _keys(node: Any, step: str, where: str) -> list[Any]:
    if isinstance(node, dict):
        return list(node) if step == "*" else [step]
    if isinstance(node, list):
        if step == "*":
            return list(range(len(node)))
        number = position(step)
        if number is not None and -len(node) <= number < len(node):
            return [number]
    raise KeyError(where)


def at_scale(raw: Mapping[str, Any], scale: str) -> dict[str, Any]:
    """A study's raw mapping with the overrides of one of its scales applied.

    Raises:
        KeyError: the study has no such scale.
    """
    result: Any = {key: value for key, value in raw.items() if key != "scales"}
    for path, value in raw.get("scales", {})[scale].items():
        result = override(result, path, value)
    result["scales"] = copy.deepcopy(raw.get("scales", {}))
    return dict(result)
