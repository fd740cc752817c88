"""The n-gram model is a distribution, knows its reference, and the part scores with it."""

from __future__ import annotations

import json
import math
import random
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from warmstart.data.curate.ngram_perplexity import NgramPerplexity, train_ngrams
from warmstart.errors import DataError

WORDS = ["sea", "the", "of", "night", "ship", "sails", "a"]
documents = st.lists(st.lists(st.sampled_from(WORDS), min_size=1, max_size=8).map(" ".join), min_size=1, max_size=6)


@settings(max_examples=60, deadline=None)
@given(documents, st.integers(1, 4), st.integers(1, 3), st.lists(st.sampled_from([*WORDS, "new"]), max_size=4))
def test_every_order_is_a_distribution_after_any_context(
    texts: list[str], order: int, min_count: int, context: list[str]
) -> None:
    model = train_ngrams(texts, order, min_count)
    place = len(context)
    after = [model.log_probabilities(" ".join([*context, word]))[place] for word in [*model.words, "zebra"]]
    end = [model.log_probabilities(" ".join(context))[place]] if context else [-math.inf]
    total = math.fsum(math.exp(value) for value in [*after, *end])
    if not context:  # a text without words cannot be scored, so the end's share is what the others leave
        assert total < 1
    else:
        assert total == pytest.approx(1, abs=1e-9)


def test_a_uniform_unigram_model_gives_the_size_of_its_vocabulary() -> None:
    words = [f"w{number}" for number in range(30)]
    # Two texts end; every word stands there twice; two single words are the unknown one, twice.
    model = train_ngrams([" ".join([*words, "single"]), " ".join([*words, "alone"])], order=1, min_count=2)
    assert model.vocabulary == 32
    for text in ("w3", "w1 w2 nobody w1", " ".join(words)):
        assert model.perplexity(text) == pytest.approx(32, rel=1e-6)


def test_bigrams_by_hand() -> None:
    """a b | a b | a c: Kneser-Ney with the discounts of the counts."""
    model = train_ngrams(["a b", "a b", "a c"], order=2, min_count=1)
    # Bigrams: BEGIN a 3, a b 2, b END 2, a c 1, c END 1. Counts of 1: two, of 2: two. Discount 2 / (2 + 4) = 1/3.
    # Left neighbours: a 1, b 1, c 1, END 2; counts of 1: three, of 2: one. Discount 3 / (3 + 2) = 3/5.
    left = 0.6 * 4 / 5 / 5
    lower = {"a": 0.4 / 5 + left, "b": 0.4 / 5 + left, "c": 0.4 / 5 + left, "END": 1.4 / 5 + left}
    first = (3 - 1 / 3) / 3 + (1 / 3) / 3 * lower["a"]
    second = (2 - 1 / 3) / 3 + (1 / 3) * 2 / 3 * lower["b"]
    end = (2 - 1 / 3) / 2 + (1 / 3) / 2 * lower["END"]
    assert model.perplexity("a b") == pytest.approx((first * second * end) ** (-1 / 3), rel=1e-12)


def test_shuffled_words_score_worse() -> None:
    generator = random.Random(0)
    sentence = "the old ship sails over the grey sea at night and nobody on the quiet shore looks up to see it go"
    texts = [sentence, "a small town by the sea sleeps", "the ship comes home at night"]
    model = train_ngrams(texts, order=3, min_count=1)
    for _ in range(20):
        words = sentence.split()
        generator.shuffle(words)
        assert model.perplexity(sentence) < model.perplexity(" ".join(words))


def test_case_is_ignored_and_empty_text_is_refused() -> None:
    model = train_ngrams(["The sea"], min_count=1)
    assert model.perplexity("THE sea") == model.perplexity("the Sea")
    for text in ("", "  \n"):
        with pytest.raises(DataError, match="an empty text has no perplexity"):
            model.perplexity(text)
    with pytest.raises(DataError, match="at least one text"):
        train_ngrams([])


ROWS: dict[str, Any] = {
    "text": ["the sea at night", "the ship at sea", "buy now", "the sea at sea", "cheap now now"],
    "kind": ["good", "good", "bad", None, "bad"],
    "row": [0, 1, 2, 3, 4],
}


def test_the_part_learns_from_rows_or_from_a_source(tmp_path: Path) -> None:
    path = tmp_path / "reference.jsonl"
    path.write_text("".join(json.dumps({"text": text}) + "\n" for text in ROWS["text"][:2]))
    of_rows = NgramPerplexity.model_validate({"where": {"kind": "good"}, "order": 2, "min_count": 1})
    source = {"type": "files", "path": str(path)}
    of_source = NgramPerplexity.model_validate({"reference": source, "order": 2, "min_count": 1})
    model = train_ngrams(ROWS["text"][:2], 2, 1)
    for step in (of_rows, of_source):
        fitted = step.fit(iter([step.measure(ROWS)]))
        assert step.apply(ROWS, fitted)["score"] == [model.perplexity(text) for text in ROWS["text"]]
    key = of_source.key()
    path.write_text('{"text": "another reference"}\n')
    assert of_source.key() != key


def test_bad_references_are_told() -> None:
    step = NgramPerplexity.model_validate({"where": {"kind": "god"}})
    with pytest.raises(
        DataError, match=r"no row where \{kind: god\} \(did you mean 'kind: good'\?\); there is e.g. kind"
    ):
        step.fit(iter([step.measure(ROWS)]))
    with pytest.raises(ValueError, match="exactly one of 'where'"):
        NgramPerplexity()
