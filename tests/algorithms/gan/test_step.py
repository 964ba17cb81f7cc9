"""Adversarial training: one step against an independent one, who gets which gradient, averaged weights, samples."""

import functools
from dataclasses import fields, replace

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from helpers import (
    SHAPE,
    assert_close,
    assert_every_leaf_moved,
    assert_finite,
    assert_same,
    filled,
    normal,
    random_params,
    uint8_data,
    unit_batch,
)

from saegan_jax import losses
from saegan_jax.algorithms.gan import Game, GANConfig, Nets, adversarial, gan, hyper, image_networks, scheduled
from saegan_jax.algorithms.gan.schedule import length_matters
from saegan_jax.errors import ConfigError

BATCH, D_NOISE = 6, 3
TINY = GANConfig(hidden=(5,), d_noise=D_NOISE, batch_size=BATCH, steps=4, learning_rate=0.01, ema_half_life=20.0)


@functools.cache
def programs(config):
    algorithm = gan(config, image_shape=SHAPE)
    return algorithm, jax.jit(algorithm.step)


@functools.cache
def initial():
    """The initial state, the same for every loss."""
    return jax.jit(programs(TINY)[0].init)(jax.random.key(42))


def test_init_averages_start_at_the_generator_and_keys_differ():
    state = initial()
    assert_same(state.ema, state.params.generator)
    assert state.step == 0
    assert state.pretrained == ()
    assert not np.array_equal(jax.random.key_data(state.key), jax.random.key_data(jax.random.key(42)))


# Those below are compared with an independent implementation; the finite steps of the others are enough, as each loss
# has its own tests.
@pytest.mark.parametrize("loss", ["minimax", "hinge", "wasserstein"])
def test_a_step_with_the_other_losses(loss):
    gamma = 1.0 if loss == "wasserstein" else 0.0
    config = replace(TINY, loss=loss, r1_gamma=gamma, r2_gamma=gamma)
    _, step = programs(config)
    state, info = step(replace(initial(), hyper=hyper(config)), unit_batch(BATCH))
    assert_finite((state, info))
    # The last bias has the gradient (+1) + (-1) = 0 in a Wasserstein or unsaturated hinge loss.
    assert_every_leaf_moved(state.params, initial().params, but=".discriminator['params']['Dense_1']['bias']")
    assert state.step == 1
    assert (info.r1 > 0) == (info.r2 > 0) == (gamma > 0)
    assert info.generator_extra == 0


REFERENCES = {
    "relativistic-r1-r2-cosine": replace(TINY, r1_gamma=0.7, r2_gamma=0.3, beta1=0.5, final_learning_rate=0.1),
    "non_saturating-r1": replace(TINY, loss="non_saturating", r1_gamma=0.8, r2_gamma=0.0, beta1=0.5),
    "least_squares-plain": replace(TINY, loss="least_squares", r1_gamma=0.0, r2_gamma=0.0),
    "relativistic-reuse": replace(TINY, reuse_fakes=True),
}


