"""Worlds of features: they fire as often as asked, children with their parents, and of siblings one."""

import dataclasses

import jax
import numpy as np
import pytest

from saegan_jax.data.superposition import (
    WorldConfig,
    compensated,
    draw_world,
    firing_probabilities,
    moved_apart,
    ranks,
    world,
)
from saegan_jax.errors import ConfigError

SMALL = WorldConfig(features=40, d=8, roots=2, branching=3, depth=2, spread=0.0, correlation=0.0, apart_steps=1)


@pytest.fixture(scope="module")
def drawn():
    """A small world, and 4,000 draws: activations and magnitudes, both as arrays, features by rank."""
    made = jax.jit(lambda key: world(key, SMALL))(jax.random.key(0))
    x, h = jax.jit(lambda made, key: draw_world(SMALL, made, key, 4000))(made, jax.random.key(1))
    by_rank = np.argsort(ranks(SMALL))
    return made, np.asarray(x), np.asarray(h), np.asarray(h)[:, by_rank], np.asarray(made.mean)[by_rank]


def test_the_order_of_a_world_holds_every_rank_once_and_keeps_the_children_of_a_root_apart():
    assert sorted(ranks(SMALL)) == list(range(40))
    # Two roots, their first, second and third children; breadth first these are 2 to 4 of root 0 and 5 to 7 of root 1.
    assert ranks(SMALL)[:8].tolist() == [0, 1, 2, 5, 3, 6, 4, 7]


def test_probabilities_fall_from_the_most_to_the_least():
    p = np.asarray(firing_probabilities(SMALL))
    assert (p[0], p[-1]) == (pytest.approx(0.4), pytest.approx(5e-4))
    assert (np.diff(p) < 0).all()
    q = np.asarray(compensated(SMALL, firing_probabilities(SMALL)))
    np.testing.assert_array_equal(q[:2], p[:2])
    assert q[2] == pytest.approx(p[2] / p[0] * (1 + (p[3] + p[4]) / p[0]), rel=1e-5)
    np.testing.assert_array_equal(q[26:], p[26:])


def test_roots_and_features_of_no_tree_fire_as_often_as_asked(drawn):
    rate, p = (drawn[3] > 0).mean(axis=0), np.asarray(firing_probabilities(SMALL))
    outside = [0, 1, *range(26, 40)]
    error = np.sqrt(p[outside] * (1 - p[outside]) / 4000)
    assert (np.abs(rate[outside] - p[outside]) < 4 * error).all()


def test_a_child_is_active_with_its_parent_and_without_its_siblings(drawn):
    on = drawn[3] > 0
    for parent in range(8):
        children = on[:, 2 + 3 * parent : 5 + 3 * parent]
        assert children.sum(axis=1).max() == 1
        assert not (children.any(axis=1) & ~on[:, parent]).any()
    assert on[:, 2:5].mean(axis=0).min() > 0.03  # none of the siblings is shut out


def test_magnitudes_are_means_and_activations_are_sums_of_atoms(drawn):
    made, x, h, by_rank, mean = drawn
    assert (mean[0], mean[-1]) == (pytest.approx(5), pytest.approx(4))
    np.testing.assert_allclose(
        by_rank.max(axis=0)[:8], mean[:8], rtol=1e-5
    )  # without spread, parents are at their means
    np.testing.assert_allclose(np.linalg.norm(made.atoms, axis=1), 1, rtol=1e-5)
    np.testing.assert_allclose(x, h @ np.asarray(made.atoms) + np.asarray(made.bias), rtol=1e-4, atol=1e-4)
    assert np.linalg.norm(made.bias) == pytest.approx(0.5)


def test_a_child_grows_with_its_parent():
    config = dataclasses.replace(SMALL, spread=1.0)
    made = world(jax.random.key(0), config)._replace(std=np.array([2.0] * 2 + [0.0] * 38, np.float32))
    _, h = draw_world(config, made, jax.random.key(1), 500)
    h = np.asarray(h)
    both = (h[:, 0] > 0) & (h[:, 2] > 0)
    assert both.sum() > 20
    np.testing.assert_allclose(h[both, 2] / made.mean[2], h[both, 0] / made.mean[0], rtol=1e-4)


def test_common_causes_make_features_fire_together():
    config = dataclasses.replace(SMALL, correlation=0.4, rank=1, roots=0, exponent=1e-3)
    made = world(jax.random.key(0), config)
    _, h = draw_world(config, made, jax.random.key(1), 4000)
    on, weight = np.asarray(h) > 0, np.asarray(made.causes)[:, 0]
    pair = np.argsort(-weight)[:2]
    together, alone = on[:, pair].all(axis=1).mean(), on[:, pair].mean(axis=0).prod()
    assert weight[pair[1]] > 0.4
    assert together > 1.2 * alone


def test_directions_are_moved_apart():
    atoms = np.random.default_rng(0).normal(size=(12, 6)).astype(np.float32)
    atoms /= np.linalg.norm(atoms, axis=1, keepdims=True)
    moved = np.asarray(moved_apart(atoms, steps=100, rate=1e-2))
    assert ((moved.T @ moved) ** 2).sum() < ((atoms.T @ atoms) ** 2).sum()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"features": 25}, r"features = 25 .* the trees alone have 26"),
        ({"most": 1.0}, "most"),
        ({"least": 0.5}, "most"),
        ({"correlation": 1.0}, "correlation"),
        ({"d": 0}, "d = 0"),
    ],
)
def test_worlds_that_cannot_be_are_refused(changes, message):
    with pytest.raises(ConfigError, match=message):
        dataclasses.replace(SMALL, **changes)
