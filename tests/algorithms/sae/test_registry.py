"""The registry of variants, settings that it checks, and a new variant from one record."""

import ast
import dataclasses
import inspect
import json
import re
from pathlib import Path

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers import SHAPE, unit_batch

import saegan_jax
from saegan_jax.algorithms.sae import (
    VARIANTS,
    SAEConfig,
    SAELens,
    Start,
    Variant,
    autoencoder,
    hyper,
    module,
    project_params,
    sae,
)
from saegan_jax.algorithms.sae.groups import CodeSettings
from saegan_jax.errors import ConfigError
from saegan_jax.training.interchange import export_sae, import_sae

D_SAE, N = 6, 8
DEAD = np.array([True, True, False, False, False, False])

ROOT = Path(__file__).resolve().parents[3]


def leaky(config, weights, a, *, k):
    """Codes of at least ``floor * a``."""
    return jnp.maximum(a, weights["floor"].reshape((1,) * (a.ndim - 1) + (-1,)) * a)


def squares(config, weights, a, codes, *, rho, running, axis_name):
    return jnp.sum(codes**2) / len(codes)


SQUARED = Variant(
    activate=leaky,
    saelens=SAELens("leaky", names={"floor": "slope"}, cfg=lambda config: {"beta": config.beta}),
    sparsity=squares,
    extra_params=lambda config: {"floor": config.initial_threshold},
    project=lambda weights: {"floor": jnp.clip(weights["floor"], 0.05, 0.5)},
    statistics=lambda weights, codes, *, step, axis_name: {"b_dec": weights["b_dec"] + step.astype(jnp.float32)},
    resample_reset=lambda config: {"floor": 0.25},
    active_above=0.3,
    defaults={"beta": 0.5},
)


@pytest.fixture
def config(monkeypatch):
    monkeypatch.setitem(VARIANTS, "squared", SQUARED)
    return SAEConfig(variant="squared", d_sae=D_SAE, beta=0.5, steps=10, resample_every=2, dead_after=3)


def test_a_new_variant_is_one_record(config):
    """Two steps of it: its codes, penalty, bounds, statistics and resampling are all in them."""
    algorithm, functions = sae(config, image_shape=SHAPE), autoencoder(config, image_shape=SHAPE)
    state = algorithm.init(jax.random.key(0), Start())
    weights, batch = state.params["params"], unit_batch(N)
    np.testing.assert_array_equal(weights["floor"], np.float32(0.1))
    codes = functions.encode(state.params, batch.image)
    a = np.asarray(functions.pre_activations(state.params, batch.image))
    np.testing.assert_allclose(codes, np.maximum(a, 0.1 * a), rtol=1e-6)
    np.testing.assert_array_equal(functions.activate(state.params, a), codes)

    step = jax.jit(chex.assert_max_traces(lambda s, b: algorithm.step(s, b), n=1))
    first, info = step(state, batch)
    np.testing.assert_allclose(info.sparsity, (np.asarray(codes) ** 2).sum(axis=1).mean(), rtol=1e-5)
    np.testing.assert_allclose(info.loss, info.reconstruction + 0.5 * info.sparsity, rtol=1e-6)
    np.testing.assert_allclose(info.l0, (np.asarray(codes) > 0.3).sum(axis=1).mean(), rtol=1e-6)
    long_off = first.replace(steps_since_active=jnp.asarray(np.where(DEAD, 9, 0), jnp.int32))
    off = {**first.params["params"], "b_enc": jnp.asarray(np.where(DEAD, -30.0, 1.0), jnp.float32)}
    off["floor"] = jnp.full(D_SAE, 9.0, jnp.float32)
    second, info = step(long_off.replace(params={"params": off}), batch)
    chex.assert_tree_all_finite((second.params, info))
    moved = second.params["params"]
    np.testing.assert_array_equal(moved["floor"], np.where(DEAD, np.float32(0.25), np.float32(0.5)))
    np.testing.assert_allclose(np.linalg.norm(moved["W_dec"], axis=1), 1, rtol=1e-5)
    assert (
        np.abs(moved["b_dec"] - off["b_dec"] - 1) < 0.1
    ).all()  # the statistic added step = 1 to Adam's small update