@pytest.mark.parametrize("name", REFERENCES)
def test_steps_equal_an_independent_implementation(name):
    """Three steps with plain optax: losses, penalties with gamma/2, order of updates, keys, schedule and averages."""
    config = REFERENCES[name]
    nets = image_networks(config, SHAPE)
    G, D = nets.generator.apply, nets.discriminator.apply
    rate = config.learning_rate
    if config.final_learning_rate < 1:
        rate = optax.cosine_decay_schedule(rate, config.steps, alpha=config.final_learning_rate)
    adam = optax.adam(rate, b1=config.beta1, b2=config.beta2)
    d_loss = getattr(losses, f"{config.loss}_discriminator_loss")
    g_loss = getattr(losses, f"{config.loss}_generator_loss")

    def squared_norm(d, x):
        """Per example, from the gradient of one logit at a time."""
        g = jax.vmap(jax.grad(lambda x: D(d, x[None])[0]))(x)
        return jnp.sum(g.reshape(x.shape[0], -1) ** 2, axis=1)

    @jax.jit
    def reference(g, d, g_opt, d_opt, ema, key, t, image):
        critic_key, maker_key = jax.random.split(jax.random.fold_in(key, t))
        real = image * 2.0 - 1.0

        def loss_d(d):
            fake = G(g, jax.random.normal(critic_key, (BATCH, D_NOISE)))
            r1, r2 = squared_norm(d, real).mean(), squared_norm(d, fake).mean()
            loss = d_loss(D(d, real), D(d, fake)).mean() + config.r1_gamma / 2 * r1 + config.r2_gamma / 2 * r2
            return loss, (D(d, real).mean(), D(d, fake).mean(), r1, r2)

        (value_d, aux), gradient = jax.value_and_grad(loss_d, has_aux=True)(d)
        with jax.numpy_dtype_promotion("standard"):
            updates, d_opt = adam.update(gradient, d_opt, d)
        d = optax.apply_updates(d, updates)

        def loss_g(g):
            key = critic_key if config.reuse_fakes else maker_key
            fake = D(d, G(g, jax.random.normal(key, (BATCH, D_NOISE))))
            return (g_loss(D(d, real), fake) if config.loss == "relativistic" else g_loss(fake)).mean()

        value_g, gradient = jax.value_and_grad(loss_g)(g)
        with jax.numpy_dtype_promotion("standard"):
            updates, g_opt = adam.update(gradient, g_opt, g)
        g = optax.apply_updates(g, updates)
        decay = 0.5 ** (BATCH / 20.0)
        ema = jax.tree.map(lambda a, p: decay * a + (1 - decay) * p, ema, g)
        return g, d, g_opt, d_opt, ema, (value_d, value_g, *aux)

    _, step = programs(config)
    g, d = initial().params
    g_opt, d_opt, ema = adam.init(g), adam.init(d), g
    state = replace(initial(), opt_state=Nets(g_opt, d_opt), hyper=hyper(config))
    for t in range(3):
        batch = unit_batch(BATCH, seed=t)
        state, info = step(state, batch)
        g, d, g_opt, d_opt, ema, want = reference(g, d, g_opt, d_opt, ema, state.key, t, batch.image)
        value_d, value_g, real, fake, r1, r2 = (float(x) for x in want)
        if config.r1_gamma == config.r2_gamma == 0:
            r1 = r2 = 0.0  # not computed, and reported as 0
        got = (info.discriminator_loss, info.generator_loss, info.real_logits - info.fake_logits, info.r1, info.r2)
        np.testing.assert_allclose(got, (value_d, value_g, real - fake, r1, r2), rtol=1e-4, atol=1e-5)
        if config.loss != "relativistic":
            np.testing.assert_allclose(info.real_logits, real, rtol=1e-4, atol=1e-5)
    assert_close(settled(config, state.params), settled(config, Nets(g, d)), rtol=1e-4, atol=1e-4)
    assert_close(state.ema, ema, rtol=1e-4, atol=1e-4)
    assert_every_leaf_moved(settled(config, state.params), settled(config, initial().params))
    assert_same(state.key, initial().key)


def settled(config, params):
    """Parameters without the critic's last bias in a relativistic game, which cancels from real - fake: its gradient is
    rounding noise, and Adam scales that up to a walk of learning_rate a step."""
    if config.loss != "relativistic":
        return params
    layers = params.discriminator["params"]
    return params._replace(discriminator={**layers, "Dense_1": layers["Dense_1"]["kernel"]})


def toy_game(critic):
    """Scalar weights g and d, so that a gradient that goes astray shows."""
    return Game(
        init=lambda key, pretrained: Nets({"g": jnp.ones(())}, {"d": jnp.full((), 0.5)}),
        latent=lambda pretrained, key, n: jax.random.normal(key, (n, 16)),
        generate=lambda params, pretrained, z, label: jnp.tanh(params["g"] * z).reshape(-1, *SHAPE),
        critics={"toy": critic},
    )


@pytest.mark.parametrize("blind", ["to images", "to its parameters"])
def test_each_network_learns_from_its_own_gradient_alone(blind):
    """A critic that ignores images leaves the generator as it is, one without parameters leaves the discriminator."""

    def critic(params, pretrained, x, label):
        mean = x.reshape(x.shape[0], -1).mean(axis=1)
        return jnp.broadcast_to(params["d"], (x.shape[0],)) if blind == "to images" else mean * pretrained["slope"]

    config = replace(TINY, loss="non_saturating", r1_gamma=0.0, r2_gamma=0.0)
    pretrained = {"slope": jnp.full((), 2.0)}
    algorithm = adversarial(config, toy_game(critic))
    state = before = algorithm.init(jax.random.key(0), pretrained)
    step = jax.jit(algorithm.step)
    for i in range(2):
        state, _ = step(state, unit_batch(BATCH, seed=i))
    same, moved = ("generator", "discriminator") if blind == "to images" else ("discriminator", "generator")
    assert_same(getattr(state.params, same), getattr(before.params, same))
    assert_every_leaf_moved(getattr(state.params, moved), getattr(before.params, moved))
    assert_same(state.pretrained, pretrained)


