"""Taggers: learning on is learning from nothing, and each knows what the one before does not."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence

import numpy as np
import pytest

from warmstart.data.sources.tagged_sentences import TaggedSentences
from warmstart.evaluate.taggers import (
    START,
    TAGGERS,
    HiddenMarkov,
    Perceptron,
    Sentence,
    Unigram,
    accuracy,
    features_of,
)

MADE = [(row["words"], row["tags"]) for row in TaggedSentences(size=400, vocabulary=400, tags=6).rows()]
TRAIN, TEST = MADE[:300], MADE[300:]


@pytest.mark.parametrize("name", TAGGERS)
def test_learning_on_from_a_prefix_is_learning_the_whole(name: str) -> None:
    whole, parts = TAGGERS[name](), TAGGERS[name]()
    whole.learn(TRAIN)
    for start in range(0, 300, 60):
        parts.learn(TRAIN[start : start + 60])
        parts.tag(TEST[0][0])  # being asked in between changes nothing
    assert [parts.tag(words) for words, _ in TEST] == [whole.tag(words) for words, _ in TEST]


def test_context_and_endings_help() -> None:
    scores = {}
    for name, make in TAGGERS.items():
        tagger = make()
        tagger.learn(TRAIN)
        scores[name] = accuracy(tagger, TEST)
    assert scores["unigram"] + 2 < min(scores["hidden-markov"], scores["perceptron"])
    assert all(50 < score <= 100 for score in scores.values())


def test_a_word_has_its_most_frequent_tag() -> None:
    tagger = Unigram()
    tagger.learn([(["run", "run", "run", "the", "the"], ["v", "n", "v", "d", "d"])])
    assert tagger.tag(["run", "the"]) == ["v", "d"]
    more = Unigram()
    more.learn([(["a", "b", "c"], ["x", "x", "y"])])
    assert more.tag(["never"]) == ["x"]


def brute_force(tagger: HiddenMarkov, words: Sequence[str]) -> float:
    """The score of the best of all paths."""
    candidates = [tagger._emissions(word) for word in words]
    best = -math.inf
    for path in itertools.product(*candidates):
        score, before = 0.0, START
        for tag, emission in path:
            score += tagger._steps_to(tag)[before] + emission
            before = tag
        best = max(best, score)
    return best


def test_viterbi_finds_the_best_path() -> None:
    tagger = HiddenMarkov()
    tagger.learn(TRAIN[:60])
    for words, _ in TEST[:20]:
        words = words[:5]
        found, score, before = tagger.tag(words), 0.0, START
        for word, tag in zip(words, found, strict=True):
            score += tagger._steps_to(tag)[before] + dict(tagger._emissions(word))[tag]
            before = tag
        assert score == pytest.approx(brute_force(tagger, words))


def test_an_unknown_word_is_known_by_its_ending() -> None:
    sentences: list[Sentence] = [([f"{stem}ing", f"{stem}ly"], ["v", "r"]) for stem in ("go", "do", "se", "be")]
    for make in (HiddenMarkov, Perceptron):
        tagger = make()
        tagger.learn(sentences * 3)
        assert tagger.tag(["flying"]) == ["v"]
        assert tagger.tag(["flying", "madly"]) == ["v", "r"]


def test_the_perceptrons_weights_are_the_mean_over_all_tokens() -> None:
    """Against adding the weights up after every token."""
    tagger = Perceptron()
    total = np.zeros((5000, 16))
    for words, tags in TRAIN[:30]:
        for place in range(len(tags)):  # sentences of one word, so that no tag before plays a part
            tagger.learn([([words[place]], [tags[place]])])
            total[: tagger.weights.shape[0]] += tagger.weights
    tagger.tag(["x"])
    rows, columns = len(tagger.ids), len(tagger.names)
    assert tagger._mean is not None
    assert tagger._mean == pytest.approx(total[:rows, :columns] / tagger.steps, abs=1e-5)


def test_features_see_the_edges_of_a_sentence() -> None:
    first, last = (features_of(["One", "2-b"], place, START, START) for place in (0, 1))
    assert f"l{START}" in first
    assert f"r{START}" in last
    assert "s100" in first
    assert "s011" in last
