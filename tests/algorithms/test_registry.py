"""Every registry of the adversarial systems takes a new kind from outside: one record each, and two steps of training."""

from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import chex
import flax.linen as nn
import flax.struct
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers import SHAPE, assert_every_leaf_moved, uint8_data, unit_batch

from saegan_jax.algorithms.base import Algorithm
from saegan_jax.algorithms.gan import (
    NETWORKS,
    PENALTIES,
    GANConfig,
    NetworkPair,
    Penalty,
    applied,
    gan,
    init_params,
)
from saegan_jax.algorithms.gan.penalties import weight_of
from saegan_jax.algorithms.registry import SYSTEMS, System
from saegan_jax.algorithms.sae import SAEConfig
from saegan_jax.algorithms.saegan import DISCRIMINATORS, Critic, Discriminator, SAEGANConfig
from saegan_jax.errors import ConfigError, require_positive
from saegan_jax.networks.discriminators import MLPDiscriminator
from saegan_jax.training.systems import abstract_system, fit_members, init_members
from saegan_jax.training.transforms import compile_chunk, ensemble, many_steps

N = 6
# Without second derivatives and hidden layers, which compile for long.
PLAIN = GANConfig(hidden=(), d_noise=3, batch_size=N, steps=2, loss="hinge", r1_gamma=0.0, r2_gamma=0.0)
PLACED = SAEGANConfig(generator_input="gaussian", code_hidden=(), sae=SAEConfig(d_sae=5, rho=0.2), gan=PLAIN)


def same_layout(state, shapes):
    """A state has the structure, shapes and types that a checkpoint of it is restored into."""
    chex.assert_trees_all_equal_structs(state, shapes)
    chex.assert_trees_all_equal_shapes_and_dtypes(state, shapes)


def two_steps(settings, *, n_seeds=1, pretrained=None):
    """The states before and after two steps as a training takes them, and what it reports."""
    algorithm, shapes = abstract_system(settings, image_shape=SHAPE, n_seeds=n_seeds)
    start = init_members(algorithm, seed=3, n_seeds=n_seeds, pretrained=pretrained)
    same_layout(start, shapes)
    chunk = many_steps(algorithm.step, length=2, batch_size=N)
    given = jax.tree.map(jnp.copy, start)
    state, infos = compile_chunk(chunk if n_seeds == 1 else ensemble(chunk))(given, uint8_data(2 * N))
    same_layout(state, shapes)
    chex.assert_tree_all_finite(infos)
    np.testing.assert_array_equal(state.step, np.full(n_seeds, 2) if n_seeds > 1 else 2)
    return algorithm, start, state, infos


# A penalty: the squared mean of all logits, and a count of its calls, which it keeps


def dummy_penalty(config):
    weight = weight_of(config, "dummy")
    if not weight:
        return None

    def apply(count, inputs):
        return (inputs.real_logits.mean() + inputs.fake_logits.mean()) ** 2, count + 1

    return Penalty(lambda hyper, now: weight, apply, init=lambda: jnp.zeros((), jnp.int32))


def test_a_new_penalty(monkeypatch):
    config = replace(PLAIN, penalties=(("dummy", 0.5),))
    with pytest.raises(
        ConfigError, match=r"^penalties = 'dummy' cannot be used: choose one of gradient_penalty, dragan"
    ):
        gan(config, image_shape=SHAPE)
    monkeypatch.setitem(PENALTIES, "dummy", dummy_penalty)
    _, start, state, infos = two_steps(config)
    assert start.objective.penalties["pixels"]["dummy"] == 0
    assert state.objective.penalties["pixels"]["dummy"] == 2
    np.testing.assert_allclose(infos.penalty, 0.5 * (infos.real_logits + infos.fake_logits) ** 2, rtol=1e-5)
    assert (infos.penalty > 0).all()
    # It is in the loss that is minimised, not in the report alone, and only with its weight.
    _, _, without, other = two_steps(PLAIN)
    np.testing.assert_allclose(infos.discriminator_loss[0] - infos.penalty[0], other.discriminator_loss[0], rtol=1e-5)
    assert without.objective.penalties == ()
    assert (other.penalty == 0).all()
    ends = [s.params.discriminator["params"]["Dense_0"]["kernel"] for s in (state, without)]
    assert not np.allclose(*ends, rtol=0, atol=1e-6)


# Critics: one that reads the frozen autoencoder's pre-activations, less their mean, which it fits


def mean_critic(parts):
    net = MLPDiscriminator(())

    def logits(params, pretrained, x, label):
        return net.apply(params, parts.sae.pre_activations(pretrained, x) - pretrained.critics["mean"].reshape(1, -1))

    return Critic(
        init=lambda key, pretrained: init_params(net, key, (1, parts.sae.d_sae)),
        logits=logits,
        fit=lambda pre_activations, key: pre_activations.mean(axis=0),
    )


