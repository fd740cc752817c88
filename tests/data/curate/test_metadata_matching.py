"""The matcher against the definition: a spaced entry is a part of the spaced text."""

from __future__ import annotations

import pickle
import re
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from warmstart.data.curate.metadata_matching import Matcher, is_unspaced, spacing
from warmstart.errors import DataError, UserError

# Few characters, so that entries do occur: letters, blanks, wrapped and other marks, scripts without spaces.
SYMBOLS = "ab c,.;:?!`'-\t\n\r\x0b\u00a0é中国カไทย。"
texts = st.text(SYMBOLS, max_size=40)
metadata = st.lists(st.text(SYMBOLS, min_size=1, max_size=6), min_size=1, max_size=30, unique=True)


def naive_spacing(text: str) -> str:
    """The card's words, one after the other."""
    text = re.sub(r"([,.;:?!`])", r" \1 ", " " + text + " ")
    return re.sub(r"[\t\n\r]", " ", text)


def naive(entries: list[str], text: str, unspaced_scripts: bool = False) -> list[int]:
    """Every entry looked for on its own."""
    found = []
    for number, entry in enumerate(entries):
        left = "" if unspaced_scripts and is_unspaced(entry[0]) else " "
        right = "" if unspaced_scripts and is_unspaced(entry[-1]) else " "
        if left + entry + right in naive_spacing(text):
            found.append(number)
    return found


@given(texts)
def test_spacing_is_what_the_definition_says(text: str) -> None:
    assert spacing(text) == naive_spacing(text)


@given(metadata, texts)
def test_finds_what_the_definition_finds(entries: list[str], text: str) -> None:
    assert Matcher(entries).match(text) == naive(entries, text)


@given(metadata, texts)
def test_finds_what_the_definition_finds_inside_of_unspaced_scripts(entries: list[str], text: str) -> None:
    assert Matcher(entries, unspaced_scripts=True).match(text) == naive(entries, text, True)


@given(st.data())
def test_finds_every_entry_that_was_cut_out_of_the_text(data: st.DataObject) -> None:
    """Pieces between two spaces of a spaced text, however many words: the case that random entries rarely hit."""
    text = data.draw(st.text("ab ,", min_size=1, max_size=30))
    spaced = spacing(text)
    places = [n for n, char in enumerate(spaced) if char == " "]
    pieces = {spaced[i + 1 : j] for i in places for j in places if j > i + 1}
    entries = data.draw(st.permutations([*sorted(pieces), "zz", "a zz"]))  # a shorter one after a longer one, too
    found = Matcher(entries).match(text)
    assert {entries[number] for number in found} == pieces
    assert found == naive(entries, text)


def test_an_entry_is_a_word_of_its_own() -> None:
    matcher = Matcher(["cat", "cat dog", "dog"])
    for text in ("a cat.", "(x) cat, dog", "cat", "\tcat\n", "dogs! cat?"):
        assert 0 in matcher.match(text), text
    for text in ("concatenate", "Cat", "cat's", "cat-like", "(cat)", "", " "):
        assert matcher.match(text) == [], text
    assert matcher.match("cat dog cat") == [0, 1, 2]  # each once
    assert matcher.match("cat, dog") == [0, 2]


def test_unspaced_scripts_are_searched_inside_of_words() -> None:
    entries = ["中国", "国", "cat", "C++", "カメラ"]
    assert Matcher(entries).match("我是中国人 cat C++11 デジタルカメラ") == [2]
    matcher = Matcher(entries, unspaced_scripts=True)
    assert matcher.match("我是中国人 cat C++11 デジタルカメラ") == [0, 1, 2, 3, 4]
    assert matcher.match("concat中国 XC++") == [0, 1]  # Latin sides still end words
    assert [is_unspaced(char) for char in "中ไខ。,'カ"] == [True] * 7
    assert [is_unspaced(char) for char in "aé1 한"] == [False] * 5  # Korean has spaces


@pytest.mark.parametrize("unspaced_scripts", [False, True])
def test_a_matcher_travels_between_processes(unspaced_scripts: bool) -> None:
    matcher = Matcher(["cat", "中国", "a b"], unspaced_scripts=unspaced_scripts)
    again = pickle.loads(pickle.dumps(matcher))
    for text in ("cat", "x中国", "a b cat"):
        assert again.match(text) == matcher.match(text)


@pytest.mark.parametrize(
    ("entries", "message"),
    [
        ([], "empty"),
        (["a", ""], "entry 1 is empty"),
        (["a", "b", "a"], "entry 2 repeats entry 0: 'a'"),
        (["a", 3], "entry 1 must be text, found int"),
    ],
)
def test_bad_metadata_is_refused(entries: list[str], message: str) -> None:
    with pytest.raises(DataError, match=message):
        Matcher(entries)


def test_says_which_library_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ahocorasick_rs", None)
    assert Matcher(["cat", "中"]).match("cat") == [0]
    assert Matcher(["cat"], unspaced_scripts=True).match("cat") == [0]  # nothing needs it
    with pytest.raises(UserError, match=r"ahocorasick_rs: pip install 'warmstart\[data\]'"):
        Matcher(["cat", "中"], unspaced_scripts=True)
