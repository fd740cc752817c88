"""Headers from metadata: what they say, and that no row's header depends on its batch."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from corpora import GivenRows
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from warmstart.data.curated import rewritten
from warmstart.data.engine import Engine
from warmstart.data.rewrite.metadata_prefix import (
    MetadataPrefix,
    Values,
    hashed,
    header,
    host,
    registered_domain,
    suffix,
    url,
)
from warmstart.data.steps import Columns
from warmstart.errors import DataError
from warmstart.recipe_data import Data


def columns_of(urls: list[Any], **more: list[Any]) -> Columns:
    count = len(urls)
    return {
        "text": [f"text {n}" for n in range(count)],
        "source": ["a"] * count,
        "id": [str(n) for n in range(count)],
        "row": list(range(count)),
        "url": urls,
        **more,
    }


def headers(columns: Columns, **settings: Any) -> list[str]:
    step = MetadataPrefix(**settings)
    return step.apply(columns, step.fit(iter([step.measure(columns)])))["context"]


@pytest.mark.parametrize(
    ("given_url", "expected"),
    [
        ("https://en.wikipedia.org/wiki/X", "en.wikipedia.org"),
        ("http://a.b.co.uk/", "a.b.co.uk"),
        ("http://a.b.co.uk", "a.b.co.uk"),
        ("www.example.com/a/b", "www.example.com"),
        ("example.com", "example.com"),
        ("HTTPS://Example.com/a", "Example.com"),
        ("https://example.com?q=http://other.org/", "example.com"),
        ("https://example.com#part", "example.com"),
        ("git+ssh://example.com/x", "example.com"),
        ("https://example.com:8080/x", "example.com:8080"),
    ],
)
def test_the_host_of_a_url(given_url: str, expected: str) -> None:
    assert host(given_url) == expected
    assert host(host(given_url)) == expected


@pytest.mark.parametrize(
    ("given_url", "domain", "end"),
    [
        ("https://en.wikipedia.org/wiki/X", "wikipedia.org", "org"),
        ("http://a.b.co.uk/", "b.co.uk", "co.uk"),
        ("http://www.example.de", "example.de", "de"),
        ("http://x.com.br:80/", "x.com.br", "com.br"),
        ("http://co.uk/", "co.uk", "uk"),
        ("http://user@www.example.com:80/a", "example.com", "com"),
        ("http://127.0.0.1:80/", "127.0.0.1", "127.0.0.1"),
        ("localhost", "localhost", "localhost"),
    ],
)
def test_the_registered_domain_and_its_suffix(given_url: str, domain: str, end: str) -> None:
    assert registered_domain(given_url) == domain
    assert suffix(given_url) == end
    assert url("https://en.wikipedia.org/wiki/X") == "en.wikipedia.org/wiki/X"


def test_the_header_byte_by_byte() -> None:
    assert header("en.wikipedia.org") == "URL: en.wikipedia.org\n\n"
    assert headers(columns_of(["https://en.wikipedia.org/wiki/X"])) == ["URL: en.wikipedia.org\n\n"]
    found = headers(columns_of(["x"], year=[1999]), column="year", kind="plain", label="Year")
    assert found == ["Year: 1999\n\n"]
    found = headers(
        columns_of(["x"], genre=[" sea \n\n stories "]), column="genre", template="<{value}> ", kind="plain"
    )
    assert found == ["<sea stories> "]  # a blank line inside the value would end the header


def test_missing_values_are_unknown_or_an_error() -> None:
    columns = columns_of(["http://a.org/1", None, "", "  ", "http://"])
    assert headers(columns) == ["URL: a.org\n\n"] + ["URL: unknown\n\n"] * 4
    with pytest.raises(DataError, match="no value in column 'url'"):
        headers(columns, missing="raise")
    with pytest.raises(DataError, match="none of the 5 rows has a value in 'ulr'"):
        headers(columns, column="ulr")  # a misspelt column must not make everything unknown
    with pytest.raises(DataError, match="must hold text or a number, found list"):
        headers(columns_of(["a.org", ["b.org"]]))


def test_rare_values_are_unknown() -> None:
    columns = columns_of(["a.org/1", "a.org/2", "b.org", "c.org", "c.org", None])
    assert [h[5:-2] for h in headers(columns, min_count=2)] == [
        "a.org",
        "a.org",
        "unknown",
        "c.org",
        "c.org",
        "unknown",
    ]


def test_a_hash_is_the_same_word_for_the_same_host_and_says_nothing() -> None:
    found = [h[5:-2] for h in headers(columns_of(["a.org/1", "a.org/2", "b.org"]), hashed=True)]
    assert found == [hashed("a.org"), hashed("a.org"), hashed("b.org")]
    assert found[0] != found[2]
    assert len(found[0]) == 16
    assert "a.org" not in found[0]


def test_one_header_after_another_and_the_text_stays() -> None:
    columns = columns_of(["a.org", "b.org"], topic=["x", "y"])
    first, second = MetadataPrefix(), MetadataPrefix(column="topic", kind="plain", label="Topic")
    for step in (first, second):
        columns = step.apply(columns, step.fit(iter([step.measure(columns)])))
    assert columns["context"] == ["URL: a.org\n\nTopic: x\n\n", "URL: b.org\n\nTopic: y\n\n"]
    assert columns["text"] == ["text 0", "text 1"]


def test_a_header_that_is_a_target_is_part_of_the_text() -> None:
    step, columns = MetadataPrefix(loss_on_metadata=True), columns_of(["a.org"])
    changed = step.apply(columns, step.fit(iter([step.measure(columns)])))
    assert changed["text"] == ["URL: a.org\n\ntext 0"]
    assert "context" not in changed


@settings(deadline=None)
@given(hosts=st.lists(st.sampled_from("abcdef"), min_size=2, max_size=40), min_count=st.integers(1, 3))
def test_a_shuffled_header_is_always_another_rows(hosts: list[str], min_count: int) -> None:
    columns = columns_of(list(hosts))
    own = headers(columns, min_count=min_count)
    if len(set(own)) == 1:
        with pytest.raises(DataError, match="there is no other one"):
            headers(columns, min_count=min_count, shuffled=True)
        return
    other = headers(columns, min_count=min_count, shuffled=True)
    assert set(other) <= set(own)
    assert all(mine != shown for mine, shown in zip(own, other, strict=True))
    assert other == headers(columns, min_count=min_count, shuffled=True)


def test_shuffled_headers_are_as_frequent_as_real_ones() -> None:
    values = Values.of(Counter({"a": 10, "b": 60, "c": 30}), 1)
    draws = [(n + 0.5) / 4000 for n in range(4000)]
    found = Counter(values.other("a", draw) for draw in draws)
    assert found["b"] / 4000 == pytest.approx(60 / 90, abs=1e-3)
    assert set(found) == {"b", "c"}
    assert {values.other("c", draw) for draw in (0.0, 1 - 2**-53)} == {"a", "b"}


def test_a_share_of_the_rows_gets_a_header() -> None:
    columns = columns_of(["a.org", "b.org"] * 1000)
    few, most = headers(columns, share=0.2), headers(columns, share=0.9)
    assert set(few) == {"", "URL: a.org\n\n", "URL: b.org\n\n"}
    assert sum(map(bool, most)) / 2000 == pytest.approx(0.9, abs=0.03)
    assert all(many for one, many in zip(few, most, strict=True) if one)
    assert not any(headers(columns, share=0.0))


@pytest.mark.parametrize("template", ["{name}: \n\n", "{value} {url}", "{value.real}", "{"])
def test_a_template_needs_the_value_and_nothing_else(template: str) -> None:
    with pytest.raises(ValidationError, match="template"):
        MetadataPrefix(template=template)


def test_the_same_rows_in_one_process_and_in_two(tmp_path: Path) -> None:
    rows = [
        {"text": f"text {n}", "url": f"https://host{n % 5}.org/{n}" if n % 7 else None, "more": n} for n in range(300)
    ]
    for shuffled in (False, True):
        data = Data.model_validate(
            {
                "source": GivenRows(given=rows),
                "rewrite": [{"type": "metadata-prefix", "shuffled": shuffled, "min_count": 50}],
            }
        )
        found = []
        for name, engine in (("one", Engine()), ("two", Engine(workers=2, batch=17))):
            result = rewritten(data, engine=engine, cache_dir=tmp_path / f"{name}{shuffled}")
            found.append(json.dumps(list(result.batches(0, 1000))))
        assert found[0] == found[1]
        assert '"context": ["URL: ' in found[0]
