"""What turns the one adversarial game into the published ones: schedules, penalties, normalisation, augmentation, classes."""

import functools
import math
from dataclasses import replace
from types import SimpleNamespace

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
    uint8_data,
    unit_batch,
)

from saegan_jax.algorithms.base import Batch
from saegan_jax.algorithms.gan import (
    PENALTIES,
    Game,
    GANConfig,
    Nets,
    adversarial,
    gan,
    hyper,
    image_networks,
    scheduled,
)
from saegan_jax.algorithms.sae import SAEConfig, sae
from saegan_jax.algorithms.saegan import SAEGANConfig, fit_pretrained, saegan
from saegan_jax.errors import ConfigError
from saegan_jax.networks.spectral import spectral_normalise
from saegan_jax.runs.recipes import RECIPES
from saegan_jax.training.systems import gan_members_per_vmap
from saegan_jax.training.transforms import ensemble, many_steps

N = 6
# No penalties, and averages that are easy to tell from the last weights.
PLAIN = GANConfig(
    hidden=(4,), d_noise=3, batch_size=N, steps=8, learning_rate=0.01, loss="wasserstein", r1_gamma=0.0, r2_gamma=0.0,
    ema_half_life=20.0,
)  # fmt: skip


def mean_of(x):
    return x.reshape(x.shape[0], -1).mean(axis=1)


def mean_critic(params, pretrained, x, label):
    return params["d"] * mean_of(x)


def noisy_generator(params, pretrained, z, label):
    return jnp.tanh(params["g"] * z).reshape(-1, *SHAPE)


def constant_generator(params, pretrained, z, label):
    """Every pixel is tanh(g), so that all that a critic sees is known."""
    return jnp.tanh(params["g"]) * jnp.ones((z.shape[0], *SHAPE))


def toy(config, *, generate=constant_generator, critics=None, start=None, n_classes=0):
    """A game of scalars: its system, initial state, and step."""
    start = {"d": jnp.full((), 0.5)} if start is None else start
    game = Game(
        init=lambda key, pretrained: Nets({"g": jnp.full((), 0.3)}, jax.tree.map(jnp.copy, start)),
        latent=lambda pretrained, key, n: jax.random.normal(key, (n, 16)),
        generate=generate,
        critics={"toy": mean_critic} if critics is None else critics,
    )
    algorithm = adversarial(config, game, n_classes=n_classes)
    return SimpleNamespace(
        algorithm=algorithm, state=algorithm.init(jax.random.key(5)), step=jax.jit(algorithm.step), game=game
    )


def constant_batch(value, n=N, labels=None):
    label = jnp.zeros(n, jnp.int32) if labels is None else jnp.asarray(labels, jnp.int32)
    return Batch(jnp.full((n, *SHAPE), value, jnp.float32), label)


def adam_steps(rates, gradients, start, **settings):
    """Parameters after each Adam step of its own learning rate."""
    x, found = start, []
    state = optax.adam(1.0).init(x)
    for rate, gradient in zip(rates, gradients, strict=True):
        with jax.numpy_dtype_promotion("standard"):
            update, state = optax.adam(rate, **settings).update(jnp.asarray(gradient, jnp.float32), state)
        x = x + update
        found.append(float(x))
    return found


# Schedules


def moving(config, t):
    """All that the schedule moves, with the weights of R1 and R2."""
    member = hyper(config)
    now = scheduled(config, member, t)
    weights = {name: PENALTIES[name](config).weight(member, now) for name in ("r1", "r2")}
    return now._asdict() | weights


