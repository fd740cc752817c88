"""What a stage measures before it trains: settings that recipes leave to a measurement become values.

A mix may need to know how much one source helps another, a learning rate may be left to a probe. What was settled is
written to `settled.json` in the stage's folder before training starts, so that a resumed run does not measure again.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import TypeAdapter

from warmstart.data.mix import Mix
from warmstart.data.mix.proportional import Proportional
from warmstart.disk import write_whole
from warmstart.errors import StateError
from warmstart.finished import read_sealed, sealed
from warmstart.train.probe import Probe

if TYPE_CHECKING:
    from collections.abc import Callable

    from warmstart.recipe_stage import Stage
    from warmstart.train.trial import Trials

FILE = "settled.json"


@dataclass
class Settled:
    """A stage with values in the place of what had to be measured.

    Attributes:
        flops: what measuring cost.
        facts: what was measured, for `settled.json`, stage.json and the model card; empty where nothing was.
    """

    stage: Stage
    flops: float = 0.0
    facts: dict[str, Any] = field(default_factory=dict)

    def shown(self) -> dict[str, str]:
        """What the model card says."""
        probe = self.facts.get("probe")
        rate = f"{self.facts['learning_rate']:.3g}" if "learning_rate" in self.facts else ""
        said = (
            {"learning rate": f"{rate} by probe: {probe['reason']}" if probe else f"{rate} carried on"} if rate else {}
        )
        return said | ({"mix": "settled in trials"} if "mix" in self.facts else {})

    def lines(self) -> list[str]:
        """What the console says, one line each."""
        cost = [f"the trials cost {self.flops:.3g} FLOPs, which the budget pays"] if self.flops else []
        return [f"{name} {text}" for name, text in self.shown().items()] + cost


def needs_settling(stage: Stage) -> bool:
    """Whether anything must be measured before the stage can train."""
    return isinstance(stage.train.learning_rate, Probe) or _measures(stage)


def settle(
    stage: Stage,
    trials: Callable[[Stage], Trials],
    folder: Path,
    *,
    earlier: Path | None = None,
    same_rows: bool = False,
    is_main: bool = True,
) -> Settled:
    """The stage as it will train; measures what is not in the folder's `settled.json` yet.

    Args:
        trials: makes the trials of a stage from its starting weights.
        folder: the stage's folder.
        earlier: the folder of the stage whose training is carried on: its learning rate goes on, and where the rows are
            the same its mix.
        is_main: this process writes the file.

    Raises:
        StateError: the file of an earlier stage is missing or broken.
    """
    if not needs_settling(stage):
        return Settled(stage)
    known = _read(folder / FILE)
    if known is None:
        known = {"flops": 0.0}
        before = _read(earlier / FILE) if earlier is not None else None
        if isinstance(stage.train.learning_rate, Probe):
            if earlier is not None:
                known["learning_rate"] = _from(before, "learning_rate", earlier)
            else:
                # a mix that is still to be measured cannot be drawn from yet
                measured = trials(_with(stage, None, Proportional() if _measures(stage) else None))
                found = stage.train.learning_rate.measure(measured)
                known["learning_rate"] = found.learning_rate
                known["probe"] = stage.train.learning_rate.facts(found)
                known["flops"] += measured.flops
        ready = _with(stage, known.get("learning_rate"), None)
        if _measures(stage):
            if same_rows and earlier is not None:
                known["mix"] = _from(before, "mix", earlier)
            else:
                measured = trials(ready)
                assert stage.data is not None
                known["mix"] = stage.data.mix.settle(measured).model_dump(mode="json", by_alias=True)
                known["flops"] += measured.flops
        if is_main:
            write_whole(folder / FILE, sealed(known))
    mix = TypeAdapter(Mix).validate_python(known["mix"]) if "mix" in known else None
    return Settled(_with(stage, known.get("learning_rate"), mix), known["flops"], known)


def _measures(stage: Stage) -> bool:
    """Whether the stage's mix is one that measures."""
    return stage.data is not None and type(stage.data.mix).settle is not Mix.settle


def _with(stage: Stage, rate: float | None, mix: Mix | None) -> Stage:
    """The stage with values put in."""
    changes: dict[str, Any] = {}
    if rate is not None:
        changes["train"] = stage.train.model_copy(update={"learning_rate": rate})
    if mix is not None and stage.data is not None:
        changes["data"] = stage.data.model_copy(update={"mix": mix})
    return stage.model_copy(update=changes)


def _read(path: Path) -> dict[str, Any] | None:
    """The content of a file of settled values; None where there is none."""
    if not path.is_file():
        return None
    try:
        return read_sealed(path)
    except StateError as error:
        raise StateError(f"{error}; remove it, and the same is measured again, or start again with --fresh") from error


def _from(earlier: dict[str, Any] | None, key: str, folder: Path) -> Any:
    """A value that the stage before settled."""
    if earlier is None or key not in earlier:
        raise StateError(f"{folder / FILE} does not say the {key} that is carried on; start again with --fresh")
    return earlier[key]
