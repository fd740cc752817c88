"""Swapped words: exactly two neighbours change places, in the share of texts that is asked for."""

from __future__ import annotations

import re
from typing import Any

import pytest
from docstring_examples import run_example
from hypothesis import given
from hypothesis import strategies as st

from warmstart.data.rewrite.swap_words import SwapWords, swapped

TEXTS = [f"The reader number {n} said, in short: yes or no." for n in range(400)]


@given(st.text(st.sampled_from("ab ,.\n"), max_size=30), st.floats(0, 1, exclude_max=True))
def test_two_neighbours_change_places(text: str, place: float) -> None:
    found = swapped(text, place)
    words = re.findall(r"\w+", text)
    if found is None:
        pairs = re.findall(r"(?=(?<!\w)(\w+)\s+(\w+))", text)
        assert all(first == second for first, second in pairs)
        return
    after = re.findall(r"\w+", found)
    differ = [n for n, (old, new) in enumerate(zip(words, after, strict=True)) if old != new]
    assert len(differ) == 2
    assert differ[1] == differ[0] + 1
    assert (words[differ[0]], words[differ[1]]) == (after[differ[1]], after[differ[0]])
    assert re.sub(r"\w", "", found) == re.sub(r"\w", "", text)  # marks and spaces stay


def test_every_pair_has_its_turn() -> None:
    assert [swapped("one two, three four", place) for place in (0.0, 0.49, 0.5, 0.99)] == [
        "two one, three four",
        "two one, three four",
        "one two, four three",
        "one two, four three",
    ]
    assert swapped("no no no", 0.3) is None
    assert swapped("alone", 0.3) is None


def test_a_share_of_the_texts_is_changed_and_labelled() -> None:
    columns: dict[str, list[Any]] = {"text": list(TEXTS)}
    result = SwapWords().apply(columns)
    changed = [old != new for old, new in zip(TEXTS, result["text"], strict=True)]
    assert result["label"] == ["swapped" if flag else "kept" for flag in changed]
    assert sum(changed) / len(changed) == pytest.approx(0.5, abs=0.1)
    assert columns == {"text": TEXTS}
    assert SwapWords().apply(columns) == result
    assert SwapWords(seed=1).apply(columns) != result
    assert set(SwapWords(share=1, column="kind").apply(columns)["kind"]) == {"swapped"}
    assert SwapWords(share=0).apply(columns)["text"] == TEXTS


def test_example() -> None:
    assert run_example(SwapWords, SwapWords=SwapWords)["columns"]["label"] == ["swapped"]
