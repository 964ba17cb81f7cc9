"""Steering: a generator cut at a layer, directions in it, what an edit does, and the script that measures it."""

import functools
import json
from types import SimpleNamespace

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from command_line import QUICK_TO_COMPILE, command, tiny, tree
from helpers import filled, normal, random_params
from PIL import Image

import saegan_jax.evaluation.features
from experiments import steer as script
from saegan_jax import steering
from saegan_jax.algorithms.gan import GANConfig, gan, image_networks
from saegan_jax.algorithms.sae import SAEConfig, autoencoder
from saegan_jax.algorithms.saegan import SAEGANConfig
from saegan_jax.errors import ConfigError
from saegan_jax.evaluation import steering as measuring
from saegan_jax.evaluation.features import FeatureRecipe, load_feature_network
from saegan_jax.report.steering import dose_response_curves, rows_of, strips
from saegan_jax.runs import steering as runs
from saegan_jax.runs.registry import TRAININGS
from saegan_jax.training.systems import abstract_system

SHAPE = (8, 8, 1)
KEY = jax.random.key(3)


@functools.cache
def system(network, **settings):
    """A generator with random weights: its ``sample``, and a state."""
    config = GANConfig(network=network, hidden=(7, 5), width=2, d_noise=4, **settings)
    algorithm = gan(config, image_shape=SHAPE, n_classes=3)
    module = image_networks(config, SHAPE).generator
    d_latent = 4 + 3 * config.conditional
    shapes = jax.eval_shape(algorithm.init, jax.random.key(0))
    return algorithm.sample, filled(shapes, ema=random_params(module, jnp.zeros((1, d_latent))))


PLACES = {
    "mlp": {"Dense_0": (4,), "Dense_1": (7,), "Dense_2": (5,)},
    "dcgan": {"Dense_0": (4,), "Dense_1": (16,), "ConvTranspose4x4_0": (2, 2, 8), "ConvTranspose4x4_1": (4, 4, 2)},
}


def test_the_places_of_each_generator_in_order():
    for network, places in PLACES.items():
        assert dict(steering.layers(*system(network))) == places
    assert steering.layers(*system("mlp", conditional=True))[0].shape == (4 + 3,)  # the latent beside the label
    names = [place.name for place in steering.layers(*system("residual"))]
    assert names[0] == "Dense_0"
    # Blocks, and not the layers inside them.
    assert sum(name.startswith("ResidualBlock") for name in names) == 3
    assert all(name.startswith(("ResidualBlock", "Dense")) for name in names)
    # A generator of a SAE-GAN reads codes beside the noise; neither its encoder nor its prior is a place.
    settings = SAEGANConfig(sae=SAEConfig(d_sae=6), gan=GANConfig(hidden=(7, 5), d_noise=4))
    algorithm, state = abstract_system(settings, image_shape=SHAPE, n_seeds=1)
    assert dict(steering.layers(algorithm.sample, state)) == {"Dense_0": (10,), "Dense_1": (7,), "Dense_2": (5,)}


@pytest.mark.parametrize(("network", "layer"), [("mlp", 1), ("mlp", -1), ("dcgan", 1), ("dcgan", 2), ("dcgan", 3)])
def test_two_halves_are_the_whole(network, layer):
    sample, state = system(network)
    cut = steering.split(sample, state, layer=layer)
    name, shape = list(PLACES[network].items())[layer]
    assert cut.layer == (name, shape)
    a = cut.before(state, KEY, 3)
    assert a.shape == (3, *shape)
    assert np.ptp(a) > 0
    whole = sample(state, KEY, 3)
    assert np.ptp(whole) > 0.01
    np.testing.assert_array_equal(cut.after(state, a), whole)
    # The activations, and nothing before them, decide.
    changed = a.at[1].add(1.0)
    images = np.asarray(cut.after(state, changed))
    np.testing.assert_array_equal(images[::2], whole[::2])
    assert np.abs(images[1] - whole[1]).max() > 0.01
    np.testing.assert_array_equal(sample(state, KEY, 3), whole)  # nothing of the cut stays