@pytest.mark.parametrize("length", [0, 10])
def test_every_setting_moves_along_half_a_cosine_and_then_stays(length):
    config = GANConfig(
        learning_rate=0.4, final_learning_rate=0.25, r1_gamma=2.0, r2_gamma=3.0, final_gamma=0.1, beta2=0.9,
        final_beta2=0.99, ema_half_life=100.0, ema_burn_in=True, batch_size=60, d_steps=2, steps=20, schedule_steps=length,
    )  # fmt: skip
    steps = np.arange(25)
    got = jax.jit(jax.vmap(lambda t: moving(config, t)))(jnp.asarray(steps, jnp.int32))
    share = (1 - np.cos(np.pi * np.minimum(steps / (length or 20), 1))) / 2
    # Of R1 and R2 what they are weighed with is half of gamma.
    ends = {"learning_rate": (0.4, 0.1), "r1": (1, 0.1), "r2": (1.5, 0.15), "beta2": (0.9, 0.99), "progress": (0, 1)}
    for name, (first, last) in ends.items():
        np.testing.assert_allclose(got[name], first + share * (last - first), rtol=1e-5, atol=1e-7, err_msg=name)
    # The half-life grows from nothing: the first average is the generator itself. A share of the batch counts, 30 images.
    assert got["ema_decay"][0] == 0
    np.testing.assert_allclose(got["ema_decay"][1:], 0.5 ** (30 / (100 * share[1:])), rtol=1e-4, atol=1e-30)
    assert got.keys() == ends.keys() | {"ema_decay"}
    for values in got.values():
        changes = np.diff(np.asarray(values))
        assert (np.sign(changes[2 : (length or 20) - 1]) == np.sign(values[-1] - values[0])).all()
        np.testing.assert_array_equal(changes[length or 20 :], 0)


def test_by_default_nothing_moves():
    config = GANConfig(steps=10)
    got = jax.jit(jax.vmap(lambda t: moving(config, t)))(jnp.arange(12))
    progress = got.pop("progress")
    assert progress[0] == 0
    assert progress[-1] == 1
    for values in got.values():
        np.testing.assert_array_equal(values, values[0])
    np.testing.assert_allclose(got["ema_decay"][0], 0.5 ** (64 / 8000), rtol=1e-6)


MEMBERS = [
    GANConfig(hidden=(4,), d_noise=3, batch_size=4, steps=6, learning_rate=1e-3, r1_gamma=0.5, ema_half_life=10.0,
              loss="non_saturating"),
    GANConfig(
        hidden=(4,), d_noise=3, batch_size=4, steps=6, learning_rate=5e-3, final_learning_rate=0.1, r1_gamma=4.0,
        r2_gamma=0.1, final_gamma=0.2, beta2=0.9, final_beta2=0.999, ema_half_life=50.0, loss="non_saturating",
    ),
]  # fmt: skip


def test_members_with_settings_of_their_own_equal_single_runs_with_those_settings():
    own = jax.tree.map(lambda *values: jnp.stack(values), *map(hyper, MEMBERS))
    keys = jax.vmap(jax.random.key)(jnp.arange(2))
    base = gan(MEMBERS[0], image_shape=SHAPE)
    states = jax.vmap(lambda key, mine: gan(MEMBERS[0], image_shape=SHAPE, member=mine).init(key))(keys, own)
    program = ensemble(many_steps(base.step, length=5, batch_size=4))
    final, infos = jax.jit(program)(states, uint8_data(10))
    for i, config in enumerate(MEMBERS):
        alone = gan(config, image_shape=SHAPE)
        start = alone.init(jax.random.key(i))
        assert_same(jax.tree.map(lambda x, i=i: x[i], states), start)
        want, want_infos = jax.jit(many_steps(alone.step, length=5, batch_size=4))(start, uint8_data(10))
        assert_close(jax.tree.map(lambda x, i=i: x[i], final), want, rtol=2e-3, atol=2e-5)
        assert_close(jax.tree.map(lambda x, i=i: x[i], infos), want_infos, rtol=2e-3, atol=2e-5)
    # Or the settings would not matter here.
    assert not np.allclose(infos.discriminator_loss[0], infos.discriminator_loss[1], rtol=0.05)


