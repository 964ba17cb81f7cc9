"""CycleGAN: a step against an independent one, who gets which gradient, the history of images, the sparse code, robustness."""

import functools
import json
from dataclasses import replace
from typing import get_args

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from command_line import command, metrics
from helpers import (
    SHAPE,
    assert_every_leaf_moved,
    filled,
    normal,
    numpy_leaves,
    random_params,
    unit_batch,
)

from saegan_jax.algorithms.cyclegan import (
    TRANSLATORS,
    CycleGANConfig,
    TwoDomains,
    cyclegan,
    empty_history,
    learning_rate_share,
    query,
)
from saegan_jax.algorithms.cyclegan.config import Kind
from saegan_jax.algorithms.nets import Nets
from saegan_jax.algorithms.sae import SAEConfig, sae
from saegan_jax.errors import ConfigError
from saegan_jax.metrics.cycle_robustness import BITS, SIGMAS, cycle_robustness, paired_error, quantise
from saegan_jax.networks.translators import PatchDiscriminator, ResNetTranslator, instance_norm
from saegan_jax.report.cycle_robustness import cycle_robustness_picture
from saegan_jax.runs.train.cyclegan import DIGITS, MNIST, TrainCycleGAN, parse_options, read_robustness

BATCH, K = 3, 2
TINY = CycleGANConfig(
    width=2,
    stages=1,
    blocks=1,
    d_width=2,
    d_stages=1,
    history=2,
    batch_size=BATCH,
    steps=4,
    learning_rate=0.01,
    constant_share=0.25,
)
SPARSE = replace(TINY, kind="sparse", shift_hidden=(5,))
SAE = SAEConfig(variant="topk", d_sae=8, k=K, sigmoid_output=True)
# Tiny programs run once or twice: most of their time would go into making them fast.
jit = functools.partial(jax.jit, compiler_options={"xla_backend_optimization_level": 0})


@functools.cache
def sae_params(seed=1):
    params = jax.eval_shape(sae(SAE, image_shape=SHAPE).init, jax.random.key(0)).params
    rng = np.random.default_rng(seed)
    return jax.tree.map(lambda s: jnp.asarray(0.5 * rng.normal(size=s.shape), s.dtype), params)


@functools.cache
def programs(config):
    """The algorithm, and its step and translation compiled."""
    algorithm = cyclegan(config, image_shape=SHAPE, sae=SAE)
    return algorithm, jit(algorithm.step), jit(algorithm.translate, static_argnums=2)


def initial(config, seed=0):
    """A state with random parameters, which cost no compilation."""
    init = programs(config)[0].init
    if config.kind == "plain":
        return filled(jax.eval_shape(init, jax.random.key(0)), seed=seed)
    pretrained = sae_params(1 + seed)
    return filled(jax.eval_shape(init, jax.random.key(0), pretrained), seed=seed, pretrained=pretrained)


@functools.cache
def trained(config):
    """States before and after two steps, and the last info."""
    _, step, _ = programs(config)
    state = first = initial(config)
    for t in range(2):
        state, info = step(state, batch(t))
    return first, state, info


def batch(seed):
    return TwoDomains(unit_batch(BATCH, seed=2 * seed).image, 1 - unit_batch(BATCH, seed=2 * seed + 1).image)


# Networks


def test_networks_shapes_ranges_and_images_alone():
    x = normal(2, 8, 12, 3, seed=1)
    net = ResNetTranslator(width=2, stages=2, blocks=1, mixing=True)
    params, apply = random_params(net, x), jit(net.apply)
    y = apply(params, x)
    assert y.shape == x.shape
    assert np.abs(y).max() < 1
    # Instance norm: an image is translated as if it were alone.
    np.testing.assert_allclose(y[0], apply(params, x[::-1])[1], atol=1e-5)
    assert np.abs(y[0] - y[1]).max() > 0.1
    assert params["params"]["mixing_0"]["kernel"].shape == (6, 6)
    critic = PatchDiscriminator(width=3, stages=2)
    assert jax.eval_shape(critic.init_with_output, jax.random.key(0), x)[0].shape == (2, 2, 3)


