"""How well a speech model spells what is said: word and character error rates on recordings with transcripts.

A model with a head of characters (trained with `ctc`) is asked as it is. Of a model without one the encoder is frozen,
and a linear layer on its states learns to spell, for a fixed number of steps on some transcribed recordings: so one
sees what pre-training has put into the states, at the same small cost for every model. The states are standardised, as
in the other probes, and read by greedy decoding, without a language model. Every evaluation begins with the same layer
and sees the same recordings in the same order.

For voices that a model has not heard, give `test` a source of others.
"""

from __future__ import annotations

import heapq
from collections.abc import Sequence
from functools import cached_property
from typing import Annotated, Any, Literal

import torch
from pydantic import Field
from torch import nn
from transformers import PreTrainedModel

from warmstart.data.curated import mark_of
from warmstart.data.sources import Row, Source
from warmstart.errors import DataError, ModelError, UserError
from warmstart.evaluate import Evaluator, Subject
from warmstart.evaluate.fine_tune import batches, warm_up_and_fall
from warmstart.evaluate.held_out import evaluation_mode
from warmstart.objectives.blocks import NO_TARGET
from warmstart.objectives.ctc import blank_of, ctc_loss, needed_steps
from warmstart.objectives.speech import answered_steps, frames_of, hiding, row_features, speech_batch, speech_encoder
from warmstart.randomness import derive_seed

States = list[torch.Tensor]


class WordErrorRate(Evaluator):
    """`recognition/<task>/cer` and `/wer`, errors per character and per word of the transcripts: 1 and more where
    nothing is understood.

    Example:
        In one's own code, of a speech encoder of `transformers`, a tokenizer of characters, and sources of rows with
        `text` and `audio`::

            judge = WordErrorRate(source={"type": "tones", "size": 20}, test={"type": "tones", "size": 9, "seed": 1},
                                  steps=5)
            rates = judge.rates(model, tokenizer, seed=0)
    """

    type: Literal["word-error-rate"] = "word-error-rate"
    task: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_-]*$")] = Field(
        "speech", description="What metrics call the task."
    )
    test: Source = Field(description="Recordings with transcripts, to be judged by.")
    source: Source | None = Field(
        None, description="Recordings with transcripts that the layer on the frozen states learns from."
    )
    test_rows: Annotated[int, Field(gt=0)] = Field(200, description="At most so many recordings of `test`.")
    rows: Annotated[int, Field(gt=0)] = Field(300, description="At most so many recordings of `source`.")
    layer: int = Field(-1, description="Whose states are read: 0 what the first layer reads, -1 the last layer's.")
    steps: Annotated[int, Field(gt=0)] = Field(300, description="Optimizer steps of the layer on the frozen states.")
    batch_size: Annotated[int, Field(gt=0)] = Field(16, description="Recordings per step.")
    learning_rate: Annotated[float, Field(gt=0)] = Field(
        1e-2, description="Peak learning rate, after a tenth of the steps; it falls to 0 in a line."
    )

    def evaluate(self, subject: Subject) -> dict[str, float]:
        assert isinstance(subject.model, PreTrainedModel)
        return self.rates(subject.model, subject.tokenizer, subject.seed, subject.precision)

    def rates(self, model: PreTrainedModel, tokenizer: Any, seed: int, precision: str = "fp32") -> dict[str, float]:
        """Both rates on the recordings of `test`; `model` stays as it is.

        Raises:
            DataError: recordings that cannot be used, or that are on both sides.
            ModelError: no speech encoder, no such layer, or a tokenizer without a blank.
            UserError: jiwer is missing.
        """
        jiwer = _jiwer()
        blank_of(tokenizer)
        spelled = [_plain(tokenizer, row) for row in self._test]
        guesses = [_decoded(tokenizer, ids) for ids in self._answers(model, tokenizer, seed, precision)]
        pairs = [(said, guess) for said, guess in zip(spelled, guesses, strict=True) if said]
        if not pairs:
            raise DataError(f"{self._where}: no recording of 'test' has a transcript with words")
        said, guessed = [list(column) for column in zip(*pairs, strict=True)]
        name = f"recognition/{self.task}"
        return {f"{name}/cer": float(jiwer.cer(said, guessed)), f"{name}/wer": float(jiwer.wer(said, guessed))}

    def _answers(self, model: PreTrainedModel, tokenizer: Any, seed: int, precision: str) -> list[list[int]]:
        """The likeliest token of every step of every recording of `test`."""
        if hasattr(model, "lm_head"):
            return [step.argmax(dim=-1).tolist() for step in outputs(model, self._test, self.batch_size, precision)]
        if self.source is None:
            raise DataError(f"{self._where}: a model without a head of characters must learn them from a 'source'")
        learn = outputs(model, self._learn, self.batch_size, precision, self.layer)
        judge = outputs(model, self._test, self.batch_size, precision, self.layer)
        everything = torch.cat(learn)
        mean, deviation = everything.mean(dim=0), everything.std(dim=0).clamp(min=1e-5)
        learn, judge = ([(states - mean) / deviation for states in side] for side in (learn, judge))
        ids = [tokenizer(row["text"], add_special_tokens=False)["input_ids"] for row in self._learn]
        layer = self._learned(learn, ids, len(tokenizer), blank_of(tokenizer), seed)
        with torch.no_grad():
            return [layer(states).argmax(dim=-1).tolist() for states in judge]

    def _learned(
        self, states: States, ids: Sequence[Sequence[int]], vocabulary: int, blank: int, seed: int
    ) -> nn.Linear:
        """A linear layer from states to tokens, trained on the recordings that can be spelled in their steps."""
        usable = [n for n, found in enumerate(ids) if 0 < needed_steps(found) <= len(states[n])]
        if not usable:
            raise DataError(f"{self._where}: no transcript of 'source' fits into the steps of its recording")
        with torch.random.fork_rng(devices=[]), torch.enable_grad():
            torch.manual_seed(derive_seed(seed, "word-error-rate", self.task))
            layer = nn.Linear(states[0].shape[1], vocabulary)
            optimizer = torch.optim.Adam(layer.parameters(), lr=self.learning_rate)
            order = batches(len(usable), self.batch_size, self.steps, seed, self.task)
            for step, some in enumerate(order):
                for group in optimizer.param_groups:
                    group["lr"] = self.learning_rate * warm_up_and_fall(step, self.steps)
                chosen = [usable[number] for number in some]
                padded = nn.utils.rnn.pad_sequence([states[n] for n in chosen], batch_first=True)
                labels = nn.utils.rnn.pad_sequence(
                    [torch.tensor(ids[n]) for n in chosen], batch_first=True, padding_value=NO_TARGET
                )
                lengths = torch.tensor([len(states[n]) for n in chosen])
                ctc_loss(layer(padded), lengths, labels, blank).total.backward()
                optimizer.step()
                optimizer.zero_grad(set_to_none=True)
        return layer

    @cached_property
    def _test(self) -> list[Row]:
        return self._taken(self.test, self.test_rows, "test")

    @cached_property
    def _learn(self) -> list[Row]:
        assert self.source is not None
        found = self._taken(self.source, self.rows, "source")
        both = {row["audio"] for row in found} & {row["audio"] for row in self._test}
        if both:
            raise DataError(f"{self._where}: {len(both)} recordings are in 'source' and in 'test', e.g. {min(both)}")
        return found

    def _taken(self, source: Source, most: int, side: str) -> list[Row]:
        """The same recordings of a source whatever its order, those without words left out."""
        marked = ((mark_of(f"{row['id']} {row['text']}"), number, row) for number, row in enumerate(source.rows()))
        found = [row for _, _, row in heapq.nsmallest(most, marked, key=lambda one: one[:2])]
        if not found:
            raise DataError(f"{self._where}: '{side}' has no rows")
        return found

    @property
    def _where(self) -> str:
        return f"evaluator {self.type}, task {self.task}"