@pytest.mark.parametrize("first", [0, 8])
def test_beta2_of_the_step_reaches_adam(first):
    """The critic d mean(x) has the gradient mean(fake) - mean(real) in a Wasserstein game, whatever d is."""
    config = replace(PLAIN, beta1=0.3, beta2=0.5, final_beta2=0.999, schedule_steps=8)
    game = toy(config)
    state = replace(game.state, step=jnp.full((), first, jnp.int32))
    found, gradients = [], []
    for value in (0.9, 0.2, 0.6):
        b = float(jnp.tanh(state.params.generator["g"]))
        state, _ = game.step(replace(state, step=jnp.full((), first, jnp.int32)), constant_batch(value))
        gradients.append(b - (2 * value - 1))
        found.append(float(state.params.discriminator["d"]))
    want = {b2: adam_steps([0.01] * 3, gradients, 0.5, b1=0.3, b2=b2) for b2 in (0.5, 0.999)}
    np.testing.assert_allclose(found, want[0.5 if first == 0 else 0.999], rtol=1e-5)
    assert not np.allclose(want[0.5], want[0.999], rtol=1e-3)


def test_the_generators_rate_scales_its_update_alone():
    moves = []
    for rate in (1.0, 0.25):
        game = toy(replace(PLAIN, generator_rate=rate), generate=noisy_generator)
        state, _ = game.step(game.state, unit_batch(N))
        moves.append([float(state.params[0]["g"] - 0.3), float(state.params[1]["d"] - 0.5)])
    np.testing.assert_allclose(moves[1], [0.25 * moves[0][0], moves[0][1]], rtol=1e-4)
    np.testing.assert_allclose(np.abs(moves[0]), 0.01, rtol=1e-3)


# Several discriminator steps


def test_two_discriminator_steps_are_two_updates_on_two_shares():
    config = replace(PLAIN, loss="non_saturating", d_steps=2, r1_gamma=0.6, beta1=0.5)
    critic = {"toy": lambda params, pretrained, x, label: params["d"] * mean_of(x) + params["e"] * mean_of(x) ** 2}
    start = {"d": jnp.full((), 0.5), "e": jnp.full((), -0.4)}
    game = toy(config, generate=noisy_generator, critics=critic, start=start)
    batch, state = unit_batch(N), game.state
    got, info = game.step(state, batch)

    critic_key, maker_key = jax.random.split(jax.random.fold_in(state.key, 0))
    adam = optax.adam(0.01, b1=0.5, b2=config.beta2)
    d, g, opt = start, state.params.generator, adam.init(start)
    values = []
    for share, key in enumerate(jax.random.split(critic_key, 2)):
        x = 2 * batch.image[3 * share : 3 * share + 3] - 1
        fake = noisy_generator(g, None, jax.random.normal(key, (3, 16)), None)

        def loss(d, x=x, fake=fake):
            real_logits, fake_logits = (critic["toy"](d, None, images, None) for images in (x, fake))
            r1 = ((d["d"] + 2 * d["e"] * mean_of(x)) ** 2 / 16).mean()
            return (jax.nn.softplus(-real_logits) + jax.nn.softplus(fake_logits)).mean() + 0.3 * r1, r1

        (value, r1), gradient = jax.value_and_grad(loss, has_aux=True)(d)
        values.append((float(value), float(r1)))
        with jax.numpy_dtype_promotion("standard"):
            update, opt = adam.update(gradient, opt)
        d = optax.apply_updates(d, update)
    assert_close(got.params.discriminator, d, rtol=1e-5, atol=1e-7)
    np.testing.assert_allclose((info.discriminator_loss, info.r1), np.mean(values, axis=0), rtol=1e-5)
    # The generator: once, against the updated critic, as many images as one share has, which is what the average counts.
    fake_loss = lambda g: jax.nn.softplus(  # noqa: E731
        -critic["toy"](d, None, noisy_generator(g, None, jax.random.normal(maker_key, (3, 16)), None), None)
    ).mean()
    np.testing.assert_allclose(info.generator_loss, fake_loss(g), rtol=1e-5)
    step = -0.01 * np.sign(float(jax.grad(fake_loss)(g)["g"]))
    np.testing.assert_allclose(got.params.generator["g"], 0.3 + step, rtol=1e-4)
    decay = 0.5 ** (3 / 20)
    np.testing.assert_allclose(got.ema["g"], decay * 0.3 + (1 - decay) * got.params.generator["g"], rtol=1e-6)
    assert int(got.opt_state.discriminator[0].count) == 2
    assert int(got.opt_state.generator[0].count) == int(got.step) == 1


