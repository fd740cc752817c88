"""The words of a stage: weights in, surgery, data, objective, training, budget, evaluation."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Discriminator,
    Field,
    Tag,
    field_validator,
    model_validator,
)

from warmstart.decode import Decoding
from warmstart.evaluate import Evaluator
from warmstart.named_models import ModelName
from warmstart.objectives import Objective
from warmstart.recipe_data import Data, Tokenizer
from warmstart.recipe_form import FolderName, Form, Misfit, Positive
from warmstart.recipe_merge import with_own_data
from warmstart.surgery import Surgery
from warmstart.train.gradients import Gradients
from warmstart.train.guards import Guard
from warmstart.train.layout import Layout
from warmstart.train.optimizers import Optimizer
from warmstart.train.penalties import Penalty
from warmstart.train.probe import Probe
from warmstart.train.schedules import Schedule
from warmstart.train.trainable import Trainable


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
