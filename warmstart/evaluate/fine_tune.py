"""What a model can learn quickly: a copy with a new head is trained for a fixed number of steps on labelled texts, or
on the labels of their words.

This is how pre-training objectives are compared where their own losses cannot be: a detector and a masked language
model have no loss in common, but both can be asked to learn the same task. Every evaluation begins with the same head
and sees the same texts in the same order. The training belongs to the evaluation: it is in no budget and leaves the
model as it was.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

import numpy as np
import torch
from pydantic import Field
from transformers import AutoModelForSequenceClassification, AutoModelForTokenClassification, PreTrainedModel

from warmstart.evaluate import Subject
from warmstart.evaluate.labelled import Example, Labelled, spans
from warmstart.models.head import with_new_head
from warmstart.objectives.blocks import NO_TARGET
from warmstart.randomness import derive_seed, numpy_generator


class FineTune(Labelled):
    """`fine-tune/<task>/accuracy` of a copy with a new head, on the rows that it was not trained on.

    Example:
        In one's own code, of any model and tokenizer of `transformers`::

            rows = {"type": "files", "path": path, "columns": ["genre"]}
            task = FineTune(task="genre", source=rows, label="genre", rows=100, length=32, steps=5)
            accuracy = task.accuracy(model, tokenizer, seed=0)
    """

    type: Literal["fine-tune"] = "fine-tune"
    steps: Annotated[int, Field(gt=0)] = Field(100, description="Optimizer steps.")
    batch_size: Annotated[int, Field(gt=0)] = Field(16, description="Texts per step.")
    learning_rate: Annotated[float, Field(gt=0)] = Field(
        5e-4, description="Peak learning rate, after a tenth of the steps; it falls to 0 in a line."
    )
    weight_decay: Annotated[float, Field(ge=0)] = 0.01

    def evaluate(self, subject: Subject) -> dict[str, float]:
        assert isinstance(subject.model, PreTrainedModel)
        found = self.accuracy(subject.model, subject.tokenizer, subject.seed, subject.precision)
        return {f"fine-tune/{self.task}/accuracy": found}

    def accuracy(self, model: PreTrainedModel, tokenizer: Any, seed: int, precision: str = "fp32") -> float:
        """The share of the test side's labels that the trained copy finds; `model` stays as it is.

        Raises:
            DataError: the labelled rows cannot be used.
            ModelError: `transformers` has no such classifier for this model.
        """
        auto = AutoModelForSequenceClassification if self.words is None else AutoModelForTokenClassification
        head = derive_seed(seed, "fine-tune", self.task)
        copied = with_new_head(model, len(self.examples.classes), head, auto=auto)
        copied.config.pad_token_id = tokenizer.pad_token_id  # decoders read the last token that is not padding
        devices = [model.device] if model.device.type == "cuda" else []
        with torch.random.fork_rng(devices), torch.enable_grad():
            self._train(copied, tokenizer, seed, precision)
        copied.eval()
        right = targets = 0
        with torch.no_grad():
            for start in range(0, len(self.examples.test), 64):
                logits, wanted = self._answers(copied, tokenizer, self.examples.test[start : start + 64], precision)
                right += int((logits.argmax(dim=-1) == wanted).sum())
                targets += int((wanted != NO_TARGET).sum())
        return right / max(targets, 1)

    def _train(self, model: PreTrainedModel, tokenizer: Any, seed: int, precision: str) -> None:
        train = self.examples.train
        optimizer = torch.optim.AdamW(model.parameters(), lr=self.learning_rate, weight_decay=self.weight_decay)
        model.train()
        for step, some in enumerate(batches(len(train), self.batch_size, self.steps, seed, self.task)):
            for group in optimizer.param_groups:
                group["lr"] = self.learning_rate * warm_up_and_fall(step, self.steps)
            torch.manual_seed(derive_seed(seed, "fine-tune", self.task, "step", step))
            logits, wanted = self._answers(model, tokenizer, [train[number] for number in some], precision)
            loss = torch.nn.functional.cross_entropy(logits, wanted, ignore_index=NO_TARGET)
            loss.backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)

    def _answers(
        self, model: PreTrainedModel, tokenizer: Any, some: list[Example], precision: str
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Logits, float32 `(answers, classes)`, and the numbers of the right classes, `(answers,)`: one answer for each
        text, or one for each token, where only a word's last token has a right class and the others have -100."""
        encoded = tokenizer(
            [example.text for example in some],
            truncation=True,
            max_length=self.length,
            padding=True,
            return_offsets_mapping=True,
            return_tensors="pt",
        )
        device = model.device
        with torch.autocast(device.type, torch.bfloat16, enabled=precision == "bf16"):
            mask = encoded["attention_mask"].bool().to(device)
            output = model(input_ids=encoded["input_ids"].to(device), attention_mask=mask)
        if self.words is None:
            wanted = self.examples.numbers([example.labels[0] for example in some])
            return output.logits.float(), torch.from_numpy(wanted).to(device)
        wanted = np.full(encoded["input_ids"].shape, NO_TARGET)
        for row, example in enumerate(some):
            numbers, ends = self.examples.numbers(example.labels), encoded["offset_mapping"][row, :, 1].numpy()
            for (_, last), number in zip(spans(example), numbers, strict=True):
                wanted[row, np.flatnonzero(ends == last)[-1:]] = number
        return output.logits.float().flatten(0, 1), torch.from_numpy(wanted.ravel()).to(device)


def batches(count: int, size: int, steps: int, seed: int, task: str) -> list[np.ndarray]:
    """Numbers of examples for each step: every example once before any comes again."""
    epochs = -(-steps * size // count)
    order = np.concatenate([
        numpy_generator(seed, "fine-tune", task, "epoch", epoch).permutation(count) for epoch in range(epochs)
    ])  # fmt: skip
    return [order[step * size : (step + 1) * size] for step in range(steps)]


def warm_up_and_fall(step: int, steps: int) -> float:
    """A tenth of the steps up to 1, the others down to 0 in a line."""
    warm = max(1, steps // 10)
    return min((step + 1) / warm, (steps - step) / max(1, steps - warm))
