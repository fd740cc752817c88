"""What is learned from a sample: the classifier and the clusters; and the sample itself."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from warmstart.data.curate.cluster import Cluster, _points, find_clusters
from warmstart.data.curate.quality_classifier import QualityClassifier, train_classifier
from warmstart.data.curate.sample import Sample
from warmstart.data.where import matches
from warmstart.errors import DataError

TOPICS = {
    "sea": "ship sail wave harbour tide",
    "kitchen": "bread oven flour salt butter",
    "law": "court judge claim oath",
}


def corpus(count: int, seed: int = 0) -> dict[str, Any]:
    generator = random.Random(seed)
    names = [generator.choice(list(TOPICS)) for _ in range(count)]
    texts = [" ".join(generator.choices((TOPICS[name] + " the a of").split(), k=20)) for name in names]
    return {"text": texts, "topic": names, "row": list(range(count))}


@given(st.lists(st.text("abc", max_size=3)), st.integers(1, 5), st.randoms(use_true_random=False))
def test_a_sample_does_not_depend_on_the_order(texts: list[str], most: int, generator: random.Random) -> None:
    one, two = Sample(most, 0), Sample(most, 0)
    one.add(texts)
    shuffled = list(texts)
    generator.shuffle(shuffled)
    for text in shuffled:
        two.add([text])
    assert one.texts() == two.texts()
    assert len(one.texts()) == min(most, len(set(texts)))
    assert set(one.texts()) <= set(texts)


def test_the_classifier_knows_the_good_side() -> None:
    train, test = corpus(200), corpus(100, seed=1)
    step = QualityClassifier.model_validate({"where": {"topic": ["sea", "law"]}, "features": 4096})
    fitted = step.fit(iter([step.measure(train)]))
    found = step.apply(test, fitted)
    right = [(score > 0.5) == (name != "kitchen") for score, name in zip(found["score"], test["topic"], strict=True)]
    assert sum(right) >= 99
    assert all(0 < score < 1 for score in found["score"])
    again = step.fit(step.measure({key: values[n : n + 1] for key, values in train.items()}) for n in range(200))
    assert again.scores(test["text"]) == found["score"]
    assert [fitted.scores([text])[0] for text in test["text"]] == found["score"]


def test_good_examples_may_come_from_a_source(tmp_path: Path) -> None:
    good = [text for text, name in zip(corpus(90)["text"], corpus(90)["topic"], strict=True) if name == "sea"]
    path = tmp_path / "good.jsonl"
    path.write_text("".join(json.dumps({"text": text}) + "\n" for text in good))
    step = QualityClassifier.model_validate({"good": {"type": "files", "path": str(path)}, "features": 4096})
    rows = corpus(100, seed=2)
    scores = step.apply(rows, step.fit(iter([step.measure(rows)])))["score"]
    sea = [score for score, name in zip(scores, rows["topic"], strict=True) if name == "sea"]
    rest = [score for score, name in zip(scores, rows["topic"], strict=True) if name != "sea"]
    assert min(sea) > max(rest)
    key = step.key()
    path.write_text('{"text": "other"}\n')
    assert step.key() != key


def test_a_side_without_examples_is_told() -> None:
    step = QualityClassifier.model_validate({"where": {"topic": "see"}})
    with pytest.raises(DataError, match=r"no row where \{topic: see\} \(did you mean 'topic: sea'\?\)"):
        step.fit(iter([step.measure(corpus(20))]))
    with pytest.raises(DataError, match="found 1 good ones and 0 others"):
        train_classifier(["a"], [])
    with pytest.raises(ValueError, match="exactly one of 'where'"):
        QualityClassifier()


def test_where_needs_every_column_and_any_value() -> None:
    rows = {"a": [1, 1, 2, None], "b": ["x", "y", "x", "x"]}
    assert matches(rows, {"a": 1}) == [True, True, False, False]
    assert matches(rows, {"a": [1, 2], "b": "x"}) == [True, False, True, False]
    assert matches(rows, {"c": 1}) == [False] * 4


def test_clusters_are_the_topics() -> None:
    rows = corpus(150)
    step = Cluster(clusters=3, features=4096)
    fitted = step.fit(iter([step.measure(rows)]))
    found = step.apply(rows, fitted)["cluster"]
    assert len(set(zip(found, rows["topic"], strict=True))) == 3
    assert [fitted.of([text])[0] for text in rows["text"]] == found
    apart = step.fit(step.measure({key: values[n : n + 7] for key, values in rows.items()}) for n in range(0, 150, 7))
    assert apart.of(rows["text"]) == found
    points = _points(rows["text"], fitted.weights).toarray()
    assert found == ((points[:, :, None] - fitted.centres[None]) ** 2).sum(axis=1).argmin(axis=1).tolist()
    assert 0 <= fitted.of(["unheard ???"])[0] < 3
    assert fitted.of([]) == []
    with pytest.raises(DataError, match="3 clusters need at least as many different texts, found 1"):
        find_clusters(["a"], 3)
