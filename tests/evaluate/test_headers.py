"""The evaluators of metadata conditioning, on models whose answers are known."""

from __future__ import annotations

import math
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from corpora import GivenRows
from torch import nn

from warmstart.data.prepare import Prepared, prepare
from warmstart.errors import DataError, ModelError
from warmstart.evaluate import Subject
from warmstart.evaluate.conditional_gap import ConditionalGap, cut, other_headers
from warmstart.evaluate.headed_documents import Headed, body_nats, headed_documents
from warmstart.evaluate.steering import NaiveBayes, Steering
from warmstart.models.build import configuration, new_model
from warmstart.models.tokenizer import train_tokenizer
from warmstart.objectives.causal import Causal
from warmstart.objectives.masked import Masked
from warmstart.recipe_data import Data

WORDS = {"a.org": "apples and pears", "b.org": "stars over water", "c.org": "iron in a stone"}
ROWS = [
    {"text": f"{number} {WORDS[host]} " * (number % 3 + 1), "url": f"https://{host}/{number}"}
    for number, host in enumerate([*WORDS] * 30)
]


@pytest.fixture(scope="module")
def tokenizer() -> Any:
    return train_tokenizer([row["text"] for row in ROWS], 290, "causal")


def prepared(tokenizer: Any, **settings: Any) -> Prepared:
    base = {
        "source": GivenRows(given=ROWS),
        "length": 64,
        "begin_of_text": True,
        "packing": "best-fit",
        "split": {"validation": 0.5},
    }
    return prepare(Data.model_validate(base | settings), tokenizer)


def subject_of(model: nn.Module, tokenizer: Any, **settings: Any) -> Subject:
    headed = prepared(tokenizer, rewrite=["metadata-prefix"], **settings)
    return Subject(model, tokenizer, Causal(), prepared(tokenizer), seed=0, also={"headed": headed})


def tiny(tokenizer: Any) -> nn.Module:
    settings = {"n_layer": 1, "n_embd": 16, "n_head": 2, "n_positions": 64}
    return new_model(configuration("gpt2", settings, tokenizer), "causal", 0)


class Header(nn.Module):
    """A model that gives every token the same chance, and twice that to the tokens that occurred before in its text."""

    def __init__(self, vocabulary: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(vocabulary))

    def forward(self, input_ids: torch.Tensor, use_cache: bool) -> SimpleNamespace:
        assert not self.training
        seen = nn.functional.one_hot(input_ids, len(self.weight)).cumsum(1).clamp(max=1)
        return SimpleNamespace(logits=seen * math.log(2) + self.weight)


def test_the_documents_after_headers_are_the_held_out_ones(tokenizer: Any) -> None:
    subject = subject_of(tiny(tokenizer), tokenizer)
    found = headed_documents(subject, "headed")
    bare = subject.data.validation[0]
    bodies = []
    for number in range(len(bare)):
        row = bare[number]
        bodies += [row["tokens"][row["documents"] == n][1:].tolist() for n in range(row["documents"].max() + 1)]
    assert sorted(document.body.tolist() for document in found) == sorted(bodies)
    for document in found:
        text = tokenizer.decode(document.body[:-1])
        host = tokenizer.decode(document.header).removeprefix("URL: ").removesuffix("\n\n")
        assert WORDS[host] in text
        assert document.mark == tokenizer.bos_token_id
        assert document.body[-1] == tokenizer.eos_token_id


def test_nats_of_a_body_do_not_depend_on_its_batch_and_are_right(tokenizer: Any) -> None:
    subject = subject_of(tiny(tokenizer), tokenizer)
    found = headed_documents(subject, "headed")[:9]
    together = body_nats(subject.model, found, [document.header for document in found], "fp32", batch=4)
    for document, nats in zip(found, together, strict=True):
        ids = torch.tensor([[document.mark, *document.header, *document.body]])
        with torch.no_grad():
            logits = subject.model.eval()(input_ids=ids).logits.double()
        first = 1 + len(document.header)
        expected = nn.functional.cross_entropy(logits[0, first - 1 : -1], ids[0, first:], reduction="sum")
        assert nats == pytest.approx(float(expected), rel=1e-5)


def test_the_gap_of_a_model_that_knows_what_it_does(tokenizer: Any) -> None:
    """Worked out by hand, token by token; the model's mode and the random state stay as they were."""
    model = Header(290).train()
    subject = subject_of(model, tokenizer)
    torch.manual_seed(5)
    values = ConditionalGap(held_out="headed", documents=1000).evaluate(subject)
    assert torch.initial_seed() == 5
    assert model.training
    assert set(values) == {f"headed/{n}" for n in ("bare_loss", "own_loss", "wrong_loss", "gap", "wrong_gap")}
    nats, tokens = {"bare": 0.0, "own": 0.0}, 0
    for document in headed_documents(subject, "headed"):
        tokens += len(document.body)
        for name, front in (("bare", [document.mark]), ("own", [document.mark, *document.header])):
            seen = set(front)
            for token in document.body.tolist():
                nats[name] -= math.log((2 if token in seen else 1) / (290 + len(seen)))
                seen.add(token)
    assert values["headed/bare_loss"] == pytest.approx(nats["bare"] / tokens, rel=1e-6)
    assert values["headed/own_loss"] == pytest.approx(nats["own"] / tokens, rel=1e-6)
    assert values["headed/gap"] == pytest.approx(values["headed/bare_loss"] - values["headed/own_loss"])
    assert values["headed/wrong_gap"] == pytest.approx(values["headed/bare_loss"] - values["headed/wrong_loss"])