def test_instance_norm_by_hand():
    x = np.random.default_rng(0).normal(size=(2, 3, 4, 2)).astype(np.float32)
    want = np.empty_like(x)
    for n in range(2):
        for c in range(2):
            own = x[n, :, :, c]
            want[n, :, :, c] = (own - own.mean()) / np.sqrt(own.var() + 1e-5)
    np.testing.assert_allclose(instance_norm(jnp.asarray(x)), want, rtol=1e-4, atol=1e-5)


# The history of generated images


def test_history_takes_images_of_its_own_shape_alone():
    with pytest.raises(AssertionError):
        query(empty_history(3, (2, 2, 1)), jnp.zeros((4, 1, 1, 1)), jax.random.key(0))


def test_history_equals_a_plain_python_one_and_gives_half_of_them_back():
    size, n = 5, 4
    one = jax.jit(query)
    history, stored, returned_old = empty_history(size, (1, 1, 1)), [], 0
    for t in range(50):
        images = np.arange(t * n, (t + 1) * n, dtype=np.float32).reshape(n, 1, 1, 1)
        key = jax.random.key(t)
        history, shown = one(history, jnp.asarray(images), key)
        want = []
        for i, image in enumerate(images):
            coin_key, place_key = jax.random.split(jax.random.fold_in(key, i))
            if len(stored) < size:
                stored.append(image)
                want.append(image)
            elif bool(jax.random.bernoulli(coin_key)):
                place = int(jax.random.randint(place_key, (), 0, size))
                want.append(stored[place])
                stored[place] = image
            else:
                want.append(image)
        np.testing.assert_array_equal(shown, np.stack(want))
        returned_old += int((np.asarray(shown) != images).sum())
        assert history.images.shape == (size, 1, 1, 1)
        assert int(history.count) == min(size, (t + 1) * n)
        np.testing.assert_array_equal(history.images[: len(stored)], np.stack(stored))
    # 195 coins: seven standard deviations either way.
    assert abs(returned_old - 195 / 2) < 7 * (195 / 4) ** 0.5 / 2


def test_no_history_shows_the_newest():
    images = normal(3, *SHAPE)
    history, shown = query(empty_history(0, SHAPE), images, jax.random.key(0))
    chex.assert_trees_all_equal(shown, images)
    assert history is None
    # Arrays without elements could neither be saved nor mapped over members.
    algorithm = cyclegan(replace(TINY, history=0), image_shape=SHAPE)
    state = jax.eval_shape(algorithm.init, jax.random.key(0))
    batch = TwoDomains(*[jax.ShapeDtypeStruct((BATCH, *SHAPE), jnp.float32)] * 2)
    after, _ = jax.eval_shape(algorithm.step, state, batch)
    assert all(x.size > 0 for x in jax.tree.leaves(after))
    assert jax.tree.structure(after) == jax.tree.structure(state)


# Steps