def test_a_batch_that_cannot_be_shared_names_its_field():
    with pytest.raises(ConfigError, match=r"^batch_size = 64 .*d_steps=5 .* use a multiple"):
        GANConfig(batch_size=64, d_steps=5)
    assert GANConfig(batch_size=65, d_steps=5).images_per_generator_step == 13
    with pytest.raises(ConfigError, match=r"^reuse_fakes = True .*d_steps=2 .* use one discriminator step"):
        GANConfig(batch_size=64, d_steps=2, reuse_fakes=True)


# Penalties and running means


def test_penalties_enter_the_loss_with_their_weights():
    """A critic d sum(x) has the gradient norm 4 |d| everywhere; three Adam steps show the gradient of the whole loss."""
    config = replace(PLAIN, loss="hinge", gradient_penalty=3.0, dragan_penalty=5.0, lecam=0.7, learning_rate=0.05)
    critics = {"toy": lambda params, pretrained, x, label: params["d"] * 16 * mean_of(x)}
    game = toy(config, critics=critics, start={"d": jnp.full((), 0.01)})
    state, means = game.state, np.zeros(2)
    d, gradients, found = 0.01, [], []
    for value in (0.9, 0.3, 0.7):
        a, b = 16 * (2 * value - 1), 16 * math.tanh(float(state.params.generator["g"]))
        base = max(0, 1 - d * a) + max(0, 1 + d * b)
        norm = 8 * (4 * abs(d) - 1) ** 2
        pull = 0.7 * ((d * a - means[1]) ** 2 + (d * b - means[0]) ** 2)
        gradient = -a * (d * a < 1) + b * (d * b > -1) + 64 * (4 * abs(d) - 1) * np.sign(d)
        gradients.append(gradient + 1.4 * (a * (d * a - means[1]) + b * (d * b - means[0])))
        means = 0.99 * means + 0.01 * np.array([d * a, d * b])
        state, info = game.step(state, constant_batch(value))
        np.testing.assert_allclose(info.penalty, norm + pull, rtol=1e-4)
        np.testing.assert_allclose(info.discriminator_loss, base + norm + pull, rtol=1e-4)
        np.testing.assert_allclose(state.objective.penalties["toy"]["lecam"], means, rtol=1e-4, atol=1e-8)
        d = float(state.params.discriminator["d"])
        found.append(d)
    np.testing.assert_allclose(found, adam_steps([0.05] * 3, gradients, 0.01, b1=0.0, b2=0.99), rtol=1e-3)


@pytest.mark.parametrize("name", ["gradient_penalty", "dragan_penalty"])
def test_gradient_norms_are_taken_where_they_belong(name):
    """A critic ||x||^2 / 2 has the gradient x: WGAN-GP sees norms between fakes and reals, DRAGAN around the reals."""
    critics = {"toy": lambda params, pretrained, x, label: params["d"] * 8 * mean_of(x**2)}
    game = toy(replace(PLAIN, **{name: 2.0}), critics=critics, start={"d": jnp.ones(())})
    norm = lambda value: 2 * (4 * abs(value) - 1) ** 2  # noqa: E731
    fake = math.tanh(0.3)
    _, same = game.step(game.state, constant_batch((fake + 1) / 2))
    np.testing.assert_allclose(same.penalty, norm(fake), rtol=1e-4)
    _, apart = game.step(game.state, constant_batch(1.0))
    if name == "dragan_penalty":  # images without variance are not moved
        np.testing.assert_allclose(apart.penalty, norm(1.0), rtol=1e-4)
    else:
        assert norm(fake) < apart.penalty < norm(1.0)


# Spectral normalisation


