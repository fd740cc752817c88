"""One embedding model judged at many sizes: cut after a layer, and to the first dimensions.

The mean over the small sizes says how good the method is, the least of them whether it failed somewhere: an average
hides a size that finds nothing.

A family of separate models, one trained in each stage of a recipe, is judged as one: a size that a stage does not
measure is taken from the stage before that did, and the means appear as soon as every small size is known.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, field_validator

from warmstart.evaluate import Evaluator, Subject
from warmstart.evaluate.embedded import EmbeddingTask
from warmstart.models.layers import depth_of, width_of
from warmstart.objectives.sizes import Size, default_sizes, size_name


class SizeGrid(Evaluator):
    """`size-grid/6x128/...` for every size; of the small ones `size-grid/small/...`, the mean, and `.../least/...`."""

    type: Literal["size-grid"] = "size-grid"
    of: Evaluator = Field("retrieval", validate_default=True, description="What is measured: retrieval or similarity.")
    sizes: Annotated[list[Size], Field(min_length=1)] | None = Field(
        None, description="Pairs of a layer and dimensions; default: six, dimensions halving, as objectives have it."
    )
    small: Annotated[list[Size], Field(min_length=1)] | None = Field(
        None, description="The sizes that mean and least are taken of; default: all but the last."
    )

    @field_validator("of")
    @classmethod
    def _of_embeddings(cls, of: Evaluator) -> Evaluator:
        if not isinstance(of, EmbeddingTask):
            raise ValueError(f"'{of.name}' does not look at embeddings; allowed: retrieval, similarity")
        return of

    def evaluate(self, subject: Subject) -> dict[str, float]:
        assert isinstance(self.of, EmbeddingTask)
        sizes = self.sizes or default_sizes(depth_of(subject.model), width_of(subject.model))
        found = self.of.at_sizes(subject, sizes)
        values = {
            f"{self.type}/{size_name(size)}/{_measure(name)}": value
            for size, measured in zip(sizes, found, strict=True)
            for name, value in measured.items()
        }
        known = {name: value for earlier in subject.history for name, value in earlier.items()} | values
        small = self.small or sizes[:-1] or sizes
        for measure in map(_measure, found[0]):
            names = [f"{self.type}/{size_name(size)}/{measure}" for size in small]
            if all(name in known for name in names):
                of_small = [known[name] for name in names]
                values[f"{self.type}/small/{measure}"] = sum(of_small) / len(of_small)
                values[f"{self.type}/least/{measure}"] = min(of_small)
        return values


def _measure(name: str) -> str:
    """`recall@10` of `retrieval/recall@10`."""
    return name.rpartition("/")[2]
