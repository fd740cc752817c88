"""Filters by length, published rules and language: what they drop, and that they say why."""

from __future__ import annotations

import inspect
import sys
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from warmstart.data.curate import language, quality_filter
from warmstart.data.curate.language import Language, language_of
from warmstart.data.curate.length import Length
from warmstart.data.curate.near_duplicates import NearDuplicates
from warmstart.data.curate.quality_filter import LIMITS, QualityFilter, RepetitionFilter, sentences, verdict, words
from warmstart.data.steps import Counted, RowStep
from warmstart.errors import RecipeError, UserError

PROSE = (
    "The river had risen in the night, and the people of the town came down to look at it with their children. "
    "Nobody could say who had opened the gates, but that was a question to be asked of the engineers. "
    "They have worked here for many years, and they know every stone of the old wall that holds the water back. "
    "In the end it was the rain that stopped, and not the river. What will happen to the fields is not known yet."
)


def rows(texts: list[str]) -> dict[str, Any]:
    return {"text": texts, "row": list(range(len(texts)))}


def counted(columns: Any) -> dict[str, int]:
    assert isinstance(columns, Counted)
    return dict(+columns.counts)


@given(st.lists(st.text(alphabet="ab \n", max_size=12)), st.integers(0, 4), st.integers(1, 3))
def test_length_keeps_what_is_inside_and_counts_the_rest(texts: list[str], low: int, more: int) -> None:
    found = Length(min_words=low, max_words=low + more).apply(rows(texts))
    assert found["text"] == [text for text in texts if low <= len(text.split()) <= low + more]
    assert len(texts) == len(found["text"]) + sum(counted(found).values())
    found = Length(min_characters=low, max_characters=low + more).apply(rows(texts))
    assert found["text"] == [text for text in texts if low <= len(text) <= low + more]


def test_length_names_its_reasons() -> None:
    found = Length(min_characters=2, max_words=2).apply(rows(["a", "a b", "a b c"]))
    assert (found["row"], counted(found)) == ([1], {"too_short": 1, "too_long": 1})
    with pytest.raises(ValueError, match="min_words 5 is more than max_words 2"):
        Length(min_words=5, max_words=2)


def test_words_are_words_addresses_and_marks() -> None:
    text = "U.S. don't, see http://a.org/b?c=1 or me@b.org: x86_64 ... ---- ____ (3.5)!!"
    expected = "U.S . don't , see http://a.org/b?c=1 or me@b.org : x86_64 ... ---- _ _ _ _ ( 3.5 ) ! !"
    assert words(text) == expected.split()
    assert sentences('One. "Two!" And three? four') == ["One.", '"Two!"', "And three?", "four"]


@given(st.text())
def test_words_lose_nothing_visible(text: str) -> None:
    assert "".join("".join(words(text)).split()) == "".join(text.split())


def test_the_limits_are_datatroves() -> None:
    filters = pytest.importorskip("datatrove.pipeline.filters")
    kinds = [
        filters.GopherQualityFilter,
        filters.C4QualityFilter,
        filters.FineWebQualityFilter,
        filters.GopherRepetitionFilter,
    ]
    for kind, (rules, limits) in zip(
        kinds, [(r, LIMITS[r]) for r in ("gopher", "c4", "fineweb", "gopher-repetition")], strict=True
    ):
        assert set(limits) <= set(inspect.signature(kind).parameters), rules
        assert type(quality_filter._filter(rules, ())) is kind


def test_quality_rules_keep_prose_and_say_what_is_wrong_with_the_rest() -> None:
    pytest.importorskip("datatrove")
    assert verdict(PROSE, "gopher") == (PROSE, "")
    assert verdict("Home\nNews\nLogin", "gopher")[1] == "short_doc"
    assert verdict("one two " * 40, "gopher")[1] == "enough_stop_words"
    assert verdict("of the and to 12 34 56 78 " * 20, "gopher")[1] == "below_avg_threshold"
    assert verdict("\n".join(f"- {line}" for line in PROSE.split(".") * 3), "gopher")[1] == "too_many_bullets"
    assert (
        verdict(PROSE + " {", "c4")[1] == "too_few_sentences"
    )  # its last line has no end: the line goes, not the text
    assert verdict(PROSE + " {.", "c4")[1] == "curly_bracket"
    assert verdict(f"{PROSE} Five.\nMenu\n", "c4") == (f"{PROSE} Five.", "")
    assert verdict("a menu\nof words\n", "fineweb")[1] == "line_punct_ratio"
    assert verdict(PROSE, "gopher-repetition") == (PROSE, "")
    assert verdict(f"{PROSE}\n{PROSE}", "gopher-repetition")[1] == "dup_line_frac"
    assert verdict("again and " * 30, "gopher-repetition")[1].startswith("top_")
    for rules in LIMITS:
        assert verdict(" \n", rules) == (None, "no_words")


def test_quality_filters_count_reasons_and_take_limits() -> None:
    pytest.importorskip("datatrove")
    short = "the sea of the night"
    found = QualityFilter(rules=["gopher", "c4"]).apply(rows([PROSE + " Five.\nMenu", short, PROSE + " {."]))
    assert found["text"] == [PROSE + " Five."]
    assert counted(found) == {"short_doc": 1, "curly_bracket": 1}
    assert QualityFilter(limits={"min_doc_words": 3}).apply(rows([short]))["text"] == [short]
    repeated = RepetitionFilter(limits={"dup_line_frac": 0.9, "dup_para_char_frac": 0, "dup_line_char_frac": 0})
    assert counted(repeated.apply(rows([f"{PROSE}\n{PROSE}"]))) == {"duplicated_5_n_grams": 1}
    with pytest.raises(ValueError, match=r"unknown limit 'min_doc_word' \(did you mean 'min_doc_words'\?\)"):
        QualityFilter(limits={"min_doc_word": 3})
    with pytest.raises(ValueError, match="unknown limit 'min_doc_words'"):
        QualityFilter(rules=["c4"], limits={"min_doc_words": 3})


def test_languages_are_found_written_and_kept() -> None:
    pytest.importorskip("py3langid")
    texts = [
        PROSE,
        "Der Fluss war in der Nacht gestiegen, und die Leute kamen, um ihn zu sehen.",
        "La rivière montait.",
    ]
    assert [language_of(text)[0] for text in texts] == ["en", "de", "fr"]
    assert language_of(texts[2], ("en", "de"))[0] in ("en", "de")
    found = Language(keep=["de", "fr"], among=["en", "de", "fr"]).apply(rows(texts))
    assert (found["row"], found["language"], counted(found)) == ([1, 2], ["de", "fr"], {"other_language": 1})
    assert counted(Language(minimum=1.0).apply(rows(["ok ok"]))) == {"unsure": 1}
    assert Language().apply(rows(texts))["language"] == ["en", "de", "fr"]
    with pytest.raises(RecipeError, match="unknown 'english'"):
        Language(keep=["english"]).apply(rows(texts))


@pytest.mark.parametrize("part", [QualityFilter(), RepetitionFilter(), Language(), NearDuplicates()])
def test_a_missing_library_is_named(part: RowStep, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("datatrove", "datatrove.pipeline", "py3langid", "py3langid.langid", "rensa"):
        monkeypatch.setitem(sys.modules, name, None)
    quality_filter._filter.cache_clear()
    language._model.cache_clear()
    language._identifier.cache_clear()
    with pytest.raises(UserError, match=r"needs? (datatrove|py3langid|rensa): pip install 'warmstart\[data\]'"):
        (part.measure if part.fits else part.apply)(rows([PROSE]))
