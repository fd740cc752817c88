"""Labelled rows, frozen probes and fine-tuning: what is read, on which side it is, and what is measured."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from corpora import GivenRows
from docstring_examples import run_example
from tiny_encoders import encoder, tokenizer
from transformers import AutoModelForTokenClassification

from warmstart.errors import DataError, ModelError
from warmstart.evaluate import Evaluator, Subject
from warmstart.evaluate.fine_tune import FineTune, batches, warm_up_and_fall
from warmstart.evaluate.labelled import Example, spans
from warmstart.evaluate.probe import Probe, text_features
from warmstart.models.head import with_new_head
from warmstart.objectives.random_token_detection import RandomTokenDetection

WORDS = ["some", "more", "text", "return", "other", "reader"]


def texts(count: int = 120, seed: int = 0) -> list[dict[str, Any]]:
    """Texts about `self` or about `chunk`, four of each document, and some without a label."""
    draw = np.random.default_rng(seed)
    rows = []
    for number in range(count):
        about = ("self", "chunk")[(number // 4) % 2]
        words = [*draw.choice(WORDS, 4), about, *draw.choice(WORDS, 3)]
        label = about if number % 10 else None
        rows.append({"text": " ".join(words), "id": f"{number}", "document": f"d{number // 4}", "about": label})
    return rows


def probe(rows: list[dict[str, Any]] | None = None, /, **settings: Any) -> Probe:
    given = {"task": "t", "label": "about", "length": 32, "source": GivenRows(given=rows or texts())}
    return Probe(**(given | settings))


# ---- the rows ------------------------------------------------------------------------------------------------------


def test_both_sides_hold_labelled_rows_and_share_no_document() -> None:
    found = probe(by="document").examples
    by_text = {row["text"]: row for row in texts()}
    sides = [{by_text[example.text]["document"] for example in side} for side in (found.train, found.test)]
    assert not sides[0] & sides[1]
    assert len(found.train) + len(found.test) == sum(row["about"] is not None for row in texts())
    assert all(example.labels == [by_text[example.text]["about"]] for example in [*found.train, *found.test])
    assert found.classes == ["chunk", "self"]
    assert found.numbers(["self", "chunk", "new"]).tolist() == [1, 0, -1]


def test_the_same_rows_are_taken_whatever_their_order() -> None:
    few, turned = probe(rows=30).examples, probe(texts()[::-1], rows=30).examples
    assert len(few.train) + len(few.test) == 30
    assert set(map(str, few.train)) == set(map(str, turned.train))
    everything = set(map(str, probe().examples.train))
    assert set(map(str, few.train)) < everything


def test_rows_are_read_once_and_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    rows = [*texts(seed=5), {"text": "one of its own", "id": "x", "document": "x", "about": "self"}]
    read: list[int] = []

    class Counted(GivenRows):
        def rows(self, *given: Any) -> Iterator[dict[str, Any]]:
            read.append(1)
            return super().rows(*given)

    source = Counted(given=rows)
    first = probe(source=source)
    assert first.examples is first.examples
    assert probe(source=source).examples == first.examples  # from the cache
    assert probe(source=source, task="other").examples == first.examples
    assert len(read) == 1
    assert probe(source=source, test=0.6).examples != first.examples
    assert len(read) == 2


def test_rewriting_comes_before_and_keeps_the_side() -> None:
    rows = [{"text": "one\n\ntwo\n\nthree", "id": str(n), "document": f"d{n}", "about": "ab"[n % 2]} for n in range(40)]
    cut = probe(rows, by="document", rewrite=["paragraphs"]).examples
    whole = probe(rows, by="document").examples
    assert len(cut.train) == 3 * len(whole.train)
    assert len(cut.test) == 3 * len(whole.test)
    assert {example.text for example in cut.train} == {"one", "two", "three"}


def test_rows_that_cannot_be_used() -> None:
    with pytest.raises(DataError, match=r"evaluator probe, task t: there is no column 'abou' \(did you mean 'about'"):
        probe(label="abou").examples  # noqa: B018
    with pytest.raises(DataError, match="there is no column 'book'"):
        probe(by="book").examples  # noqa: B018
    with pytest.raises(DataError, match="only one label, 'x'"):
        probe([row | {"about": "x"} for row in texts()]).examples  # noqa: B018
    with pytest.raises(DataError, match="no labelled row is on the test side"):
        probe([row | {"document": "d"} for row in texts()], by="document", test=0.01).examples  # noqa: B018


# ---- features ------------------------------------------------------------------------------------------------------


def test_features_are_means_over_tokens() -> None:
    model = encoder(head="masked")
    long, short = Example("some more text return other reader", ["x"]), Example("some text", ["y"])
    features, which = text_features(model, tokenizer(), [long, short], length=64)
    assert which == [(0, 0), (1, 0)]
    assert model.training  # as it was
    ids = torch.tensor([tokenizer()(short.text)["input_ids"]])
    with torch.no_grad():
        states = model.base_model(input_ids=ids, output_hidden_states=True).hidden_states
    for layer in (-1, 0, 1):
        found, _ = text_features(model, tokenizer(), [long, short], length=64, layer=layer)
        np.testing.assert_allclose(found[1], states[layer][0, 1:-1].mean(dim=0).numpy(), atol=1e-5)
    with pytest.raises(ModelError, match="layer 3 of a model with 2 layers"):
        text_features(model, tokenizer(), [short], length=64, layer=3)
    assert not np.allclose(features[0], features[1])


def test_a_words_features_are_those_of_its_tokens() -> None:
    model = encoder(head="none")
    words = ["some", "chunk", "self.read_all", "text"]
    example = Example(" ".join(words), list("abcd"), words)
    assert [example.text[first:last] for first, last in spans(example)] == words
    features, which = text_features(model, tokenizer(), [example], length=64)
    assert which == [(0, 0), (0, 1), (0, 2), (0, 3)]
    encoded = tokenizer()(example.text, return_tensors="pt")
    with torch.no_grad():
        states = model(input_ids=encoded["input_ids"]).last_hidden_state[0].numpy()
    tokens = tokenizer().convert_ids_to_tokens(encoded["input_ids"][0])
    assert tokens[1:-1] == ["some", "Ġ", "chunk", "Ġself", ".", "read", "_", "all", "Ġtex", "t"]
    for number, owned in enumerate([[1], [3], [4, 5, 6, 7, 8], [9, 10]]):  # a space alone is nobody's
        np.testing.assert_allclose(features[number], states[owned].mean(axis=0), atol=1e-5)
    cut, which = text_features(model, tokenizer(), [example], length=3)
    assert which == [(0, 0)]  # words beyond the length have no features
    assert len(cut) == 1


# ---- the probe -----------------------------------------------------------------------------------------------------


def test_a_probe_finds_what_the_features_tell() -> None:
    model = encoder()
    accuracy = probe().accuracy(model, tokenizer())
    assert accuracy > 0.8  # which word is in the text
    assert probe().accuracy(model, tokenizer()) == accuracy
    coins = np.random.default_rng(0).integers(2, size=400)
    shuffled = [row | {"about": "ab"[coin]} for row, coin in zip(texts(400), coins, strict=True)]
    assert probe(shuffled).accuracy(model, tokenizer()) < 0.7


def word_rows() -> list[dict[str, Any]]:
    """Words with their first letter as label."""
    draw, rows = np.random.default_rng(0), []
    for number in range(60):
        words = [str(word) for word in draw.choice(WORDS, 6)]
        rows.append({"text": "not read", "id": str(number), "w": words, "about": [word[0] for word in words]})
    return rows


@pytest.mark.parametrize("classifier", ["logistic", "nearest"])
def test_a_probe_of_words(classifier: str) -> None:
    rows = word_rows()
    part = probe(rows, words="w", classifier=classifier)
    assert part.examples.classes == sorted({word[0] for word in WORDS})
    assert part.accuracy(encoder(), tokenizer()) > 0.95
    with pytest.raises(DataError, match="row 0 has 6 values and a str"):
        probe([row | {"about": "x"} for row in rows], words="w").examples  # noqa: B018
    with pytest.raises(DataError, match="row 0 has 6 values and 1 values"):
        probe([row | {"about": ["x"]} for row in rows], words="w").examples  # noqa: B018


def subject_of(model: Any) -> Subject:
    return Subject(model, tokenizer(), RandomTokenDetection(), None, 3)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "part", [probe(), FineTune(task="t", label="about", length=32, source=GivenRows(given=texts()), steps=4)]
)
def test_an_evaluation_changes_nothing(part: Evaluator) -> None:
    model = encoder(hidden_dropout_prob=0.1)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    torch.manual_seed(1)
    expected = torch.rand(3)
    torch.manual_seed(1)
    values = part.evaluate(subject_of(model))
    assert torch.equal(torch.rand(3), expected)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert all(parameter.grad is None for parameter in model.parameters())
    assert model.training
    assert list(values) == [f"{part.name}/t/accuracy"]
    with torch.no_grad():  # as trials evaluate
        assert part.evaluate(subject_of(model)) == values


# ---- fine-tuning ---------------------------------------------------------------------------------------------------


def fine_tune(**settings: Any) -> FineTune:
    given = {"task": "t", "label": "about", "length": 32, "source": GivenRows(given=texts()), "learning_rate": 3e-3}
    return FineTune(**(given | settings))


@pytest.mark.parametrize(("like", "head"), [("bert", "masked"), ("electra", "detection"), ("roberta", "none")])
def test_fine_tuning_learns_the_task(like: str, head: str) -> None:
    model = encoder(like, head)
    assert fine_tune(steps=40, learning_rate=1e-2).accuracy(model, tokenizer(), seed=0) > 0.9
    first, again, other = (fine_tune(steps=3).accuracy(model, tokenizer(), seed=seed) for seed in (0, 0, 1))
    assert first == again
    assert {first, other} <= {n / len(fine_tune().examples.test) for n in range(len(fine_tune().examples.test) + 1)}


def test_fine_tuning_on_words() -> None:
    task = fine_tune(source=GivenRows(given=word_rows()), words="w", steps=30, learning_rate=1e-2)
    assert task.accuracy(encoder(), tokenizer(), seed=0) > 0.95
    words = ["some", "self.read", "text"]
    some = [Example(" ".join(words), ["s", "r", "t"], words), Example("more", ["?"], ["more"])]
    tagger = with_new_head(encoder(), 5, 0, auto=AutoModelForTokenClassification)
    _, wanted = task._answers(tagger, tokenizer(), some, "fp32")
    tokens = tokenizer().convert_ids_to_tokens(tokenizer()(some[0].text)["input_ids"])
    assert tokens == ["[CLS]", "some", "Ġself", ".", "read", "Ġtex", "t", "[SEP]"]
    classes = task.examples.classes
    assert classes == ["m", "o", "r", "s", "t"]
    none = -100
    assert wanted.view(2, 8)[0].tolist() == [none, 3, none, none, 2, none, 4, none]
    assert sorted(wanted.view(2, 8)[1].tolist()) == [none] * 7 + [-1]  # an unknown label is wrong, whatever is said


def test_a_decoder_can_be_fine_tuned() -> None:
    from transformers import AutoModelForCausalLM, GPT2Config

    from warmstart.models.tokenizer import train_tokenizer

    causal = train_tokenizer([row["text"] for row in texts()], 300, "causal")
    config = GPT2Config(vocab_size=len(causal), n_embd=32, n_layer=2, n_head=2, n_positions=64)
    model = AutoModelForCausalLM.from_config(config)
    assert fine_tune(steps=40).accuracy(model, causal, seed=0) > 0.9


def test_batches_and_the_learning_rate() -> None:
    found = batches(10, 4, 6, seed=1, task="t")
    assert [len(batch) for batch in found] == [4] * 6
    flat = np.concatenate(found)
    assert sorted(flat[:10]) == sorted(flat[10:20]) == list(range(10))
    assert flat[:10].tolist() != flat[10:20].tolist()
    rates = [warm_up_and_fall(step, 40) for step in range(40)]
    assert max(rates) == 1.0
    assert rates[:4] == [0.25, 0.5, 0.75, 1.0]
    assert rates[-1] == pytest.approx(1 / 36)


def test_a_new_head_stands_on_the_same_trunk() -> None:
    model = encoder("electra", "masked")
    made, other = with_new_head(model, 3, seed=1), with_new_head(model, 3, seed=2)
    assert made.config.num_labels == 3
    assert model.config.num_labels == 2
    for name, value in model.base_model.state_dict().items():
        assert torch.equal(made.base_model.state_dict()[name], value)
        assert made.base_model.state_dict()[name].data_ptr() != value.data_ptr()
    assert torch.equal(made.classifier.dense.weight, with_new_head(model, 3, seed=1).classifier.dense.weight)
    assert not torch.equal(made.classifier.dense.weight, other.classifier.dense.weight)
    from transformers import AutoConfig, AutoModel

    vision = AutoModel.from_config(
        AutoConfig.for_model("vit", hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=16)
    )
    with pytest.raises(ModelError, match="a vit model has no head"):
        with_new_head(vision, 2, seed=0)


@pytest.mark.parametrize("kind", [Probe, FineTune])
def test_example(kind: Any, tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    rows = [{"text": row["text"], "genre": row["about"]} for row in texts() if row["about"]]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    names = run_example(
        kind, Probe=Probe, FineTune=FineTune, text_features=text_features, model=encoder(), tokenizer=tokenizer(),
        path=str(path),
    )  # fmt: skip
    assert 0 <= names["accuracy"] <= 1
