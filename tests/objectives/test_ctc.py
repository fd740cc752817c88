"""Connectionist temporal classification: the sum over all ways to spell, and a speech model that learns to."""

from __future__ import annotations

import itertools
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from docstring_examples import run_example
from tiny_speech_models import TINY_SPEECH, speech_model, spoken_rows, tokenizer
from transformers import AutoModelForCTC, AutoTokenizer, Wav2Vec2BertForCTC

from warmstart.data.log_mel import speech_features
from warmstart.data.media import open_audio
from warmstart.data.sources.made_speech import wav_bytes
from warmstart.errors import DataError, ModelError
from warmstart.models.load import load_model
from warmstart.models.tokenizer import train_tokenizer
from warmstart.objectives.ctc import Ctc, ctc_loss, needed_steps
from warmstart.recipe import Recipe
from warmstart.run_recipe import run
from warmstart.train.progress import Reporter

BLANK = 0


def spelled(path: tuple[int, ...]) -> list[int]:
    """What a path says: repeated signs are one, blanks are none."""
    return [sign for sign, _ in itertools.groupby(path) if sign != BLANK]


@pytest.mark.parametrize("said", [[1], [1, 2], [2, 2], [1, 2, 1]])
def test_the_loss_is_the_sum_over_all_paths(said: list[int]) -> None:
    logits = torch.randn(1, 4, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    chances = torch.softmax(logits[0], dim=-1)
    total = sum(
        math.prod(float(chances[step, sign]) for step, sign in enumerate(path))
        for path in itertools.product(range(3), repeat=4)
        if spelled(path) == said
    )
    found = ctc_loss(logits, torch.tensor([4]), torch.tensor([said]), BLANK)
    assert float(found.total) == pytest.approx(-math.log(total) / len(said), rel=1e-5)
    assert found.targets == len(said)


def test_the_loss_is_that_of_transformers() -> None:
    model = speech_model("ctc").eval()
    rows = spoken_rows(5)
    batch = Ctc().collate(rows, tokenizer(), np.random.default_rng(0))
    model.config.ctc_loss_reduction = "sum"
    theirs = model(**{k: batch[k] for k in ("input_features", "attention_mask", "labels")}).loss
    ours = Ctc().loss(model, batch)
    torch.testing.assert_close(ours.total * ours.targets, theirs, rtol=1e-5, atol=1e-4)
    assert ours.per_row is not None
    weights = (batch["labels"] >= 0).sum(dim=1)
    torch.testing.assert_close((ours.per_row * weights).sum() / weights.sum(), ours.total.detach())


def test_what_cannot_be_said_counts_for_nothing(tmp_path: Path) -> None:
    (tmp_path / "short.wav").write_bytes(wav_bytes(np.zeros(3000), 16_000))  # 4 steps
    rows = spoken_rows(2)
    others = [
        {"text": "abcdefgh", "id": "long", "audio": str(tmp_path / "short.wav")},
        {"text": "aabb", "id": "doubled", "audio": str(tmp_path / "short.wav")},
        {"text": "!?", "id": "silent", "audio": str(tmp_path / "short.wav")},
        {"text": "abc", "id": "fits", "audio": str(tmp_path / "short.wav")},
    ]
    model = speech_model("ctc").eval()
    batch = Ctc().collate(rows + others, tokenizer(), np.random.default_rng(0))
    loss = Ctc().loss(model, batch)
    assert loss.parts["skipped"] == 0.5
    assert loss.total.isfinite()
    fewer = Ctc().loss(model, Ctc().collate([*rows, others[3]], tokenizer(), np.random.default_rng(0)))
    torch.testing.assert_close(loss.total, fewer.total, rtol=1e-5, atol=1e-5)
    assert [needed_steps(ids) for ids in ([], [1], [1, 1], [1, 2, 2, 2])] == [0, 1, 3, 6]


def test_hiding_is_for_training_alone_and_draws_from_the_given_generator() -> None:
    objective = Ctc(chance=0.1, span=5)
    model = speech_model("ctc", mask_time_prob=0.9)
    rows = spoken_rows(6)
    first, again = (objective.collate(rows, tokenizer(), np.random.default_rng(n)) for n in (0, 0))
    assert torch.equal(first["hidden"], again["hidden"])
    assert 0.2 < first["hidden"][first["attention_mask"]].float().mean() < 0.7
    plain = Ctc().loss(model, first | {"hidden": torch.zeros_like(first["hidden"])}).total
    assert objective.loss(model, first).total != plain
    model.eval()
    torch.testing.assert_close(objective.loss(model, first).total, plain)


def test_it_learns_to_spell() -> None:
    model = speech_model("ctc", hidden_size=32)
    rows = spoken_rows(4, words=(2, 3))
    batch = Ctc().collate(rows, tokenizer(), np.random.default_rng(0))
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
    losses = []
    for _ in range(30):
        loss = Ctc().loss(model, batch)
        loss.total.backward()
        optimizer.step()
        optimizer.zero_grad()
        losses.append(float(loss.total.detach()))
    assert losses[-1] < 0.5 * losses[0]


def speech_recipe(**budget: int) -> Recipe:
    """Pre-training on tones, then spelling them."""
    stage = {
        "name": "codes",
        "init": TINY_SPEECH,
        "tokenizer": {"characters": 20},
        "data": {"source": {"type": "tones", "size": 24}, "packing": "rows", "split": {"validation": 0.2}},
        "objective": {"type": "w2v-bert", "codes": 16},
        "train": {"batch_size": 4, "trackers": [], "device": "cpu"},
        "budget": {"steps": 3},
        "evaluate": {"every": 0.9, "evaluators": [{"type": "held-out", "tokens": 4, "batch_size": 4}]},
    }
    second = {name: stage[name] for name in ("data", "train", "budget")}
    judge = {"type": "word-error-rate", "test": {"type": "tones", "size": 4, "seed": 1}}
    second |= {"name": "spell", "objective": "ctc", "evaluate": {"every": 0.9, "evaluators": ["held-out", judge]}}
    return Recipe.model_validate({"title": "speech", "stages": [stage, second]})


def test_from_pre_training_to_a_model_that_spells_with_plain_transformers(tmp_path: Path) -> None:
    result = run(speech_recipe(), tmp_path / "run", reporter=Reporter())
    pre_trained, fine_tuned = (tmp_path / "run/stages" / name / "model" for name in ("00-codes", "01-spell"))
    assert set(result.stages[1]["final"]) >= {"recognition/speech/cer", "recognition/speech/wer", "validation/loss"}
    model, speller = AutoModelForCTC.from_pretrained(fine_tuned).eval(), AutoTokenizer.from_pretrained(fine_tuned)
    assert isinstance(model, Wav2Vec2BertForCTC)
    assert model.config.vocab_size == len(speller)
    features = torch.from_numpy(speech_features(open_audio(spoken_rows(1)[0]["audio"]), 4))[None]
    ids = model(input_features=features).logits.argmax(dim=-1)[0]
    assert isinstance(speller.decode(ids), str)
    # the new head is drawn from the seed, and nothing else is
    heads = [load_model(pre_trained, "ctc", seed=seed) for seed in (0, 0, 1)]
    assert torch.equal(heads[0].lm_head.weight, heads[1].lm_head.weight)
    assert not torch.equal(heads[0].lm_head.weight, heads[2].lm_head.weight)
    trunk = load_model(pre_trained, "speech").state_dict()
    assert all(torch.equal(value, trunk[name]) for name, value in heads[2].wav2vec2_bert.state_dict().items())
    again = run(speech_recipe(), tmp_path / "again", reporter=Reporter())
    assert [stage["weights"] for stage in again.stages] == [stage["weights"] for stage in result.stages]


def test_a_model_that_does_not_say_how_many_characters(tmp_path: Path) -> None:
    model = speech_model()
    model.config.vocab_size = None
    model.save_pretrained(tmp_path)
    assert load_model(tmp_path, "ctc", vocabulary=17).lm_head.out_features == 17
    with pytest.raises(ModelError, match="vocabulary size"):
        load_model(tmp_path, "ctc")


def test_what_cannot_be() -> None:
    objective, rows, draw = Ctc(), spoken_rows(2), np.random.default_rng(0)
    with pytest.raises(ModelError, match="needs a wav2vec2-bert model"):
        objective.start(torch.nn.Linear(2, 2))
    with pytest.raises(ModelError, match="tokenizer has no padding token for the blank"):
        objective.collate(rows, object(), draw)
    with pytest.raises(ModelError, match="padding token is 0, but the model's blank is 3"):
        objective.start(speech_model("ctc", pad_token_id=3), tokenizer())
    with pytest.raises(DataError, match="row 9 has no sound"):
        objective.collate([{"text": "a", "id": 9}], tokenizer(), draw)
    with pytest.raises(ModelError, match="no vector for hidden steps"):
        Ctc(chance=0.1).start(speech_model("ctc", mask_time_prob=0.0))
    assert train_tokenizer(["a"], 260, "causal").pad_token_id is not None  # any tokenizer with padding will do


def test_example() -> None:
    names: dict[str, Any] = run_example(
        Ctc, Ctc=Ctc, torch=torch, np=np, model=speech_model("ctc"), rows=spoken_rows(4), tokenizer=tokenizer()
    )
    assert names["loss"].total.isfinite()