def test_halves_after_activation_functions_compiled_and_conditional():
    sample, state = system("mlp", conditional=True)
    cut = steering.split(sample, state, layer=1)
    a = jax.jit(cut.before, static_argnums=2)(state, KEY, 40)
    assert 0 < np.mean(np.asarray(a) < 0) < 1  # leaky: small where negative
    assert np.abs(np.asarray(a)[np.asarray(a) < 0]).mean() < 0.5 * np.asarray(a)[np.asarray(a) > 0].mean()
    np.testing.assert_allclose(jax.jit(cut.after)(state, a), sample(state, KEY, 40), atol=1e-6)
    # The first half alone is compiled without the second: no product with the last layer's 64 pixels is left.
    text = jax.jit(cut.before, static_argnums=2).lower(state, KEY, 40).compile().as_text()
    assert "f32[40,64]" not in text
    assert "f32[40,7]" in text


def test_no_such_layer():
    sample, state = system("mlp")
    for layer in (0, 3, -3, 17, -17):
        with pytest.raises(ConfigError, match=r"layer = .* 1: 7; 2: 5; -1 is the last"):
            steering.split(sample, state, layer=layer)
    algorithm = gan(GANConfig(hidden=(), d_noise=4), image_shape=SHAPE)
    shapes = jax.eval_shape(algorithm.init, jax.random.key(0))
    with pytest.raises(ConfigError, match="no hidden layer"):
        steering.split(algorithm.sample, shapes, layer=-1)


def test_a_dose_of_zero_changes_no_bit_and_any_other_is_exact():
    sample, state = system("dcgan")
    cut = steering.split(sample, state, layer=2)
    a, d = cut.before(state, KEY, 2), normal(8)
    after = jax.jit(cut.after)
    np.testing.assert_array_equal(after(state, steering.steer(a, d, 0.0)), after(state, a))
    assert np.abs(after(state, steering.steer(a, d, 2.0)) - after(state, a)).max() > 0.01
    moved = np.asarray(steering.steer(a, d, 2.0))
    np.testing.assert_array_equal(moved, np.asarray(a) + 2 * np.asarray(d))  # at every position
    with pytest.raises(ValueError, match=r"\(7,\).*need \(8,\)"):
        steering.steer(a, normal(7), 1.0)
    # Many doses at once, and the slope in the dose.
    doses = jnp.array([0.0, 0.5])
    course = jax.jit(jax.vmap(lambda dose: cut.after(state, steering.steer(a, d, dose)).mean()))
    slope = jax.jit(jax.grad(lambda dose: cut.after(state, steering.steer(a, d, dose)).mean()))
    near = course(jnp.array([-0.01, 0.01]))
    assert slope(0.0) == pytest.approx(float(near[1] - near[0]) / 0.02, rel=0.05)
    assert course(doses)[0] == pytest.approx(float(cut.after(state, a).mean()), abs=1e-6)


def test_an_edit_raises_one_code_and_keeps_the_autoencoders_error():
    config = SAEConfig(variant="topk", d_sae=9, k=2, pre_bias="mean")
    functions = autoencoder(config, image_shape=(1, 1, 5))
    rng = np.random.default_rng(0)
    shapes = {"W_enc": (5, 9), "b_enc": (9,), "W_dec": (9, 5), "b_dec": (5,)}
    params = {"params": {name: jnp.asarray(rng.normal(size=s), jnp.float32) for name, s in shapes.items()}}
    a = normal(4, 5)
    codes = functions.encode(params, a.reshape(4, 1, 1, 5))
    error = a - functions.decode(params, codes).reshape(4, 5)
    assert np.abs(error).max() > 0.1
    by_codes = functions.decode(params, codes.at[:, 3].add(1.7)).reshape(4, 5) + error
    np.testing.assert_allclose(steering.steer(a, params["params"]["W_dec"][3], 1.7), by_codes, rtol=1e-5, atol=1e-5)