def test_what_was_pretrained_comes_from_the_state():
    """So that every member of an ensemble may hold its own."""
    game = toy_game(
        lambda params, pretrained, x, label: pretrained["slope"] * params["d"] * x.reshape(x.shape[0], -1).mean(axis=1)
    )
    config = replace(TINY, loss="hinge", r1_gamma=0.0, r2_gamma=0.0)
    algorithm = adversarial(config, game)
    step, state = jax.jit(algorithm.step), algorithm.init(jax.random.key(0), {"slope": jnp.full((), 2.0)})
    _, info = step(state, unit_batch(BATCH))
    _, other = step(replace(state, pretrained={"slope": jnp.full((), 6.0)}), unit_batch(BATCH))
    np.testing.assert_allclose(other.real_logits, 3 * info.real_logits, rtol=1e-5)
    np.testing.assert_allclose(other.fake_logits, 3 * info.fake_logits, rtol=1e-5)


def test_a_donated_state_holds_nothing_twice_and_nothing_of_the_callers():
    """Averages and what was pretrained are copies, also where `init` is called outside jit."""
    pretrained = {"slope": jnp.full((), 2.0)}
    game = toy_game(
        lambda params, pretrained, x, label: pretrained["slope"] * params["d"] * x.reshape(x.shape[0], -1).mean(axis=1)
    )
    algorithm = adversarial(replace(TINY, r1_gamma=0.0, r2_gamma=0.0), game)
    state = algorithm.init(jax.random.key(0), pretrained)
    jax.jit(algorithm.step, donate_argnums=0)(state, unit_batch(BATCH))
    assert all(leaf.is_deleted() for leaf in jax.tree.leaves(state))
    assert not pretrained["slope"].is_deleted()


def test_integer_images_are_refused_while_tracing():
    algorithm, _ = programs(TINY)
    with pytest.raises(ValueError, match=r"must be float32 in \[0, 1\], but these are uint8"):
        jax.eval_shape(algorithm.step, initial(), unit_batch(BATCH)._replace(image=uint8_data(BATCH).image))


def test_half_life_counts_images():
    def decay(**settings):
        config = GANConfig(**settings)
        return float(scheduled(config, hyper(config), jnp.zeros((), jnp.int32)).ema_decay)

    assert decay(batch_size=50, ema_half_life=1000.0) ** (1000 / 50) == pytest.approx(0.5)
    assert decay(batch_size=100, d_steps=2, ema_half_life=1000.0) ** (1000 / 50) == pytest.approx(0.5)
    assert decay(ema_half_life=0.0) == 0


def test_without_half_life_the_average_is_the_last_generator():
    config = replace(TINY, ema_half_life=0.0, r1_gamma=0.0, r2_gamma=0.0)
    _, step = programs(config)
    state, _ = step(replace(initial(), hyper=hyper(config)), unit_batch(BATCH))
    assert_same(state.ema, state.params.generator)


def test_samples_come_from_the_averaged_generator():
    algorithm, _ = programs(TINY)
    sample = jax.jit(algorithm.sample, static_argnums=2)
    nets = image_networks(TINY, SHAPE)
    ema, other = (random_params(nets.generator, normal(1, D_NOISE), seed=i, scale=2.0) for i in (1, 2))
    state = replace(initial(), ema=ema)
    images = np.asarray(sample(state, jax.random.key(3), 40))
    assert images.shape == (40, *SHAPE)
    assert images.dtype == np.float32
    # Both ends of [0, 1] are reached and not passed.
    assert 0 <= images.min() < 0.05
    assert 0.95 < images.max() <= 1
    z = jax.random.normal(jax.random.key(3), (40, D_NOISE))
    np.testing.assert_allclose(images, (jax.jit(nets.generator.apply)(ema, z) + 1) / 2, rtol=1e-5, atol=1e-6)
    changed = replace(state, params=state.params._replace(generator=other), step=state.step + 5)
    assert_same(sample(changed, jax.random.key(3), 40), images)
    assert not np.allclose(sample(replace(state, ema=other), jax.random.key(3), 40), images, atol=0.1)
    assert not np.allclose(sample(state, jax.random.key(4), 40), images, atol=0.1)


