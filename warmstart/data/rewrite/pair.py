"""A second text beside each row's own, from its columns: the pairs that embedding models are trained on.

    rewrite: [{type: pair, template: "{tags}"}]                                # emoji: name -> keywords
    rewrite: [{type: pair, template: "{words}: {linked}", link: hypernyms}]    # WordNet: gloss -> what is above

`{linked}` is the text of the row that another column points to by its id. Links are looked up among all rows that reach
the step, on both sides of the split: a text may stand in the second text of a row on the other side, a pair never does.
The price is that all texts and ids are held in memory. Lists are joined by commas.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, ClassVar, Literal

from pydantic import Field, field_validator, model_validator

from warmstart.data.rewrite import Rewrite
from warmstart.data.rewrite.template import filled, slots
from warmstart.data.steps import Columns, column, kept, size

LINKED = "linked"


class Pair(Rewrite):
    """A column with a second text from a template; rows that lack something of it are left out.

    Example:
        In one's own pipeline, with all rows at hand::

            rows = {"text": ["animal", "a tame animal"], "id": ["1", "2"], "up": [None, ["1"]], "words": ["-", "pet"]}
            step = Pair(template="{words}: {linked}", link="up")
            pairs = step.apply(rows, step.fit(iter([step.measure(rows)])))
    """

    type: Literal["pair"] = "pair"
    fits: ClassVar[bool] = True
    template: str = Field("{text}", description="The second text, with columns in braces.")
    column: str = Field("positive", description="The column that gets it.")
    link: str | None = Field(
        None, description="A column with the id of another row, or a list of ids: the first one's text is {linked}."
    )

    @field_validator("template")
    @classmethod
    def _is_template(cls, value: str) -> str:
        if not slots(value):
            raise ValueError("names no column: put at least one in braces, e.g. '{tags}'")
        return value

    @model_validator(mode="after")
    def _linked(self) -> Pair:
        if (LINKED in slots(self.template)) != (self.link is not None):
            raise ValueError("'{linked}' in the template and 'link' belong together: give both or none")
        return self

    def measure(self, columns: Columns) -> Columns:
        if self.link is None:
            return {"id": [], "text": []}
        return {"id": list(column(columns, "id")), "text": list(column(columns, "text"))}

    def fit(self, measured: Iterator[Columns]) -> dict[str, str]:
        """The text of each id."""
        return {one: text for some in measured for one, text in zip(some["id"], some["text"], strict=True)}

    def apply(self, columns: Columns, fitted: Any = None) -> Columns:
        given = {name: column(columns, name) for name in slots(self.template) if name != LINKED}
        if self.link is not None:
            given[LINKED] = [fitted.get(_first(value)) for value in column(columns, self.link)]
        given = {name: [_said(value) for value in values] for name, values in given.items()}
        whole = [all(values[row] not in (None, "") for values in given.values()) for row in range(size(columns))]
        return {**kept(columns, whole), self.column: filled(self.template, kept(given, whole))}


def _first(value: Any) -> Any:
    return (value[0] if value else None) if isinstance(value, list) else value


def _said(value: Any) -> Any:
    return ", ".join(map(str, value)) if isinstance(value, list) else value