def test_steps_equal_an_independent_implementation():
    """Two steps with plain optax: which loss has which weight, the order of updates, the history, the falling rate."""
    _, step, translate = programs(TINY)
    net, critic = ResNetTranslator(2, 1, 1), PatchDiscriminator(2, 1)
    rate = optax.piecewise_interpolate_schedule("linear", 0.01, {1: 1.0, 4: 0.0})
    adam = optax.adam(rate, b1=0.5, b2=0.999)
    state = initial(TINY)
    g, d = state.params
    g_opt, d_opt = adam.init(g), adam.init(d)
    history = TwoDomains(empty_history(2, SHAPE), empty_history(2, SHAPE))

    def mean_abs(x, y):
        return jnp.abs(x - y).mean()

    @jit
    def reference(g, d, g_opt, d_opt, history, key, a, b):
        a, b = 2 * a - 1, 2 * b - 1

        def loss_g(g):
            ab, ba = (functools.partial(net.apply, g[name]) for name in ("ab", "ba"))
            fake_b, fake_a = ab(a), ba(b)
            fooled = jnp.mean((critic.apply(d["b"], fake_b) - 1) ** 2) + jnp.mean(
                (critic.apply(d["a"], fake_a) - 1) ** 2
            )
            cycle = mean_abs(ba(fake_b), a) + mean_abs(ab(fake_a), b)
            same = mean_abs(ab(b), b) + mean_abs(ba(a), a)
            return fooled + 10 * cycle + 5 * same, (fake_a, fake_b, fooled, cycle, same)

        (_, (fake_a, fake_b, *values)), gradient = jax.value_and_grad(loss_g, has_aux=True)(g)
        keys = jax.random.split(key)
        history_a, fake_a = query(history.a, fake_a, keys[0])
        history_b, fake_b = query(history.b, fake_b, keys[1])

        def loss_d(d):
            def one(own, x, y):
                return 0.5 * jnp.mean((critic.apply(own, x) - 1) ** 2) + 0.5 * jnp.mean(critic.apply(own, y) ** 2)

            return one(d["a"], a, fake_a) + one(d["b"], b, fake_b)

        value, gradient_d = jax.value_and_grad(loss_d)(d)
        with jax.numpy_dtype_promotion("standard"):
            updates, g_opt = adam.update(gradient, g_opt, g)
            updates_d, d_opt = adam.update(gradient_d, d_opt, d)
        g, d = optax.apply_updates(g, updates), optax.apply_updates(d, updates_d)
        return g, d, g_opt, d_opt, TwoDomains(history_a, history_b), (value, *values)

    for t in range(2):
        own = batch(t)
        key = jax.random.fold_in(state.key, t)
        cycle = np.mean([
            np.abs(translate(state, translate(state, x, there), back) - x).mean()
            for x, there, back in ((own.a, "ab", "ba"), (own.b, "ba", "ab"))
        ])  # fmt: skip
        state, info = step(state, own)
        g, d, g_opt, d_opt, history, want = reference(g, d, g_opt, d_opt, history, key, *own)
        value, fooled, both_cycles, same = map(float, want)
        got = (info.discriminator_loss, info.generator_loss, info.cycle, info.identity)
        np.testing.assert_allclose(got, (value, fooled, both_cycles / 4, same / 4), rtol=1e-3)
        np.testing.assert_allclose(info.cycle, cycle, rtol=1e-3)  # what a user would measure, in [0, 1]
    chex.assert_trees_all_close(history, state.history, rtol=1e-3, atol=1e-3)
    chex.assert_trees_all_close(Nets(g, d), state.params, rtol=1e-2, atol=2e-4)
    assert info.l0 == 0


def test_both_translators_and_both_critics_learn():
    first, state, info = trained(TINY)
    assert_every_leaf_moved(state.params, first.params)
    chex.assert_tree_all_finite((state.replace(key=()), info))
    assert state.step == 2
    assert state.history.a.count == state.history.b.count == 2


def test_the_sparse_kind_learns_and_its_autoencoder_stays():
    first, state, info = trained(SPARSE)
    assert_every_leaf_moved(state.params, first.params)
    assert set(state.params.generator) == {"ab", "ba"}
    chex.assert_trees_all_equal(state.pretrained, sae_params())
    chex.assert_tree_all_finite((state.replace(key=()), info))
    assert 0 < info.l0 <= K


def test_a_frozen_encoder_gets_exactly_no_gradient_and_passes_it_on():
    algorithm, state = programs(SPARSE)[0], trained(SPARSE)[1]
    x = batch(0).a
    by_pretrained, by_image = jit(
        jax.grad(lambda p, x: algorithm.translate(replace(state, pretrained=p), x, "ab").sum(), argnums=(0, 1))
    )(state.pretrained, x)
    assert not any(leaf.any() for leaf in numpy_leaves(by_pretrained).values())
    assert np.abs(by_image).max() > 0


