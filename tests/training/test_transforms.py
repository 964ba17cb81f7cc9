"""Many steps, many seeds, donation: each gives what single calls give."""

import functools
from dataclasses import replace
from typing import Any, NamedTuple

import flax.struct
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers import SHAPE, assert_close, assert_every_leaf_moved, assert_same, filled, numpy_leaves, uint8_data

from saegan_jax.algorithms.base import Algorithm, Batch
from saegan_jax.algorithms.gan import GANConfig, gan
from saegan_jax.algorithms.sae import SAEConfig, sae
from saegan_jax.algorithms.saegan import SAEGANConfig, fit_pretrained, saegan
from saegan_jax.images import to_unit_float
from saegan_jax.training.systems import init_members
from saegan_jax.training.transforms import (
    compile_chunk,
    ensemble,
    many_fresh_steps,
    many_steps,
    shuffled,
)

N = 10


@flax.struct.dataclass
class ToyState:
    """What `many_steps` asks of a state, and a number that depends on the order of all batches."""

    step: jax.Array
    key: jax.Array
    value: jax.Array


def toy_state(seed=0):
    return ToyState(jnp.zeros((), jnp.int32), jax.random.key(seed), jnp.zeros(()))


def toy_step(state, batch):
    value = 0.9 * state.value + batch.image.reshape(-1).mean() * (1 + batch.label[0].astype(jnp.float32))
    return state.replace(step=state.step + 1, value=value), (batch.label, batch.image)


@functools.cache
def toy_chunk(length, batch_size):
    return jax.jit(many_steps(toy_step, length=length, batch_size=batch_size))


def labels_seen(state, length, batch_size, data):
    state, (labels, _) = toy_chunk(length, batch_size)(state, data)
    return state, np.asarray(labels).reshape(-1)


