"""Skill-It as a mix: sources are skills, an evaluation is a round. The method itself is `skill_it.py`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, Any, Literal

import numpy as np
from pydantic import BaseModel, ConfigDict, Discriminator, Field, Tag

from warmstart.data.mix import Mix, MixState, Stock
from warmstart.data.mix.drawing import Drawing, WhenDry, source_names, source_numbers
from warmstart.data.mix.skill_it import Mode, SkillItMixer, graph_report, learn_graph
from warmstart.data.mix.weighted import Weighted
from warmstart.errors import DataError, StateError, nearest

if TYPE_CHECKING:
    from warmstart.train.trial import Trial, Trials

Edges = dict[str, dict[str, Annotated[float, Field(allow_inf_nan=False)]]]


class Learn(BaseModel):
    """A graph that is measured in trials before the stage trains."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    learn: Annotated[int, Field(gt=0)] = Field(description="Steps of each trial.")
    mode: Mode = "approximate"


def _form(value: Any) -> str:
    if isinstance(value, str):
        return "no edges"
    learned = isinstance(value, Learn) or (isinstance(value, Mapping) and isinstance(value.get("learn"), int))
    return "learned graph" if learned else "given graph"


class SkillIt(Mix):
    """An online mixture by the sources' held-out losses and a graph of which source helps which."""

    type: Literal["skill-it"] = "skill-it"
    graph: Annotated[
        Annotated[Literal["own"], Tag("no edges")]
        | Annotated[Edges, Tag("given graph")]
        | Annotated[Learn, Tag("learned graph")],
        Discriminator(_form),
    ] = Field(
        description="{source: {source that it helps: how much}}, itself included, what is left out being 0; own: each "
        "helps itself alone; or {learn: steps, mode: approximate | brute-force}."
    )
    eta: Annotated[float, Field(ge=0, allow_inf_nan=False)] = Field(
        0.5, description="How sharply the mixture follows the losses; 0: equal shares."
    )
    window: Annotated[int, Field(gt=0)] | None = Field(
        3, description="How many evaluations count; null: all of them, each as a factor on the mixture before."
    )
    normalise: Literal["initial"] | None = Field(
        None, description="initial: losses as shares of those before the first step."
    )
    clip: bool = Field(True, description="Take negative entries of the graph as 0.")
    skills: list[str] | None = Field(None, description="Sources to train on; default: all.")
    targets: list[str] | None = Field(None, description="Sources whose loss counts; default: the skills.")
    when_dry: WhenDry = "repeat"

    def settle(self, trials: Trials) -> Mix:
        """The mix with the graph that the trials show, rounded to six digits."""
        if not isinstance(self.graph, Learn):
            return self
        names = list(trials.source_names)
        skills, targets = self.skills or names, self.targets or self.skills or names
        for name in [*skills, *targets]:
            if name not in names:
                raise DataError(f"mix: there is no source '{name}'{nearest(name, names)}; sources: {', '.join(names)}")
        made: list[Trial] = []

        def train(shares: dict[str, float], steps: int) -> Trial:
            weights = {name: shares.get(name, 0.0) for name in names}
            made.append(trials.run(steps=steps, mix=Weighted(weights=weights)))
            return made[-1]

        def evaluate(trial: Trial | None) -> dict[str, float]:
            values = trial.after if trial is not None else made[0].before
            return {name: loss_of(values, name, len(names)) for name in targets}

        learned = learn_graph(train, evaluate, skills, targets, self.graph.learn, self.graph.mode, clip=self.clip)
        edges = {
            skill: {target: round(float(weight), 6) for target, weight in zip(targets, row, strict=True)}
            for skill, row in zip(skills, learned, strict=True)
        }
        return self.model_copy(update={"graph": edges})

    def start(self, stock: Stock, *, seed: int) -> MixState:
        return _Rounds(self, stock, seed)

    def matrix(self, sources: list[str]) -> np.ndarray:
        """The graph as `(skills, targets)`.

        Raises:
            DataError: it is still to be learned, or names what is no source.
        """
        if isinstance(self.graph, Learn):
            raise DataError("mix.graph: it is learned in trials, and none were run (Mix.settle)")
        skills = self.skills or sources
        targets = self.targets or skills
        if self.graph == "own":
            return np.array([[float(skill == target) for target in targets] for skill in skills])
        for name in [*self.graph, *(target for edges in self.graph.values() for target in edges)]:
            if name not in sources:
                raise DataError(
                    f"mix.graph: there is no source '{name}'{nearest(name, sources)}; sources: {', '.join(sources)}"
                )
        rows = [[self.graph.get(skill, {}).get(target, 0.0) for target in targets] for skill in skills]
        return np.maximum(rows, 0.0) if self.clip else np.array(rows)