def test_dcgan_step():
    config = GANConfig(network="dcgan", width=2, d_noise=D_NOISE, batch_size=3, loss="non_saturating", r2_gamma=0.0)
    shape = (4, 8, 1)
    algorithm = gan(config, image_shape=shape)
    before = filled(jax.eval_shape(algorithm.init, jax.random.key(0)), hyper=hyper(config))
    state, info = jax.jit(algorithm.step)(before, unit_batch(3, shape))
    assert_finite((state, info))
    assert_every_leaf_moved(state.params, before.params)


def test_settings_reach_the_networks():
    g, d = image_networks(GANConfig(network="dcgan", width=5, conv_form="native"), (8, 4, 3))
    assert (g.width, g.conv_form, g.image_shape, d.width, d.conv_form) == (5, "native", (8, 4, 3), 5, "native")
    g, d = image_networks(GANConfig(hidden=(3, 4)), (6, 5, 2))
    assert (g.hidden, g.image_shape, d.hidden) == ((3, 4), (6, 5, 2), (3, 4))


@pytest.mark.parametrize("shape", [(6, 8, 1), (8, 7, 1), (10, 10, 3)])
def test_dcgan_cannot_make_every_size(shape):
    with pytest.raises(ConfigError, match=f"{shape[0]}x{shape[1]} is not divisible by 4") as error:
        gan(GANConfig(network="dcgan"), image_shape=shape)
    assert error.value.field == "network"


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("network", "resnet"),
        ("loss", "logistic"),
        ("conv_form", "fft"),
        ("hidden", (8, 0)),
        ("width", 0),
        ("d_noise", -1),
        ("learning_rate", 0.0),
        ("learning_rate", float("inf")),
        ("batch_size", 0),
        ("steps", 0),
        ("r1_gamma", -1.0),
        ("r2_gamma", float("nan")),
        ("ema_half_life", -1.0),
        ("beta1", 1.0),
        ("beta1", -0.1),
        ("beta2", 1.0),
        ("final_learning_rate", 1.5),
        ("final_learning_rate", -0.5),
    ],
)
def test_bad_settings_raise_and_name_the_field(field, value):
    with pytest.raises(ConfigError, match=rf"^{field} = .* cannot be used: .+") as error:
        GANConfig(**{field: value})
    assert error.value.field == field
    assert repr(value) in str(error.value)


COUNTS = ("mix", "width", "stages", "blocks", "d_noise", "d_width", "schedule_steps", "batch_size", "steps", "d_steps")


@pytest.mark.parametrize("field", COUNTS)
@pytest.mark.parametrize("value", [2.5, 2.0, True, "2", None])
def test_what_counts_something_is_an_integer(field, value):
    with pytest.raises(ConfigError, match=rf"^{field} = .* must be a whole number") as error:
        GANConfig(**{field: value})
    assert error.value.field == field


def test_every_count_is_checked():
    assert {field.name for field in fields(GANConfig) if field.type is int} == set(COUNTS)


@pytest.mark.parametrize("field", ["hidden", "d_hidden", "head_hidden"])
@pytest.mark.parametrize("units", [2.5, True])
def test_units_of_layers_are_integers(field, units):
    with pytest.raises(ConfigError, match=rf"^{field} = .* must be a whole number"):
        GANConfig(**{field: (4, units)})


def test_penalties_are_known_by_name_and_weighed():
    config = replace(TINY, penalties=(("entropy", 0.5),))
    with pytest.raises(
        ConfigError, match=r"^penalties = 'entropy' cannot be used: .*choose one of gradient_penalty, dragan"
    ):
        gan(config, image_shape=SHAPE)
    with pytest.raises(ConfigError, match=r"^penalties\.r1 = -1\.0 .*zero or above"):
        replace(TINY, penalties=(("r1", -1.0),))
    with pytest.raises(ConfigError, match=r"^penalties = .*option of its own, such as r1_gamma"):
        gan(replace(TINY, penalties=(("r1", 1.0),)), image_shape=SHAPE)


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({}, ""),
        ({"final_gamma": 0.1}, "final_gamma"),
        ({"final_gamma": 0.1, "r1_gamma": 0.0, "r2_gamma": 0.0}, ""),
        ({"final_gamma": 0.1, "schedule_steps": 4}, ""),
        ({"final_learning_rate": 0.5, "ema_burn_in": True}, "final_learning_rate and ema_burn_in"),
        ({"final_beta2": 0.9}, "final_beta2"),
    ],
)
def test_what_makes_a_longer_training_another_one(changes, named):
    assert length_matters(replace(TINY, **changes)).startswith(f"with {named} each step" if named else "")
    assert bool(length_matters(replace(TINY, **changes))) == bool(named)
