"""k-means, soft targets, prototypes translated back, and ProtoCLIP's loss: each as the paper's formulas have it."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from docstring_examples import run_example
from hypothesis import given, settings
from hypothesis import strategies as st
from image_text import pairs, tokenizer, two_towers
from pydantic import ValidationError
from torch.nn import functional

from warmstart.errors import DataError, ModelError, UserError
from warmstart.objectives import Outlook
from warmstart.objectives.caption_teachers import checked_vectors, teacher_vectors, tf_idf
from warmstart.objectives.clip import Clip
from warmstart.objectives.episode import CLOSING, PROTOTYPES, WARM_UP, Episode
from warmstart.objectives.protoclip import ProtoClip
from warmstart.objectives.prototypes import k_means, prototype_loss, soft_targets, translated_back

SMALL = {"prototypes": 4, "episode": 16, "hidden": 12, "outputs": 6, "warm_up": 0, "augment": "none"}


def unit_rows(rows: int, width: int, seed: int = 0) -> torch.Tensor:
    drawn = torch.from_numpy(np.random.default_rng(seed).normal(size=(rows, width)))
    return functional.normalize(drawn, dim=1).float()


# ---- the pieces ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("temperature", [1e-5, 1e-4])
def test_cold_targets_give_the_loss_of_hard_labels(temperature: float) -> None:
    centroids, vectors, labels = unit_rows(7, 5), unit_rows(20, 5, 1), torch.arange(20) % 7
    targets = soft_targets(centroids, labels, temperature)
    found = prototype_loss(vectors, centroids, torch.tensor(2.0), targets)
    wanted = functional.cross_entropy(math.exp(2) * vectors.double() @ centroids.double().T, labels)
    assert float(found) == pytest.approx(float(wanted), abs=1e-5)
    assert torch.equal(soft_targets(centroids, labels, None), functional.one_hot(labels, 7).float())


@settings(deadline=None, max_examples=30)
@given(st.integers(2, 9), st.integers(1, 12), st.floats(0.005, 5), st.integers(0, 99))
def test_soft_targets_are_a_distribution_with_the_own_label_on_top(
    clusters: int, rows: int, temperature: float, seed: int
) -> None:
    centroids = unit_rows(clusters, 6, seed)
    labels = torch.from_numpy(np.random.default_rng(seed).integers(clusters, size=rows))
    targets = soft_targets(centroids, labels, temperature)
    assert targets.sum(dim=1).numpy() == pytest.approx(np.ones(rows), abs=1e-5)
    assert torch.equal(targets.argmax(dim=1), labels)  # of centroids with equal norms


def test_back_translation_is_the_mean_of_the_members() -> None:
    members, labels = unit_rows(30, 5), torch.from_numpy(np.random.default_rng(3).integers(4, size=30))
    labels[labels == 2] = 5
    found = translated_back(members, labels, 7)
    for cluster in range(7):
        own = members.double()[labels == cluster]
        if len(own):
            torch.testing.assert_close(found[cluster].double(), own.mean(dim=0), atol=1e-6, rtol=0)
        else:
            assert torch.equal(found[cluster], torch.zeros(5))
    assert {2, 4, 6} <= {cluster for cluster in range(7) if not found[cluster].any()}


def test_translating_a_side_onto_itself_returns_its_centroids() -> None:
    around = np.eye(5)[np.arange(60) % 5]
    vectors = around + np.random.default_rng(0).normal(scale=0.05, size=(60, 5))
    labels, centroids, _ = k_means(vectors, 5, seed=1)
    own = translated_back(torch.from_numpy(vectors), torch.from_numpy(labels), 5)
    assert own.numpy() == pytest.approx(centroids, abs=1e-5)
    assert len(np.unique(labels)) == 5


def test_k_means_is_seeded_and_says_its_cost() -> None:
    vectors = unit_rows(50, 4).numpy()
    one, again, other = (k_means(vectors, 6, seed) for seed in (1, 1, 2))
    assert all(np.array_equal(a, b) for a, b in zip(one[:2], again[:2], strict=True))
    assert one[2] == again[2]
    assert not np.array_equal(one[0], other[0])
    per_pass = 2 * 50 * 6 * 4
    assert one[2] % per_pass == 0
    assert 3 * 2 * per_pass <= one[2] <= 3 * 21 * per_pass
    distances = ((vectors[:, None] - one[1][None]) ** 2).sum(axis=2)
    assert np.array_equal(distances.argmin(axis=1), one[0])
    with pytest.raises(DataError, match="51 prototypes need as many rows to cluster, found 50"):
        k_means(vectors, 51, 0)


def test_equal_vectors_leave_clusters_empty() -> None:
    labels, centroids, _ = k_means(np.ones((9, 3)), 4, 0)
    assert np.isfinite(centroids).all()
    assert not translated_back(torch.ones(9, 3), torch.from_numpy(labels), 4)[1:].any()


# ---- the whole loss --------------------------------------------------------------------------------------------------


def started(count: int = 16, **settings: Any) -> tuple[ProtoClip, Any, Episode, list[dict[str, Any]]]:
    """The objective, a model, the heads in their first episode, and the rows."""
    model, rows = two_towers(), pairs(count)
    objective = ProtoClip(**(SMALL | settings)).for_model(model)
    torch.manual_seed(0)
    episode = objective.start(model, tokenizer(), rows)
    refresh(objective, model, episode, rows)
    return objective, model, episode, rows


def refresh(objective: ProtoClip, model: Any, episode: Episode, rows: list[Any], progress: float = 0.0) -> float:
    def batch_of(some: Any, words: tuple[Any, ...]) -> Any:
        return objective.collate(some, tokenizer(), np.random.default_rng(1))

    ahead = [number % len(rows) for number in range(objective.rows_of_episode)]
    return objective.refresh(Outlook(model, episode, rows, ahead, 8, 5, progress, batch_of))


def batch_of(objective: ProtoClip, rows: list[Any], *numbers: int) -> dict[str, torch.Tensor]:
    return objective.collate([rows[n] for n in numbers or range(8)], tokenizer(), np.random.default_rng(0))


def test_the_loss_is_that_of_the_formulas() -> None:
    """Written out in float64 from the model's embeddings and the labels that were found."""
    objective, model, episode, rows = started(teacher="tf-idf", prototype_weight=0.7, teacher_weight=0.3)
    batch = batch_of(objective, rows, 3, 9, 1, 15)
    loss = objective.loss(model, batch, episode)
    with torch.no_grad():
        output = model(**{n: batch[n] for n in ("input_ids", "pixel_values", "attention_mask")}, return_loss=True)
        embeds = {"image": output.vision_model_output.pooler_output, "text": output.text_model_output.pooler_output}
        z = {n: functional.normalize(getattr(episode, f"{n}_head")(e), dim=1).double() for n, e in embeds.items()}
    scale = 1 / 0.07
    expected = float(output.loss)
    for student, other in (("image", "text"), ("text", "image")):
        labels = getattr(episode, f"{other}_labels")[[3, 9, 1, 15]]  # all rows are in the episode, in their order
        centroids = getattr(episode, f"{other}_centroids").double()
        q = torch.softmax(centroids[labels] @ centroids.T / 0.01, dim=1)
        p = torch.log_softmax(scale * z[student] @ getattr(episode, f"{student}_of_{other}").double().T, dim=1)
        expected += 0.7 / 2 * float(-(q * p).sum(dim=1).mean())
        p = torch.log_softmax(scale * z[student] @ getattr(episode, f"{student}_of_teacher").double().T, dim=1)
        expected += 0.3 / 2 * float(-p[torch.arange(4), episode.teacher_labels[[3, 9, 1, 15]]].mean())
    assert loss.total.item() == pytest.approx(expected, rel=1e-5)
    assert set(loss.parts) == {"scale", "clip/loss", "prototypes/loss", "teacher/loss"}