def test_the_critic_of_both_steps_has_unit_spectral_norm_and_its_vectors_persist():
    side = jnp.asarray([0.6, -1.0, 0.3])
    critics = {"toy": lambda params, pretrained, x, label: x.reshape(-1, 16) @ params["layer"]["kernel"] @ side}
    start = {"layer": {"kernel": 3 * normal(16, 3)}}
    game = toy(replace(PLAIN, spectral_norm=True, learning_rate=1e-4), critics=critics, start=start)
    vectors = game.state.objective.spectral
    one_iteration = spectral_normalise(start, vectors)[1]
    stepped, _ = game.step(game.state, constant_batch(1.0))
    assert_close(stepped.objective.spectral, one_iteration, rtol=1e-5, atol=1e-6)
    assert not np.allclose(stepped.objective.spectral["layer"]["kernel"], vectors["layer"]["kernel"], atol=1e-3)

    converged = spectral_normalise(start, vectors, iterations=200)[1]
    settled = replace(game.state, objective=replace(game.state.objective, spectral=converged))
    got, info = game.step(settled, constant_batch(1.0))

    def unit_sum(params):
        kernel = np.asarray(params["layer"]["kernel"], np.float64)
        return (kernel / np.linalg.norm(kernel, 2)).sum(axis=0) @ np.asarray(side)

    fake = math.tanh(0.3)
    np.testing.assert_allclose(info.real_logits, unit_sum(start), rtol=1e-4)
    np.testing.assert_allclose(info.fake_logits, fake * unit_sum(start), rtol=1e-4)
    np.testing.assert_allclose(info.generator_loss, -fake * unit_sum(got.params.discriminator), rtol=1e-4)
    # What is trained is the kernel itself.
    np.testing.assert_allclose(got.params.discriminator["layer"]["kernel"], start["layer"]["kernel"], atol=1.1e-4)
    assert_every_leaf_moved(got.params, settled.params)


# Augmentation


@pytest.mark.parametrize("loss", ["wasserstein", "relativistic"])
def test_the_critic_sees_reals_and_fakes_only_augmented(loss):
    """Cutout blanks 2 to 4 of 16 pixels: a constant image's mean shrinks to between 12/16 and 15/16 of its value."""

    def seen(params, pretrained, x, label):
        return params["d"] * mean_of(x)

    config = replace(PLAIN, loss=loss, augment=("cutout",), batch_size=64)
    game = toy(config, critics={"toy": seen}, start={"d": jnp.ones(())})
    state, info = game.step(game.state, constant_batch(1.0, n=64))
    fake = math.tanh(0.3)
    real_share, fake_share = float(info.real_logits), float(info.fake_logits) / fake
    assert 0.75 < real_share < 0.95
    assert 0.75 < fake_share < 0.95
    assert abs(real_share - fake_share) > 1e-6  # each image its own
    assert state.params.generator["g"] > 0.3  # the gradient reaches the generator
    if loss == "wasserstein":
        share = -float(info.generator_loss) / fake / float(state.params.discriminator["d"])
        assert 0.75 < share < 0.95
    else:
        d = float(state.params.discriminator["d"])
        whole, least = (math.log1p(math.exp(d * (r - f * fake))) for r, f in ((1, 1), (1, 0.75)))
        assert abs(float(info.generator_loss) - whole) > 1e-3
        assert float(info.generator_loss) < least


def test_without_augmentation_images_come_as_they_are():
    game = toy(PLAIN, start={"d": jnp.ones(())})
    _, info = game.step(game.state, constant_batch(1.0))
    np.testing.assert_allclose([info.real_logits, info.fake_logits], [1.0, math.tanh(0.3)], rtol=1e-5)


# Classes


def label_image(label):
    return ((label + 1).astype(jnp.float32) / 20).reshape(-1, 1, 1, 1) * jnp.ones((label.shape[0], *SHAPE))


@functools.cache
def labelled(d_steps, loss, sees):
    """A generator that draws its label, against a critic that compares image and label, or sees the image alone."""
    config = replace(PLAIN, loss=loss, conditional=True, d_steps=d_steps, batch_size=8)

    def critic(params, pretrained, x, condition):
        value, label = mean_of(x), condition.label
        if sees == "image":
            return value + 0 * params["d"]
        return 100 * jnp.abs(value - (label + 1).astype(jnp.float32) / 20) + 0 * params["d"]

    generate = lambda params, pretrained, z, label: label_image(label) + 0 * params["g"]  # noqa: E731
    return toy(config, generate=generate, critics={"toy": critic}, n_classes=8)