def test_directions_by_numpy():
    x = normal(200, 4, seed=1) * jnp.array([[3.0, 1.0, 2.0, 0.1]]) + 5
    centred = np.asarray(x) - np.asarray(x).mean(axis=0)
    assert steering.spread(x) == pytest.approx(np.sqrt((centred**2).sum(axis=1).mean()), rel=1e-5)
    rows = np.asarray(steering.principal_directions(x))
    np.testing.assert_allclose(rows[::2], -rows[1::2])
    np.testing.assert_allclose(np.abs(rows[::2]), np.abs(np.linalg.svd(centred)[2]), atol=2e-3)
    one = np.asarray(steering.random_directions(KEY, 300, 4))
    np.testing.assert_allclose(np.linalg.norm(one, axis=1), 1, rtol=1e-5)
    np.testing.assert_allclose(one.T @ one / 300, np.eye(4) / 4, atol=0.06)
    data = np.asarray(steering.difference_directions(KEY, 300, x))
    lengths = np.linalg.norm(data, axis=1)
    assert ((np.abs(lengths - 1) < 1e-5) | (lengths == 0)).all()  # 0 for a sample drawn against itself
    assert np.argsort(-(data**2).mean(axis=0)).tolist() == [0, 2, 1, 3]
    label = jnp.asarray(np.arange(200) % 2 * 2)  # 0 and 2, never 1
    means = np.asarray(steering.class_directions(x, label, 3))
    expected = np.asarray(x)[::2].mean(axis=0) - np.asarray(x)[1::2].mean(axis=0)
    np.testing.assert_allclose(means[0], expected / np.linalg.norm(expected), rtol=1e-3, atol=1e-4)
    np.testing.assert_allclose(means[2], -means[0], rtol=1e-4, atol=1e-5)
    assert not means[1].any()


def test_directions_are_chosen_by_their_correlation():
    activity, p = normal(50, 6), jax.nn.softmax(normal(50, 3, seed=1))
    activity = activity.at[:, 4].set(2.0)  # a dead one
    found = np.asarray(steering.association(activity, p))
    expected = np.corrcoef(np.asarray(activity).T[[0, 1, 2, 3, 5]], np.asarray(p).T)[:5, 5:]
    np.testing.assert_allclose(found[[0, 1, 2, 3, 5]], expected, atol=1e-5)
    assert not found[4].any()
    np.testing.assert_array_equal(steering.strongest(jnp.asarray(found), 2), np.argsort(-found, axis=0)[:2].T)
    with pytest.raises(ConfigError, match=r"features = 7.*only 6"):
        steering.strongest(jnp.asarray(found), 7)


def test_an_effect_by_hand():
    before = np.log([[0.5, 0.25, 0.25], [0.1, 0.1, 0.8]])
    after = np.log([[0.2, 0.2, 0.6], [0.8, 0.1, 0.1]])
    images = np.zeros((2, 2, 2, 1))
    features, real = np.array([[3.0, 0.0], [9.0, 9.0]]), np.array([[0.0, 0.0], [3.0, 4.0]])

    def reading(logits, images, features):
        return steering.Reading(*(jnp.asarray(x, jnp.float32) for x in (images, logits, features)))

    first = reading(before, images, features)
    second = reading(
        after, images + np.array([0.5, 9.0]).reshape(2, 1, 1, 1), features + np.array([[0.0, 2.0], [7, 7]])
    )
    # The second image was predicted as the target already, and does not count.
    compare = jax.jit(steering.effect)
    found = compare(first, second, jnp.asarray(2), jnp.asarray(real, jnp.float32))
    expected = {
        "target": 0.6 - 0.25,
        "others": abs(0.5 / 0.75 - 0.2 / 0.4),
        "features": 2 / np.sqrt(2),
        "pixels": 0.5,
        "unreal": (2 - 3) / np.sqrt(2),  # from 3 away from the first real one to 2 away from the second
    }
    for name, value in found._asdict().items():
        assert value == pytest.approx(expected[name], abs=1e-5), name
    nothing = compare(first, first, jnp.asarray(0), jnp.asarray(real, jnp.float32))
    assert all(abs(value) < 1e-6 for value in nothing)
    every = reading(before[1:], images[1:], features[1:])
    assert all(value == 0 for value in compare(every, every, jnp.asarray(2), jnp.asarray(real, jnp.float32)))


def test_values_where_pixels_have_changed_equally():
    values, course = jnp.array([1.0, 3.0, 2.0]), jnp.array([0.1, 0.4, 0.3])
    at_level = jax.jit(steering.at_level)
    for level, expected in ((0.0, 0.0), (0.05, 0.5), (0.1, 1.0), (0.25, 2.0), (0.4, 3.0), (0.9, 3.0)):
        assert at_level(values, course, level) == pytest.approx(expected, abs=1e-5)
    assert at_level(values, jnp.zeros(3), 0.5) == 0