def test_a_new_variant_is_exported_and_its_bounds_are_checked(config, tmp_path):
    params = sae(config, image_shape=SHAPE).init(jax.random.key(0)).params
    export_sae(tmp_path, config, params, image_shape=SHAPE)
    assert (tmp_path / "cfg.json").read_text().count('"leaky"') == 1
    again, found, shape = import_sae(tmp_path)
    assert (again, shape) == (config, SHAPE)
    chex.assert_trees_all_equal(found, params)
    low = {"params": {**params["params"], "floor": jnp.full(D_SAE, 0.01)}}
    with pytest.raises(ValueError, match="floor is out of the bounds of squared for 6 units"):
        export_sae(tmp_path, config, low, image_shape=SHAPE, overwrite=True)


@pytest.mark.parametrize("name", VARIANTS)
def test_a_variant_says_what_other_modules_need(name):
    variant = VARIANTS[name]
    fields = {field.name for field in dataclasses.fields(SAEConfig)}
    settings = {**variant.defaults, **variant.wants((28, 28, 1)), **(variant.dense_control or {})}
    assert settings.keys() | variant.sweep_axes.keys() <= fields
    config = SAEConfig(variant=name, **variant.defaults)
    assert config.nested[-1] == config.d_sae
    assert config.active_above == variant.active_above
    for axis, values in variant.sweep_axes.items():
        assert all(getattr(dataclasses.replace(config, **{axis: v}), axis) == v for v in values)
    if not variant.counts_k:
        assert variant.sparsity is not None or variant.competes_over_batch


def test_the_help_names_every_variant():
    """Its text is the string below the field."""
    source = inspect.getsource(CodeSettings)
    text = source[source.index("variant: str") : source.index("d_sae: int")]
    assert re.findall(r"(\w+):\s", text)[1:] == list(VARIANTS)


