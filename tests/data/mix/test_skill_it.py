"""Skill-It: the mixer, the graph, and the numbers that the card gives."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from warmstart.data.mix.skill_it import SkillItMixer, graph_report, learn_graph, stratified
from warmstart.errors import DataError

LEGO = np.array(
    [[1, 0, 0, 0, 0], [0.5, 1, 0.5, 0.5, 0], [0, 0, 1, 0, 0], [0, 0, 0, 1, 0], [0, 0, 0, 0, 1]], dtype=float
)
graphs = arrays(float, (4, 4), elements=st.floats(0, 2)).filter(np.any)
losses = arrays(float, 4, elements=st.floats(0, 10))


def softmax(values: np.ndarray) -> np.ndarray:
    raised = np.exp(values - values.max())
    return raised / raised.sum()


@given(graph=graphs, eta=st.floats(0, 100), rounds=st.lists(losses, max_size=6), window=st.none() | st.integers(1, 4))
def test_shares_are_positive_and_add_up_to_one(graph, eta, rounds, window) -> None:
    mixer = SkillItMixer(graph, eta, window)
    for found in rounds:
        mixer.update(found)
    assert abs(mixer.shares.sum() - 1) < 1e-9
    assert (mixer.shares > 0).all()


def test_the_first_mixture_of_the_released_lego_graph() -> None:
    assert np.round(SkillItMixer(LEGO, 0.5).shares, 4).tolist() == [0.1635, 0.3461, 0.1635, 0.1635, 0.1635]


@given(rounds=st.lists(losses, min_size=1, max_size=5))
def test_a_full_graph_is_uniform_and_the_identity_follows_each_loss(rounds) -> None:
    full, own = SkillItMixer(np.ones((4, 4)), 0.7, 3), SkillItMixer(np.eye(4), 0.7, 3)
    for found in rounds:
        assert np.allclose(full.update(found), 0.25)
        own.update(found)
    assert np.allclose(own.shares, softmax(0.7 * np.sum(rounds[-3:], axis=0)))


@given(graph=graphs, found=losses, skill=st.integers(0, 3), more=st.floats(0.01, 3))
def test_a_higher_loss_lifts_only_the_skills_that_feed_it(graph, found, skill, more) -> None:
    """Relative to a skill that does not feed it, every other is where it was or higher."""
    before = SkillItMixer(graph, 0.5, 1).update(found)
    raised = found.copy()
    raised[skill] += more
    after = SkillItMixer(graph, 0.5, 1).update(raised)
    feeds = graph[:, skill] > 0
    odds = np.log(after) - np.log(before)  # up to a constant: eta * more * A[:, skill]
    assert np.allclose(odds - odds[0], 0.5 * more * (graph[:, skill] - graph[0, skill]), atol=1e-6)
    if not feeds.all():
        assert (after[~feeds] <= before[~feeds] + 1e-12).all()


@given(graph=graphs, rounds=st.lists(losses, min_size=1, max_size=4), order=st.permutations(range(4)))
def test_permuting_skills_permutes_the_mixture(graph, rounds, order) -> None:
    plain, permuted = SkillItMixer(graph, 0.5), SkillItMixer(graph[np.ix_(order, order)], 0.5)
    for found in rounds:
        plain.update(found)
        permuted.update(found[list(order)])
    assert np.allclose(plain.shares[list(order)], permuted.shares)


@given(rounds=st.lists(losses, min_size=1, max_size=6))
def test_windows(rounds) -> None:
    graph = LEGO[:4, :4]
    mixers = {window: SkillItMixer(graph, 0.5, window) for window in (1, 3, 50, None)}
    product = np.full(4, 0.25)
    for found in rounds:
        for mixer in mixers.values():
            mixer.update(found)
        product = product * np.exp(0.5 * graph @ found)
        product /= product.sum()
    assert np.allclose(mixers[1].shares, softmax(0.5 * graph @ rounds[-1]))
    assert np.allclose(mixers[3].shares, softmax(0.5 * graph @ np.sum(rounds[-3:], axis=0)))
    assert np.allclose(mixers[50].shares, mixers[None].shares)
    assert np.allclose(mixers[None].shares, product)


def test_large_numbers_are_safe() -> None:
    mixer = SkillItMixer(LEGO, 100.0, 3)
    for _ in range(3):
        shares = mixer.update([10.0, 0.0, 10.0, 5.0, 10.0])
    assert np.isfinite(shares).all()
    assert shares.argmax() == 1
    assert (shares > 0).all()


def test_the_simulated_dynamics_of_the_card() -> None:
    """Losses that fall by the assumed law: the mean loss after 10 and 30 rounds, and better than uniform."""
    graph = np.eye(5) + 0.5 * np.eye(5, k=1)
    found = {}
    for eta in (0.0, 0.5, 5.0):
        mixer, loss, means = SkillItMixer(graph, eta, 3), np.ones(5), []
        for _ in range(30):
            shares = mixer.shares
            mixer.update(loss)
            loss = loss * (1 - 0.3 * graph.T @ shares)
            means.append(loss.mean())
        found[eta] = (means[9], means[29])
    assert found[0.0] == pytest.approx((0.4193, 0.0785), abs=1e-4)
    assert found[0.5] == pytest.approx((0.4110, 0.0733), abs=1e-4)
    assert found[5.0] == pytest.approx((0.4026, 0.0698), abs=1e-4)


def test_normalising_by_the_first_losses_takes_scales_out() -> None:
    graph = LEGO[:2, :2]
    plain, scaled = (SkillItMixer(graph, 0.5, normalise="initial") for _ in range(2))
    for mixer, scale in ((plain, np.ones(2)), (scaled, np.array([7.0, 0.1]))):
        mixer.begin(scale * [1.0, 2.0])
        mixer.update(scale * [0.9, 1.0])
    assert np.allclose(plain.shares, scaled.shares)
    assert np.allclose(plain.shares, softmax(0.5 * graph @ [0.9, 0.5]))


@pytest.mark.parametrize(
    ("make", "told"),
    [
        (lambda: SkillItMixer(LEGO, -0.1), "eta must be a number from 0, found -0.1"),
        (lambda: SkillItMixer(LEGO[0], 0.5), "must be a matrix"),
        (lambda: SkillItMixer(LEGO * np.nan, 0.5), "must be a matrix of numbers"),
        (lambda: SkillItMixer(LEGO, 0.5, 0), "at least one round"),
        (lambda: SkillItMixer(LEGO, 0.5).update([1, 1]), "expected 5 losses"),
        (lambda: SkillItMixer(LEGO, 0.5).update([1, 1, 1, 1, np.nan]), "not a number"),
        (lambda: SkillItMixer(LEGO[:, :3], 0.5).update([1] * 5), "expected 3 losses"),
    ],
)
def test_what_cannot_be_used_is_refused(make, told) -> None:
    with pytest.raises(DataError, match=told):
        make()


def test_a_graph_without_edges_warns_and_is_uniform() -> None:
    with pytest.warns(UserWarning, match="no edge at all"):
        mixer = SkillItMixer(np.zeros((3, 2)), 0.5)
    assert np.allclose(mixer.update([1, 5]), 1 / 3)


# ---- graphs ----------------------------------------------------------------------------------------------------


class World:
    """Losses that fall by a known law; a 'model' is the shares and steps that it was trained on."""

    def __init__(self, graph: np.ndarray) -> None:
        self.graph, self.trainings, self.asked = graph, [], []
        self.names = [f"s{n}" for n in range(len(graph))]

    def train(self, shares: dict[str, float], steps: int) -> tuple[dict[str, float], int]:
        self.trainings.append((shares, steps))
        return shares, steps

    def evaluate(self, model: tuple[dict[str, float], int] | None) -> dict[str, float]:
        self.asked.append(model)
        loss = np.array([1.0, 2.0, 4.0])
        if model is not None:
            shares, steps = model
            given = np.array([shares.get(name, 0.0) for name in self.names])
            loss = loss * (1 - 0.001 * steps * self.graph.T @ given)
        return dict(zip(self.names, loss.tolist(), strict=True))


WORLD = np.array([[0.5, 0.9, 0.0], [0.0, 0.4, 0.1], [-0.2, 0.0, 0.3]])


def test_the_approximate_graph_is_the_relative_fall_of_each_loss() -> None:
    world = World(WORLD)
    found = learn_graph(world.train, world.evaluate, world.names, world.names, 100)
    assert np.allclose(found, np.maximum(0.1 * WORLD, 0))
    assert world.trainings == [({name: 1.0}, 100) for name in world.names]
    assert world.asked[-1] is None
    unclipped = learn_graph(world.train, world.evaluate, world.names, world.names, 100, clip=False)
    assert np.allclose(unclipped, 0.1 * WORLD)


def test_the_approximate_graph_of_foreign_targets() -> None:
    world = World(WORLD)
    found = learn_graph(world.train, world.evaluate, ["s0", "s1"], ["s2"], 100)
    assert np.allclose(found, [[0.0], [0.01]])
    with pytest.raises(DataError, match=r"brute force needs every evaluation skill .* 's2' is not"):
        learn_graph(world.train, world.evaluate, ["s0", "s1"], ["s2"], 100, "brute-force")


def test_brute_force_wants_the_pair_to_beat_the_skill_alone() -> None:
    """Half of j's training given to i: an edge where i helps j more than j does itself."""
    world = World(WORLD)
    found = learn_graph(world.train, world.evaluate, world.names, world.names, 100, "brute-force")
    assert len(world.trainings) == 3 + 3
    expected = np.diag(0.1 * np.diag(WORLD))
    expected[0, 1] = 0.1 * ((0.9 + 0.4) / 2 - 0.4)  # only s0 helps s1 more than s1 itself
    assert np.allclose(found, expected)