def test_prototypes_are_means_of_the_own_sides_embeddings() -> None:
    objective, model, episode, rows = started()
    batch = objective.collate(rows, tokenizer(), np.random.default_rng(0))
    model.eval(), episode.eval()
    with torch.no_grad():
        output = model(**{n: batch[n] for n in ("input_ids", "pixel_values", "attention_mask")})
        image = functional.normalize(episode.image_head(output.vision_model_output.pooler_output), dim=1)
    for cluster in range(4):
        own = image[episode.text_labels == cluster]
        wanted = own.mean(dim=0) if len(own) else torch.zeros(6)
        torch.testing.assert_close(episode.image_of_text[cluster], wanted, atol=1e-5, rtol=0)
    assert not torch.allclose(episode.image_of_text, episode.text_centroids, atol=1e-3)
    _, _, without, _ = started(back_translation=False)
    assert torch.equal(without.image_of_text, without.text_centroids)
    assert torch.equal(without.text_of_image, without.image_centroids)


def test_without_weights_it_is_clips_loss_bit_for_bit() -> None:
    objective, model, episode, rows = started(prototype_weight=0, teacher_weight=0, teacher="tf-idf")
    batch = batch_of(objective, rows)
    plain = Clip(augment="none").for_model(model).loss(model, batch)
    assert torch.equal(objective.loss(model, batch, episode).total, plain.total)
    assert episode.phase == PROTOTYPES


