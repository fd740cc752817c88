"""Zero-shot, the image probe, retrieval and the modality gap, against naive counts."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from docstring_examples import run_example
from image_text import pairs, tokenizer, two_towers

from warmstart.data.sources.shapes import Shapes
from warmstart.errors import DataError, ModelError
from warmstart.evaluate import Subject
from warmstart.evaluate.embeddings import Embedder, held_out_pairs
from warmstart.evaluate.image_probe import ImageProbe, ZeroShot
from warmstart.evaluate.image_retrieval import ImageRetrieval, ModalityGap, modality_gap, retrieval
from warmstart.objectives.clip import Clip

SHAPES = {"type": "shapes", "size": 60, "pixels": 16}


class Held:
    """Held-out rows as a stage has them."""

    def __init__(self, rows: list[dict[str, Any]]) -> None:
        self.validation, self.source_names = [rows[: len(rows) // 2], rows[len(rows) // 2 :]], ["a", "b"]


def subject(rows: list[dict[str, Any]] | None = None) -> Subject:
    model = two_towers()
    objective = Clip().for_model(model)
    return Subject(model, tokenizer(), objective, Held(pairs(12) if rows is None else rows), seed=0)  # type: ignore[arg-type]


def units(rows: int, width: int, seed: int) -> np.ndarray:
    drawn = np.random.default_rng(seed).normal(size=(rows, width))
    return drawn / np.linalg.norm(drawn, axis=1, keepdims=True)


def test_retrieval_is_what_counting_says() -> None:
    images, texts = units(9, 4, 0), units(9, 4, 1)
    things = list("aabbcdefg")
    found = retrieval(images, texts, things, [1, 3])
    for way, scores in (("image-to-text", images @ texts.T), ("text-to-image", texts @ images.T)):
        first, third = [], []
        for query in range(9):
            order = [things[n] for n in np.argsort(-scores[query])]
            own = things.count(things[query])
            first.append(order[0] == things[query])
            third.append(order[:3].count(things[query]) / min(own, 3))
        assert found[f"{way}/recall@1"] == pytest.approx(np.mean(first))
        assert found[f"{way}/recall@3"] == pytest.approx(np.mean(third))
    same = retrieval(images, images, list(range(9)), [1])
    assert same["image-to-text/recall@1"] == same["text-to-image/mrr"] == 1


def test_the_gap_is_the_distance_of_the_means() -> None:
    images, texts = units(7, 5, 0), units(7, 5, 1)
    found = modality_gap(images, texts)
    assert found["distance"] == pytest.approx(float(np.linalg.norm(images.mean(0) - texts.mean(0))))
    assert found["pair"] == pytest.approx(float(np.mean([images[n] @ texts[n] for n in range(7)])))
    others = [images[n] @ texts[m] for n in range(7) for m in range(7) if n != m]
    assert found["others"] == pytest.approx(float(np.mean(others)))
    assert modality_gap(images, images)["distance"] == 0
    ones = np.tile([[1.0, 0.0]], (3, 1))
    assert modality_gap(ones, -ones)["distance"] == pytest.approx(2)


def test_embeddings_do_not_depend_on_batches_and_leave_the_model_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    model = two_towers()
    embedder, rows = Embedder(model, tokenizer()), pairs(5)
    pictures, texts = [row["image"] for row in rows], [row["text"] for row in rows]
    whole = embedder.pictures(pictures), embedder.texts(texts), embedder.picture_features(pictures)
    monkeypatch.setattr("warmstart.evaluate.embeddings.BATCH", 2)
    for one, other in zip(
        whole, (embedder.pictures(pictures), embedder.texts(texts), embedder.picture_features(pictures)), strict=True
    ):
        assert one == pytest.approx(other, abs=1e-5)
    assert np.linalg.norm(whole[0], axis=1) == pytest.approx(np.ones(5), abs=1e-5)
    assert whole[0].shape == (5, 8)
    assert whole[2].shape == (5, 16)
    assert model.training
    assert all(p.grad is None for p in model.parameters())


def test_values_of_held_out_pairs() -> None:
    given = subject()
    values = ImageRetrieval(same="id").evaluate(given) | ModalityGap().evaluate(given)
    assert set(values) == {
        *(f"retrieval/image-to-text/{name}" for name in ("recall@1", "recall@5", "mrr")),
        *(f"retrieval/text-to-image/{name}" for name in ("recall@1", "recall@5", "mrr")),
        "modality-gap/distance", "modality-gap/pair", "modality-gap/others",
    }  # fmt: skip
    rows = pairs(12)
    embedder = Embedder.of(given)
    images = embedder.pictures([row["image"] for row in rows])
    texts = embedder.texts([row["text"] for row in rows])
    expected = retrieval(images, texts, list(range(12)), [1, 5])
    assert values["retrieval/text-to-image/recall@5"] == expected["text-to-image/recall@5"]
    assert [row["id"] for row in held_out_pairs(given, 4, "x")] == [rows[n]["id"] for n in (0, 3, 6, 9)]


def test_a_probe_finds_what_is_in_the_features() -> None:
    """A tower that has the mean colour in its features tells colours, and shapes no better than chance."""
    model = two_towers()

    def colours(pixel_values: torch.Tensor, **_: Any) -> Any:
        return type("Output", (), {"pooler_output": pixel_values.amin(dim=(2, 3))})

    model.vision_model.forward = colours
    source = SHAPES | {"size": 600}
    found = {
        label: ImageProbe(task="x", source=source, label=label, regularisation=0.01).accuracy(model, tokenizer())
        for label in ("colour", "label")
    }
    assert found["colour"] > 0.7
    assert found["label"] < 0.45


def test_zero_shot_takes_the_nearest_class() -> None:
    model = two_towers()
    task = ZeroShot(task="x", source=SHAPES, templates=["a {label}", "some {label}"])
    embedder = Embedder(model, tokenizer())
    classes = task.examples.classes
    said = [embedder.texts([f"{word} {name}" for name in classes]) for word in ("a", "some")]
    means = np.mean(said, axis=0)
    means /= np.linalg.norm(means, axis=1, keepdims=True)
    test = task.examples.test
    scores = embedder.pictures([str(example.image) for example in test]) @ means.T
    right = np.mean([classes[n] == e.labels[0] for n, e in zip(scores.argmax(axis=1), test, strict=True)])
    assert task.accuracy(model, tokenizer()) == pytest.approx(right)
    assert set(task.evaluate(subject())) == {"zero-shot/x/accuracy"}
    assert set(ImageProbe(task="y", source=SHAPES).evaluate(subject())) == {"image-probe/y/accuracy"}


def test_the_test_side_is_what_a_stage_holds_out() -> None:
    """With the same column and share: no picture that a stage trains on is in the test."""
    from warmstart.data.prepare import prepare
    from warmstart.recipe_data import Data

    data = prepare(
        Data(source=Shapes(size=60, pixels=16), packing="rows", curate=[], split={"validation": 0.3, "by": "id"}),  # type: ignore[arg-type]
        None,
    )
    task = ImageProbe(task="x", source=SHAPES, by="id", test=0.3)
    assert {row["image"] for row in (data.validation[0][n] for n in range(len(data.validation[0])))} == {
        example.image for example in task.examples.test
    }


def test_what_is_missing_is_said() -> None:
    rows = pairs(4)
    with pytest.raises(DataError, match=r"row 'shapes-0:2' has no picture"):
        ModalityGap().evaluate(subject([*rows[:2], rows[2] | {"image": None}, rows[3]]))
    with pytest.raises(DataError, match="there is no held-out row"):
        ModalityGap().evaluate(subject([]))
    with pytest.raises(DataError, match=r"row 'shapes-0:0' has no column 'labels' \(did you mean 'label'"):
        ImageRetrieval(same="labels").evaluate(subject(rows))
    with pytest.raises(ValueError, match=r"has no \{label\}"):
        ZeroShot(task="x", source=SHAPES, templates=["a thing"])
    with pytest.raises(ModelError, match="needs a model with an image tower"):
        Embedder(torch.nn.Linear(2, 2), tokenizer())


def test_labelled_rows_without_pictures(tmp_path: Any) -> None:
    (tmp_path / "a.jsonl").write_text("".join(f'{{"text": "t{n}", "label": "{n % 2}"}}\n' for n in range(40)))
    source = {"type": "files", "path": str(tmp_path / "a.jsonl"), "columns": ["label"]}
    for kind in (ImageProbe, ZeroShot):
        with pytest.raises(DataError, match="has no picture"):
            kind(task="x", source=source).accuracy(two_towers(), tokenizer())


@pytest.mark.parametrize("kind", [ImageProbe, ZeroShot])
def test_examples(kind: Any) -> None:
    names = run_example(kind, ImageProbe=ImageProbe, ZeroShot=ZeroShot, model=two_towers(), tokenizer=tokenizer())
    assert 0 <= names["accuracy"] <= 1
