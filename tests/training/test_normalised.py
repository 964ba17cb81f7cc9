"""Weights for vectors as they are do what those of normalised vectors do, of every variant."""

import jax
import numpy as np
import pytest

from saegan_jax.algorithms.sae import VARIANTS, SAEConfig, autoencoder, module
from saegan_jax.data.normalisation import fit_normalisation
from saegan_jax.errors import ConfigError
from saegan_jax.training.interchange import export_sae
from saegan_jax.training.normalised import check_foldable, fold, unfold
from saegan_jax.training.saved_weights import read_saved, start_params

X = np.random.default_rng(0).normal(2.0, 30.0, (50, 6)).astype(np.float32)


def made(variant: str, pre_bias: str = "mean"):
    """Settings, and parameters that no initialiser gives."""
    config = SAEConfig(variant=variant, d_sae=9, k=3, pre_bias=pre_bias)
    rng = np.random.default_rng(1)
    shapes = jax.eval_shape(lambda: module(config, 6).init(jax.random.key(0), jax.numpy.zeros((1, 6))))
    return config, jax.tree.map(lambda s: np.abs(rng.normal(size=s.shape)).astype(np.float32) * 0.3, shapes)


@pytest.mark.parametrize("kind", ["scale", "centre"])
@pytest.mark.parametrize("variant", VARIANTS)
def test_codes_are_the_same_and_so_is_what_is_decoded(variant, kind):
    config, params = made(variant)
    functions = autoencoder(config, image_shape=(1, 1, 6))
    normalisation = fit_normalisation(X, kind)
    z = normalisation.apply(X).reshape(-1, 1, 1, 6)
    raw = fold(params, normalisation)
    codes = functions.encode(params, z)
    np.testing.assert_allclose(functions.encode(raw, X.reshape(-1, 1, 1, 6)), codes, rtol=1e-4, atol=1e-4)
    expected = normalisation.undo(np.asarray(functions.decode(params, codes)).reshape(-1, 6))
    np.testing.assert_allclose(functions.decode(raw, codes).reshape(-1, 6), expected, rtol=1e-4, atol=1e-3)
    for name, value in unfold(raw, normalisation)["params"].items():
        np.testing.assert_allclose(value, params["params"][name], rtol=1e-4, atol=1e-5, err_msg=name)


def test_the_export_is_for_vectors_as_they_are_and_keeps_the_statistics(tmp_path):
    config, params = made("topk")
    normalisation = fit_normalisation(X, "centre")
    export_sae(tmp_path, config, params, image_shape=(1, 1, 6), normalisation=normalisation)
    saved = read_saved(tmp_path)
    np.testing.assert_array_equal(saved.params["params"]["W_enc"], fold(params, normalisation)["params"]["W_enc"])
    assert saved.normalisation is not None
    np.testing.assert_array_equal(saved.normalisation.mean, normalisation.mean, strict=True)
    assert saved.normalisation.scale == normalisation.scale
    start = start_params(saved, saved.normalisation)["params"]
    for name, value in params["params"].items():
        np.testing.assert_allclose(start[name], value, rtol=1e-4, atol=1e-5)


def test_settings_that_cannot_be_folded():
    tied = SAEConfig(variant="l1", tied=True, decoder_norm=0.0)
    with pytest.raises(ConfigError, match=r"sae.tied = True .* scale"):
        check_foldable(tied, "scale")
    with pytest.raises(ConfigError, match=r"sae.sigmoid_output = True"):
        check_foldable(SAEConfig(sigmoid_output=True), "scale")
    with pytest.raises(ConfigError, match=r"sae.pre_bias = 'none' .* use mean"):
        check_foldable(SAEConfig(), "centre")
    for kind in ("none", "scale"):
        check_foldable(SAEConfig(), kind)
    check_foldable(tied, "none")