def test_gradients_reach_heads_and_towers_and_no_prototype() -> None:
    objective, model, episode, rows = started(teacher="tf-idf")
    for buffer in episode.buffers():
        assert not buffer.requires_grad
    objective.loss(model, batch_of(objective, rows), episode).total.backward()
    for name in ("image_head.0.weight", "text_head.0.weight", "image_head.3.weight", "log_scale"):
        assert episode.get_parameter(name).grad.abs().sum() > 0, name  # type: ignore[union-attr]
    for name, buffer in episode.named_buffers():
        assert buffer.grad is None, name
    plain = Clip(augment="none").for_model(model).loss(model, batch_of(objective, rows))
    found = torch.autograd.grad(plain.total, list(episode.parameters()), allow_unused=True)
    assert all(gradient is None for gradient in found)


def test_the_two_heads_begin_alike() -> None:
    made = Episode(5, 7, 3, 4, 2)
    for one, other in zip(made.image_head.parameters(), made.text_head.parameters(), strict=True):
        assert torch.equal(one, other)
        assert one.data_ptr() != other.data_ptr()


def test_a_row_has_its_label_wherever_it_stands() -> None:
    """Shuffling the rows of a step shuffles their labels with them."""
    objective, model, episode, rows = started()
    order = torch.tensor([4, 0, 6, 2, 7, 1, 3, 5])
    numbers = torch.arange(8)
    labels = episode.text_labels[episode.places(numbers)]
    assert torch.equal(episode.text_labels[episode.places(numbers[order])], labels[order])
    model.eval(), episode.image_head.eval(), episode.text_head.eval()  # no batch statistics
    model.training = True
    one = objective.loss(model, batch_of(objective, rows), episode)
    other = objective.loss(model, batch_of(objective, rows, *order.tolist()), episode)
    assert float(one.parts["prototypes/loss"]) == pytest.approx(float(other.parts["prototypes/loss"]), rel=1e-5)


