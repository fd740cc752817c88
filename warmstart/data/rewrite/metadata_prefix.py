"""Metadata conditioning: a short header before each document says where it comes from, e.g. "URL: en.wikipedia.org".

A model of mixed text has to guess a document's source from its words; a header tells it. The header is context alone,
never a target, so that the model learns to use it and not to predict it. Its price is its tokens, 5 to 15 per document:
at equal compute a model with headers reads that much less text. A stage of bare documents at the end (a tenth of the
training) gives a model that also works without (Gao et al. 2025, "Metadata Conditioning Accelerates Language Model
Pre-training", arXiv 2501.01956).

Use `data.begin_of_text: true` with it, so that a row is [BOS] header document [EOS] and the first token of the document
is a target with the header and without.
"""

from __future__ import annotations

import hashlib
import re
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar, Literal

import numpy as np
from pydantic import Field, field_validator

from warmstart.data.rewrite import Rewrite
from warmstart.data.rewrite.template import slots
from warmstart.data.steps import Columns, size
from warmstart.errors import DataError

TEMPLATE = "{name}: {value}\n\n"
UNKNOWN = "unknown"
SCHEME = re.compile(r"^[A-Za-z][A-Za-z0-9+.-]*://")
# What stands before a two-letter country code and is handed out by the registry itself: "co.uk", "com.br", "ac.jp".
SECOND_LEVEL = frozenset({"ac", "co", "com", "edu", "gob", "gouv", "gov", "go", "mil", "ne", "net", "or", "org"})


def header(value: str, name: str = "URL", template: str = TEMPLATE) -> str:
    """The text before a document, the same in training and at inference: "URL: en.wikipedia.org", and a blank line."""
    return template.format(name=name, value=value)


def url(value: str) -> str:
    """A URL without its scheme: "https://en.wikipedia.org/wiki/X" -> "en.wikipedia.org/wiki/X"."""
    return SCHEME.sub("", value)


def host(value: str) -> str:
    """Everything between the scheme and the path: "https://en.wikipedia.org/wiki/X" -> "en.wikipedia.org"."""
    return re.split(r"[/?#]", url(value), maxsplit=1)[0]


def suffix(value: str) -> str:
    """The end of a host under which names are registered: "en.wikipedia.org" -> "org", "a.b.co.uk" -> "co.uk".

    A rule, not the list of all public suffixes: the last label, and before a two-letter one also `com`, `co`, `ac`, ...
    """
    return ".".join(_labels(value)[-_suffix_labels(value) :])


def registered_domain(value: str) -> str:
    """The suffix and the label before it: "en.wikipedia.org" -> "wikipedia.org", "a.b.co.uk" -> "b.co.uk"."""
    return ".".join(_labels(value)[-_suffix_labels(value) - 1 :])


def _labels(value: str) -> list[str]:
    """The dotted parts of a host, without user and port; a numeric address is one part."""
    name = re.sub(r":\d*$", "", host(value).rpartition("@")[2])
    return [name] if re.fullmatch(r"[\d.]+|\[.*", name) else name.split(".")


def _suffix_labels(value: str) -> int:
    labels = _labels(value)
    return 2 if len(labels) > 2 and len(labels[-1]) == 2 and labels[-2] in SECOND_LEVEL else 1


def hashed(value: str) -> str:
    """A word of 16 hex digits that says nothing but is the same for the same value."""
    return hashlib.blake2b(value.encode(), digest_size=8, person=b"warmstart-hash").hexdigest()


KINDS: dict[str, Callable[[str], str]] = {
    "host": host,
    "url": url,
    "suffix": suffix,
    "registered-domain": registered_domain,
    "plain": str,
}


@dataclass(frozen=True)
class Values:
    """What the headers of all rows show, rare values left out.

    Attributes:
        names: the values in alphabetical order.
        places: the place of each value in `names`.
        ends: `(values,)` int64, the running sum of how many rows show each.
    """

    names: list[str]
    places: dict[str, int]
    ends: np.ndarray

    @classmethod
    def of(cls, counts: Counter[str], min_count: int) -> Values:
        """From how many rows have each value; one of fewer than `min_count` rows is counted as unknown."""
        shown: Counter[str] = Counter()
        for value, count in counts.items():
            shown[value if count >= min_count else UNKNOWN] += count
        names = sorted(shown)
        places = {name: place for place, name in enumerate(names)}
        return cls(names, places, np.cumsum([shown[name] for name in names], dtype=np.int64))

    def known(self, value: str) -> str:
        """The value itself where it is frequent."""
        return value if value in self.places else UNKNOWN

    def other(self, value: str, draw: float) -> str:
        """Another value, as likely as it is frequent; `draw` (0 to 1) decides.

        Raises:
            DataError: there is no other value.
        """
        place = self.places[value]
        own_end = int(self.ends[place])
        own = own_end - (int(self.ends[place - 1]) if place else 0)
        others = int(self.ends[-1]) - own
        if not others:
            raise DataError(f"every row has the value '{value}': there is no other one to show instead")
        row = int(draw * others)
        row += own if row >= own_end - own else 0  # step over the rows that have this value
        return self.names[int(np.searchsorted(self.ends, row, side="right"))]