def test_effects_of_many_directions_at_one_level_by_hand():
    doses = (1.0, 2.0)
    pixels = np.array([[[0.2, 0.6], [0.1, 0.2]], [[0.4, 0.4], [0.0, 0.8]]], np.float32)  # (2, 2, doses)
    effects = steering.Effect(target=2 * pixels, others=0 * pixels, features=pixels, pixels=pixels, unreal=-pixels)
    found = steering.effects_at_level(effects, doses, 0.4)
    assert set(found) == {*steering.Effect._fields, "dose", "reached"}
    np.testing.assert_allclose(found["dose"], [[1.5, 2.0], [1.0, 1.5]], rtol=1e-6)
    np.testing.assert_array_equal(found["reached"], [[1, 0], [1, 1]])
    np.testing.assert_allclose(found["target"], [[0.8, 0.4], [0.8, 0.8]], rtol=1e-6)
    np.testing.assert_allclose(found["unreal"], [[-0.4, -0.2], [-0.4, -0.4]], rtol=1e-6)
    assert not found["others"].any()
    np.testing.assert_allclose(
        steering.selectivity(np.array([0.3, 0.3, -0.2]), np.array([0.1, 0.0, 0.5])), [3, 30, -0.4]
    )


def test_distances_and_positions_by_hand():
    images = jnp.asarray([0.0, 0.5, 0.5], jnp.float32).reshape(3, 1, 1, 1) * jnp.ones((1, 2, 2, 1))
    assert steering.sample_distance(images) == pytest.approx((0.5 + 0 + 0.5) / 3)
    a = normal(4, 3, 2, 5)
    np.testing.assert_array_equal(steering.flatten_positions(a)[7], a[1, 0, 1])
    np.testing.assert_allclose(steering.mean_over_positions(a), np.asarray(a).mean(axis=(1, 2)), rtol=1e-5, atol=1e-6)
    chex.assert_trees_all_equal(steering.mean_over_positions(a[:, 0, 0]), a[:, 0, 0])
    vectors = 3 * normal(200, 4, seed=1) + 7
    assert steering.spread(vectors * steering.unit_scale(vectors)) == pytest.approx(2.0, rel=1e-5)


def test_strongest_directions_are_those_of_the_largest_correlations():
    directions, activity, p = normal(6, 4), normal(50, 6, seed=2), jax.nn.softmax(normal(50, 3, seed=1))
    chosen, strength = steering.strongest_directions(directions, activity, p, 2)
    correlation = np.corrcoef(np.asarray(activity).T, np.asarray(p).T)[:6, 6:]
    for target in range(3):
        best = np.argsort(-correlation[:, target])[:2]
        np.testing.assert_array_equal(chosen[target], np.asarray(directions)[best])
        assert strength[target] == pytest.approx(correlation[best, target].mean(), abs=1e-5)


ATOMS = np.linalg.qr(np.random.default_rng(5).normal(size=(12, 12)))[0].astype(np.float32)


@functools.cache
def planted():
    """A generator whose 12 hidden numbers are sparse sums of atoms, atom c (of 4) raising class c alone; images are linear."""

    def before(state, key, n):
        on, size = jax.random.split(key)
        codes = jax.random.bernoulli(on, 0.15, (n, 12)).astype(jnp.float32) * (0.5 + jax.random.uniform(size, (n, 12)))
        return codes @ state

    def after(state, a):
        return 0.5 + 0.1 * a.reshape(-1, 3, 4, 1)

    def classify(images):
        a = 10 * (images - 0.5).reshape(-1, 12)
        logits = 5 * a @ ATOMS[:4].T
        return logits, a

    def response(state, a, d, target, doses, real):
        return steering.dose_response(lambda a: after(state, a), classify, a, d, target, doses, real)

    cut = steering.Split(steering.Layer("x", (12,)), before, after)
    real = before(jnp.asarray(ATOMS), jax.random.key(9), 50)
    return measuring.Programs(
        cut, jax.jit(before, static_argnums=2), jax.jit(after), jax.jit(response), jax.jit(classify), real
    )