def test_a_translation_starts_as_the_reconstruction_and_is_drawn_from_k_units():
    algorithm, _, translate = programs(SPARSE)
    codes_of = jit(algorithm.codes, static_argnums=2)
    state, x = jit(algorithm.init)(jax.random.key(0), sae_params()), unit_batch(20).image
    w = jax.tree.map(np.asarray, sae_params()["params"])
    a = np.asarray(x).reshape(20, -1) @ w["W_enc"] + w["b_enc"]
    kept = np.where((a > 0) & (a >= np.sort(a, axis=1)[:, [-K]]), a, 0)
    want = 1 / (1 + np.exp(-(kept @ w["W_dec"] + w["b_dec"])))
    np.testing.assert_allclose(codes_of(state, x, "ab"), kept, atol=1e-5)
    np.testing.assert_allclose(translate(state, x, "ba").reshape(20, -1), want, atol=1e-5)
    after = trained(SPARSE)[1]
    for direction in ("ab", "ba"):
        codes = np.asarray(codes_of(after, x, direction))
        assert (codes >= 0).all()
        assert ((codes > 0).sum(axis=1) <= K).all()
        assert (codes > 0).any()
    assert not np.allclose(translate(after, x, "ab"), translate(state, x, "ab"), atol=1e-3)


def test_pixels_outside_the_range_are_cut_and_still_learn_and_an_encoder_may_train_on():
    """Without a sigmoid the decoder may leave [0, 1]; the other translator must not see that."""
    config = replace(SPARSE, identity=0.0, encoder="trained")
    linear = replace(SAE, sigmoid_output=False)
    algorithm = cyclegan(config, image_shape=SHAPE, sae=linear)
    state = filled(jax.eval_shape(algorithm.init, jax.random.key(0), sae_params()), pretrained=sae_params())
    for name in ("ab", "ba"):
        state.params.generator[name]["decoder"]["b_dec"] = jnp.full(16, -3.0)
    assert jit(algorithm.translate, static_argnums=2)(state, batch(0).a, "ab").min() == 0
    after, info = jit(algorithm.step)(state, batch(0))
    assert info.identity == 0
    assert_every_leaf_moved(after.params, state.params)
    assert (np.asarray(after.params.generator["ab"]["decoder"]["b_dec"]) != -3.0).all()
    assert set(after.params.generator["encoder"]) == {"W_enc", "b_enc"}
    chex.assert_trees_all_equal(after.pretrained, sae_params())


def test_members_equal_single_runs():
    """Each with an autoencoder of its own."""
    algorithm, step, _ = programs(SPARSE)
    inits = [initial(SPARSE, seed) for seed in (0, 1)]
    stacked = jax.tree.map(lambda *x: jnp.stack(x), *inits)
    together, infos = jit(jax.vmap(algorithm.step, in_axes=(0, None)))(stacked, batch(0))
    for i, state in enumerate(inits):
        alone, info = step(state, batch(0))
        own, own_info = jax.tree.map(lambda x, i=i: x[i], (together, infos))
        chex.assert_trees_all_close(own_info, info, rtol=1e-3, atol=1e-5)
        # Adam's first step is learning_rate times a sign, so that rounding may turn a gradient of nearly 0.
        chex.assert_trees_all_close(own.opt_state, alone.opt_state, rtol=1e-2, atol=1e-4)
        chex.assert_trees_all_close(own.history, alone.history, rtol=1e-4, atol=1e-5)
    assert infos.cycle[0] != infos.cycle[1]


def test_the_rate_falls_after_its_share():
    config = replace(TINY, steps=100, constant_share=0.5)
    shares = [float(learning_rate_share(config, jnp.asarray(t, jnp.int32))) for t in (0, 50, 75, 99, 100)]
    np.testing.assert_allclose(shares, [1, 1, 0.5, 0.02, 0], atol=1e-6)
    assert learning_rate_share(replace(config, constant_share=1.0), jnp.asarray(99, jnp.int32)) == 1


# Robustness of the cycle


