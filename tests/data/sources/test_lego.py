"""LEGO and addition: right answers, and that only the answer is a target once it is tokens."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from warmstart.data.prepare import prepare
from warmstart.data.sources.addition import Addition, addition_sample
from warmstart.data.sources.lego import Lego, lego_sample
from warmstart.models.tokenizer import tokenizer_for
from warmstart.objectives.causal import Causal
from warmstart.recipe_data import Data, Tokenizer


def solved(question: str) -> tuple[int, int]:
    """The answer found by substitution, and how many clauses it took."""
    clauses, asked = question.removeprefix("Input: ").split(" . Output: ")
    rules = {}
    for clause in clauses.split(" ,")[:-1]:
        name, _, kind, other = clause.split()
        rules[name] = (kind, other)
    name, flips, hops = asked.split()[0], 0, 1
    while rules[name][1] in rules:
        flips += rules[name][0] == "not"
        name, hops = rules[name][1], hops + 1
    return (int(rules[name][1]) + flips) % 2, hops


@given(clauses=st.integers(1, 12), seed=st.integers(0, 10**6), data=st.data())
def test_the_answer_follows_from_as_many_clauses_as_the_skill_says(clauses: int, seed: int, data: Any) -> None:
    skill = data.draw(st.integers(1, clauses))
    letters = data.draw(st.integers(clauses, 26))
    question, answer = lego_sample(clauses, skill, np.random.default_rng(seed), letters)
    assert (int(answer), skill) == solved(question)
    assert question.count(",") == clauses
    assert len(set(question.split(" . Output: ")[0].split()) & set("abcdefghijklmnopqrstuvwxyz"[:letters])) == clauses


def test_rows_are_the_same_each_time_and_balanced() -> None:
    source = Lego(skill=3, size=2000, label="third")
    rows = list(source.rows())
    assert rows == list(source.rows())
    assert len({row["context"] for row in rows}) > 1990
    assert {row["source"] for row in rows} == {"third"}
    assert len({row["id"] for row in rows}) == 2000
    assert abs(np.mean([row["text"] == " 1" for row in rows]) - 0.5) < 0.05
    assert rows != list(Lego(skill=3, size=2000, label="third", seed=1).rows())
    firsts = sum(row["context"].split()[3] in "val" and row["context"].split()[4] in "01" for row in rows)
    assert 400 < firsts < 600, "the clauses' order is shuffled: the first of four is first in a quarter"


def test_fingerprints_tell_settings_apart() -> None:
    kinds: list[Any] = [
        Lego(),
        Lego(skill=2),
        Lego(clauses=5),
        Lego(letters=9),
        Lego(size=5),
        Lego(seed=1),
        Addition(),
        Addition(skill=1),
    ]
    assert len({source.fingerprint() for source in kinds}) == len(kinds)


@given(digits=st.integers(1, 8), seed=st.integers(0, 10**6), data=st.data())
def test_sums_are_right(digits: int, seed: int, data: Any) -> None:
    skill = data.draw(st.integers(0, digits - 1))
    question, answer = addition_sample(digits, skill, np.random.default_rng(seed))
    left, right = (int(part.replace(" ", "")) for part in question[len("Input: A = ") :].split(" ,")[0].split("+"))
    assert int(answer) == (left + right) // 10**skill % 10
    assert f", A {skill} = ? Output:" in question


def test_bad_settings() -> None:
    with pytest.raises(ValueError, match="skill 5 is not in a chain of 4"):
        Lego(skill=5)
    with pytest.raises(ValueError, match="4 variables cannot have different names out of 3 letters"):
        Lego(letters=3)
    with pytest.raises(ValueError, match="no digit 3 among 3"):
        Addition(skill=3)


@pytest.mark.parametrize(("kind", "tokens"), [("lego", 29), ("addition", 19)])
def test_the_answer_alone_is_a_target(kind: str, tokens: int, tmp_path: Any) -> None:
    """Equal answers are neither duplicates nor on one side of the split; a block is one whole sample."""
    sources = [{"type": kind, "skill": skill, "size": 400, "label": f"skill-{skill}"} for skill in (1, 2)]
    data = Data(source=sources, length=tokens, end_of_text=False, split={"validation": 0.2})
    tokenizer = tokenizer_for(Tokenizer(train=320), data, "causal", tmp_path)
    prepared = prepare(data, tokenizer, cache_dir=tmp_path)
    assert prepared.statistics["dropped_exact_duplicates"] < 10
    assert prepared.statistics["train_documents"] > 500
    train, held_out = ({tuple(b["tokens"]) for b in side[0]} for side in (prepared.train, prepared.validation))
    assert len(train) > 200
    assert len(held_out) > 50
    assert not train & held_out
    batch = Causal().collate([prepared.train[1][row] for row in range(50)], tokenizer, np.random.default_rng(0))
    labels = batch["labels"]
    assert ((labels != -100).sum(dim=1) == 1).all()
    assert (labels[:, -2] != -100).all()
    for row in range(50):
        text = tokenizer.decode(batch["input_ids"][row])
        question, answer = text.rsplit(" ", 1)
        assert labels[row, -2] == batch["input_ids"][row, -1]
        if kind == "lego":
            assert int(answer) == solved(question)[0]
            assert solved(question)[1] == 2
