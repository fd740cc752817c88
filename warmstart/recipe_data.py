"""The words of a stage's data: sources, curation, split, blocks, mix; and of its tokenizer."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import (
    Discriminator,
    Field,
    Tag,
    model_validator,
)

from warmstart.data.batch import Packing
from warmstart.data.curate import Curation
from warmstart.data.mix import Mix
from warmstart.data.rewrite import Rewrite
from warmstart.data.sources import Source
from warmstart.named_models import ModelName
from warmstart.recipe_form import Form, Positive


class Tokenizer(Form):
    """Train a byte-level BPE tokenizer, or one of single characters, on the stage's own training documents, or load
    one."""

    train: Annotated[int, Field(ge=260, description="Vocabulary size of a tokenizer to train.")] | None = None
    characters: Annotated[int, Field(ge=3)] | None = Field(
        None,
        description="Vocabulary size of a tokenizer of single characters, for spelling transcripts of speech: small "
        "letters, digits, apostrophes and spaces, the most frequent ones; two are the blank and the unknown one.",
    )
    load: ModelName | None = Field(None, description="A folder or hub id with a tokenizer, or a source of the study.")

    @model_validator(mode="after")
    def _one(self) -> Tokenizer:
        if sum(given is not None for given in (self.train, self.characters, self.load)) != 1:
            raise ValueError(
                "give exactly one of 'train' (a vocabulary size), 'characters' (likewise) and 'load' (a folder or hub "
                "id)"
            )
        return self

    @property
    def size(self) -> int | None:
        """The most tokens that a tokenizer to be trained may have; None of one that is loaded."""
        return self.train or self.characters


class Split(Form):
    """Which documents are held out. By the hash of the document's text (or of a column's value): no document is on both
    sides."""

    validation: Annotated[float, Field(gt=0, lt=1, description="Share of the documents held out.")] = 0.05
    train: tuple[Annotated[float, Field(ge=0, le=1)], Annotated[float, Field(ge=0, le=1)]] = Field(
        (0.0, 1.0), description="The part of the training side that is read; disjoint parts share no document."
    )
    by: str | None = Field(
        None, description="A column: rows with the same value stay together (a book, a project); default: the text."
    )

    @model_validator(mode="after")
    def _forwards(self) -> Split:
        if self.train[0] >= self.train[1]:
            raise ValueError(f"train must go from a smaller to a larger number, found {list(self.train)}")
        return self


class Data(Form):
    """Where rows come from and how they become blocks of tokens."""

    # The tag says which of the two forms was meant, so that an error speaks of that form alone.
    source: Annotated[
        Annotated[Source, Tag("one source")] | Annotated[list[Source], Tag("list of sources"), Field(min_length=1)],
        Discriminator(lambda value: "list of sources" if isinstance(value, list) else "one source"),
    ]
    curate: list[Curation] = Field(default_factory=lambda: ["exact-duplicates"], validate_default=True)
    split: Split = Split()
    rewrite: list[Rewrite] = Field(default_factory=list, description="What is made of the rows, after the split.")
    begin_of_text: bool = Field(
        False, description="Put the begin-of-text token before each document where the tokenizer does not do so itself."
    )
    end_of_text: bool = Field(
        True,
        description="Put the end-of-text token after each document where the tokenizer does not end it itself; without "
        "it, a text that answers its context is the only target.",
    )
    length: Annotated[int, Field(ge=8, description="Tokens per block.")] = 128
    packing: Packing = Field("concat", validate_default=True)
    documents: Literal["isolated", "joined"] = Field(
        "isolated",
        description="isolated: no token sees another document; joined: attention runs over the whole block.",
    )
    mix: Mix = Field("proportional", validate_default=True)
    on_error: Literal["raise", "skip"] = Field("raise", description="What to do with a row that cannot be used.")
    max_documents: Positive | None = Field(None, description="Read at most so many documents of each source.")

    @property
    def sources(self) -> list[Source]:
        return self.source if isinstance(self.source, list) else [self.source]