def test_a_graph_from_broken_losses_is_refused() -> None:
    with pytest.raises(DataError, match="cannot be learned"):
        learn_graph(lambda shares, steps: shares, lambda model: {"a": 0.0}, ["a"], ["a"], 5)


def test_stratified_takes_skills_with_an_edge_and_the_targets() -> None:
    assert stratified(LEGO).tolist() == [0, 1, 0, 0, 0]
    assert stratified(LEGO, [0, 4]).tolist() == pytest.approx([1 / 3, 1 / 3, 0, 0, 1 / 3])
    assert stratified(LEGO, range(5)).tolist() == [0.2] * 5
    assert stratified(np.array([[0.0, 0.2], [0.0, 0.0], [0.1, 0.0]])).tolist() == [0.5, 0, 0.5]
    with pytest.raises(DataError, match="no skill has an edge"):
        stratified(np.eye(3))


def test_density_and_its_warnings() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert graph_report(LEGO) == pytest.approx(3 / 20)
    with pytest.warns(UserWarning, match="100% .* nearly every skill helps every other"):
        assert graph_report(np.ones((3, 3))) == 1
    with pytest.warns(UserWarning, match="0% .* hardly any"):
        assert graph_report(np.eye(3)) == 0
    with pytest.warns(UserWarning, match="nearly every"):
        assert graph_report(np.ones((3, 2))) == 1  # foreign targets: every entry counts
    assert np.isnan(graph_report(np.ones((1, 1))))
