"""A second text beside each row's own."""

from __future__ import annotations

import pytest
from corpora import GivenRows
from docstring_examples import run_example
from pydantic import ValidationError

from warmstart.data.documents import all_rows
from warmstart.data.rewrite.pair import Pair
from warmstart.data.steps import Columns
from warmstart.errors import DataError
from warmstart.recipe_data import Data

WORDNET: Columns = {
    "text": ["a living thing", "a tame animal", "a wild animal", "quickly"],
    "id": ["n1", "n2", "n3", "r4"],
    "words": [["being"], ["pet", "darling"], ["beast"], ["fast"]],
    "hypernyms": [None, ["n1"], ["n2", "n1"], []],
}


def test_the_text_of_the_row_above() -> None:
    step = Pair(template="{words}: {linked}", link="hypernyms")
    fitted = step.fit(iter([step.measure({k: v[:2] for k, v in WORDNET.items()}), step.measure(WORDNET)]))
    made = step.apply(WORDNET, fitted)
    assert made["id"] == ["n2", "n3"]  # rows that are linked to nothing are left out
    assert made["positive"] == ["pet, darling: a living thing", "beast: a tame animal"]
    assert made["text"] == ["a tame animal", "a wild animal"]
    assert step.apply(WORDNET, {})["positive"] == []  # what they are linked to is not there


def test_columns_of_the_row_alone() -> None:
    step = Pair(template="{words} ({id})", column="answer")
    assert step.apply(WORDNET, step.fit(iter([step.measure(WORDNET)])))["answer"][1] == "pet, darling (n2)"
    numbers = Pair(template="{year}")
    assert numbers.apply({"text": ["a", "b"], "id": ["1", "2"], "year": [0, None]})["positive"] == ["0"]


def test_in_a_stage_links_cross_the_split_and_pairs_do_not() -> None:
    rows = [{"text": f"thing {n}", "id": str(n), "up": str(n // 2), "name": f"name {n}"} for n in range(1, 60)]
    step = {"type": "pair", "template": "{name}: {linked}", "link": "up"}
    data = Data(source="python-stdlib", packing="rows", rewrite=[step], split={"validation": 0.3})
    found = list(all_rows(data.model_copy(update={"source": GivenRows(given=rows)})))
    assert len(found) == 58  # the first one is linked to nothing
    sides = {row["id"]: held_out for _, held_out, row in found}
    assert set(sides.values()) == {True, False}
    for _, _, row in found:
        assert row["positive"] == f"name {row['id']}: thing {row['up']}"
    assert any(sides[row["id"]] != sides[row["up"]] for _, _, row in found if row["up"] in sides)


def test_what_cannot_be() -> None:
    for settings in ({"template": "{linked}"}, {"template": "{text}", "link": "up"}):
        with pytest.raises(ValidationError, match="belong together"):
            Pair(**settings)
    with pytest.raises(ValidationError, match="names no column"):
        Pair(template="constant")
    with pytest.raises(DataError, match=r"no column 'hypernym' \(did you mean 'hypernyms'"):
        Pair(template="{linked}", link="hypernym").apply(WORDNET, {})


def test_example() -> None:
    assert run_example(Pair, Pair=Pair)["pairs"]["positive"] == ["pet: animal"]