def test_quantised_by_hand():
    x = jnp.asarray([0.0, 0.2, 0.49, 0.51, 1.0, 1.3, -0.2])
    np.testing.assert_array_equal(quantise(x, 1), [0, 0, 0, 1, 1, 1, 0])
    np.testing.assert_allclose(quantise(x, 2), np.array([0, 1, 1, 2, 3, 3, 0]) / 3, rtol=1e-6)
    exact = jnp.arange(256, dtype=jnp.float32) / 255
    np.testing.assert_allclose(quantise(exact, 8), exact, atol=1e-7)
    assert len(np.unique(quantise(exact, 3))) == 8
    for bits in (0, 17):
        with pytest.raises(ValueError, match=f"bits = {bits} cannot be used"):
            quantise(x, bits)
    with pytest.raises(ValueError, match="images must be floats"):
        quantise(jnp.zeros(3, jnp.uint8), 8)


def test_robustness_of_a_perfect_inverse_and_of_one_that_hides():
    key = jax.random.key(0)
    x = jnp.asarray(np.random.default_rng(0).integers(0, 2, (4, *SHAPE)), jnp.float32)
    invert = lambda x: 1 - x  # noqa: E731
    curve = cycle_robustness(invert, invert, x, key, sigmas=(0.0,))
    chex.assert_trees_all_equal(curve, jax.tree.map(jnp.zeros_like, curve))
    noisy = cycle_robustness(invert, invert, x, key, bits=(), sigmas=(0.05, 0.1)).noisy
    # Of noise on pixels at the ends of the range half is cut off, and E|n| = sigma sqrt(2 / pi).
    np.testing.assert_allclose(noisy, 0.5 * np.array([0.05, 0.1]) * (2 / np.pi) ** 0.5, rtol=0.5)
    # A grey image that holds the source in its 12th bit: perfect as it is, nothing is left in 8 bits.
    hides = cycle_robustness(lambda x: 0.5 + x / 4096, lambda y: (y - 0.5) * 4096, x, key, bits=(16, 8), sigmas=(0.1,))
    assert hides.clean < 1e-3
    assert hides.quantised[0] < 0.1
    assert hides.quantised[1] > 0.5
    assert hides.noisy[0] > 10
    with pytest.raises(ValueError, match=r"sigmas = \(-0.1,\) cannot be used"):
        cycle_robustness(invert, invert, x, key, sigmas=(-0.1,))


def test_paired_error_by_hand():
    truth = jnp.asarray([[0.0, 1.0], [0.5, 0.5]])
    np.testing.assert_allclose(paired_error(truth, jnp.asarray([[0.5, 1.0], [0.0, 1.0]])), [0.25, 0.5])
    with pytest.raises(ValueError, match="they must be pairs"):
        paired_error(truth, truth[:1])


def test_the_robustness_picture_says_what_is_wrong(tmp_path):
    arms = {"plain": {"clean": [0.1, 0.2], "quantised": np.ones((2, 1)), "noisy": np.ones((2, 2))}}
    path = cycle_robustness_picture(arms, tmp_path / "a.png", bits=(8,), sigmas=(0.1, 0.2), title="a$b")
    assert path.read_bytes()[:4] == b"\x89PNG"
    with pytest.raises(ValueError, match=r"plain: clean has shape \(2,\) and quantised \(2, 1\)"):
        cycle_robustness_picture(arms, tmp_path / "b.png", bits=(8, 4), sigmas=(0.1, 0.2))
    with pytest.raises(ValueError, match="arms is empty"):
        cycle_robustness_picture({}, tmp_path / "b.png", bits=(8,), sigmas=(0.1,))