@torch.no_grad()
def outputs(
    model: PreTrainedModel, rows: Sequence[Row], batch_size: int, precision: str = "fp32", layer: int | None = None
) -> States:
    """What a model makes of each recording, on the CPU: the states of a layer, float32 `(steps, width)`, or without one
    its logits, `(steps, tokens)`. A recording that is too short has no steps.

    Raises:
        DataError: a row without a sound.
        ModelError: no speech encoder, or no such layer.
    """
    encoder = speech_encoder(model, "evaluator word-error-rate")
    frames = frames_of(encoder)
    if frames != int(frames):
        raise ModelError("evaluator word-error-rate: the encoder does not read stacked frames of 80 bands")
    found = [row_features(row, int(frames)) for row in rows]
    order = sorted((n for n in range(len(rows)) if len(found[n])), key=lambda n: len(found[n]))  # little padding
    results: dict[int, torch.Tensor] = {}
    with evaluation_mode(model):
        for start in range(0, len(order), batch_size):
            some = order[start : start + batch_size]
            batch = speech_batch([found[n] for n in some], max(len(found[n]) for n in some))
            batch = {name: tensor.to(model.device) for name, tensor in batch.items()}
            with torch.autocast(model.device.type, torch.bfloat16, precision == "bf16"), hiding(encoder, None, None):
                made = (encoder if layer is not None else model)(**batch, output_hidden_states=layer is not None)
            values = made.logits if layer is None else _states(made.hidden_states, layer)
            mask = batch["attention_mask"]
            lengths = answered_steps(encoder, mask) if layer is None else mask.sum(dim=1)
            for n, one, length in zip(some, values.float().cpu(), lengths.tolist(), strict=True):
                results[n] = one[:length]
    width = next(iter(results.values())).shape[1] if results else 0
    return [results.get(n, torch.empty(0, width)) for n in range(len(rows))]


def _states(states: tuple[torch.Tensor, ...], layer: int) -> torch.Tensor:
    if not -len(states) <= layer < len(states):
        raise ModelError(f"evaluator word-error-rate: layer {layer} of an encoder with {len(states) - 1} layers")
    return states[layer]


def _decoded(tokenizer: Any, ids: list[int]) -> str:
    """What the likeliest tokens of all steps say; an unknown character is one wrong character, however it is named."""
    text = tokenizer.decode(ids)
    return " ".join((text.replace(tokenizer.unk_token, "\ufffd") if tokenizer.unk_token else text).split())


def _plain(tokenizer: Any, row: Row) -> str:
    """A transcript as the tokenizer spells it: without what it does not tell apart, upper case and punctuation."""
    normal = tokenizer.backend_tokenizer.normalizer
    text = row["text"] if normal is None else normal.normalize_str(row["text"])
    return " ".join(text.split())


def _jiwer() -> Any:
    try:
        import jiwer
    except ImportError:
        raise UserError("error rates need jiwer: pip install 'warmstart[eval]'") from None
    return jiwer