LABELS = [3, 1, 0, 2, 5, 5, 7, 1]


@pytest.mark.parametrize("d_steps", [1, 2])
def test_a_fake_has_the_class_of_the_real_it_is_paired_with(d_steps):
    label = jnp.asarray(LABELS, jnp.int32)
    batch = Batch((label_image(label) + 1) / 2, label)
    game = labelled(d_steps, "hinge", "both")
    state, info = game.step(game.state, batch)
    # Any mismatch of an image and the label beside it would be 5 or more.
    np.testing.assert_allclose([info.real_logits, info.fake_logits, info.generator_loss], 0, atol=1e-3)
    np.testing.assert_array_equal(state.class_count, 1 + np.bincount(LABELS, minlength=8))
    # In a relativistic game the pairs show: real - fake is 0 in each.
    game = labelled(d_steps, "relativistic", "image")
    _, info = game.step(game.state, batch)
    np.testing.assert_allclose([info.discriminator_loss, info.generator_loss], math.log(2), rtol=1e-5)


def test_sampled_classes_have_the_proportions_seen_unless_given():
    game = labelled(1, "hinge", "both")
    counts = jnp.asarray([100, 300, 0, 0, 500, 0, 0, 100], jnp.int32)
    sample = jax.jit(game.algorithm.sample, static_argnums=2)
    images = sample(replace(game.state, class_count=counts), jax.random.key(1), 4000)
    drawn = np.rint((2 * np.asarray(images)[:, 0, 0, 0] - 1) * 20 - 1).astype(int)
    share = np.bincount(drawn, minlength=8) / 4000
    np.testing.assert_array_equal(share == 0, np.asarray(counts) == 0)
    np.testing.assert_allclose(share, np.asarray(counts) / 1000, atol=4 * (0.25 / 4000) ** 0.5)
    given = jnp.asarray([6, 2, 2, 0, 7], jnp.int32)
    images = sample(game.state, jax.random.key(1), 5, label=given)
    np.testing.assert_allclose(images, (label_image(given) + 1) / 2, rtol=1e-6)


def test_class_counts_stay_exact_beyond_what_float32_can_count():
    game = labelled(1, "hinge", "both")
    many = jnp.full(8, 2**24, jnp.int32)
    label = jnp.asarray(LABELS, jnp.int32)
    state, _ = game.step(replace(game.state, class_count=many), Batch((label_image(label) + 1) / 2, label))
    np.testing.assert_array_equal(state.class_count, 2**24 + np.bincount(LABELS, minlength=8))


def test_an_unconditional_system_knows_no_classes():
    game = toy(PLAIN, n_classes=8)
    assert game.state.class_count == ()
    with pytest.raises(ConfigError, match=r"^conditional = True .* no classes; pass n_classes"):
        gan(replace(PLAIN, conditional=True), image_shape=SHAPE)
    with pytest.raises(ConfigError, match=r"^conditional = True "):
        toy(replace(PLAIN, conditional=True))


def test_a_conditional_gan_embeds_the_label_and_a_saegan_does_so_in_both_critics():
    settings = SAEConfig(d_sae=5, rho=0.2)
    config = SAEGANConfig(sae=settings, code_hidden=(3,), gan=replace(PLAIN, conditional=True, loss="hinge"))
    params = filled(jax.eval_shape(sae(settings, image_shape=SHAPE).init, jax.random.key(0))).params
    pretrained = fit_pretrained(config, params, uint8_data(10).image, jax.random.key(0))
    algorithm = saegan(config, image_shape=SHAPE, n_classes=3)
    before = algorithm.init(jax.random.key(0), pretrained)
    state, info = jax.jit(algorithm.step)(before, replace_labels(unit_batch(N), [0, 1, 2, 0, 1, 2]))
    assert_finite((state, info))
    for name in ("pixels", "codes"):
        own, start = (s.params.discriminator[name]["params"]["classes"]["kernel"] for s in (state, before))
        assert own.shape[1] == 3
        assert not np.array_equal(own, start)
    assert state.params.generator["params"]["Dense_0"]["kernel"].shape == (5 + 3 + 3, 4)
    sample = jax.jit(algorithm.sample, static_argnums=2)
    zero, two, again = (sample(state, jax.random.key(3), 4, label=jnp.full(4, c, jnp.int32)) for c in (0, 2, 0))
    assert_same(zero, again)
    assert np.abs(np.asarray(zero) - np.asarray(two)).max() > 1e-3


