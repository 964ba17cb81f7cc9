"""Saved weights to train on: those of this package and of SAELens, and those that do not fit."""

import json
import struct

import jax
import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from saegan_jax.algorithms.sae import SAEConfig, autoencoder, module, project_params
from saegan_jax.errors import ConfigError
from saegan_jax.training.foreign import unit_rows
from saegan_jax.training.interchange import export_sae
from saegan_jax.training.saved_weights import check_saved, read_saved

SHAPE = (1, 1, 6)
VARIANTS = ("l1", "topk", "jumprelu", "gated")


def made(variant: str):
    config = SAEConfig(variant=variant, d_sae=9, k=3, pre_bias="mean")
    rng = np.random.default_rng(1)
    shapes = jax.eval_shape(lambda: module(config, 6).init(jax.random.key(0), jax.numpy.zeros((1, 6))))
    params = jax.tree.map(lambda s: np.abs(rng.normal(size=s.shape)).astype(np.float32), shapes)
    params["params"]["W_dec"] /= np.linalg.norm(params["params"]["W_dec"], axis=1, keepdims=True)
    return config, params


def as_saelens(folder, config, params, **changed):
    """The folder as SAELens would have written it: without this package's part."""
    export_sae(folder, config, params, image_shape=SHAPE)
    cfg = json.loads((folder / "cfg.json").read_text())
    del cfg["saegan_jax"]
    (folder / "cfg.json").write_text(json.dumps(cfg | changed))
    return folder


@pytest.mark.parametrize("variant", VARIANTS)
def test_weights_of_saelens_give_the_same_codes(tmp_path, variant):
    config, params = made(variant)
    saved = read_saved(as_saelens(tmp_path, config, params))
    assert (saved.config.variant, saved.config.pre_bias, saved.config.decoder_norm) == (variant, "mean", 1.0)
    assert saved.image_shape == SHAPE
    assert saved.normalisation is None
    x = np.random.default_rng(0).normal(size=(20, *SHAPE)).astype(np.float32)
    expected = autoencoder(config, image_shape=SHAPE).encode(params, x)
    found = autoencoder(saved.config, image_shape=SHAPE).encode(saved.params, x)
    np.testing.assert_array_equal(found, expected)
    check_saved(saved, saved.config, SHAPE)


def test_half_precision_becomes_float32(tmp_path):
    folder = as_saelens(tmp_path, *made("topk"))
    arrays = {name: array.astype(np.float16) for name, array in load_file(folder / "sae_weights.safetensors").items()}
    save_file(arrays, folder / "sae_weights.safetensors")
    W_enc = read_saved(folder).params["params"]["W_enc"]
    np.testing.assert_array_equal(W_enc, arrays["W_enc"].astype(np.float32), strict=True)


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"architecture": "transcoder"}, r"architecture = 'transcoder'"),
        ({"normalize_activations": "layer_norm"}, r"normalize_activations = 'layer_norm' .* fold"),
        ({"d_in": 7}, r"d_in = 7 .* shape \(6, 9\)"),
        ({"k": None}, r"k = None"),
        ({"architecture": "standard", "activation_fn_str": "topk"}, r"activation_fn_str = 'topk' .* standard has relu"),
        ({"activation_fn": "tanh-relu"}, r"activation_fn = 'tanh-relu'"),
    ],
)
def test_weights_of_saelens_that_are_something_else(tmp_path, changed, message):
    with pytest.raises(ConfigError, match=message):
        read_saved(as_saelens(tmp_path, *made("topk"), **changed))


def test_rows_that_are_not_of_norm_1(tmp_path):
    config, params = made("topk")
    params["params"]["W_dec"] *= 2
    folder = as_saelens(tmp_path, config, params)
    assert read_saved(folder).config.decoder_norm == 0
    cfg = json.loads((folder / "cfg.json").read_text())
    (folder / "cfg.json").write_text(json.dumps(cfg | {"rescale_acts_by_decoder_norm": True}))
    with pytest.raises(ConfigError, match="rescale_acts_by_decoder_norm = True"):
        read_saved(folder)


@pytest.mark.parametrize("variant", ["l1", "gated"])
def test_rows_that_need_norm_1_get_it_and_the_function_stays(tmp_path, variant):
    config, params = made(variant)
    params["params"]["W_dec"] *= np.linspace(0.5, 3, 9, dtype=np.float32)[:, None]
    params["params"]["b_enc"] -= 1
    saved = read_saved(as_saelens(tmp_path, config, params))
    assert saved.config.decoder_norm == 1
    x = np.random.default_rng(0).normal(size=(20, *SHAPE)).astype(np.float32)
    theirs, ours = autoencoder(config, image_shape=SHAPE), autoencoder(saved.config, image_shape=SHAPE)
    codes = theirs.encode(params, x)
    assert 0.1 < (codes > 0).mean() < 0.9
    projected = project_params(saved.config, saved.params)
    found = ours.decode(projected, ours.encode(projected, x))
    np.testing.assert_allclose(found, theirs.decode(params, codes), rtol=1e-4, atol=1e-5)
    params["params"]["W_dec"][4] = 0
    with pytest.raises(ConfigError, match="W_dec is 0 for 1 units, the first of them 4"):
        read_saved(as_saelens(tmp_path / "zero", config, params))