def test_a_new_discriminator(monkeypatch):
    with pytest.raises(ConfigError, match=r"^discriminator = 'mean' .*choose one of pixels, codes"):
        replace(PLACED, discriminator="mean")
    monkeypatch.setitem(DISCRIMINATORS, "mean", Discriminator(lambda parts: {"mean": mean_critic(parts)}))
    config = replace(PLACED, discriminator="mean")
    assert config.uses_sae
    images = uint8_data(2 * N).image
    params = init_members(SYSTEMS["sae"].build(config.sae, image_shape=SHAPE), seed=3, n_seeds=2).params
    pretrained = jax.jit(lambda p: fit_members(config, p, images, seed=3, n_seeds=2))(params)
    weights, x = params["params"], images.reshape(2 * N, -1).astype(jnp.float32) / 255
    for i in range(2):
        a = x @ weights["W_enc"][i] + weights["b_enc"][i].reshape(1, -1)
        np.testing.assert_allclose(pretrained.critics["mean"][i], a.mean(axis=0), rtol=1e-4, atol=1e-5)
    _, start, state, _ = two_steps(config, n_seeds=2, pretrained=pretrained)
    assert set(state.params.discriminator) == {"mean"}
    chex.assert_trees_all_equal(state.pretrained, pretrained)
    # The last bias of the critic has no gradient while no hinge has been reached.
    assert_every_leaf_moved(state.params, start.params, but="['Dense_0']['bias']")
    assert_every_leaf_moved(state.params.generator, start.params.generator)


# Networks: a linear generator, and a discriminator of the mean pixel


class LinearGenerator(nn.Module):
    image_shape: tuple[int, int, int]

    @nn.compact
    def __call__(self, z):
        height, width, channels = self.image_shape
        return nn.tanh(nn.Dense(height * width * channels)(z)).reshape(-1, *self.image_shape)


class MeanDiscriminator(nn.Module):
    n_classes: int = 0

    @nn.compact
    def __call__(self, x, label=None):
        return nn.Dense(1)(x.reshape(x.shape[0], -1).mean(axis=1, keepdims=True))[:, 0]


PAIR = NetworkPair(
    generator=lambda config, image_shape: LinearGenerator(image_shape),
    discriminator=lambda config, image_shape, n_classes: MeanDiscriminator(n_classes),
)


def test_new_networks(monkeypatch):
    with pytest.raises(ConfigError, match=r"^network = 'linear' .*choose one of mlp, dcgan"):
        replace(PLAIN, network="linear")
    monkeypatch.setitem(NETWORKS, "linear", PAIR)
    config = replace(PLAIN, network="linear", loss="non_saturating")
    algorithm, start, state, _ = two_steps(config)
    assert state.params.discriminator["params"]["Dense_0"]["kernel"].shape == (1, 1)
    assert_every_leaf_moved(state.params, start.params)
    images = algorithm.sample(state, jax.random.key(1), 4)
    latent = jax.random.normal(jax.random.key(1), (4, 3))
    want = applied(LinearGenerator(SHAPE), "float32")(state.ema, latent)
    np.testing.assert_allclose(images, (want + 1) / 2, rtol=1e-5, atol=1e-6)
    # A SAE-GAN has them too: its generator of images, and its critic on them.
    shapes = abstract_system(replace(PLACED, gan=config), image_shape=SHAPE, n_seeds=1)[1].params
    assert shapes.discriminator["pixels"]["params"]["Dense_0"]["kernel"].shape == (1, 1)
    assert shapes.generator["params"]["Dense_0"]["kernel"].shape == (3, 16)


# A system: the mean image, followed at a rate


@dataclass(frozen=True, kw_only=True)
class MeanConfig:
    rate: float = 1.0

    def __post_init__(self) -> None:
        require_positive(rate=self.rate)


@flax.struct.dataclass
class MeanState:
    step: jax.Array
    key: jax.Array
    mean: jax.Array
    origin: Any


class MeanInfo(NamedTuple):
    distance: jax.Array


def mean_image(config: MeanConfig, *, image_shape: tuple[int, int, int], n_classes: int = 0) -> Algorithm:
    def init(key, pretrained):
        mean = jax.random.uniform(key, image_shape)
        return MeanState(jnp.zeros((), jnp.int32), key, mean, jnp.copy(pretrained))

    def step(state, batch):
        change = batch.image.mean(axis=0) - state.mean
        state = state.replace(step=state.step + 1, mean=state.mean + config.rate * change)
        return state, MeanInfo(jnp.abs(change).sum())

    return Algorithm(init=init, step=step)


def test_a_new_system(monkeypatch):
    config = MeanConfig()
    with pytest.raises(ValueError, match="MeanConfig belongs to no system; register one in SYSTEMS"):
        abstract_system(config, image_shape=SHAPE, n_seeds=1)

    def shapes(settings, *, image_shape):
        return jax.ShapeDtypeStruct(image_shape, jnp.float32)

    monkeypatch.setitem(SYSTEMS, "mean", System(MeanConfig, mean_image, shapes))
    origins = jnp.stack([unit_batch(1, seed=i).image[0] for i in range(2)])
    algorithm, start, state, infos = two_steps(config, n_seeds=2, pretrained=origins)
    np.testing.assert_array_equal(state.origin, origins)
    assert infos.distance.shape == (2, 2)
    # At a rate of 1 the mean is that of the last batch, and the two batches are all of the data.
    whole = np.asarray(uint8_data(2 * N).image, np.float64).mean(axis=0) / 255
    for i in range(2):
        last = np.asarray(state.mean[i])
        first = 2 * whole - last
        want = [np.abs(first - start.mean[i]).sum(), np.abs(last - first).sum()]
        np.testing.assert_allclose(infos.distance[i], want, rtol=1e-4)
    with pytest.raises(ValueError, match="draws no samples"):
        algorithm.sample(state, jax.random.key(0), 2)
    alone = init_members(algorithm, seed=4, n_seeds=1, pretrained=origins[1])
    chex.assert_trees_all_close(jax.tree.map(lambda x: x[1], start.mean), alone.mean)


def test_a_penalty_with_an_option_of_its_own_is_not_taken_twice():
    with pytest.raises(ConfigError, match="it has an option of its own"):
        gan(replace(PLAIN, penalties=(("r1", 0.5),)), image_shape=SHAPE)
