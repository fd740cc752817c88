"""Error rates of recognised speech: of models that spell, and of a linear layer on frozen states."""

from __future__ import annotations

import builtins
from typing import Any

import jiwer
import pytest
import torch
from corpora import GivenRows
from docstring_examples import run_example
from tiny_speech_models import speech_model, spoken_rows, tokenizer

from warmstart.data.sources.tones import Tones
from warmstart.errors import DataError, ModelError, UserError
from warmstart.evaluate import word_error_rate
from warmstart.evaluate.word_error_rate import WordErrorRate, outputs
from warmstart.objectives.speech import row_features


def judge(**settings: Any) -> WordErrorRate:
    given = {"test": Tones(size=6, seed=1), "source": Tones(size=8), "steps": 4, "batch_size": 4}
    return WordErrorRate(**given | settings)


def test_rates_are_those_of_jiwer_whatever_the_case_and_the_punctuation(monkeypatch: pytest.MonkeyPatch) -> None:
    texts = ["Hello, world!", "abc def", "¡!"]
    rows = [{**row, "text": text} for row, text in zip(spoken_rows(3), texts, strict=True)]
    ids = [tokenizer()(text)["input_ids"] for text in ("hexlo worl", "abc  abc def", "abc")]

    def spelled(model: Any, rows: Any, *_: Any) -> list[torch.Tensor]:
        """Steps that say these texts, each sign twice and a blank after it."""
        found = []
        for row in rows:
            steps = [step for sign in ids[texts.index(row["text"])] for step in (sign, sign, 0)]
            found.append(torch.nn.functional.one_hot(torch.tensor(steps), len(tokenizer())).float())
        return found

    monkeypatch.setattr(word_error_rate, "outputs", spelled)
    rates = judge(test=Tones()).model_copy(update={"test": GivenRows(given=rows)}).rates(
        speech_model("ctc"), tokenizer(), 0
    )  # fmt: skip
    said, heard = ["hello world", "abc def"], ["hexlo worl", "abc abc def"]
    assert rates["recognition/speech/wer"] == jiwer.wer(said, heard)
    assert rates["recognition/speech/cer"] == jiwer.cer(said, heard)  # x is unknown to the tokenizer: one wrong sign
    assert rates["recognition/speech/cer"] == pytest.approx((2 + 4) / 18)


def test_a_probe_leaves_the_model_alone_and_is_always_the_same() -> None:
    model = speech_model()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    state = torch.random.get_rng_state()
    rates = [judge().rates(model, tokenizer(), seed) for seed in (0, 0, 1)]
    assert rates[0] == rates[1]
    assert rates[0] != rates[2]
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert torch.equal(state, torch.random.get_rng_state())
    assert model.training
    assert judge(layer=0).rates(model, tokenizer(), 0) != rates[0]


def test_a_probe_learns() -> None:
    """Tones are told apart by their features alone: even a layer on what goes in spells better than nothing."""
    task = judge(source=Tones(size=40), test=Tones(size=10, seed=1), steps=150, batch_size=8, layer=0)
    rates = task.rates(speech_model(hidden_size=64), tokenizer(), 0)
    assert rates["recognition/speech/cer"] < 0.8


def test_states_of_recordings_do_not_depend_on_their_company() -> None:
    model = speech_model()
    rows = spoken_rows(5)
    together = outputs(model, rows, 5, layer=-1)
    alone = [outputs(model, [row], 1, layer=-1)[0] for row in rows]
    for one, other, row in zip(together, alone, rows, strict=True):
        assert one.shape == (len(row_features(row, 4)), 16)
        torch.testing.assert_close(one, other, atol=1e-5, rtol=1e-4)
    logits = outputs(speech_model("ctc"), rows, 2)
    assert [value.shape[1] for value in logits] == [len(tokenizer())] * 5


def test_what_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    model = speech_model()
    with pytest.raises(DataError, match=r"task speech: 8 recordings are in 'source' and in 'test', e.g. cache://"):
        judge(test=Tones(size=8)).rates(model, tokenizer(), 0)
    with pytest.raises(DataError, match="a model without a head of characters must learn them from a 'source'"):
        judge(source=None).rates(model, tokenizer(), 0)
    with pytest.raises(ModelError, match="layer 3 of an encoder with 2 layers"):
        judge(layer=3).rates(model, tokenizer(), 0)
    with pytest.raises(ModelError, match="needs a wav2vec2-bert model of transformers, found a Linear"):
        judge().rates(torch.nn.Linear(2, 2), tokenizer(), 0)
    silent = [{**row, "text": "?!"} for row in spoken_rows(2)]
    with pytest.raises(DataError, match="no transcript of 'source' fits"):
        judge().model_copy(update={"source": GivenRows(given=silent)}).rates(model, tokenizer(), 0)
    with pytest.raises(DataError, match="no recording of 'test' has a transcript with words"):
        judge().model_copy(update={"test": GivenRows(given=silent)}).rates(model, tokenizer(), 0)
    with pytest.raises(DataError, match="'test' has no rows"):
        judge().model_copy(update={"test": GivenRows(given=[])}).rates(model, tokenizer(), 0)
    real = builtins.__import__

    def without(name: str, *given: Any, **more: Any) -> Any:
        if name == "jiwer":
            raise ImportError
        return real(name, *given, **more)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(UserError, match=r"error rates need jiwer: pip install 'warmstart\[eval\]'"):
        judge().rates(model, tokenizer(), 0)


def test_example() -> None:
    names = run_example(WordErrorRate, WordErrorRate=WordErrorRate, model=speech_model(), tokenizer=tokenizer())
    assert set(names["rates"]) == {"recognition/speech/cer", "recognition/speech/wer"}