@pytest.fixture(scope="module")
def found():
    options = script.Steer(
        run="run", d_sae=16, k=2, sae_steps=600, sae_seeds=2, features=1, alphas=(0.5, 1.0, 2.0), vectors=4000, choose=600,
        measure=60,
    )  # fmt: skip
    state = jnp.asarray(ATOMS)
    untrained = normal(12, 12, seed=7) / 12**0.5
    return measuring.measure(options.settings, planted(), (state, untrained), KEY, lambda text: None), options


def test_a_feature_that_is_known_to_control_one_class_is_found_and_beats_the_controls(found):
    one, options = found
    assert all(m.fvu < 0.2 for m in one.metrics)
    cosine = np.einsum("scfd,cd->scf", np.asarray(one.arms[measuring.SAE].directions), ATOMS[:4])
    assert cosine.min() > 0.9
    assert one.arms[measuring.SAE].associated.min() > 0.4
    assert one.arms[measuring.SAE].directions.shape == (2, 4, 1, 12)
    assert one.arms[measuring.CLASS_MEAN].directions.shape == one.arms["principal component"].directions.shape
    rows = {(r["arm"], r["metric"], r["dose"]): r for r in rows_of([one], options.alphas)}
    mine = rows[measuring.SAE, "target", 2.0]
    assert mine["mean"] > 0.5
    assert len(mine["values"]) == 4  # one per class
    assert mine["low"] <= mine["mean"] <= mine["high"]
    for control in measuring.CONTROLS:
        assert mine["mean"] > rows[control, "target", 2.0]["mean"] + 0.05
        for metric in ("target", "selectivity"):
            difference = rows[f"{measuring.SAE} - {control}", metric, "matched"]
            # Principal components and differences of sparse samples may be the atoms themselves here, others not.
            assert difference["low"] > 0 or control in measuring.CONTROLS[1::2]
            expected = rows[measuring.SAE, metric, "matched"]["mean"] - rows[control, metric, "matched"]["mean"]
            assert difference["mean"] == pytest.approx(expected, abs=1e-6)
    # Images are linear in the activations: equal norms change the pixels equally, by a tenth of the dose over root 12.
    for arm in one.arms:
        np.testing.assert_allclose(
            one.effects[arm].pixels, np.broadcast_to(0.1 * one.spread * np.array(options.alphas) / 12**0.5,
            one.effects[arm].pixels.shape), rtol=1e-3,
        )  # fmt: skip
    # Intervals over generators where there are several.
    several = rows_of([one, one], options.alphas)
    again = next(r for r in several if (r["arm"], r["metric"], r["dose"]) == (measuring.SAE, "target", 2.0))
    assert again["values"] == pytest.approx((mine["mean"], mine["mean"]))


def test_features_are_measured_on_samples_that_had_no_part_in_choosing_them():
    options = script.Steer(run="run", choose=700, measure=150)
    chosen, measured = measuring.halves(options.settings, planted(), jnp.asarray(ATOMS), KEY)
    assert (len(chosen), len(measured)) == (700, 150)
    rows = {row.tobytes() for row in np.asarray(chosen)} & {row.tobytes() for row in np.asarray(measured)}
    assert rows <= {np.zeros(12, np.float32).tobytes()}  # the empty code is no sample in particular
    assert len({row.tobytes() for row in np.asarray(measured)}) > 120


def test_the_autoencoder_is_that_of_every_position():
    config = SAEConfig(variant="topk", d_sae=6, k=2)
    params = {"params": {"W_enc": normal(4, 6), "b_enc": normal(6), "W_dec": normal(6, 4), "b_dec": normal(4)}}
    a, scale = normal(3, 2, 2, 4), jnp.asarray(1.5)
    codes, metrics = steering.feature_activity(config, params, a, scale)
    single = [steering.feature_activity(config, params, a[:, i, j], scale)[0] for i in range(2) for j in range(2)]
    np.testing.assert_allclose(codes, np.mean(single, axis=0), rtol=1e-5, atol=1e-6)
    assert 0 < metrics.l0 <= 2


def size(path):
    with Image.open(path) as picture:
        return picture.size