def replace_labels(batch, labels):
    return batch._replace(label=jnp.asarray(labels, jnp.int32))


# Networks


def test_every_setting_reaches_the_networks():
    config = GANConfig(network="residual", width=6, d_width=10, stages=1, blocks=2, conv_form="native")
    g, d = image_networks(config, (8, 4, 3), n_classes=7)
    assert (g.image_shape, g.width, g.stages, g.blocks, g.conv_form) == ((8, 4, 3), 6, 1, 2, "native")
    assert (d.width, d.stages, d.blocks, d.conv_form, d.n_classes) == (10, 1, 2, "native", 7)
    g, d = image_networks(replace(config, network="dcgan", d_width=0), (8, 4, 3), n_classes=7)
    assert (g.width, g.stages, g.conv_form) == (6, 1, "native")
    assert (d.width, d.stages, d.conv_form, d.n_classes) == (6, 1, "native", 7)
    g, d = image_networks(GANConfig(network="unrolled", width=8, d_width=2), (28, 28, 3), n_classes=7)
    assert (g.image_shape, g.width, d.width, d.n_classes) == ((28, 28, 3), 8, 2, 7)
    g, d = image_networks(GANConfig(scale=50.0), (1, 2, 1), n_classes=7)
    assert (g.scale, d.scale, d.n_classes) == (50.0, 50.0, 7)
    with pytest.raises(ConfigError, match=r"network = 'residual' .*halves the image 3 times, and 12x8 is not .* 8;"):
        image_networks(replace(config, stages=3), (12, 8, 1))


def test_a_step_of_the_residual_recipe():
    recipe = {**RECIPES["r3gan"], "learning_rate": 1e-3}
    config = GANConfig(width=2, stages=1, d_noise=3, batch_size=3, steps=4, **recipe)
    algorithm = gan(config, image_shape=(8, 8, 1))
    before = filled(jax.eval_shape(algorithm.init, jax.random.key(0)), hyper=hyper(config))
    state, info = jax.jit(algorithm.step)(before, unit_batch(3, (8, 8, 1)))
    assert_finite((state, info))
    assert info.r1 > 0
    assert info.r2 > 0
    # The last bias cancels from real - fake.
    assert_every_leaf_moved(state.params, before.params, but=".discriminator['params']['Dense_2']['bias']")
    assert_same(state.ema, state.params.generator)  # a half-life of 0 at the first step


def test_accuracy_is_the_share_of_pairs_told_apart():
    image = jnp.asarray([0.9, 0.1, 0.6, 0.2, 0.3, 0.4], jnp.float32).reshape(N, 1, 1, 1) * jnp.ones((N, *SHAPE))
    batch = Batch(image, jnp.zeros(N, jnp.int32))
    critics = {
        "one": lambda params, pretrained, x, label: params["d"] * mean_of(x),
        "other": lambda params, pretrained, x, label: -params["d"] * mean_of(x),
        "blind": lambda params, pretrained, x, label: 0 * params["d"] * mean_of(x),
    }
    for names, want in ((("one",), 2 / 6), (("one", "other"), 1 / 2), (("one", "blind"), 1 / 6)):
        game = toy(PLAIN, critics={name: critics[name] for name in names})
        state = replace(game.state, params=Nets({"g": jnp.zeros(())}, game.state.params.discriminator))
        np.testing.assert_allclose(game.step(state, batch)[1].accuracy, want, rtol=1e-6, err_msg=str(names))


# Resuming


