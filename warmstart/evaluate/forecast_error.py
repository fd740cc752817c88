"""How well a forecaster predicts the end of real learning curves. Needs no model: rows with `words` and `tags`.

Taggers (`taggers.py`) learn from growing prefixes of the rows in a random order (that of the seed), and their accuracy
on the held-out rows is measured at every level. Then the forecaster is asked at the level at which `learning-curve`
with its defaults first believes a curve, so that all forecasters are asked at the same moment: what will the accuracy
be at the last level? A learner whose curve is not believed before its last level is left out of the means, and
`forecast/believed` says how many were not. The curves are kept in the cache: other forecasters find them there.
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal, get_args

import numpy as np
from pydantic import Field

from warmstart.data.cache import cache_folder, digest, entry
from warmstart.data.curated import curated, curation_key
from warmstart.data.engine import Engine
from warmstart.data.steps import column
from warmstart.errors import DataError
from warmstart.evaluate import Evaluator
from warmstart.evaluate.taggers import TAGGERS, Sentence, accuracy
from warmstart.forecast import Curve, Forecaster, NotYet, Prediction
from warmstart.forecast.learning_curve import LearningCurve
from warmstart.forecast.quality import decision_reliability, mape, robustness_rate
from warmstart.randomness import numpy_generator

if TYPE_CHECKING:
    from warmstart.recipe_data import Data

VERSION = 1  # raised whenever the same rows would give other curves
LATER = (5, 10)
DISTORTIONS = 20
OUTLIERS = 5
Curves = dict[str, tuple[list[float], list[float]]]
"""By learner: tokens of each prefix, accuracy in percent."""


Learner = Literal["unigram", "hidden-markov", "perceptron"]


class ForecastError(Evaluator):
    """`forecast/error`: percent by which forecasts of the last level are off, mean over learners (no model needed)."""

    type: Literal["forecast-error"] = "forecast-error"
    of_rows: ClassVar[bool] = True
    forecaster: Forecaster = Field("learning-curve", validate_default=True)
    learners: Annotated[list[Learner], Field(min_length=1)] = Field(default_factory=lambda: list(get_args(Learner)))
    step: Annotated[int, Field(ge=1)] = Field(10_000, description="Tokens between two levels.")
    levels: Annotated[int, Field(ge=8)] = Field(40, description="At most so many levels.")
    test_tokens: Annotated[int, Field(ge=1)] = Field(20_000, description="At most so many held-out tokens are tagged.")
    words: str = Field("words", description="The column with a list of words.")
    tags: str = Field("tags", description="The column with a list of their tags.")
    tolerance: Annotated[float, Field(gt=0)] = Field(
        0.5, description="Points of accuracy: when to stop, and what counts as robust."
    )
    seed: int = Field(0, description="Of the order of the rows.")

    def evaluate_rows(
        self,
        data: Data,
        *,
        engine: Engine | None = None,
        cache_dir: Path | None = None,
        notify: Callable[[str], None] | None = None,
    ) -> dict[str, float]:
        settings = (self.learners, self.step, self.levels, self.test_tokens, self.words, self.tags, self.seed)
        key = digest("learning-curves", VERSION, curation_key(data), data.split.validation, *settings)

        def make(draft: Path) -> dict[str, Any]:
            train, test = self._sentences(data, engine, cache_dir, notify)
            found = learning_curves(train, test, self.learners, self.step, self.levels, notify)
            (draft / "curves.json").write_text(json.dumps(found), encoding="utf-8")
            return {}

        folder = (cache_dir or cache_folder()) / "curves" / key
        entry(folder, make, notify=notify)
        curves: Curves = json.loads((folder / "curves.json").read_text(encoding="utf-8"))
        return measured(curves, self.forecaster, self.tolerance, self.seed)

    def _sentences(
        self, data: Data, engine: Engine | None, cache_dir: Path | None, notify: Callable[[str], None] | None
    ) -> tuple[list[Sentence], list[Sentence]]:
        """Training sentences in the order of the seed, and the first held-out ones."""
        rows = curated(data, engine=engine, cache_dir=cache_dir, notify=notify)
        train: list[Sentence] = []
        test: list[Sentence] = []
        tokens = 0
        for number in range(len(rows.files)):
            for columns in rows.batches(number):
                pairs = zip(columns["mark"], column(columns, self.words), column(columns, self.tags), strict=True)
                for mark, words, tags in pairs:
                    if not words or not tags or len(words) != len(tags):
                        raise DataError(
                            f"forecast-error: a row has {len(words or [])} words and {len(tags or [])} tags"
                        )
                    if mark / 2**64 >= data.split.validation:
                        train.append((words, tags))
                    elif tokens < self.test_tokens:
                        test.append((words, tags))
                        tokens += len(words)
        if not train or not test:
            raise DataError("forecast-error: no row on one side of the split; give more rows")
        order = numpy_generator(self.seed, "forecast-error", "order").permutation(len(train))
        return [train[place] for place in order], test


def learning_curves(
    train: Sequence[Sentence],
    test: Sequence[Sentence],
    learners: Sequence[str],
    step: int,
    levels: int,
    notify: Callable[[str], None] | None = None,
) -> Curves:
    """Accuracy on `test` after growing prefixes of `train`: each the first whole sentences of at least `step` more
    tokens. What is left of the rows when no whole step fits is not used."""
    prefixes: list[list[Sentence]] = [[]]
    tokens: list[int] = []
    used = last = 0
    for sentence in train:
        prefixes[-1].append(sentence)
        used += len(sentence[0])
        if used - last >= step:
            tokens.append(used)
            last = used
            if len(tokens) == levels:
                break
            prefixes.append([])
    found: Curves = {}
    for learner in learners:
        tagger = TAGGERS[learner]()
        values: list[float] = []
        for part in prefixes[: len(tokens)]:
            tagger.learn(part)
            values.append(accuracy(tagger, test))
        found[learner] = ([float(place) for place in tokens], values)
        if notify:
            notify(f"{learner}: {len(tokens)} levels, {values[-1] if values else 0:.2f} % at the last")
    return found


def measured(
    curves: Mapping[str, tuple[list[float], list[float]]], forecaster: Forecaster, tolerance: float, seed: int
) -> dict[str, float]:
    """What a forecaster makes of curves whose ends are known.

    Raises:
        DataError: no curve is believed before its last level.
    """
    every = {name: Curve.of(x, y) for name, (x, y) in curves.items()}
    asked = {name: first_believed(curve) for name, curve in every.items()}
    levels = {name: level for name, level in asked.items() if level is not None}
    whole = {name: every[name] for name in levels}
    if not whole:
        few = max(curve.levels for curve in every.values())
        raise DataError(
            f"forecast-error: no curve is believed within {few} levels; give more rows, more levels or larger steps"
        )
    values: dict[str, list[float]] = {}

    def add(name: str, value: float) -> None:
        values.setdefault(f"forecast/{name}", []).append(value)

    after: dict[str, np.ndarray] = {}  # the forecast of every later level
    for name, curve in whole.items():
        level, last, truth = levels[name], float(curve.x[-1]), float(curve.values[0, -1])
        known = curve.until(level)
        found = _asked(forecaster, known, last, seed)
        after[name] = forecaster.expected(known, known.mean[None], curve.x[level:])[0]
        add("error", mape([truth], [found.value]))
        add("mape", mape(curve.mean[level:], after[name]))
        for later in LATER:
            more = curve.until(min(level + later, curve.levels - 1))
            add(f"error_{later}_later", mape([truth], forecaster.expected(more, more.mean[None], curve.x[-1:])[0]))
        add("held", float(found.low <= truth <= found.high))
        add("half_width", (found.high - found.low) / 2)
        add("robust", robustness(forecaster, known, last, tolerance, seed))
        add("data_share", float(curve.x[level - 1]) / last)
        stop = forecaster.stop_level(curve, tolerance) or curve.levels
        add("stop_share", float(curve.x[stop - 1]) / last)
        add("stop_missed", truth - float(curve.values[0, stop - 1]))
    for one, other in itertools.combinations(whole, 2):
        start = max(levels[one], levels[other])
        seen = [list(whole[name].mean[start:]) for name in (one, other)]
        said = [list(after[name][start - levels[name] :]) for name in (one, other)]
        add("order", decision_reliability((seen[0], seen[1]), (said[0], said[1])))
    means = {name: float(np.mean(found)) for name, found in values.items()}
    means["forecast/believed"] = len(whole) / len(every)
    return means | {f"accuracy/{name}": float(curve.values[0, -1]) for name, curve in every.items()}


def first_believed(curve: Curve) -> int | None:
    """The level before the last one at which the default forecaster first believes a curve."""
    known = LearningCurve().trace(curve).known_from
    return None if known is None or known >= curve.levels else known


def robustness(forecaster: Forecaster, curve: Curve, at: float, tolerance: float, seed: int) -> float:
    """RR: the percentage of distorted curves (some points 0.5 to 1.5 lower) whose forecast stays within the
    tolerance."""
    generator = numpy_generator(seed, "forecast-error", "distortions")
    distorted = np.repeat(curve.mean[None], DISTORTIONS, axis=0)
    for row in distorted:
        places = generator.choice(curve.levels, min(OUTLIERS, curve.levels), replace=False)
        row[places] -= generator.uniform(0.5, 1.5, len(places))
    places = np.array([at])
    clean = forecaster.expected(curve, curve.mean[None], places)[0, 0]
    return robustness_rate([clean] * DISTORTIONS, list(forecaster.expected(curve, distorted, places)[:, 0]), tolerance)


def _asked(forecaster: Forecaster, curve: Curve, at: float, seed: int) -> Prediction:
    found = forecaster.forecast(curve, at, seed=seed)
    if isinstance(found, NotYet):
        raise DataError(f"forecast-error: '{forecaster.name}' has no forecast at level {curve.levels}: {found.reason}")
    return found
