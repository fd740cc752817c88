"""What a model's frozen features know: a linear classifier, or the nearest neighbours, on labelled rows.

The features of a text are the mean of its tokens' hidden states, those of a word the mean of its tokens'. The model is
not trained, so that a probe is cheap enough for every evaluation and says what is in the features already. What a model
can learn quickly is another question (`fine-tune`), and the fairer one between objectives: the last layer holds what
the objective needs, and a detector needs less of what a word is than a model that must name it. The classifier is
scikit-learn's, deterministic, on standardised features, with at most 100 passes for every model alike.
"""

from __future__ import annotations

import warnings
from typing import Annotated, Any, Literal

import numpy as np
import torch
from pydantic import Field
from torch import nn
from transformers import PreTrainedModel

from warmstart.errors import ModelError
from warmstart.evaluate import Subject
from warmstart.evaluate.labelled import Example, Labelled, spans

PASSES = 100
"""Of the logistic classifier over its rows, at most."""


class Probe(Labelled):
    """`probe/<task>/accuracy` of a classifier on frozen features, on the rows that it has not seen.

    Example:
        In one's own code, of any model and tokenizer of `transformers`::

            rows = {"type": "files", "path": path, "columns": ["genre"]}
            probe = Probe(task="genre", source=rows, label="genre", rows=100, length=32)
            features, which = text_features(model, tokenizer, probe.examples.train, length=32)
            accuracy = probe.accuracy(model, tokenizer)
    """

    type: Literal["probe"] = "probe"
    classifier: Literal["logistic", "nearest"] = Field("logistic", description="nearest: a vote of the neighbours.")
    regularisation: Annotated[float, Field(gt=0)] = Field(1.0, description="Of the logistic classifier; higher: more.")
    neighbours: Annotated[int, Field(gt=0)] = Field(10, description="Of the nearest-neighbour classifier, by angle.")
    layer: int = Field(-1, description="Whose hidden states: 0 the embeddings, -1 the last layer.")
    batch_size: Annotated[int, Field(gt=0)] = Field(64, description="Texts per batch.")

    def evaluate(self, subject: Subject) -> dict[str, float]:
        assert isinstance(subject.model, PreTrainedModel)
        return {f"probe/{self.task}/accuracy": self.accuracy(subject.model, subject.tokenizer, subject.precision)}

    def accuracy(self, model: PreTrainedModel, tokenizer: Any, precision: str = "fp32") -> float:
        """The share of the test side's labels that are found.

        Raises:
            DataError: the labelled rows cannot be used.
            ModelError: the model has no such layer.
        """
        features, labels = {}, {}
        for side, examples in (("train", self.examples.train), ("test", self.examples.test)):
            examples = sorted(examples, key=lambda example: len(example.text))  # little padding
            found, numbers = [], []
            for start in range(0, len(examples), self.batch_size):
                some = examples[start : start + self.batch_size]
                vectors, which = text_features(model, tokenizer, some, self.length, self.layer, precision)
                found.append(vectors)
                numbers.append(self.examples.numbers([some[e].labels[n] for e, n in which]))
            features[side], labels[side] = np.concatenate(found), np.concatenate(numbers)
        guesses = self.classify(features["train"], labels["train"], features["test"])
        return float((guesses == labels["test"]).mean())

    def classify(self, train: np.ndarray, labels: np.ndarray, test: np.ndarray) -> np.ndarray:
        """The class that a classifier of the training features gives each test feature, `(tests,)`."""
        from sklearn.exceptions import ConvergenceWarning
        from sklearn.linear_model import LogisticRegression
        from sklearn.neighbors import KNeighborsClassifier
        from sklearn.preprocessing import StandardScaler
        from threadpoolctl import threadpool_limits

        scaler = StandardScaler().fit(train)
        classifier = (
            LogisticRegression(C=1 / self.regularisation, max_iter=PASSES, tol=1e-3)
            if self.classifier == "logistic"
            else KNeighborsClassifier(min(self.neighbours, len(train)), metric="cosine", algorithm="brute")
        )
        with threadpool_limits(1), warnings.catch_warnings():  # several threads add up in an order of their own
            warnings.simplefilter("ignore", ConvergenceWarning)  # PASSES are meant to be the end
            return classifier.fit(scaler.transform(train), labels).predict(scaler.transform(test))


@torch.no_grad()
def text_features(
    model: PreTrainedModel,
    tokenizer: Any,
    examples: list[Example],
    length: int,
    layer: int = -1,
    precision: str = "fp32",
) -> tuple[np.ndarray, list[tuple[int, int]]]:
    """Features of texts, or of the words of texts that have some.

    Returns:
        Float32 `(features, hidden size)`, and of each which example it is of and which label of that; words beyond
        `length` tokens have none.

    Raises:
        ModelError: the model has no such layer.
    """
    encoded = tokenizer(
        [example.text for example in examples],
        truncation=True,
        max_length=length,
        padding=True,
        return_offsets_mapping=True,
        return_special_tokens_mask=True,
        return_tensors="pt",
    )
    device = model.device
    real = encoded["attention_mask"].bool()
    modes = {module: module.training for module in model.modules()}
    model.eval()
    try:
        with torch.autocast(device.type, torch.bfloat16, enabled=precision == "bf16"):
            output = model.base_model(
                input_ids=encoded["input_ids"].to(device), attention_mask=real.to(device), output_hidden_states=True
            )
    finally:
        _restore(modes)
    layers = output.hidden_states
    if not -len(layers) <= layer < len(layers):
        raise ModelError(f"evaluator probe: layer {layer} of a model with {len(layers) - 1} layers and its embeddings")
    states = layers[layer].float().cpu().numpy()
    ordinary = (real & ~encoded["special_tokens_mask"].bool()).numpy()
    vectors, which = [], []
    for number, example in enumerate(examples):
        ends = encoded["offset_mapping"][number, :, 1].numpy()
        for label, (first, last) in enumerate(spans(example)):
            # A token belongs to where its last character is: byte-level tokens begin with the space before the word.
            inside = ordinary[number] & (ends > first) & (ends <= last)
            if inside.any():
                vectors.append(states[number, inside].mean(axis=0))
                which.append((number, label))
    return np.stack(vectors) if vectors else np.empty((0, states.shape[2]), np.float32), which


def _restore(modes: dict[nn.Module, bool]) -> None:
    for module, mode in modes.items():
        module.training = mode