EVERYTHING = GANConfig(
    hidden=(3,), d_noise=3, batch_size=8, d_steps=2, steps=8, conditional=True, spectral_norm=True, lecam=0.3,
    gradient_penalty=1.0, augment=("color", "translation"), loss="hinge", r1_gamma=0.0, r2_gamma=0.0, generator_rate=0.5,
    learning_rate=0.01, final_learning_rate=0.1, beta1=0.5, beta2=0.9, final_beta2=0.99, ema_burn_in=True,
    ema_half_life=30.0, schedule_steps=3,
)  # fmt: skip


def test_a_state_of_all_features_is_arrays_alone_is_given_away_and_resumes_to_the_bit():
    algorithm = gan(EVERYTHING, image_shape=SHAPE, n_classes=10)
    step = jax.jit(algorithm.step, donate_argnums=0)
    whole = algorithm.init(jax.random.key(0))
    for t in range(4):
        before, (whole, info) = whole, step(whole, unit_batch(8, seed=t))
        assert all(leaf.is_deleted() for leaf in jax.tree.leaves(before))
    assert_finite((whole, info))

    state = algorithm.init(jax.random.key(0))
    for t in range(4):
        # Through the host, as a checkpoint goes: nothing but arrays, and their structure from an abstract init.
        leaves = [np.asarray(x) for x in jax.tree.leaves(state.replace(key=jax.random.key_data(state.key)))]
        like = jax.eval_shape(algorithm.init, jax.random.key(0))
        like = like.replace(key=jax.random.key_data(jax.random.key(0)))
        assert [(x.shape, x.dtype) for x in leaves] == [(x.shape, x.dtype) for x in jax.tree.leaves(like)]
        state = jax.tree.unflatten(jax.tree.structure(like), [jnp.array(x) for x in leaves])
        state = state.replace(key=jax.random.wrap_key_data(state.key))
        state, _ = step(state, unit_batch(8, seed=t))
    assert_same(state, whole)
    assert step._cache_size() == 1
    start = algorithm.init(jax.random.key(0))
    # A kernel of one column has one direction, so that its vector is 1 or -1 for good.
    got, first = whole.objective, start.objective
    assert got.penalties["pixels"].keys() == {"lecam"}
    assert_every_leaf_moved(got.spectral, first.spectral, but="['Dense_1']['kernel']")
    assert_every_leaf_moved((got.penalties, whole.params), (first.penalties, start.params))


def test_image_gans_take_turns_on_a_cpu_and_others_do_not(monkeypatch):
    assert gan_members_per_vmap(GANConfig(network="mlp")) is None
    assert gan_members_per_vmap(GANConfig(network="dcgan")) == 1
    monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
    assert gan_members_per_vmap(GANConfig(network="dcgan")) is None


# Lower precision


def test_bfloat16_computes_the_same_step_roughly_and_keeps_float32_parameters():
    config = replace(PLAIN, network="dcgan", width=8, stages=2, loss="relativistic", r1_gamma=1.0, r2_gamma=1.0)
    lower = replace(config, precision="bfloat16")
    shape, batch = (8, 8, 1), Batch(unit_batch(N).image.repeat(2, 1).repeat(2, 2), unit_batch(N).label)
    full, low = gan(config, image_shape=shape), gan(lower, image_shape=shape)
    state = jax.jit(full.init)(jax.random.key(0))
    assert_same(jax.jit(low.init)(jax.random.key(0)), state)
    (want, want_info), step = jax.jit(full.step)(state, batch), jax.jit(low.step)
    got, info = step(state, batch)
    assert [x.dtype for x in jax.tree.leaves(got)] == [x.dtype for x in jax.tree.leaves(state)]
    np.testing.assert_allclose(info, want_info, rtol=0.05, atol=0.02)
    assert not np.array_equal(info, want_info)  # it is not float32 after all
    for mine, theirs in zip(got.opt_state, want.opt_state, strict=True):
        for a, b in zip(jax.tree.leaves(mine[0].mu), jax.tree.leaves(theirs[0].mu), strict=True):
            # Generous: near 0 a leaky ReLU takes the other slope.
            assert np.linalg.norm(a - b) <= 0.2 * np.linalg.norm(b) + 1e-3
    text = step.lower(state, batch).as_text()
    assert "bf16" in text
    assert not [line for line in text.splitlines() if "dot_general" in line and "bf16" not in line]
