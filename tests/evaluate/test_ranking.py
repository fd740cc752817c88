import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import ndcg_score

from warmstart.evaluate.ranking import ndcg_at, ranks_of_relevant, recall_at, reciprocal_rank

SCORES = np.array([[0.9, 0.1, 0.5, 0.3], [0.2, 0.8, 0.7, 0.1]])


def test_by_hand():
    ranks = ranks_of_relevant(SCORES, [[2], [0, 1]])
    assert [own.tolist() for own in ranks] == [[2], [1, 3]]
    assert recall_at(ranks, 1) == pytest.approx((0 + 1) / 2)
    assert recall_at(ranks, 2) == pytest.approx((1 + 1 / 2) / 2)
    assert reciprocal_rank(ranks) == pytest.approx((1 / 2 + 1) / 2)
    assert reciprocal_rank(ranks, 1) == pytest.approx(1 / 2)


@given(st.integers(0, 2**32 - 1), st.integers(1, 8))
def test_ndcg_is_that_of_scikit_learn(seed, k):
    generator = np.random.default_rng(seed)
    scores = generator.permuted(np.tile(np.arange(9.0), (5, 1)), axis=1)
    relevance = generator.random((5, 9)) < 0.4
    relevance[:, 0] = True
    ranks = ranks_of_relevant(scores, [np.flatnonzero(row) for row in relevance])
    assert ndcg_at(ranks, k) == pytest.approx(ndcg_score(relevance, scores, k=k))


def test_equal_scores_find_nothing():
    ranks = ranks_of_relevant(np.zeros((3, 10)), [[0], [4], [9]])
    assert recall_at(ranks, 9) == 0
    assert reciprocal_rank(ranks) == pytest.approx(1 / 10)


def test_a_score_that_is_not_a_number_comes_last():
    assert ranks_of_relevant(np.array([[np.nan, 0.5, -3.0]]), [[0]])[0].tolist() == [3]


def test_what_does_not_fit():
    with pytest.raises(ValueError, match="2 queries, but relevant documents for 1"):
        ranks_of_relevant(SCORES, [[0]])
    with pytest.raises(ValueError, match="no relevant document"):
        ranks_of_relevant(SCORES, [[0], []])
