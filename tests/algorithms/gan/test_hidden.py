"""Penalties on a generator's hidden activations: what they read, their gradients, and that training lowers them."""

from dataclasses import replace

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers import SHAPE, assert_close, normal, unit_batch

from saegan_jax.algorithms.gan import GANConfig, Rules, gan, gan_game, image_generator
from saegan_jax.algorithms.gan.hidden import HIDDEN_PENALTIES, hidden_penalty_of, with_hidden_penalty
from saegan_jax.algorithms.gan.step import Share, generate_vjp
from saegan_jax.algorithms.saegan import SAEGANConfig
from saegan_jax.errors import ConfigError

TINY = GANConfig(hidden=(5, 4), d_noise=3, batch_size=6, steps=40, learning_rate=0.01)
A = jnp.array([[3.0, -4.0, 0.0, 0.0], [1.0, 1.0, -1.0, 1.0]])


def test_values():
    values = {name: float(penalty(A)) for name, penalty in HIDDEN_PENALTIES.items()}
    # Hoyer's scores are (2 - 7 / 5) / (2 - 1) = 0.6 and 0.
    assert values == pytest.approx({"l1": 11 / 8, "l2": 29 / 8, "hoyer": 1 - 0.3})
    assert float(HIDDEN_PENALTIES["hoyer"](10 * A)) == pytest.approx(0.7)


@pytest.mark.parametrize("network", ["mlp", "dcgan", "residual", "unrolled"])
def test_what_the_layers_read_is_penalised(network):
    """Against what Flax captures of each layer's output, before the activation functions of the MLP."""
    config = replace(TINY, network=network, width=2, stages=1)
    module = image_generator(config, SHAPE)
    z = normal(6, 3)
    params = module.init(jax.random.key(0), z)
    seen = []

    def penalty(x):
        seen.append(x)
        return jnp.float32(0.5)

    for layers in ("last", "all"):
        drawn, value = with_hidden_penalty(lambda: module.apply(params, z), penalty=penalty, weight=3.0, layers=layers)
        assert_close(drawn, module.apply(params, z), rtol=1e-6, atol=1e-6)
        assert value == 1.5
    last, *every = seen
    assert_close(every[-1], last, rtol=1e-6, atol=1e-6)
    assert all(x.shape[0] == 6 and x.ndim == 2 for x in seen)
    if network == "mlp":
        _, state = module.apply(params, z, capture_intermediates=True)
        outputs = [state["intermediates"][f"Dense_{i}"]["__call__"][0] for i in (0, 1)]
        for x, output in zip(every, outputs, strict=True):
            assert_close(x, nn.leaky_relu(output, 0.2), rtol=1e-6, atol=1e-6)


def rules_of(config):
    return Rules(
        game=gan_game(config, image_shape=SHAPE),
        discriminator_loss=None,
        generator_loss=None,
        finish=None,
        schedule=None,
        beta1=0.0,
        hidden_penalty=hidden_penalty_of(config),
    )


@pytest.mark.parametrize("penalty", HIDDEN_PENALTIES)
def test_its_gradient_joins_that_of_the_images(penalty):
    config = replace(TINY, hidden_penalty=penalty, hidden_weight=0.7, hidden_layers="all")
    algorithm = gan(config, image_shape=SHAPE)
    state, rules = algorithm.init(jax.random.key(0)), rules_of(config)
    latent, gradient = normal(6, 3), normal(6, *SHAPE)
    share = Share(jax.random.key(1), latent, unit_batch(6), None, None)
    made = generate_vjp(rules, state, share)

    def generate(params):
        return rules.game.generate(params, (), latent, None)

    def loss(params):
        penalised = rules.hidden_penalty(lambda: generate(params))
        return jnp.sum(gradient * penalised.drawn) + penalised.penalty

    (images_alone,) = jax.vjp(generate, state.params.generator)[1](gradient)
    assert_close(made.vjp(gradient)[0], jax.grad(loss)(state.params.generator), rtol=1e-5, atol=1e-6)
    first = made.vjp(gradient)[0]["params"]["Dense_0"]["kernel"] - images_alone["params"]["Dense_0"]["kernel"]
    assert jnp.abs(first).max() > 1e-4
    assert made.penalty > 0


def test_training_lowers_it_and_reports_it():
    ends = {}
    for weight in (0.0, 30.0):
        config = replace(TINY, hidden_penalty="hoyer", hidden_weight=weight)
        algorithm = gan(config, image_shape=SHAPE)
        state, step = algorithm.init(jax.random.key(0)), jax.jit(algorithm.step)
        for _ in range(config.steps):
            state, info = step(state, unit_batch(6))
        game, penalise = gan_game(config, image_shape=SHAPE), hidden_penalty_of(replace(config, hidden_weight=1.0))
        params, latent = state.params.generator, normal(64, 3)
        ends[weight] = float(penalise(lambda: game.generate(params, (), latent, None)).penalty)  # noqa: B023
        assert (info.generator_extra > 0) == (weight > 0)
    assert ends[30.0] < 0.7 * ends[0.0]


def test_without_weight_there_is_none():
    assert hidden_penalty_of(TINY) is None


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"hidden_weight": -1.0}, "hidden_weight"),
        ({"hidden_weight": float("nan")}, "hidden_weight"),
        ({"hidden_penalty": "l0"}, "hidden_penalty"),
        ({"hidden_layers": "first"}, "hidden_layers"),
        ({"hidden_weight": 1.0, "hidden": ()}, "no hidden activations"),
    ],
)
def test_settings_that_cannot_work(changes, message):
    with pytest.raises(ConfigError, match=message):
        replace(TINY, **changes)


def test_a_generator_of_codes_has_no_such_layers():
    with pytest.raises(ConfigError, match="generator of images"):
        SAEGANConfig(generator_input="gaussian", generator_output="codes", gan=replace(TINY, hidden_weight=1.0))


def test_numbers_that_are_not_finite_stay_so():
    for bad in (np.nan, np.inf):
        assert not any(np.isfinite(float(penalty(A.at[0, 1].set(bad)))) for penalty in HIDDEN_PENALTIES.values())
