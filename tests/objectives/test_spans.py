"""Hidden spans and distractors: how much is hidden, where, and what a step is told apart from."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import chisquare

from warmstart.errors import UserError
from warmstart.objectives.spans import draw_distractors, draw_spans


def test_about_half_of_a_long_utterance_is_hidden() -> None:
    """1 - (1 - 0.065)^10 is 0.489."""
    hidden = draw_spans(np.full(1000, 500), 500, 0.065, 10, np.random.default_rng(0))
    assert hidden.mean() == pytest.approx(0.49, abs=0.02)
    inside = hidden[:, 9:].mean(axis=0)  # every step but the first nine is reached by ten starts
    assert inside.min() > 0.489 - 5 * 0.016
    assert inside.max() < 0.489 + 5 * 0.016


@given(st.integers(0, 2**32), st.integers(1, 12), st.floats(0.001, 0.5))
def test_no_padding_is_hidden_and_two_steps_at_least(seed: int, span: int, chance: float) -> None:
    draw = np.random.default_rng(seed)
    lengths = draw.integers(max(span, 2), 40, size=8)
    hidden = draw_spans(lengths, 40, chance, span, draw)
    assert hidden.shape == (8, 40)
    assert not hidden[np.arange(40) >= lengths[:, None]].any()
    assert (hidden.sum(axis=1) >= 2).all()
    for row, length in zip(hidden, lengths, strict=True):
        edges = np.flatnonzero(np.diff(np.concatenate([[0], row[:length].astype(int), [0]])))
        for first, end in edges.reshape(-1, 2):
            assert end - first >= span or end == length  # only the end of the utterance cuts a span


@given(st.integers(0, 2**32), st.integers(1, 30))
def test_distractors_are_other_hidden_steps_of_the_same_utterance(seed: int, count: int) -> None:
    draw = np.random.default_rng(seed)
    hidden = draw_spans(draw.integers(5, 20, size=5), 20, 0.1, 3, draw)
    hidden[2] = False  # one that is skipped
    found = draw_distractors(hidden, count, draw)
    assert found.shape == (5, 20, min(count, 19))
    for row in range(5):
        number = int(hidden[row].sum())
        for step in range(20):
            drawn = found[row, step][found[row, step] >= 0]
            assert len(drawn) == (min(count, number - 1) if hidden[row, step] else 0)
            assert hidden[row, drawn].all()
            assert (drawn != step).all()


def test_all_others_are_equally_likely() -> None:
    hidden = np.zeros((400, 12), dtype=bool)
    hidden[:, [1, 4, 5, 9]] = True
    found = draw_distractors(hidden, 3, np.random.default_rng(0))
    for step, others in ((1, [4, 5, 9]), (5, [1, 4, 9]), (9, [1, 4, 5])):
        counts = np.bincount(found[:, step].ravel(), minlength=12)
        assert counts[others].sum() == 1200
        assert chisquare(counts[others]).pvalue > 1e-3


@pytest.mark.parametrize(
    ("lengths", "chance", "span", "message"),
    [
        ([20, 9], 0.1, 10, "sequences of 9 to 20 steps: spans of 10 need 10 to 20"),
        ([20, 1], 0.1, 1, "need 2 to 20"),
        ([21], 0.1, 10, "need 10 to 20"),
        ([20], 0.0, 10, "between 0 and 1, found 0"),
        ([20], 0.1, 0, "at least 1 step, found 0"),
    ],
)
def test_spans_that_cannot_be(lengths: list[int], chance: float, span: int, message: str) -> None:
    with pytest.raises(UserError, match=message):
        draw_spans(np.array(lengths), 20, chance, span, np.random.default_rng(0))


def test_distractors_that_cannot_be() -> None:
    hidden = np.array([[True, False, True], [False, True, False]])
    with pytest.raises(UserError, match="single hidden step"):
        draw_distractors(hidden, 3, np.random.default_rng(0))
    with pytest.raises(UserError, match="at least 1 distractor, found 0"):
        draw_distractors(hidden[:1], 0, np.random.default_rng(0))