# What cannot work


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("kind", "dense"), ("encoder", "none"), ("decoder", "own"), ("width", 0), ("stages", 0), ("blocks", 0),
        ("shift_hidden", (4, 0)), ("d_width", -1), ("d_stages", 0), ("cycle", -1.0), ("identity", float("nan")),
        ("history", -1), ("learning_rate", 0.0), ("constant_share", 1.5), ("beta1", 1.0), ("beta2", -0.1),
        ("batch_size", 0), ("steps", 0), ("width", 2.0), ("stages", True), ("blocks", 1.5), ("shift_hidden", (4.0,)),
        ("d_width", 2.0), ("d_stages", 1.0), ("history", 3.0), ("batch_size", 2.0), ("steps", 1e3),
        ("concept_weight", -1.0), ("concept_weight", float("nan")), ("semantic_weight", -0.1), ("concept_distance", "l2"),
        ("concept_encoder", "dense"), ("semantic_labels", "target"), ("classes", 1), ("classes", 10.0),
    ],
)  # fmt: skip
def test_bad_settings_raise_and_name_the_field(field, value):
    with pytest.raises(ConfigError, match=rf"^{field} = .* cannot be used: .+") as error:
        CycleGANConfig(**{field: value})
    assert error.value.field == field


def test_bad_combinations_raise_before_anything_is_compiled():
    for config, shape, field in ((TINY, (6, 5, 1), "d_stages"), (replace(TINY, stages=3), (4, 4, 1), "stages")):
        with pytest.raises(ConfigError, match="images cannot be halved") as error:
            cyclegan(config, image_shape=shape)
        assert error.value.field == field
    for field, value in (("variant", "kl"), ("patch_size", 2), ("tied", True)):
        other = {"decoder_norm": 0.0} if field == "tied" else {}
        with pytest.raises(ConfigError) as error:
            cyclegan(SPARSE, image_shape=SHAPE, sae=replace(SAE, **{field: value}, **other))
        assert error.value.field == f"sae.{field}"
    with pytest.raises(ValueError, match="kind='sparse' needs sae"):
        cyclegan(SPARSE, image_shape=SHAPE)
    algorithm, *_ = programs(TINY)
    with pytest.raises(ConfigError, match=r"^direction = 'a to b' cannot be used"):
        algorithm.translate(initial(TINY), batch(0).a, "a to b")
    assert algorithm.codes is None


def test_an_autoencoder_is_asked_for_and_refused():
    with pytest.raises(ValueError, match=r"kind='sparse' needs pretrained.*init\(key, pretrained\)"):
        programs(SPARSE)[0].init(jax.random.key(0))
    with pytest.raises(ValueError, match="kind='plain' has no autoencoder"):
        programs(TINY)[0].init(jax.random.key(0), sae_params())


def test_integer_images_and_batches_of_two_shapes_are_refused():
    algorithm, state = programs(SPARSE)[0], initial(SPARSE)
    images = batch(0)
    stored = jnp.zeros((BATCH, *SHAPE), jnp.uint8)
    for bad in (TwoDomains(stored, images.b), TwoDomains(images.a, stored)):
        with pytest.raises(ValueError, match=r"images must be float32 in \[0, 1\], but these are uint8"):
            algorithm.step(state, bad)
    for function in (algorithm.translate, algorithm.codes):
        with pytest.raises(ValueError, match="but these are uint8"):
            function(state, stored, "ab")
    with pytest.raises(ValueError, match=r"batch.a has shape \(3, 4, 4, 1\) and batch.b \(2, 4, 4, 1\)"):
        algorithm.step(state, TwoDomains(images.a, images.b[:2]))
    with pytest.raises(ValueError, match="draws no samples"):
        algorithm.sample(state, jax.random.key(0), 1)


def test_every_kind_has_a_translator():
    assert set(TRANSLATORS) == set(get_args(Kind))


# The script


def test_defaults_follow_the_domains():
    assert parse_options([]) == DIGITS
    assert parse_options(["--domains", "mnist_inverted_rotated"]) == MNIST
    digits = parse_options(["--domains", "mnist_digits", "--cyclegan.kind", "sparse", "--sae.k", "7"])
    assert (digits.domains, digits.cyclegan.kind, digits.sae.k) == ("mnist_digits", "sparse", 7)
    with pytest.raises(ConfigError, match=r"^domains = 'horses' cannot be used"):
        TrainCycleGAN(domains="horses")


