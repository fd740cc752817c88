"""YAML text to values and back."""

from __future__ import annotations

import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from warmstart.recipe_text import read_text, write_text

text = st.text(st.characters(exclude_categories=["Cs"]), max_size=12) | st.sampled_from(
    [
        "3e13",
        "010",
        "1:30",
        "yes",
        "No",
        "~",
        "",
        "null",
        "2020-01-01",
        ".inf",
        "1_0",
        "0x1f",
        "0o7",
        "<<",
        "=",
        "- a",
        "a: b",
        "#",
    ]
)
scalars = st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | st.floats(allow_nan=False) | text
values = st.recursive(
    scalars, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(text, inner, max_size=4), max_leaves=20
)


@settings(max_examples=200, deadline=None)
@given(values)
def test_what_is_written_reads_back_equal_for_us_and_for_others(value):
    written = write_text(value)
    assert read_text(written, "x").values == value
    assert yaml.safe_load(written) == value


def test_every_value_has_a_place():
    document = read_text("a: 1\nb:\n  - x\n  - {c: 2,\n     d: 3}\n", "x")
    assert document.places == {
        (): (1, 1),
        ("a",): (1, 1),
        ("b",): (2, 1),
        ("b", 0): (3, 5),
        ("b", 1): (4, 5),
        ("b", 1, "c"): (4, 6),
        ("b", 1, "d"): (5, 6),
    }


def test_an_empty_text_is_none():
    assert read_text("", "x").values is None
    assert read_text("# nothing\n", "x").values is None


def test_own_keys_win_over_merged_ones_whatever_their_order():
    document = read_text("a: &a {x: 1, y: 1}\nb: &b {y: 2, z: 2}\nc: {z: 3, <<: [*a, *b]}\n", "x")
    assert document.values["c"] == {"x": 1, "y": 1, "z": 3}
    assert document.places[("c", "y")] == (1, 14)
    assert document.places[("c", "z")] == (3, 5)
