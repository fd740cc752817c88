"""Addition of numbers of a few digits, one digit of the sum at a time. Made, not read.

Digit 0 is that of the ones, each further one needs the carry of those before it: a second known graph of skills beside
LEGO. The question is the row's context and the digit its text, so that only the digit is a target.

Source of the form: Skill-it (arXiv 2307.14430).
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Literal

import numpy as np
from pydantic import Field, model_validator

from warmstart.data.cache import digest
from warmstart.data.sources import OnBadRow, Row, Source, raise_error
from warmstart.randomness import numpy_generator

VERSION = 1  # raised whenever the same settings would give other rows


def addition_sample(digits: int, skill: int, generator: np.random.Generator) -> tuple[str, str]:
    """A question and its answer, e.g. `Input: A = 1 5 + 2 7 , A 0 = ? Output:` and ` 2`.

    Args:
        digits: of each summand; the sum is taken modulo 10 ** digits.
        skill: which digit of the sum is asked for, 0 for the ones.
    """
    summands = generator.integers(0, 10, size=(2, digits))  # the ones last
    carry, answer = 0, 0
    for place in range(skill + 1):
        carry, answer = divmod(carry + int(summands[:, digits - 1 - place].sum()), 10)
    left, right = (" ".join(map(str, summand)) for summand in summands)
    return f"Input: A = {left} + {right} , A {skill} = ? Output:", f" {answer}"


class Addition(Source):
    """Sums with a question for one digit each: `context` is the question, `text` the digit after a space."""

    type: Literal["addition"] = "addition"
    digits: Annotated[int, Field(ge=1, le=18)] = Field(3, description="Digits of each summand.")
    skill: Annotated[int, Field(ge=0)] = Field(0, description="Which digit of the sum is asked for; 0: the ones.")
    size: Annotated[int, Field(gt=0)] = Field(10000, description="How many rows.")
    seed: int = 0

    @model_validator(mode="after")
    def _a_digit(self) -> Addition:
        if self.skill >= self.digits:
            raise ValueError(f"there is no digit {self.skill} among {self.digits} (the ones are digit 0)")
        return self

    def rows(self, on_bad_row: OnBadRow = raise_error) -> Iterator[Row]:
        generator = numpy_generator(self.seed, "addition", self.digits, self.skill)
        for number in range(self.size):
            question, answer = addition_sample(self.digits, self.skill, generator)
            name = f"addition-{self.digits}-{self.skill}-{self.seed}:{number}"
            yield {"text": answer, "context": question, "source": self.label or self.type, "id": name}

    def fingerprint(self) -> str:
        return digest("addition", VERSION, self.digits, self.skill, self.size, self.seed)