def test_thresholds_are_scaled_with_the_codes(tmp_path):
    config, params = made("jumprelu")
    wide = {**params["params"], "W_dec": params["params"]["W_dec"] * 2}
    functions = autoencoder(config, image_shape=SHAPE)
    x = np.random.default_rng(0).normal(size=(20, *SHAPE)).astype(np.float32)
    codes = functions.encode({"params": wide}, x)
    found = functions.encode({"params": unit_rows("jumprelu", wide, tmp_path)}, x)
    np.testing.assert_allclose(found, 2 * codes, rtol=1e-5)


def test_tensors_that_are_not_known(tmp_path):
    folder = as_saelens(tmp_path, *made("l1"))
    file, ones = folder / "sae_weights.safetensors", np.ones(9, np.float32)
    arrays = load_file(file)
    save_file({**arrays, "scaling_factor": ones}, file)
    assert "scaling_factor" not in read_saved(folder).params["params"]
    save_file({**arrays, "scaling_factor": 2 * ones, "threshold": ones}, file)
    with pytest.raises(ConfigError, match="tensors scaling_factor, threshold are not computed with"):
        read_saved(folder)


@pytest.mark.parametrize(
    ("header", "reason"),
    [
        ("[]", "header is no object"),
        ('{"W_enc": {"dtype": "F32"}}', "data_offsets"),
        ('{"W_enc": 3}', "not subscriptable"),
        ('{"W_enc": {"dtype": "F8_E4M3", "shape": [1], "data_offsets": [0, 1]}}', "its numbers are F8_E4M3"),
    ],
)
def test_a_broken_header(tmp_path, header, reason):
    folder = as_saelens(tmp_path, *made("l1"))
    (folder / "sae_weights.safetensors").write_bytes(struct.pack("<Q", len(header)) + header.encode() + b"0")
    with pytest.raises(ConfigError, match=rf"from = .*sae_weights.safetensors' .*{reason}"):
        read_saved(folder)


def test_a_tensor_is_missing_or_broken(tmp_path):
    folder = as_saelens(tmp_path, *made("topk"))
    arrays = load_file(folder / "sae_weights.safetensors")
    for name, change, message in (
        ("b_dec", None, "no tensor b_dec"),
        ("b_dec", np.zeros(5, np.float32), r"b_dec has shape \(5,\), expected \(6,\)"),
        ("W_enc", arrays["W_enc"] * np.nan, "W_enc holds values that are not finite"),
    ):
        changed = {**arrays, name: change} if change is not None else {k: v for k, v in arrays.items() if k != name}
        save_file(changed, folder / "sae_weights.safetensors")
        with pytest.raises(ConfigError, match=message):
            read_saved(folder)


@pytest.mark.parametrize(
    ("settings", "shape", "message"),
    [
        ({"d_sae": 10}, SHAPE, r"sae.d_sae = 10 .* have 9"),
        ({"variant": "l1"}, SHAPE, r"sae.variant = 'l1' .* have 'topk'"),
        ({"decoder_norm": 2.0}, SHAPE, r"sae.decoder_norm = 2.0"),
        ({}, (1, 1, 7), "inputs of width 6, and these data have 7"),
    ],
)
def test_trainings_that_cannot_take_them_up(tmp_path, settings, shape, message):
    config, params = made("topk")
    export_sae(tmp_path, config, params, image_shape=SHAPE)
    saved = read_saved(tmp_path)
    wanted = SAEConfig(**{"variant": "topk", "d_sae": 9, "k": 3, "pre_bias": "mean", **settings})
    with pytest.raises(ConfigError, match=message):
        check_saved(saved, wanted, shape)


def test_settings_of_the_training_may_change(tmp_path):
    config, params = made("topk")
    export_sae(tmp_path, config, params, image_shape=SHAPE)
    check_saved(read_saved(tmp_path), SAEConfig(variant="topk", d_sae=9, k=2, pre_bias="mean", steps=5), SHAPE)


def test_folders_without_weights(tmp_path):
    with pytest.raises(ConfigError, match=r"has no cfg.json; name a folder that"):
        read_saved(tmp_path)