GOLDEN = [
    [2.4438462, 3.4530377, 0.34271154, 0.35380727, 0.33333333, 0.0],
    [0.95948505, 1.6320957, 0.28816402, 0.2748059, 0.54166667, 2.0],
]


def test_golden_steps():
    """Numbers of two steps from fixed key and data, plain and sparse.

    Update them only for a deliberate change of the mathematics, of the initial values or of the key schedule, and say so
    in the change; never to make a refactoring pass.
    """
    for config, want in zip((TINY, SPARSE), GOLDEN, strict=True):
        np.testing.assert_allclose(np.array(trained(config)[2], np.float64), want, rtol=2e-4)


SCRIPT = (
    "--cyclegan.kind sparse --cyclegan.shift-hidden 4 --cyclegan.d-width 2 --cyclegan.d-stages 1 --cyclegan.steps 10 "
    "--cyclegan.batch-size 2 --sae.d-sae 8 --sae.k 3 --sae.auxk 0 --sae.batch-size 4 --sae.steps 10 --log-every 5 "
    "--save-every 10 --picture-every 10 --no-evaluate --seeds 2"
)


def test_curves_of_earlier_versions_are_read(tmp_path):
    """They were called honesty."""
    found = {"domains": "d", "bits": list(BITS), "sigmas": list(SIGMAS), "arms": {"plain": {"clean": [0.1]}}}
    (tmp_path / "honesty.json").write_text(json.dumps(found))
    assert read_robustness(tmp_path, "d") == {f"plain ({tmp_path.name})": {"clean": [0.1]}}
    (tmp_path / "cycle_robustness.json").write_text(json.dumps(found | {"arms": {}}))
    assert read_robustness(tmp_path, "d") == {}


def test_the_script_from_end_to_end(tmp_path):
    """Two sparse members: both phases, pictures, scores; the same again; and beside itself."""
    folder = tmp_path / "run"
    arguments = SCRIPT.split()
    code, _, err = command("train_cyclegan", *arguments, "--out", folder)
    assert code == 0, err
    rows = json.loads((folder / "summary.json").read_text())["rows"]
    assert {"paired error, A to B", "cycle error, B to A and back", "code L0, A to B", "SAE error, B"} < set(rows)
    assert all(len(row["values"]) == 2 and np.isfinite(row["values"]).all() for row in rows.values())
    assert all(0 < value <= 3 for value in rows["code L0, B to A"]["values"])
    assert [(row["phase"], row["step"]) for row in metrics(folder)] == [
        ("sae", 5), ("sae", 10), ("cyclegan", 5), ("cyclegan", 10)
    ]  # fmt: skip
    assert sorted(p.name for p in (folder / "samples").iterdir()) == [f"0000010-member{i}.png" for i in (0, 1)]
    robustness = json.loads((folder / "cycle_robustness.json").read_text())
    assert (folder / "cycle_robustness.png").exists()
    assert set(robustness["arms"]) == {"sparse, k 3", "the true map"}
    # 17 grey levels of the digits survive 8 bits; the true map hides nothing.
    (clean,), (quantised,) = (robustness["arms"]["the true map"][name] for name in ("clean", "quantised"))
    assert clean < 1e-6
    assert quantised[0] < 1e-6 < quantised[-1]
    before = (folder / "summary.json").read_bytes(), (folder / "cycle_robustness.json").read_bytes()
    # A finished run is scored again, to the same numbers, and drawn beside another.
    code, _, err = command("train_cyclegan", *arguments, "--out", folder, "--resume", "--beside", folder)
    assert code == 0, err
    assert ((folder / "summary.json").read_bytes(), (folder / "cycle_robustness.json").read_bytes()) == before
    code, _, err = command("train_cyclegan", *arguments, "--out", tmp_path / "other", "--beside", tmp_path)
    assert code == 2
    assert "holds no cycle_robustness.json of a finished run" in err
    assert not (tmp_path / "other").exists()