class MetadataPrefix(Rewrite):
    """A header before each document, from one of the row's columns."""

    type: Literal["metadata-prefix"] = "metadata-prefix"
    column: str = Field("url", description="Where the value comes from: url, topic, year, genre, path, ...")
    kind: Literal["host", "url", "suffix", "registered-domain", "plain"] = Field(
        "host", description="What of the value is shown; 'plain' shows all of it."
    )
    label: str = Field("URL", description="What the header calls the value: {name} in the template.")
    template: str = Field(TEMPLATE, description="The header, with {name} and {value}.")
    hashed: bool = Field(False, description="Show a word without meaning that is the same for the same value.")
    min_count: Annotated[int, Field(ge=1)] = Field(1, description="A value of fewer rows is shown as 'unknown'.")
    missing: Literal["unknown", "raise"] = Field("unknown", description="What to do with a row without a value.")
    shuffled: bool = Field(False, description="Show another row's value: a control in which the header is wrong.")
    share: Annotated[float, Field(ge=0, le=1)] = Field(1.0, description="Only this share of the rows gets a header.")
    loss_on_metadata: bool = Field(False, description="Make the header part of the text, and so a target.")
    fits: ClassVar[bool] = True  # also so that a column that no row has is an error, and not 'unknown' everywhere

    @field_validator("template")
    @classmethod
    def _has_a_value(cls, template: str) -> str:
        found = slots(template)
        if "value" not in found or set(found) - {"name", "value"}:
            raise ValueError(f"a header's template has the slot {{value}}, and {{name}} at most; found '{template}'")
        return template

    def measure(self, columns: Columns) -> Columns:
        counts = Counter(self._value(value) or "" for value in self._given(columns) if _is_plain(value))
        return {"value": list(counts), "count": list(counts.values())}

    def fit(self, measured: Iterator[Columns]) -> Values:
        """How often each value occurs.

        Raises:
            DataError: no row at all has a value.
        """
        counts = _added(measured)
        missing = counts.pop("", 0)
        if missing and not counts:
            raise DataError(f"rewrite metadata-prefix: none of the {missing:,} rows has a value in '{self.column}'")
        if missing:
            counts[UNKNOWN] += missing
        return Values.of(counts, self.min_count)

    def apply(self, columns: Columns, fitted: Any = None) -> Columns:
        values = [self._shown(value, fitted) for value in self._given(columns)]
        if self.shuffled:
            values = [fitted.other(v, draw) for v, draw in zip(values, _draws(columns, "other"), strict=True)]
        headers = [header(hashed(value) if self.hashed else value, self.label, self.template) for value in values]
        if self.share < 1:
            headers = [h if d < self.share else "" for h, d in zip(headers, _draws(columns, "share"), strict=True)]
        if self.loss_on_metadata:
            return {**columns, "text": [front + text for front, text in zip(headers, columns["text"], strict=True)]}
        before = columns.get("context") or [None] * size(columns)  # of an earlier step: one header after another
        return {**columns, "context": [(old or "") + new for old, new in zip(before, headers, strict=True)]}

    def _given(self, columns: Columns) -> list[Any]:
        return columns.get(self.column) or [None] * size(columns)

    def _value(self, value: Any) -> str | None:
        """What is shown of a row's value, in one line; None where there is nothing."""
        if value is None:
            return None
        if not _is_plain(value):
            raise DataError(f"column '{self.column}' must hold text or a number, found {type(value).__name__}")
        return KINDS[self.kind](" ".join(str(value).split())) or None

    def _shown(self, value: Any, values: Values) -> str:
        found = self._value(value)
        if found is None:
            if self.missing == "raise":
                raise DataError(f"no value in column '{self.column}'")
            return UNKNOWN
        return values.known(found)


def _is_plain(value: Any) -> bool:
    return value is None or isinstance(value, str | int | float)


def _added(measured: Iterator[Columns]) -> Counter[str]:
    counts: Counter[str] = Counter()
    for columns in measured:
        for value, count in zip(columns["value"], columns["count"], strict=True):
            counts[value] += count
    return counts


def _draws(columns: Columns, purpose: str) -> list[float]:
    """For each row a number from 0 to 1 that depends on the row alone."""
    return [_draw(f"{purpose}\0{source}\0{i}") for source, i in zip(columns["source"], columns["id"], strict=True)]


def _draw(text: str) -> float:
    mark = hashlib.blake2b(text.encode(), digest_size=7, person=b"warmstart-header").digest()
    return int.from_bytes(mark, "little") / 2**56
