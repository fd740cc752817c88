"""The part `metadata-filter`: keep the rows in which an entry of a list of concepts occurs, and say which entries.

That a caption names a known thing is the whole quality filter of MetaCLIP: no model, no score. What occurring means,
and how it is found, stands in `metadata_matching.py`; how lists are made in `metadata_building.py`. Words and pairs may
also be taken from the stage's own rows; that needs a pass over them first and memory for all distinct pairs.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from warmstart.data.cache import file_digest
from warmstart.data.curate import Curation
from warmstart.data.curate.metadata_building import (
    bigram_counts,
    build_metadata,
    connected_pairs,
    frequent_words,
    read_metadata,
    unigram_counts,
)
from warmstart.data.curate.metadata_matching import Matcher
from warmstart.data.sources import Source
from warmstart.data.steps import Columns, Stream, column, kept
from warmstart.errors import DataError, nearest

Budget = Annotated[int, Field(ge=0)]


class EntryRows(BaseModel):
    """Entries from a column of a source's rows, e.g. the titles of a dictionary; a list holds several."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    source: Source
    column: str = "text"

    def entries(self) -> list[str]:
        """All values, in the order of reading.

        Raises:
            DataError: a row lacks the column; as the source.
        """
        found: list[str] = []
        for row in self.source.rows():
            value = row.get(self.column)
            if value is None:
                hint = nearest(self.column, row)
                raise DataError(f"metadata: row {row['id']} of '{self.source.name}' has no '{self.column}'{hint}")
            found += value if isinstance(value, list) else [str(value)]
        return found


class MetadataFilter(Curation):
    """Keeps rows whose text holds an entry; the column `entries` lists those that it holds."""

    type: Literal["metadata-filter"] = "metadata-filter"
    fits: ClassVar[bool] = True
    metadata: str | list[str] | EntryRows = Field(
        default_factory=list, description="A text file with one entry a line, the entries, or a source's column."
    )
    unigrams: Budget = Field(0, description="Add the most frequent words of the rows, at most so many.")
    bigrams: Budget = Field(0, description="Add the pairs of words with most mutual information, at most so many.")
    min_count: Annotated[int, Field(ge=1)] = Field(100, description="Rarer words and pairs of the rows are not added.")
    budget: Annotated[int, Field(ge=1)] | None = Field(None, description="The longest list; what comes later is cut.")
    unspaced_scripts: bool = Field(
        False, description="Search inside of words of scripts without spaces (Chinese, Japanese, Thai, ...)."
    )

    @model_validator(mode="after")
    def _some_entries(self) -> Self:
        if self.metadata == [] and not self.unigrams and not self.bigrams:
            raise ValueError("needs 'metadata' (a file, a list, a source) or a budget of 'unigrams' or 'bigrams'")
        return self

    def key(self) -> Any:
        inputs = ""
        if isinstance(self.metadata, str):
            read_metadata(self.metadata)  # says what is wrong with the file, if anything is
            inputs = file_digest(Path(self.metadata))
        elif isinstance(self.metadata, EntryRows):
            inputs = self.metadata.source.fingerprint()
        return [super().key(), inputs]

    def measure(self, columns: Columns) -> Columns:
        texts = column(columns, "text")
        words = unigram_counts(texts) if self._counts_words else Counter()
        pairs = bigram_counts(texts) if self.bigrams else Counter()
        return {"term": [*words, *pairs], "times": [*words.values(), *pairs.values()]}

    def fit(self, measured: Iterator[Columns]) -> Matcher:
        """The list of entries, ready to be searched for."""
        words: Counter[str] = Counter()
        pairs: Counter[str] = Counter()
        for columns in measured:
            for term, times in zip(columns["term"], columns["times"], strict=True):
                (pairs if " " in term else words)[term] += times
        return self.matcher(words, pairs)

    def matcher(self, words: Counter[str], pairs: Counter[str]) -> Matcher:
        """The matcher for the metadata and what is added from counts of words and pairs.

        Raises:
            DataError: the metadata cannot be read, or there is no entry.
        """
        entries = build_metadata(
            self._listed(),
            frequent_words(words, at_least=self.min_count, most=self.unigrams),
            connected_pairs(pairs, words, at_least=self.min_count, most=self.bigrams),
            budget=self.budget,
        )
        return Matcher(entries, unspaced_scripts=self.unspaced_scripts)

    def apply(self, columns: Columns, fitted: Any = None) -> Columns:
        names = fitted.entries
        found = [[names[number] for number in fitted.match(text)] for text in column(columns, "text")]
        return kept({**columns, "entries": found}, [bool(entries) for entries in found])

    def stream(self) -> Stream | None:
        if self._counts_words:
            return None
        return partial(self.apply, fitted=self.matcher(Counter(), Counter()))

    @property
    def _counts_words(self) -> bool:
        return self.unigrams > 0 or self.bigrams > 0

    def _listed(self) -> list[str]:
        if isinstance(self.metadata, str):
            return read_metadata(self.metadata)
        return self.metadata.entries() if isinstance(self.metadata, EntryRows) else list(self.metadata)