def _compared_with_names(path):
    """Lines of a file that compare something called a variant with the name of one."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Compare) and "variant" in ast.unparse(node):
            names = {leaf.value for leaf in ast.walk(node) if isinstance(leaf, ast.Constant)}
            if names & set(VARIANTS):
                yield f"{path.name}:{node.lineno}"


def test_nothing_outside_a_variants_file_branches_on_its_name(tmp_path):
    root = Path(saegan_jax.__file__).parent
    files = [*root.rglob("*.py"), *(root.parent / "experiments").rglob("*.py")]
    assert len(files) > 80
    assert [line for path in files for line in _compared_with_names(path)] == []
    (tmp_path / "bad.py").write_text('x = 1\nif config.variant in ("topk", "other"):\n    x = 2\n')
    assert list(_compared_with_names(tmp_path / "bad.py")) == ["bad.py:2"]


def test_networks_know_no_algorithm():
    for path in (Path(saegan_jax.__file__).parent / "networks").glob("*.py"):
        assert "saegan_jax.algorithms" not in path.read_text(), path.name


def test_what_competes_and_what_counts():
    def having(test):
        return {name for name, variant in VARIANTS.items() if test(variant)}

    assert having(lambda v: v.competes_over_batch) == {"batch_topk", "matryoshka", "wta"}
    assert having(lambda v: v.counts_k) == {"topk", "batch_topk", "matryoshka"}
    assert having(lambda v: v.k_per_example) == {"topk"}
    assert having(lambda v: v.has_target) == {"kl", "rate_kl"}
    assert having(lambda v: not v.sweep_axes) == {"wta"}


INTEGERS = (
    *("d_sae", "k", "patch_size", "stride", "k_aux", "resample_every", "dead_after", "sparsity_warmup", "batch_size"),
    "steps",
)


@pytest.mark.parametrize("field", INTEGERS)
@pytest.mark.parametrize("value", [2.7, 0.5, 2.0, True, "2", None])
def test_what_counts_something_is_an_integer(field, value):
    with pytest.raises(ConfigError, match=rf"^{field} = .* must be a whole number") as error:
        SAEConfig(**{field: value})
    assert error.value.field == field


def test_levels_are_integers():
    with pytest.raises(ConfigError, match=r"levels = 2\.5 .* must be a whole number"):
        SAEConfig(variant="matryoshka", d_sae=4, levels=(2.5, 4))


def test_every_integer_field_is_checked():
    hints = {field.name for field in dataclasses.fields(SAEConfig) if field.type is int}
    assert hints == set(INTEGERS)


def test_a_misspelt_variant_is_told_the_nearest():
    with pytest.raises(
        ConfigError, match=r"variant = 'top_k' cannot be used: did you mean topk\? choose one of kl, rate_kl"
    ):
        SAEConfig(variant="top_k")


def test_settings_are_flat_and_in_groups():
    """Any of them by keyword, hashable, and a group refuses what it holds whatever the variant is."""
    config = SAEConfig(variant="topk", k=3, auxk=0.1, patch_size=4, learning_rate=1e-3)
    assert hash(config) == hash(dataclasses.replace(config))
    assert dataclasses.replace(config, k=4) != config
    for group in SAEConfig.__mro__[2:-1]:
        assert dataclasses.fields(group)
        assert {f.name for f in dataclasses.fields(group)} < {f.name for f in dataclasses.fields(SAEConfig)}


def test_integer_images_are_refused_while_tracing():
    config = SAEConfig(d_sae=D_SAE)
    algorithm, functions = sae(config, image_shape=SHAPE), autoencoder(config, image_shape=SHAPE)
    state = jax.eval_shape(algorithm.init, jax.random.key(0))
    bad = unit_batch(N)._replace(image=jnp.zeros((N, *SHAPE), jnp.uint8))
    settings = hyper(config)
    calls = (
        lambda s: functions.encode(s.params, bad.image),
        lambda s: functions.pre_activations(s.params, bad.image),
        lambda s: functions.loss(s.params, bad.image, hyper=settings),
        lambda s: algorithm.step(s, bad),
    )
    for call in calls:
        with pytest.raises(ValueError, match=r"must be float32 in \[0, 1\], but these are uint8"):
            jax.eval_shape(call, state)


def test_the_loss_gives_the_pre_activations_too():
    config = SAEConfig(variant="topk", d_sae=D_SAE, k=2)
    functions = autoencoder(config, image_shape=SHAPE)
    params = project_params(config, module(config, 16).init(jax.random.key(0), jnp.zeros((1, 16))))
    image = unit_batch(N).image
    _, terms = functions.loss(params, image, hyper=hyper(config))
    np.testing.assert_array_equal(terms.pre_activations, functions.pre_activations(params, image))
    np.testing.assert_array_equal(functions.activate(params, terms.pre_activations), terms.codes)
    one = functions.activate(params, terms.pre_activations, k=1)
    assert (np.asarray(one) > 0).sum(axis=1).max() == 1


def test_a_sweep_varies_what_the_published_frontier_shows():
    rows = json.loads((ROOT / "experiments" / "results" / "sae_frontier_digits.json").read_text())["rows"]
    names = ("rho", "beta", "k")
    swept = {
        variant: {name: tuple(map(float, values)) for name, values in VARIANTS[variant].sweep_axes.items()}
        for variant in {row["variant"] for row in rows}
    }
    shown = {
        variant: {
            name: tuple(sorted({float(row["settings"][name]) for row in rows if row["variant"] == variant}))
            for name in names
            if name in axes
        }
        for variant, axes in swept.items()
    }
    assert {variant: dict(axes) for variant, axes in swept.items()} == shown
    assert set(swept) == {name for name, variant in VARIANTS.items() if variant.sweep_axes}