def test_warm_up_and_closing_are_clip_and_nothing_of_pictures_moves_while_closing() -> None:
    objective, model, episode, rows = started(warm_up=1, closing=1)
    plain, batch = Clip(augment="none").for_model(model), batch_of(objective, rows)
    assert (episode.phase, objective.phase(episode)) == (WARM_UP, "warm-up")
    assert torch.equal(objective.loss(model, batch, episode).total, plain.loss(model, batch).total)
    refresh(objective, model, episode, rows, 0.3)
    assert episode.phase == PROTOTYPES
    assert objective.loss(model, batch, episode).total > plain.loss(model, batch).total
    refresh(objective, model, episode, rows, 0.6)
    assert (episode.phase, objective.phase(episode)) == (CLOSING, "closing")
    assert torch.equal(objective.loss(model, batch, episode).total, plain.loss(model, batch).total)
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    optimizer = torch.optim.AdamW([*model.parameters(), *episode.parameters()], lr=0.1, weight_decay=0.5)
    for _ in range(2):
        objective.loss(model, batch, episode).total.backward()
        optimizer.step()
        optimizer.zero_grad()
    moved = {name for name, tensor in model.state_dict().items() if not torch.equal(tensor, before[name])}
    assert not [name for name in moved if name.startswith(("vision_model", "visual_projection"))]
    assert "text_projection.weight" in moved
    assert all(parameter.requires_grad for parameter in model.parameters())
    assert all(module.training for module in model.modules())
    refresh(objective, model, episode, rows, 0.8)
    assert episode.phase == CLOSING


@pytest.mark.parametrize(("closing", "begins"), [(0, None), (1, 0.9), (2, 0.8), (3, 0.7)])
def test_closing_begins_where_so_many_episodes_are_left(closing: int, begins: float | None) -> None:
    objective, model, episode, rows = started(closing=closing)
    phases = {}
    for tenth in range(1, 10):
        refresh(objective, model, episode, rows, tenth / 10)
        phases[tenth / 10] = episode.phase
    assert min((p for p, phase in phases.items() if phase == CLOSING), default=None) == begins
    assert int(episode.number) == 10


def test_held_out_rows_and_evaluations_have_clips_loss() -> None:
    objective, model, episode, rows = started()
    plain = Clip(augment="none").for_model(model)
    without = [{name: value for name, value in row.items() if name != "number"} for row in rows[:8]]
    batch = objective.collate(without, tokenizer(), np.random.default_rng(0))
    assert "numbers" not in batch
    assert torch.equal(objective.loss(model, batch, episode).total, plain.loss(model, batch).total)
    model.eval()
    batch = batch_of(objective, rows)
    assert torch.equal(objective.loss(model, batch, episode).total, plain.loss(model, batch).total)


def test_what_is_not_a_number_does_not_reach_the_clusters() -> None:
    objective, model, episode, rows = started()
    with torch.no_grad():
        episode.image_head[3].bias[0] = math.nan
    refresh(objective, model, episode, rows, 0.1)
    assert all(torch.isfinite(buffer).all() for buffer in episode.buffers() if buffer.is_floating_point())


# ---- teachers --------------------------------------------------------------------------------------------------------


def test_captions_that_share_words_are_near_by_tf_idf() -> None:
    vectors = tf_idf(["a red circle", "a red circle here", "three dogs", "three dogs run"], dimensions=3)
    assert np.linalg.norm(vectors, axis=1) == pytest.approx(np.ones(4), abs=1e-6)
    assert vectors[0] @ vectors[1] > 0.5 > abs(vectors[0] @ vectors[2])
    with pytest.raises(DataError, match="tf-idf"):
        tf_idf(["?", "!"])


def test_a_teacher_from_a_file_has_a_row_for_each_row(tmp_path: Path) -> None:
    np.save(tmp_path / "t.npy", np.arange(12.0).reshape(4, 3))
    found, flops = teacher_vectors(str(tmp_path / "t.npy"), ["a"] * 4)
    assert found.dtype == np.float32
    assert (found[3].tolist(), flops) == ([9, 10, 11], 0)
    with pytest.raises(DataError, match="has 4 rows, but there are 5 training rows"):
        teacher_vectors(str(tmp_path / "t.npy"), ["a"] * 5)
    with pytest.raises(DataError, match="cannot be read"):
        teacher_vectors(str(tmp_path / "none.npy"), ["a"])
    with pytest.raises(DataError, match="must be a matrix of numbers"):
        checked_vectors(np.array(["a"]), 1, "x")