def test_the_three_losses_are_of_the_same_tokens(tokenizer: Any) -> None:
    """A model that gives every token the same chance has gaps of exactly 0, also where headers crowd documents out."""
    uniform = Header(290)
    uniform.forward = lambda input_ids, use_cache: SimpleNamespace(  # type: ignore[method-assign, assignment]
        logits=torch.zeros(*input_ids.shape, 290)
    )
    values = ConditionalGap(held_out="headed").evaluate(subject_of(uniform, tokenizer, length=16))
    assert values["headed/gap"] == values["headed/wrong_gap"] == 0.0
    assert values["headed/own_loss"] == pytest.approx(math.log(290), rel=1e-6)


def test_a_document_is_cut_to_what_fits_after_the_longer_header() -> None:
    document = Headed(0, (1, 2), np.arange(10), 0)
    for other, left in (((), 10), ((1,) * 5, 10), ((1,) * 6, 9), ((1,) * 14, 1)):
        assert len(cut(document, other, 16).body) == left
        assert 1 + max(len(other), 2) + left <= 16
    assert len(cut(document, (), 8).body) == 5


def test_wrong_headers_are_wrong() -> None:
    headers = [(1,), (1,), (2, 3), (1,), (4,)]
    for seed in range(20):
        wrong = other_headers(headers, np.random.default_rng(seed))
        assert all(other != own and other in headers for own, other in zip(headers, wrong, strict=True))
    with pytest.raises(DataError, match="same header"):
        other_headers([(1,), (1,)], np.random.default_rng(0))


@pytest.mark.parametrize("evaluator", [ConditionalGap, Steering])
def test_a_set_without_headers_is_an_error(tokenizer: Any, evaluator: Any) -> None:
    subject = subject_of(tiny(tokenizer), tokenizer)
    with pytest.raises(DataError, match=r"'validation' has no document after a header.*metadata-prefix"):
        evaluator().evaluate(subject)
    with pytest.raises(
        DataError, match=r"no held-out set 'haeded' \(did you mean 'headed'\?\); sets: validation, headed"
    ):
        evaluator(held_out="haeded").evaluate(subject)
    with pytest.raises(DataError, match="begin_of_text"):
        evaluator(held_out="headed").evaluate(subject_of(tiny(tokenizer), tokenizer, begin_of_text=False))
    subject.objective = Masked()
    with pytest.raises(ModelError, match="causal"):
        evaluator(held_out="headed").evaluate(subject)


def test_naive_bayes_finds_the_class_by_its_tokens() -> None:
    classifier = NaiveBayes([[np.array([1, 1, 2])], [np.array([3, 3, 2]), np.array([3])]], 5)
    assert [classifier(np.array(tokens)) for tokens in ([1], [3], [2, 1], [4, 3, 3, 1])] == [0, 1, 0, 1]
    equal = NaiveBayes([[np.array([1, 1])], [np.array([3, 3])]], 5)
    assert equal(np.array([1, 3, 1])) == 0
    assert equal(np.array([3, 1, 3])) == 1


class Parrot(nn.Module):
    """Writes a real document of the header it is given (or of the next header, to be wrong every time)."""

    def __init__(self, documents: list[Headed], shift: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(1))
        self.bodies: dict[tuple[int, ...], np.ndarray] = {d.header: d.body for d in documents}
        self.shift = shift

    def generate(self, input_ids: torch.Tensor, **settings: Any) -> torch.Tensor:
        headers = sorted(self.bodies)
        own = headers.index(tuple(input_ids[0, 1:].tolist()))
        body = torch.tensor(self.bodies[headers[(own + self.shift) % len(headers)]])
        return torch.cat([input_ids, body.expand(len(input_ids), -1)], dim=1)


def test_steering_tells_a_model_that_listens_from_one_that_does_not(tokenizer: Any) -> None:
    subject = subject_of(tiny(tokenizer), tokenizer)
    documents = headed_documents(subject, "headed")
    for shift, expected in ((0, 1.0), (1, 0.0)):
        subject.model = Parrot(documents, shift)
        values = Steering(held_out="headed", headers=3, samples=2).evaluate(subject)
        assert values["headed/steering"] == expected
        assert values["headed/steering_ceiling"] > 0.9


def test_samples_of_a_real_model_are_the_same_every_time(tokenizer: Any) -> None:
    subject = subject_of(tiny(tokenizer).train(), tokenizer)
    evaluator = Steering(held_out="headed", headers=3, samples=3, tokens=12)
    torch.manual_seed(1)
    state = torch.random.get_rng_state()
    first = evaluator.evaluate(subject)
    assert torch.equal(torch.random.get_rng_state(), state)
    assert evaluator.evaluate(subject) == first
    assert subject.model.training
    assert 0 <= first["headed/steering"] <= 1
