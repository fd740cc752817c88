"""Does a header steer what a model writes? Texts are sampled after each of some headers, and a naive-Bayes classifier
of the held-out documents says which header a text looks like.

The classifier knows the documents' tokens alone, not the headers, and is no part of the model: a model that ignores
headers is at chance, 1 / headers. The classifier's own accuracy on real documents is the most that can be expected, and
stands beside. (The claim that a header steers is that of Gao et al. 2025, arXiv 2501.01956, section 4, who look at
toxicity; this measure is ours.)
"""

from __future__ import annotations

from collections import Counter
from typing import Annotated, Any, Literal

import numpy as np
import torch
from pydantic import Field

from warmstart.errors import DataError
from warmstart.evaluate import Evaluator, Subject
from warmstart.evaluate.headed_documents import Headed, headed_documents
from warmstart.models.evaluating import evaluating
from warmstart.randomness import derive_seed


class Steering(Evaluator):
    """`<set>/steering`: the share of samples that the classifier gives to the header they were written under; and
    `<set>/steering_ceiling`: the classifier's accuracy on documents that it has not seen."""

    type: Literal["steering"] = "steering"
    held_out: str = Field("validation", description="The held-out set with headers: validation, or another.")
    headers: Annotated[int, Field(ge=2)] = Field(8, description="The most frequent headers; chance is 1 / headers.")
    samples: Annotated[int, Field(gt=0)] = Field(8, description="Texts per header.")
    tokens: Annotated[int, Field(gt=0)] = Field(40, description="Tokens of each text, at most.")

    def evaluate(self, subject: Subject) -> dict[str, float]:
        documents = headed_documents(subject, self.held_out)
        chosen = frequent_headers(documents, self.headers)
        bags = [[d.body for d in documents if d.header == header] for header in chosen]
        vocabulary = max(subject.tokenizer.get_vocab().values()) + 1
        classifier = NaiveBayes([bag[::2] for bag in bags], vocabulary)
        right = [classifier(body) == number for number, bag in enumerate(bags) for body in bag[1::2]]
        classifier = NaiveBayes(bags, vocabulary)  # the ceiling is from half of the documents, the judge knows all
        texts = self._samples(subject, documents[0].mark, chosen)
        hits = [classifier(text) == number for number, some in enumerate(texts) for text in some]
        values = {"steering": float(np.mean(hits)), "steering_ceiling": float(np.mean(right))}
        return {f"{self.held_out}/{name}": value for name, value in values.items()}

    def _samples(self, subject: Subject, mark: int, headers: list[tuple[int, ...]]) -> list[list[np.ndarray]]:
        """Texts under each header, from the model's own distribution (temperature 1)."""
        model: Any = subject.model
        device = next(model.parameters()).device
        end = subject.tokenizer.eos_token_id
        devices = [device.index or 0] if device.type == "cuda" else []
        found = []
        with evaluating(model), torch.random.fork_rng(devices=devices):
            torch.manual_seed(derive_seed(subject.seed, "steering", self.held_out))
            for header in headers:
                prompt = torch.tensor([[mark, *header]] * self.samples, device=device)
                written = model.generate(
                    input_ids=prompt,
                    attention_mask=torch.ones_like(prompt),
                    max_new_tokens=self.tokens,
                    do_sample=True,
                    top_k=0,
                    pad_token_id=end,
                    eos_token_id=end,
                )[:, prompt.shape[1] :]
                found.append([text[text != end] for text in written.cpu().numpy()])
        return found


def frequent_headers(documents: list[Headed], count: int) -> list[tuple[int, ...]]:
    """The headers that most documents have, at least two documents each.

    Raises:
        DataError: fewer than two such headers.
    """
    counts = Counter(document.header for document in documents)
    chosen = [header for header, number in counts.most_common(count) if number > 1]
    if len(chosen) < 2:
        raise DataError("steering needs two headers that two held-out documents each have; hold out more documents")
    return chosen


class NaiveBayes:
    """A multinomial naive-Bayes classifier of bags of tokens, each class equally likely beforehand.

    Args:
        classes: the documents of each class, arrays of token ids.
        smoothing: added to the count of every token.
    """

    def __init__(self, classes: list[list[np.ndarray]], vocabulary: int, smoothing: float = 0.1) -> None:
        counts = np.stack([np.bincount(np.concatenate(some).astype(int), minlength=vocabulary) for some in classes])
        chances = counts + smoothing
        self._logs = np.log(chances / chances.sum(axis=1, keepdims=True))  # (classes, vocabulary)

    def __call__(self, tokens: np.ndarray) -> int:
        """The number of the class that makes the tokens most likely."""
        return int(self._logs[:, np.asarray(tokens, dtype=int)].sum(axis=1).argmax())
