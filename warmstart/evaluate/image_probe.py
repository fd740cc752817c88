"""What a model's pictures know: a linear classifier on frozen image features, or classes by their names alone.

Both need labelled pictures. The linear probe learns from one side of them and says what is in the features; zero-shot
classification learns nothing and asks which class's name is nearest to a picture. With `by` and `test` as `by` and
`validation` in the stage's own `data.split`, the test side is what the stage has held out.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

import numpy as np
from pydantic import Field, field_validator
from torch import nn
from transformers import PreTrainedModel

from warmstart.errors import DataError
from warmstart.evaluate import Subject
from warmstart.evaluate.embeddings import Embedder
from warmstart.evaluate.labelled import Example, Labelled
from warmstart.evaluate.probe import Probe


class ImageProbe(Probe):
    """`image-probe/<task>/accuracy` of a classifier on the image tower's features, on pictures that it has not seen.

    Example:
        In one's own code, of any `CLIPModel` of `transformers` and rows with `image` and a label::

            probe = ImageProbe(task="shape", source={"type": "shapes", "size": 60, "pixels": 16}, label="label")
            accuracy = probe.accuracy(model, tokenizer)
    """

    type: Literal["image-probe"] = "image-probe"  # type: ignore[assignment]

    def evaluate(self, subject: Subject) -> dict[str, float]:
        return {f"image-probe/{self.task}/accuracy": self._accuracy(Embedder.of(subject))}

    def accuracy(self, model: PreTrainedModel, tokenizer: Any, precision: str = "fp32") -> float:
        """The share of the test side's labels that are found.

        Raises:
            DataError: the labelled rows cannot be used, or have no pictures.
            ModelError: the model has no image tower.
        """
        return self._accuracy(Embedder(model, tokenizer, precision=precision))

    def _accuracy(self, embedder: Embedder) -> float:
        sides = (self.examples.train, self.examples.test)
        features = [embedder.picture_features(pictures_of(side, self.type)) for side in sides]
        labels = [self.examples.numbers([example.labels[0] for example in side]) for side in sides]
        return float((self.classify(features[0], labels[0], features[1]) == labels[1]).mean())


class ZeroShot(Labelled):
    """`zero-shot/<task>/accuracy`: how often the nearest class name is the right one, on the test side.

    Hyphens and underscores of a label are read as spaces. A class is the mean of its names in all templates.

    Example:
        In one's own code, of any `CLIPModel` of `transformers` and rows with `image` and a label::

            task = ZeroShot(task="shape", source={"type": "shapes", "size": 60, "pixels": 16}, templates=["a {label}"])
            accuracy = task.accuracy(model, tokenizer)
    """

    type: Literal["zero-shot"] = "zero-shot"
    templates: Annotated[list[str], Field(min_length=1)] = Field(
        default_factory=lambda: ["{label}"], description="Captions of a class, with its label in braces."
    )

    @field_validator("templates")
    @classmethod
    def _have_a_slot(cls, templates: list[str]) -> list[str]:
        for template in templates:
            if "{label}" not in template:
                raise ValueError(f"'{template}' has no {{label}}")
        return templates

    def evaluate(self, subject: Subject) -> dict[str, float]:
        return {f"zero-shot/{self.task}/accuracy": self._accuracy(Embedder.of(subject))}

    def accuracy(self, model: nn.Module, tokenizer: Any, precision: str = "fp32") -> float:
        """The share of the test side's pictures whose class is found.

        Raises:
            DataError: the labelled rows cannot be used, or have no pictures.
            ModelError: the model has no two towers.
        """
        return self._accuracy(Embedder(model, tokenizer, precision=precision))

    def _accuracy(self, embedder: Embedder) -> float:
        test = self.examples.test
        names = [label.replace("-", " ").replace("_", " ") for label in self.examples.classes]
        said = [embedder.texts([template.replace("{label}", name) for name in names]) for template in self.templates]
        classes = np.mean(said, axis=0)
        classes /= np.linalg.norm(classes, axis=1, keepdims=True)
        scores = embedder.pictures(pictures_of(test, self.type)) @ classes.T
        right = self.examples.numbers([example.labels[0] for example in test])
        return float((scores.argmax(axis=1) == right).mean())


def pictures_of(examples: list[Example], who: str) -> list[str]:
    """What refers to the examples' pictures.

    Raises:
        DataError: one has none.
    """
    found = []
    for example in examples:
        if example.image is None:
            raise DataError(f"evaluator {who}: the row with the text '{example.text[:60]}' has no picture")
        found.append(example.image)
    return found
