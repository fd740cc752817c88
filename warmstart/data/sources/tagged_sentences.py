"""Sentences with a tag for each word, from a random hidden Markov chain. Made, not read.

A tag follows a tag with fixed probabilities; a tag has words of its own, a few frequent and many rare ones (1 / rank),
that mostly end alike, and one word in eight has a second tag. So counting words, looking at the tag before and looking
at endings each help a tagger, and more sentences keep helping: rare words go on appearing.
"""

from __future__ import annotations

import string
from collections.abc import Iterator
from typing import Annotated, Literal

import numpy as np
from pydantic import Field

from warmstart.data.cache import digest
from warmstart.data.sources import OnBadRow, Row, Source, raise_error
from warmstart.randomness import numpy_generator

VERSION = 1  # raised whenever the same settings would give other rows
LENGTHS = (4, 16)
AMBIGUOUS = 8


class TaggedSentences(Source):
    """Rows with `words` and `tags` (lists of the same length); `text` is the words."""

    type: Literal["tagged-sentences"] = "tagged-sentences"
    tags: Annotated[int, Field(ge=2, le=200)] = Field(12, description="How many tags there are.")
    vocabulary: Annotated[int, Field(ge=10)] = Field(5000, description="How many words, over all tags.")
    size: Annotated[int, Field(gt=0)] = Field(2000, description="How many rows (sentences of 4 to 16 words).")
    seed: int = 0

    def rows(self, on_bad_row: OnBadRow = raise_error) -> Iterator[Row]:
        generator = numpy_generator(self.seed, "tagged-sentences", self.tags, self.vocabulary)
        words, emission = lexicon(self.tags, self.vocabulary, generator)
        follow = generator.dirichlet(np.full(self.tags, 0.3), size=self.tags)
        for number in range(self.size):
            chain = [int(generator.integers(self.tags))]
            for _ in range(int(generator.integers(*LENGTHS, endpoint=True)) - 1):
                chain.append(int(generator.choice(self.tags, p=follow[chain[-1]])))
            said = [words[int(generator.choice(len(words), p=emission[tag]))] for tag in chain]
            name = f"tagged-{self.tags}-{self.vocabulary}-{self.seed}:{number}"
            tags = [f"t{tag}" for tag in chain]
            yield {"text": " ".join(said), "words": said, "tags": tags, "source": self.label or self.type, "id": name}

    def fingerprint(self) -> str:
        return digest("tagged-sentences", VERSION, self.tags, self.vocabulary, self.size, self.seed)


def lexicon(tags: int, vocabulary: int, generator: np.random.Generator) -> tuple[list[str], np.ndarray]:
    """Words, and (tags, words) how often each tag takes each word."""

    def letters(count: int) -> str:
        return "".join(generator.choice(list(string.ascii_lowercase), count))

    endings = [letters(2) for _ in range(tags)]
    owners = generator.integers(0, tags, vocabulary)
    owners[:tags] = np.arange(tags)  # every tag has a word
    words = [letters(int(generator.integers(2, 6))) + endings[owner] for owner in owners]
    emission = np.zeros((tags, vocabulary))
    for tag in range(tags):
        own = np.flatnonzero(owners == tag)
        emission[tag, own] = 1 / np.arange(1, len(own) + 1)
    for word in range(0, vocabulary, AMBIGUOUS):
        other = int(generator.integers(tags))
        emission[other, word] = max(emission[other, word], 0.5 * emission[owners[word], word])
    return words, emission / emission.sum(1, keepdims=True)