def test_pictures(tmp_path):
    images = np.random.default_rng(0).random((2, 3, 8, 8, 1))
    strips(images, tmp_path / "a.png", rows=["a", "b"], columns=["-1", "0", "1"])
    assert size(tmp_path / "a.png")[0] > 3 * 56
    with pytest.raises(ValueError, match=r"\(2, 2, height"):
        strips(images, tmp_path / "b.png", rows=["a", "b"], columns=["0", "1"])
    metrics = ("target", "others", "pixels", "unreal")
    rows = [
        {"arm": arm, "metric": metric, "dose": dose, "mean": dose, "low": None, "high": None}
        for arm in ("x", "y") for metric in metrics for dose in (0.5, 1.0)
    ]  # fmt: skip
    dose_response_curves(rows, tmp_path / "c.png", title="t")
    dose_response_curves([*rows, {**rows[0], "dose": "matched"}], tmp_path / "d.png", title="t")
    assert (tmp_path / "c.png").read_bytes() == (tmp_path / "d.png").read_bytes()
    with pytest.raises(ValueError, match="nothing to draw"):
        dose_response_curves([{**rows[0], "dose": "matched"}], tmp_path / "e.png")


SMALL = [
    *("--d-sae", 12, "--k", 2, "--sae-steps", 5, "--sae-seeds", 1, "--features", 2, "--alphas", 0.5, 2),
    *("--vectors", 300, "--choose", 40, "--measure", 10),
]


def test_the_script(tmp_path, monkeypatch):
    quick = functools.partial(
        load_feature_network, cache_dir=tmp_path / "cache", recipe=FeatureRecipe(epochs=1, batch_size=256, width=4)
    )
    monkeypatch.setattr(saegan_jax.evaluation.features, "load_feature_network", quick)
    run, out = tmp_path / "run", tmp_path / "out"
    trained = command("train_gan", *tiny("train_gan", *QUICK_TO_COMPILE, "--seeds", 2, "--out", run))
    assert trained.code == 0, trained.err
    before = tree(run)
    outcome = command("steer", "--run", run, "--out", out, *SMALL)
    assert outcome.code == 0, outcome.err
    assert tree(run) == before
    result = json.loads((out / "results.json").read_text())
    assert {"name", "command", "commit", "device", "versions", "note", "config", "rows"} <= set(result)
    assert "8 x 8" not in result["name"]
    assert result["config"]["sae"]["d_sae"] == 12
    arms = {measuring.SAE, *measuring.CONTROLS, measuring.CLASS_MEAN}
    for row in result["rows"]:
        assert len(row["values"]) == 2  # one per generator
        assert np.isfinite([row["mean"], row["low"], row["high"]]).all()
    doses = {(row["arm"], row["dose"]) for row in result["rows"] if row["metric"] == "target"}
    assert {(arm, dose) for arm in arms for dose in (0.5, 2.0, "matched")} <= doses
    assert {(f"{measuring.SAE} - {arm}", "matched") for arm in arms - {measuring.SAE}} <= doses
    table = (out / "results.md").read_text()
    assert all(f"| {arm} |" in table for arm in arms)
    pictures = sorted(path.name for path in out.glob("*.png"))
    assert pictures == sorted(["dose_response.png", *(f"strips-{arm.lower().replace(' ', '-')}.png" for arm in arms)])
    with np.load(out / "directions.npz") as directions:
        assert directions["SAE_feature"].shape == (1, 10, 2, 8)
        np.testing.assert_allclose(np.linalg.norm(directions["SAE_feature"], axis=-1), 1, rtol=1e-5)
    for arguments, message in (
        (["--layer", 5], "layer = 5"),
        (["--out", run / "steered"], "lies in the run folder"),
        (["--alphas", 1, 0.5], "alphas"),
        (["--k", 99], "k = 99"),
        (["--features", 13], "features = 13"),
        (["--results", "x"], "results"),
    ):
        refused = command("steer", "--run", run, "--out", tmp_path / "other", *SMALL, *arguments)
        assert refused.code == 2
        assert message in refused.err
    assert not (tmp_path / "other").exists()


def test_only_a_gan_can_be_steered(tmp_path, monkeypatch):
    restored = SimpleNamespace(training=TRAININGS["sae"], settings=SAEConfig(), state=(), n_seeds=1)
    monkeypatch.setattr(runs, "restore_run", lambda *args, **kwargs: restored)
    with pytest.raises(ConfigError, match=r"run = .*not trained as a GAN; give a run of train_gan"):
        script.run(script.Steer(run=tmp_path))