@pytest.mark.parametrize("batch_size", [4, 10])
def test_every_example_is_seen_once_an_epoch_in_a_new_order(batch_size):
    """Also where batches straddle epochs."""
    data = uint8_data(N)
    _, seen = labels_seen(toy_state(), 100 // batch_size, batch_size, data)
    epochs = seen.reshape(10, N)
    np.testing.assert_array_equal(np.sort(epochs, axis=1), np.tile(np.arange(N), (10, 1)))
    assert len(np.unique(epochs, axis=0)) == 10
    # The documented order.
    np.testing.assert_array_equal(seen[: 2 * N], places(N, 2 * N, 3)(jax.random.key(0), np.int32(0)))


@pytest.mark.parametrize("n", [1, 2, 3, 7, 16, 130, 1297])
def test_epochs_are_permutations_wherever_one_starts_to_ask(n):
    ask, key = places(n, 3 * n, 4), jax.random.key(5)
    order = np.asarray(ask(key, np.int32(0)))
    np.testing.assert_array_equal(np.sort(order.reshape(3, n)), np.tile(np.arange(n), (3, 1)))
    start = 2 * n - n // 2
    np.testing.assert_array_equal(ask(key, np.int32(start))[: 3 * n - start], order[start:])


def test_shuffles_look_random():
    """Over 2,000 keys: where the first example goes, how far neighbours go apart, and epochs beside each other."""
    n, keys = 100, jax.random.split(jax.random.key(0), 2000)
    ask = jax.jit(jax.vmap(lambda key: shuffled(key, jnp.arange(2 * n, dtype=jnp.int32), n, epochs=2)))
    orders = np.asarray(ask(keys)).reshape(-1, 2, n)
    first = orders[:, 0, :]
    for drawn, kinds in (
        (first[:, 0], np.arange(n)),
        (first[:, 57], np.arange(n)),
        ((np.diff(first) % n).reshape(-1), np.arange(1, n)),
        ((first[:, 10:] - first[:, :-10]).reshape(-1) % n, np.arange(1, n)),  # a column of the grid apart
        (((orders[:, 1] - first) % n).reshape(-1), np.arange(n)),
    ):
        counts = np.array([np.sum(drawn == kind) for kind in kinds])
        assert counts.sum() == len(drawn)
        expected = len(drawn) / len(kinds)
        deviations = np.sum((counts - expected) ** 2 / expected)
        assert deviations < len(kinds) + 5 * np.sqrt(2 * len(kinds))


def test_the_order_depends_on_the_key():
    data = uint8_data(N)
    _, a = labels_seen(toy_state(0), 25, 4, data)
    _, b = labels_seen(toy_state(1), 25, 4, data)
    _, again = labels_seen(toy_state(0), 25, 4, data)
    np.testing.assert_array_equal(a, again)
    assert not np.array_equal(a, b)


@pytest.mark.parametrize("lengths", [(1, 24), (7, 7, 7, 1, 1, 1, 1), (24, 1)])
def test_chunks_of_any_lengths_are_the_same_run(lengths):
    data = uint8_data(N)
    whole, want = labels_seen(toy_state(), 25, 4, data)
    state, seen = toy_state(), []
    for length in lengths:
        state, labels = labels_seen(state, length, 4, data)
        seen.append(labels)
    np.testing.assert_array_equal(np.concatenate(seen), want)
    assert_close(state, whole, rtol=1e-6, atol=0)


def test_images_keep_their_labels_and_become_unit_floats():
    data = uint8_data(N)
    _, (labels, images) = toy_chunk(25, 4)(toy_state(), data)
    assert images.dtype == jnp.float32
    assert images.shape == (25, 4, *SHAPE)
    want = np.asarray(data.image, np.float64)[np.asarray(labels)] / 255
    np.testing.assert_allclose(images, want, rtol=1e-6)
    assert data.image.max() > 240  # so that a wrong divisor would show


def test_to_unit_float_maps_the_ends_exactly():
    got = to_unit_float(jnp.array([0, 51, 255], jnp.uint8))
    assert got.dtype == jnp.float32
    np.testing.assert_allclose(got, [0, 0.2, 1], rtol=1e-7)
    assert got[2] == 1


def test_a_batch_larger_than_the_data_raises():
    with pytest.raises(ValueError, match="batch_size = 11 is larger than the data, 10 examples"):
        many_steps(toy_step, length=1, batch_size=11)(toy_state(), uint8_data(N))


BATCH = 4
SAE = SAEConfig(d_sae=5, rho=0.2, batch_size=BATCH, steps=20, learning_rate=0.01)
GAN = GANConfig(hidden=(5,), d_noise=3, batch_size=BATCH, steps=20, learning_rate=1e-3, loss="non_saturating")
SAEGAN = SAEGANConfig(code_hidden=(), sae=SAE, gan=replace(GAN, hidden=(), r1_gamma=0.0, r2_gamma=0.0))


@functools.cache
def places(n, count, epochs):
    return jax.jit(lambda key, first: shuffled(key, first + jnp.arange(count, dtype=jnp.int32), n, epochs=epochs))


class System(NamedTuple):
    """An algorithm, its jitted init, the program of five steps as a training runs it, and a mark for each of its traces."""

    algorithm: Algorithm
    init: Any
    program: Any
    traces: list[int]


@functools.cache
def system(name):
    if name == "saegan":
        params = filled(jax.eval_shape(sae(SAE, image_shape=SHAPE).init, jax.random.key(0))).params
        pretrained = fit_pretrained(SAEGAN, params, uint8_data(N).image, jax.random.key(0))
        algorithm = saegan(SAEGAN, image_shape=SHAPE)
        init = lambda key: algorithm.init(key, pretrained)  # noqa: E731
    else:
        algorithm = {"sae": lambda: sae(SAE, image_shape=SHAPE), "gan": lambda: gan(GAN, image_shape=SHAPE)}[name]()
        init = algorithm.init
    chunk, traces = many_steps(algorithm.step, length=5, batch_size=BATCH), []

    def counted(state, data):
        traces.append(1)
        return chunk(state, data)

    return System(algorithm, jax.jit(init), compile_chunk(counted), traces)


def copy(state):
    """To give away, as the program takes its state's buffers over."""
    return jax.tree.map(lambda a: a.copy(), state)


def member(tree, i):
    return jax.tree.map(lambda a: a[i], tree)


@pytest.mark.parametrize("name", ["sae", "gan", "saegan"])
def test_one_program_runs_all_chunks_and_takes_over_the_state(name):
    """One trace however many chunks (a dtype or weak type that a step changes would make it two), and old buffers go."""
    _, init, program, traces = system(name)
    data, state = uint8_data(N), init(jax.random.key(0))
    for _ in range(4):
        before, (state, _) = state, program(state, data)
        assert all(leaf.is_deleted() for leaf in jax.tree.leaves(before))
    assert len(traces) == 1
    assert state.step == 20
    # The data are shared by all chunks and stay.
    assert not data.image.is_deleted()
    assert not data.label.is_deleted()


@pytest.mark.parametrize("name", ["sae", "gan"])
def test_many_steps_equal_single_ones(name):
    algorithm, init, program, _ = system(name)
    start, data, step = init(jax.random.key(3)), uint8_data(N), jax.jit(algorithm.step)
    got, infos = program(copy(start), data)
    infos = jax.tree.map(np.asarray, infos)
    order = np.asarray(places(N, 2 * N, 3)(start.key, np.int32(0)))
    state = start
    for t in range(5):
        index = order[t * BATCH : (t + 1) * BATCH]
        image = np.asarray(data.image)[index].astype(np.float32) / 255
        state, info = step(state, Batch(jnp.asarray(image), jnp.asarray(np.asarray(data.label)[index])))
        assert_close(member(infos, t), info, rtol=1e-4, atol=1e-5)
    # The tolerance is a hundredth of one step of size learning_rate, or less.
    assert_close(got, state, rtol=1e-4, atol=1e-5)
    assert_every_leaf_moved(got.params, start.params)


def test_two_chunks_of_five_are_ten_steps():
    algorithm, init, program, _ = system("sae")
    start, data = init(jax.random.key(3)), uint8_data(N)
    ten, infos = jax.jit(many_steps(algorithm.step, length=10, batch_size=BATCH))(start, data)
    first, infos_a = program(copy(start), data)
    second, infos_b = program(first, data)
    assert_close(second, ten, rtol=1e-5, atol=1e-6)
    both = jax.tree.map(lambda a, b: np.concatenate([a, b]), infos_a, infos_b)
    assert_close(jax.tree.map(np.asarray, both), infos, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("name", ["sae", "gan"])
def test_member_of_an_ensemble_equals_the_single_run_of_its_seed(name):
    """To the bit at the start; after five steps up to rounding, as a batched matrix product sums in another order."""
    algorithm, init, program, _ = system(name)
    members = jax.jit(lambda: init_members(algorithm, seed=7, n_seeds=3))()
    final, infos = jax.jit(ensemble(many_steps(algorithm.step, length=5, batch_size=BATCH)))(members, uint8_data(N))
    members, final, infos = (numpy_leaves(tree) for tree in (members, final, infos))
    for i in range(3):
        start = init(jax.random.key(7 + i))
        assert_same({path: a[i] for path, a in members.items()}, numpy_leaves(start))
        alone, alone_infos = program(start, uint8_data(N))
        assert_close({path: a[i] for path, a in final.items()}, numpy_leaves(alone), rtol=1e-3, atol=1e-5)
        assert_close({path: a[i] for path, a in infos.items()}, numpy_leaves(alone_infos), rtol=1e-3, atol=1e-5)
    for a in infos.values():
        assert a.shape == (3, 5)
    # Members differ.
    assert any(len(np.unique(a[:, 0])) == 3 for a in infos.values())


def test_one_seed_has_no_axis_of_members():
    algorithm, init, _, _ = system("sae")
    got = jax.jit(lambda: init_members(algorithm, seed=7, n_seeds=1))()
    assert_same(got, init(jax.random.key(7)))


def test_members_taken_a_few_at_a_time_are_the_same_ensemble():
    """Also where they do not divide the ensemble."""
    states = jax.vmap(lambda key: toy_state().replace(key=key))(jax.random.split(jax.random.key(0), 5))
    chunk = many_steps(toy_step, length=4, batch_size=4)
    want = jax.jit(ensemble(chunk))(states, uint8_data(N))
    got = jax.jit(ensemble(chunk, members_per_vmap=2))(states, uint8_data(N))
    assert_close(got, want, rtol=1e-6, atol=1e-6)


def test_fresh_batches_depend_on_key_and_step_alone():
    def draw(key):
        image = jax.random.uniform(key, (2, *SHAPE))
        return Batch(image, jnp.zeros(2, jnp.int32))

    ten, (_, images) = jax.jit(many_fresh_steps(toy_step, draw, length=10))(toy_state())
    assert len(np.unique(images.reshape(20, -1), axis=0)) == 20  # never the same twice
    five = jax.jit(many_fresh_steps(toy_step, draw, length=5))
    half, (_, first) = five(toy_state())
    again, (_, second) = five(half)
    assert_same(again, ten)
    np.testing.assert_array_equal(np.concatenate([first, second]), images)
    _, (_, other) = five(toy_state(1))
    assert not np.array_equal(other, first)


def test_fresh_batches_may_be_made_from_data_that_the_members_share():
    def draw(key, data):
        index = jax.random.randint(key, (4,), 0, data.label.shape[0])
        return Batch(to_unit_float(data.image[index]), data.label[index])

    data = uint8_data(N)
    chunk = many_fresh_steps(toy_step, draw, length=6)
    states = jax.vmap(lambda key: toy_state().replace(key=key))(jax.vmap(jax.random.key)(jnp.arange(2)))
    final, (labels, images) = compile_chunk(ensemble(chunk))(states, data)
    assert labels.shape == (2, 6, 4)
    assert not np.array_equal(labels[0], labels[1])
    np.testing.assert_allclose(images, np.asarray(data.image)[np.asarray(labels)] / 255, rtol=1e-6)
    assert not data.image.is_deleted()
    step = jax.jit(lambda state, data, key: toy_step(state, draw(key, data)))
    for i in range(2):
        state = toy_state(i)
        for t in range(6):
            key = jax.random.fold_in(jax.random.fold_in(state.key, 0x6461), t)
            state, (seen, _) = step(state, data, key)
            np.testing.assert_array_equal(seen, labels[i, t])
        assert_close(member(final, i), state, rtol=1e-6, atol=0)
    # Other data, the same program: nothing of them has become a constant of it.
    other = data._replace(image=255 - data.image)
    again = jax.vmap(lambda key: toy_state().replace(key=key))(jax.vmap(jax.random.key)(jnp.arange(2)))
    _, (same, turned) = compile_chunk(ensemble(chunk))(again, other)
    np.testing.assert_array_equal(same, labels)
    np.testing.assert_allclose(turned, 1 - images, atol=1e-6)