class _Rounds(MixState):
    def __init__(self, mix: SkillIt, stock: Stock, seed: int) -> None:
        names = source_names(stock)
        self._skills = mix.skills or names
        self._targets = mix.targets or self._skills
        self._numbers = source_numbers(self._skills, stock, "skills")
        source_numbers(self._targets, stock, "targets")
        graph = mix.matrix(names)
        self._mixer = SkillItMixer(graph, mix.eta, mix.window, normalise=mix.normalise)
        if graph.any() and mix.graph != "own":
            graph_report(graph, np.array([[skill == target for target in self._targets] for skill in self._skills]))
        self._sources = len(names)
        self._rounds = -1  # evaluations so far, the one before the first step not counted
        self._drawing = Drawing(stock, self._all_shares(), seed=seed, when_dry=mix.when_dry)

    def _all_shares(self) -> np.ndarray:
        shares = np.zeros(self._sources)
        shares[self._numbers] = self._mixer.shares
        return shares

    def next(self, count: int, progress: float = 0.0) -> list[tuple[int, int]]:
        return self._drawing.next(count, progress)

    def observe(self, values: dict[str, float]) -> None:
        """A round's end: the mixture is made anew. The evaluation before the first step ends none."""
        losses = [loss_of(values, name, self._sources) for name in self._targets]
        self._rounds += 1
        if self._rounds == 0:
            self._mixer.begin(losses)
        else:
            self._mixer.update(losses)
            self._drawing.set_shares(self._all_shares())

    def report(self) -> dict[str, float]:
        return self._drawing.report() | {"rounds": float(max(self._rounds, 0))}

    def state_dict(self) -> dict[str, Any]:
        mixer = self._mixer
        return self._drawing.state_dict() | {
            "rounds": self._rounds,
            "initial": None if mixer.initial is None else mixer.initial.tolist(),
            "history": [losses.tolist() for losses in mixer.history],
            "total": mixer.total.tolist(),
            "shares": mixer.shares.tolist(),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        mixer = self._mixer
        try:
            mixer.initial = None if state["initial"] is None else _vector(state["initial"], len(self._targets))
            mixer.history = [_vector(losses, len(self._targets)) for losses in state["history"]]
            mixer.total = _vector(state["total"], len(self._targets))
            mixer.shares = _vector(state["shares"], len(self._skills))
            self._rounds = int(state["rounds"])
        except (KeyError, TypeError, ValueError) as error:
            raise StateError(f"mix: the saved state of skill-it cannot be read: {error!r}") from error
        self._drawing.set_shares(self._all_shares())
        self._drawing.load_state_dict(state)


def loss_of(values: Mapping[str, float], name: str, sources: int) -> float:
    """The held-out loss of a source in an evaluation's values, nats per target.

    Raises:
        DataError: the evaluation did not measure it.
    """
    key = f"validation/{name}/loss" if sources > 1 else "validation/loss"
    if key not in values:
        raise DataError(
            f"mix: skill-it goes by '{key}', which was not measured: give the source held-out documents for at least "
            f"one block (data.split.validation) and the stage the evaluator held-out"
        )
    return values[key]


def _vector(value: Any, length: int) -> np.ndarray:
    vector = np.array(value, dtype=np.float64)
    if vector.shape != (length,):
        raise ValueError(f"expected {length} numbers, found {value!r}")
    return vector
