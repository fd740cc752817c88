"""w2v-BERT and wav2vec 2.0: what is hidden, what is predicted, whose gradients go where."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from docstring_examples import run_example
from pydantic import ValidationError
from tiny_speech_models import speech_model, spoken_rows
from torch import nn

from warmstart.data.media import open_audio
from warmstart.data.sources.made_speech import wav_bytes
from warmstart.errors import DataError, ModelError
from warmstart.objectives import Batch, Row
from warmstart.objectives.masked_speech import MaskedSpeech, SpeechHeads
from warmstart.objectives.speech import hiding, padded_length
from warmstart.objectives.w2v_bert import W2vBert
from warmstart.objectives.wav2vec2 import Wav2Vec2
from warmstart.train.compute import FlopMeter, batch_key


def started(objective: MaskedSpeech, **sizes: Any) -> tuple[Any, SpeechHeads]:
    model = speech_model(**sizes)
    torch.manual_seed(1)
    return model, objective.start(model)


def collated(objective: MaskedSpeech, rows: list[Row] | None = None, seed: int = 0) -> Batch:
    return objective.collate(rows or spoken_rows(), None, np.random.default_rng(seed))


def evaluating(*modules: nn.Module) -> None:
    for module in modules:
        module.eval()


# ---- the batch -----------------------------------------------------------------------------------------------------


def test_shapes_are_few() -> None:
    objective = W2vBert(lengths=(40, 64))
    rows = spoken_rows(24)
    shapes = {batch_key(collated(objective, rows[n : n + 4])) for n in range(0, 24, 4)}
    assert len(shapes) <= 2
    batch = collated(objective, rows)
    assert batch["input_features"].shape == (24, 64, 320)
    assert batch["distractors"].shape == (24, 64, 63)  # no more than there can be
    assert {tuple(batch[name].shape) for name in ("attention_mask", "hidden", "labels")} == {(24, 64)}
    assert torch.equal(batch["labels"] == 0, batch["hidden"])
    assert not (batch["hidden"] & ~batch["attention_mask"]).any()
    assert [padded_length(n, (40, 64)) for n in (1, 40, 41, 64, 65, 200)] == [40, 40, 64, 64, 128, 256]


def test_long_utterances_are_cut_and_equal_draws_give_equal_batches() -> None:
    objective = W2vBert(lengths=(16,))
    first, again, other = (collated(objective, seed=seed) for seed in (0, 0, 1))
    assert first["input_features"].shape[1] == 16
    assert all(torch.equal(first[name], again[name]) for name in first)
    assert not torch.equal(first["input_features"], other["input_features"])


def test_a_short_utterance_counts_for_nothing(tmp_path: Path) -> None:
    (tmp_path / "short.wav").write_bytes(wav_bytes(np.zeros(3000), 16_000))  # 4 steps
    (tmp_path / "shorter.wav").write_bytes(wav_bytes(np.zeros(100), 16_000))  # none
    short = [{"text": "x", "id": name, "audio": str(tmp_path / f"{name}.wav")} for name in ("short", "shorter")]
    objective = W2vBert(codes=16)
    rows = spoken_rows(2)
    model, heads = started(objective)
    evaluating(model, heads)
    with_it, without = collated(objective, rows + short), collated(objective, rows)
    assert not with_it["hidden"][2:].any()
    for name in ("hidden", "distractors"):  # those of the long ones
        with_it[name][:2] = without[name]
    with_it["labels"][:2] = without["labels"]
    losses = [objective.loss(model, batch, heads) for batch in (with_it, without)]
    torch.testing.assert_close(losses[0].total, losses[1].total, atol=1e-5, rtol=1e-5)
    assert losses[0].parts["skipped"] == 0.5
    with pytest.raises(DataError, match=r"as long as a span of 10 steps \(0.4 s\), e.g. row short; lower span"):
        collated(objective, short)


def test_another_rate_is_heard_alike(tmp_path: Path) -> None:
    import soundfile

    row = spoken_rows(1)[0]
    samples = open_audio(row["audio"], 48_000)
    soundfile.write(tmp_path / "a.wav", np.stack([samples, samples], axis=1), 48_000)  # stereo
    objective = W2vBert()
    ours = collated(objective, [row])["input_features"]
    other = collated(objective, [{**row, "audio": str(tmp_path / "a.wav")}])["input_features"]
    assert ours.shape == other.shape
    frames = ours.view(-1, 4, 80)[:, :, :70]  # the filter of the new rate takes the highest bands
    assert (frames - other.view(-1, 4, 80)[:, :, :70]).abs().mean() < 0.25


def test_padding_changes_nothing() -> None:
    narrow, wide = W2vBert(lengths=(64,), codes=16), W2vBert(lengths=(128,), codes=16)
    model, heads = started(narrow)
    evaluating(model, heads)
    short, long = collated(narrow), collated(wide)
    for name, tensor in short.items():
        filler = {"labels": -100, "distractors": -1}.get(name, 0)
        long[name] = torch.full_like(long[name], filler)
        long[name][tuple(slice(size) for size in tensor.shape)] = tensor
    losses = [objective.loss(model, batch, heads) for objective, batch in ((narrow, short), (wide, long))]
    torch.testing.assert_close(losses[0].total, losses[1].total, atol=1e-5, rtol=1e-5)


# ---- the encoder ---------------------------------------------------------------------------------------------------


def test_hiding_is_that_of_transformers_and_leaves_no_trace() -> None:
    model = speech_model(mask_time_prob=0.5, layerdrop=0.9)
    batch = collated(W2vBert())
    given = {name: batch[name] for name in ("input_features", "attention_mask")}
    before = np.random.get_state()[1].copy()
    with hiding(model, batch["hidden"], lambda: model.masked_spec_embed) as kept:
        states = model(**given, output_hidden_states=True).hidden_states
    assert len(states) == 3  # no layer was dropped
    assert np.array_equal(before, np.random.get_state()[1])  # no SpecAugment of its own
    assert (model.config.apply_spec_augment, model.config.layerdrop) == (True, 0.9)
    assert not model.feature_projection._forward_hooks
    model.eval()
    theirs = model(**given, mask_time_indices=batch["hidden"], output_hidden_states=True).hidden_states
    for ours, wanted in zip(states, theirs, strict=True):
        torch.testing.assert_close(ours, wanted)
    plain = model.feature_projection(batch["input_features"])
    assert torch.equal(kept.projected, plain[0])
    assert torch.equal(kept.normed, plain[1])


@pytest.mark.parametrize("quantised", ["projected", "input"])
@pytest.mark.parametrize("fill", ["learned", "random"])
def test_codes_do_not_depend_on_what_is_hidden(quantised: str, fill: str) -> None:
    """The quantiser sees the features before anything is hidden: other masks, the same codes, bit by bit."""
    objective = W2vBert(quantised=quantised, mask_fill=fill, codes=16)
    model, heads = started(objective)
    evaluating(model, heads)
    seen: list[torch.Tensor] = []
    heads.quantiser.register_forward_hook(lambda module, given, output: seen.extend(output))
    first, other = collated(objective, seed=0), collated(objective, seed=1)
    assert not torch.equal(first["hidden"], other["hidden"])
    for batch in (first, other):
        objective.loss(model, batch, heads)
    assert torch.equal(seen[0], seen[2])
    assert torch.equal(seen[1], seen[3])
    assert len(seen[1].unique()) > 2


def test_random_filling_is_random_and_small() -> None:
    objective = W2vBert(mask_fill="random", codes=16)
    model, heads = started(objective)
    batch = collated(objective)
    seen: list[torch.Tensor] = []
    model.encoder.register_forward_pre_hook(lambda module, given: seen.append(given[0]))
    for seed in (0, 0, 1):
        torch.manual_seed(seed)
        objective.loss(model, batch, heads)
    assert torch.equal(seen[0], seen[1])
    filled = [states[batch["hidden"]] for states in seen]
    assert not torch.equal(filled[0], filled[2])
    assert filled[0].std().item() == pytest.approx(0.1, rel=0.05)
    assert torch.equal(seen[0][~batch["hidden"]], seen[2][~batch["hidden"]])


# ---- the losses ----------------------------------------------------------------------------------------------------


def test_the_loss_is_that_of_the_paper() -> None:
    """Computed again from the definition, utterance by utterance and step by step."""
    objective = W2vBert(codes=16, contrastive_layers=1, beta=0.7, gamma=1.3, alpha=0.2, distractors=7)
    model, heads = started(objective)
    evaluating(model, heads)
    batch = collated(objective)
    loss = objective.loss(model, batch, heads)
    states = model(
        input_features=batch["input_features"],
        attention_mask=batch["attention_mask"],
        mask_time_indices=batch["hidden"],
        output_hidden_states=True,
    ).hidden_states
    features = nn.functional.layer_norm(model.feature_projection(batch["input_features"])[0], (16,))
    logits = heads.quantiser.project(features)
    code = logits.argmax(-1)
    target = heads.target(heads.quantiser.codes[code])
    contrast, predicted, right = [], [], []
    for row, step in batch["hidden"].nonzero().tolist():
        p = heads.context(states[1][row, step])
        others = [d for d in batch["distractors"][row, step].tolist() if d >= 0 and code[row, d] != code[row, step]]
        alike = torch.stack([torch.cosine_similarity(p, target[row, d], dim=0) / 0.1 for d in (step, *others)])
        contrast.append(-torch.log_softmax(alike, 0)[0])
        guess = torch.log_softmax(heads.predict(states[2][row, step]), 0)
        predicted.append(-guess[code[row, step]])
        right.append(guess.argmax() == code[row, step])
    mean = torch.softmax(logits[batch["hidden"]], -1).mean(0)
    diversity = (16 - torch.exp(-(mean * mean.log()).sum())) / 16
    wanted = 0.7 * (torch.stack(contrast).mean() + 0.2 * diversity) + 1.3 * torch.stack(predicted).mean()
    torch.testing.assert_close(loss.total, wanted, atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(loss.parts["contrastive/loss"], torch.stack(contrast).mean().detach())
    torch.testing.assert_close(loss.parts["prediction/loss"], torch.stack(predicted).mean().detach())
    torch.testing.assert_close(loss.parts["diversity"], diversity.detach())
    assert loss.right == sum(right)
    assert loss.targets == batch["hidden"].sum()
    assert loss.per_row is not None
    weighted = (loss.per_row * batch["hidden"].sum(1)).sum() / loss.targets
    torch.testing.assert_close(weighted + 0.7 * 0.2 * diversity.detach(), loss.total.detach(), atol=1e-4, rtol=1e-4)


def test_without_layers_for_prediction_it_is_wav2vec2() -> None:
    both = W2vBert(codes=16, contrastive_layers=2, gamma=0), Wav2Vec2(codes=16)
    model, heads = started(both[0])
    assert heads.predict is None
    batch = collated(both[0])
    totals = []
    for objective in both:
        torch.manual_seed(5)
        loss = objective.loss(model, batch, heads)
        totals.append(loss.total)
        heads.updates.zero_()
    assert torch.equal(*totals)


def test_prediction_stands_on_the_contrastive_layers() -> None:
    objective = W2vBert(codes=16, contrastive_layers=1)
    model, heads = started(objective)
    evaluating(model, heads)
    batch = collated(objective)
    before = objective.loss(model, batch, heads)
    with torch.no_grad():
        for parameter in model.encoder.layers[0].parameters():
            parameter.zero_()
    after = objective.loss(model, batch, heads)
    assert after.parts["prediction/loss"] != before.parts["prediction/loss"]
    loss = objective.model_copy(update={"beta": 0.0}).loss(speech_model(), batch, heads)
    assert loss.total.requires_grad


def gradients(objective: MaskedSpeech, modules: list[nn.Module], batch: Batch, model: Any, heads: Any) -> list[float]:
    for module in (model, heads):
        module.zero_grad()
    torch.manual_seed(0)
    objective.loss(model, batch, heads).total.backward()
    return [sum(float(p.grad.abs().sum()) for p in module.parameters() if p.grad is not None) for module in modules]


def test_no_gradient_reaches_the_codes_through_the_targets() -> None:
    objective = W2vBert(codes=16, contrastive_layers=1)
    model, heads = started(objective)
    batch = collated(objective)
    layers = list(model.encoder.layers)
    watched = [heads.quantiser, heads.context, heads.target, heads.predict, *layers]
    alone = gradients(objective.model_copy(update={"beta": 0.0}), watched, batch, model, heads)
    assert alone[:3] == [0, 0, 0]
    assert all(size > 0 for size in alone[3:])  # the loss of the prediction trains the lower layers too
    together = gradients(objective, watched, batch, model, heads)
    assert all(size > 0 for size in together)
    contrast = gradients(objective.model_copy(update={"gamma": 0.0}), watched, batch, model, heads)
    assert contrast[3] == contrast[5] == 0
    assert contrast[0] > 0
    assert contrast[4] > 0


def test_evaluation_is_always_the_same() -> None:
    objective = W2vBert(codes=16)
    model, heads = started(objective)
    batch = collated(objective)
    drawn = [objective.loss(model, batch, heads).total.item() for _ in range(2)]
    assert drawn[0] != drawn[1]
    assert heads.updates == 2
    evaluating(model, heads)
    torch.manual_seed(0)
    first = objective.loss(model, batch, heads)
    torch.manual_seed(1)
    again = objective.loss(model, batch, heads)
    assert torch.equal(first.total, again.total)
    assert heads.updates == 2  # evaluating does not cool


def test_the_temperature_goes_with_the_updates() -> None:
    objective = W2vBert(codes=16, temperature=(2.0, 1.5), decay=0.9)
    model, heads = started(objective)
    batch = collated(objective)
    found = [float(objective.loss(model, batch, heads).parts["temperature"]) for _ in range(4)]
    assert found == pytest.approx([2.0, 1.8, 1.62, 1.5])


def test_training_lowers_the_loss_and_counts_its_flops() -> None:
    objective = W2vBert(codes=16, contrastive_layers=1)
    model, heads = started(objective)
    batch = collated(objective)
    cost = [
        FlopMeter().measure((one.beta,), lambda one=one: one.loss(model, batch, heads).total)
        for one in (objective, objective.model_copy(update={"beta": 0.0}))
    ]
    assert cost[0] > cost[1] > 0  # without the contrastive loss its work is not done
    optimizer = torch.optim.AdamW([*model.parameters(), *heads.parameters()], lr=1e-2)
    losses = []
    for _ in range(25):
        loss = objective.loss(model, batch, heads)
        loss.total.backward()
        optimizer.step()
        optimizer.zero_grad()
        losses.append(float(loss.total.detach()))
    assert np.mean(losses[-5:]) < 0.9 * np.mean(losses[:5])


# ---- what cannot be ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"beta": -1}, "greater than or equal to 0"),
        ({"gamma": -0.5}, "greater than or equal to 0"),
        ({"alpha": -0.1}, "greater than or equal to 0"),
        ({"beta": 0, "gamma": 0}, "nothing to learn"),
        ({"codes": 1}, "greater than or equal to 2"),
        ({"distractors": 0}, "greater than or equal to 1"),
        ({"contrastive_layers": 0}, "greater than or equal to 1"),
        ({"chance": 1.0}, "less than 1"),
        ({"lengths": ()}, "at least 1 item"),
    ],
)
def test_settings_that_cannot_be(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        W2vBert(**settings)


def test_models_that_cannot_be() -> None:
    with pytest.raises(ModelError, match="contrastive_layers 3 of an encoder with 2: must be 1 to 2"):
        W2vBert(contrastive_layers=3).start(speech_model())
    with pytest.raises(ModelError, match=r"stack 2 gives the encoder 160 numbers .* is 320"):
        W2vBert(stack=2).start(speech_model())
    with pytest.raises(ModelError, match="needs a wav2vec2-bert model of transformers, found a Linear"):
        Wav2Vec2().start(nn.Linear(2, 2))
    without = speech_model(mask_time_prob=0.0)
    with pytest.raises(ModelError, match="mask_time_prob is 0\\); set mask_fill: random"):
        W2vBert().start(without)
    assert isinstance(W2vBert(mask_fill="random").start(without), SpeechHeads)
    objective = W2vBert()
    with pytest.raises(ModelError, match=r"needs the heads that start\(model\) returned"):
        objective.loss(speech_model(), collated(objective))


def test_a_row_without_a_sound() -> None:
    with pytest.raises(DataError, match="row 7 has no sound: a column 'audio'"):
        collated(W2vBert(), [{"text": "x", "id": "7"}])
    with pytest.raises(DataError, match=r"'none\.wav' cannot be read"):
        collated(W2vBert(), [{"text": "x", "id": "7", "audio": "none.wav"}])


def test_the_number_of_codes_follows_the_model() -> None:
    assert W2vBert().start(speech_model()).quantiser.codes.shape == (256, 16)
    assert W2vBert(code_size=5).start(speech_model()).context.out_features == 5
    large = speech_model(hidden_size=512, intermediate_size=2048, num_attention_heads=8)
    assert math.isclose(len(W2vBert().start(large).quantiser.codes), 1024 if large.num_parameters() >= 1e7 else 256)


@pytest.mark.parametrize("documented", [Wav2Vec2, W2vBert])
def test_example(documented: type[MaskedSpeech]) -> None:
    names = run_example(
        documented, **{documented.__name__: documented}, torch=torch, np=np, model=speech_model(), rows=spoken_rows(4)
    )
    assert names["loss"].total.isfinite()


def test_what_is_predicted_is_the_likeliest_code_and_not_the_drawn_one() -> None:
    """Training draws codes with noise for the contrastive task; the targets of prediction have none."""
    objective = W2vBert(codes=16)
    model, heads = started(objective)
    model.eval()  # no dropout
    heads.train()
    batch, told = collated(objective), []
    for seed in (0, 1):
        torch.manual_seed(seed)
        told.append(objective.loss(model, batch, heads).parts)
    assert told[0]["contrastive/loss"] != told[1]["contrastive/loss"]
    assert torch.equal(told[0]["prediction/loss"], told[1]["prediction/loss"])
