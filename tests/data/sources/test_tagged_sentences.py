"""Made sentences with tags."""

from __future__ import annotations

from collections import Counter

import numpy as np

from warmstart.data.sources.tagged_sentences import LENGTHS, TaggedSentences, lexicon


def test_every_word_has_a_tag_and_the_text_is_the_words() -> None:
    rows = list(TaggedSentences(size=50).rows())
    assert len(rows) == 50
    assert len({row["id"] for row in rows}) == 50
    for row in rows:
        assert len(row["words"]) == len(row["tags"])
        assert LENGTHS[0] <= len(row["words"]) <= LENGTHS[1]
        assert row["text"] == " ".join(row["words"])


def test_the_same_settings_give_the_same_rows() -> None:
    one, again, other = (list(TaggedSentences(size=20, seed=seed).rows()) for seed in (1, 1, 2))
    assert one == again
    assert one != other
    assert TaggedSentences(size=20).fingerprint() != TaggedSentences(size=21).fingerprint()
    longer = list(TaggedSentences(size=30, seed=1).rows())
    assert longer[:20] == one  # a smaller size is a prefix


def test_words_are_few_and_frequent_or_many_and_rare_and_some_have_two_tags() -> None:
    words, emission = lexicon(5, 200, np.random.default_rng(0))
    assert emission.sum(1).round(9).tolist() == [1] * 5
    assert ((emission > 0).sum(0) >= 1).all()
    assert 5 < ((emission > 0).sum(0) == 2).sum() < 30
    assert len({word[-2:] for word in words}) == 5
    seen = Counter(word for row in TaggedSentences(size=300, vocabulary=200, tags=5).rows() for word in row["words"])
    counts = sorted(seen.values(), reverse=True)
    assert counts[0] > 20 * counts[-1]
