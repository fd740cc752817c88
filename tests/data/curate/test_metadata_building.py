"""Metadata lists from WordNet files and n-grams."""

from __future__ import annotations

import math
import random
from collections import Counter
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from warmstart.data.curate.metadata_building import (
    bigram_counts,
    build_metadata,
    connected_pairs,
    frequent_words,
    mutual_information,
    read_metadata,
    unigram_counts,
    wordnet_names,
)
from warmstart.data.curate.metadata_matching import Matcher
from warmstart.errors import DataError

TEXTS = ["New York, New York!", "a new day in New York", "a day, a night", "the day after a night"]


def test_reads_the_names_of_wordnet(tmp_path: Path) -> None:
    lines = {
        "data.noun": "  1 a licence\n00001740 03 n 02 hot_dog 0 frank 0 001 @ 00001930 n 0000 | a gloss\n",
        "data.verb": "00001741 29 v 0b " + " ".join(f"verb_{n} 0" for n in range(11)) + " 000 00 | eleven lemmas\n",
        "data.adj": "00001742 00 a 01 galore(ip) 0 000 | in great numbers\n",
        "data.adv": "00001743 02 r 01 hot_dog 0 000 | the same name again\n",
    }
    for name, text in lines.items():
        (tmp_path / name).write_text(text, encoding="latin-1")
    assert wordnet_names(tmp_path) == ["galore", "hot dog", "verb 0"]
    every = wordnet_names(tmp_path, all_lemmas=True)
    assert len(every) == 14
    assert {"frank", "verb 10"} <= set(every)
    with pytest.raises(DataError, match=r"data\.noun: cannot be read"):
        wordnet_names(tmp_path / "nowhere")


def test_counts_words_and_pairs_as_the_matcher_sees_them() -> None:
    words, pairs = unigram_counts(TEXTS), bigram_counts(TEXTS)
    assert words["New"] == 3
    assert words[","] == 2
    assert pairs["New York"] == 3
    assert "York New" not in pairs  # ", " stands between them
    assert "York ," in pairs


@given(st.lists(st.text("ab ,.\n", max_size=12), min_size=1, max_size=6))
def test_a_pair_or_word_of_a_text_is_found_in_it(texts: list[str]) -> None:
    for text in texts:
        terms = [*unigram_counts([text]), *bigram_counts([text])]
        if terms:
            assert Matcher(terms).match(text) == list(range(len(terms)))


def test_frequent_words_keep_to_count_and_budget() -> None:
    words = Counter({"a": 9, "b": 7, "c": 7, ",": 50, "rare": 1})
    assert frequent_words(words, at_least=2) == ["a", "b", "c"]
    assert frequent_words(words, at_least=2, most=2) == ["a", "b"]
    assert frequent_words(words) == []


def test_pairs_come_by_mutual_information() -> None:
    assert mutual_information(3, 3, 3, 24) == math.log2(8)
    words, pairs = unigram_counts(TEXTS), bigram_counts(TEXTS)
    assert connected_pairs(pairs, words, at_least=2) == ["New York", "a night"]
    assert connected_pairs(pairs, words, at_least=2, most=1) == ["New York"]
    bits = math.log2(3 * words.total() / 9)
    assert "New York" in connected_pairs(pairs, words, information=bits - 1e-9)
    assert "New York" not in connected_pairs(pairs, words, information=bits + 1e-9)
    assert all("," not in pair for pair in connected_pairs(pairs, words))


def test_groups_are_joined_in_order_without_repeats_up_to_the_budget() -> None:
    groups = [["dog", "cat", "", "!"], ["cat", "cow", "ox"], ["ant"]]
    assert build_metadata(*groups) == ["dog", "cat", "cow", "ox", "ant"]
    assert build_metadata(*groups, budget=3) == ["dog", "cat", "cow"]


def test_the_order_of_the_texts_does_not_matter() -> None:
    def made(texts: list[str]) -> list[str]:
        words, pairs = unigram_counts(texts), bigram_counts(texts)
        return build_metadata(frequent_words(words, at_least=1), connected_pairs(pairs, words, most=5))

    shuffled = random.Random(0).sample(TEXTS, len(TEXTS))
    assert made(shuffled) == made(TEXTS)


def test_reads_one_entry_a_line(tmp_path: Path) -> None:
    path = tmp_path / "metadata.txt"
    path.write_bytes("cat\r\nhot dog \n中国".encode())
    assert read_metadata(path) == ["cat", "hot dog", "中国"]
    path.write_bytes(b"cat\n\ndog\n")
    with pytest.raises(DataError, match="line 2: an empty entry"):
        read_metadata(path)
    path.write_bytes(b"cat\xff")
    with pytest.raises(DataError, match="not valid UTF-8"):
        read_metadata(path)
    with pytest.raises(DataError, match="cannot be read"):
        read_metadata(tmp_path / "none.txt")
