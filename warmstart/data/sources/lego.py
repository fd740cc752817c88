"""LEGO: chains of assignments, where one must know each variable to know the next. Made, not read.

A sample has `clauses` variables. The first has a value ("a = val 1"), each further one is the one before or its
opposite ("b = val a", "c = not b"); the clauses stand in a random order, and the question is the value of the variable
number `skill` in the chain. So skill 3 needs what skill 2 needs, and more: a known graph of skills, on which mixtures
and curricula can be tried. The question is the row's context and the answer its text, so that only the answer is a
target (with `end_of_text: false`, else the end mark is one too). It is one token where a tokenizer has " 0" and " 1".

Source of the task: "Unveiling Transformers with LEGO" (arXiv 2206.04301), in the form of Skill-it (arXiv 2307.14430).
"""

from __future__ import annotations

import string
from collections.abc import Iterator
from typing import Annotated, Literal

import numpy as np
from pydantic import Field, model_validator

from warmstart.data.cache import digest
from warmstart.data.sources import OnBadRow, Row, Source, raise_error
from warmstart.randomness import numpy_generator

VERSION = 1  # raised whenever the same settings would give other rows


def lego_sample(clauses: int, skill: int, generator: np.random.Generator, letters: int = 26) -> tuple[str, str]:
    """A question and its answer, e.g. `Input: b = not a , a = val 1 , . Output: b = val` and ` 0`.

    Args:
        skill: which variable of the chain is asked for, from 1.
        letters: the variables' names are drawn from so many letters, at least as many as there are clauses.
    """
    names = generator.permutation(list(string.ascii_lowercase[:letters]))[:clauses]
    flips = generator.integers(0, 2, size=clauses)
    values = np.cumsum(flips) % 2  # of the first: 0 or 1; of each other: the one before, flipped or not
    lines = [f"{names[0]} = val {values[0]} ,"]
    for before, name, flip in zip(names, names[1:], flips[1:], strict=False):
        lines.append(f"{name} = {'not' if flip else 'val'} {before} ,")
    shown = " ".join(lines[place] for place in generator.permutation(clauses))
    return f"Input: {shown} . Output: {names[skill - 1]} = val", f" {values[skill - 1]}"


class Lego(Source):
    """Chains of assignments with one question each: `context` is the question, `text` the answer (` 0` or ` 1`)."""

    type: Literal["lego"] = "lego"
    clauses: Annotated[int, Field(ge=1, le=26)] = Field(4, description="Variables of a chain.")
    skill: Annotated[int, Field(ge=1)] = Field(1, description="Which variable of the chain is asked for, from 1.")
    letters: Annotated[int, Field(ge=1, le=26)] = Field(26, description="How many names the variables are drawn from.")
    size: Annotated[int, Field(gt=0)] = Field(10000, description="How many rows.")
    seed: int = 0

    @model_validator(mode="after")
    def _in_the_chain(self) -> Lego:
        if self.skill > self.clauses:
            raise ValueError(f"skill {self.skill} is not in a chain of {self.clauses} clauses")
        if self.letters < self.clauses:
            raise ValueError(f"{self.clauses} variables cannot have different names out of {self.letters} letters")
        return self

    def rows(self, on_bad_row: OnBadRow = raise_error) -> Iterator[Row]:
        generator = numpy_generator(self.seed, "lego", self.clauses, self.skill, self.letters)
        for number in range(self.size):
            question, answer = lego_sample(self.clauses, self.skill, generator, self.letters)
            name = f"lego-{self.clauses}-{self.skill}-{self.seed}:{number}"
            yield {"text": answer, "context": question, "source": self.label or self.type, "id": name}

    def fingerprint(self) -> str:
        return digest("lego", VERSION, self.clauses, self.skill, self.letters, self.size, self.seed)