def test_a_model_as_the_teacher_leaves_padding_out(tmp_path: Path) -> None:
    from tiny_encoders import encoder
    from tiny_encoders import tokenizer as words

    model = encoder("bert", "none")
    model.save_pretrained(tmp_path)
    words().save_pretrained(tmp_path)
    texts = ["self", "return self.read_all(chunk) + other", "more text", "reader"]
    found, flops = teacher_vectors(str(tmp_path), texts)
    alone = torch.cat([
        model.eval()(**words()([text], return_tensors="pt")).last_hidden_state.mean(dim=1) for text in texts
    ])  # fmt: skip
    wanted = functional.normalize(alone.detach(), dim=1).numpy()
    wanted = wanted - wanted.mean(axis=0)
    assert found @ found.T == pytest.approx(wanted @ wanted.T, abs=1e-5)  # principal components keep products
    assert flops > 0


# ---- what cannot be --------------------------------------------------------------------------------------------------


def test_settings_that_cannot_be() -> None:
    with pytest.raises(ValidationError, match="40 need as many rows to cluster; an episode has 30"):
        ProtoClip(prototypes=40, episode=30)
    with pytest.raises(ValidationError, match="needs back_translation: true"):
        ProtoClip(teacher="tf-idf", back_translation=False)
    assert ProtoClip(prototypes=20).rows_of_episode == 2000
    assert ProtoClip(prototypes=300).rows_of_episode == 3000
    assert ProtoClip(prototypes=300).refresh_every(128) == 23
    with pytest.raises(UserError, match="an episode of 16 rows is less than a step of 17"):
        ProtoClip(**SMALL).refresh_every(17)


def test_data_that_cannot_be(tmp_path: Path) -> None:
    model, rows = two_towers(), pairs(3)
    objective = ProtoClip(**SMALL).for_model(model)
    with pytest.raises(DataError, match="4 prototypes, but only 3 training rows"):
        objective.start(model, tokenizer(), rows)
    np.save(tmp_path / "t.npy", np.zeros((7, 3)))
    with pytest.raises(DataError, match="has 7 rows, but there are 16 training rows"):
        ProtoClip(**SMALL, teacher=str(tmp_path / "t.npy")).for_model(model).start(model, tokenizer(), pairs(16))
    objective, model, episode, rows = started()
    episode.members[10:] = 2**62  # as of an episode with fewer rows than the largest number
    with pytest.raises(DataError, match="row number 12 has no label"):
        objective.loss(model, batch_of(objective, rows, 3, 12), episode)
    few = Outlook(model, episode, rows, [1, 2, 1, 2], 4, 0, 0.1, lambda some, _: batch_of(objective, some, *range(2)))
    with pytest.raises(DataError, match="4 prototypes need as many rows to cluster, found 2"):
        objective.refresh(few)


def test_a_loss_that_is_no_number_ends_training() -> None:
    objective, model, episode, rows = started()
    with torch.no_grad():
        model.text_projection.weight[0, 0] = math.nan
    with pytest.raises(UserError, match=r"the loss is nan in episode 1; lower train\.learning_rate"):
        objective.loss(model, batch_of(objective, rows), episode)
    with pytest.raises(ModelError, match="needs what start"):
        objective.loss(model, batch_of(objective, rows))


def test_example() -> None:
    rows = pairs(8)
    names = run_example(
        ProtoClip, ProtoClip=ProtoClip, Outlook=Outlook, torch=torch, np=np, model=two_towers(),
        tokenizer=tokenizer(), rows=rows,
    )  # fmt: skip
    assert names["loss"].total.isfinite()
    assert "prototypes/loss" in names["loss"].parts
