"""Export and import of autoencoders: exact to the bit, every difference named, and what SAELens computes from the files."""

import importlib.util
import json
import os
import warnings
from functools import partial
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from saegan_jax.algorithms.sae import VARIANTS, SAEConfig, autoencoder, module
from saegan_jax.training import interchange
from saegan_jax.training.interchange import export_sae, import_sae

IMAGE_SHAPE = (4, 3, 2)
D_IN, D_SAE = 24, 40

SETTINGS = {
    **{variant: {"variant": variant} for variant in VARIANTS},
    "tied": {"variant": "l1", "tied": True, "decoder_norm": 0.0},
    "centred": {"variant": "topk", "pre_bias": "median"},
    "centred gated": {"variant": "gated", "pre_bias": "mean"},
    "levels": {"variant": "matryoshka", "levels": (5, 20, 40)},
    "sigmoid output": {"variant": "rate_kl", "sigmoid_output": True},
    "patches": {"variant": "topk", "patch_size": 3, "stride": 1},
}


def make(name: str = "topk"):
    """A configuration and parameters that no initialiser would give: all different, thresholds above 0."""
    config = SAEConfig(d_sae=D_SAE, **{"k": 7, **SETTINGS[name]})
    rng = np.random.default_rng(0)
    d_in = 3 * 3 * 2 if config.patch_size else D_IN
    shapes = module(config, d_in).init(jax.random.key(0), jnp.zeros((1, d_in)))["params"]
    values = {name: rng.normal(scale=0.3, size=a.shape).astype(np.float32) for name, a in shapes.items()}
    if "threshold" in values:
        values["threshold"] = np.abs(values["threshold"])
    return config, {"params": {name: jnp.asarray(value) for name, value in values.items()}}


@pytest.mark.parametrize("name", SETTINGS)
def test_round_trip_is_exact_to_the_bit(name: str, tmp_path: Path) -> None:
    config, params = make(name)
    special = jnp.asarray(np.array([-0.0, 1e-45, 3.4028235e38, np.nextafter(np.float32(1), np.float32(2))], np.float32))
    params["params"]["b_dec"] = params["params"]["b_dec"].at[:4].set(special)
    folder = export_sae(tmp_path / "a" / "b", config, params, image_shape=IMAGE_SHAPE)
    assert folder == tmp_path / "a" / "b"
    assert sorted(os.listdir(folder)) == ["cfg.json", "sae_weights.safetensors"]
    got_config, got_params, got_shape = import_sae(folder)
    assert (got_config, got_shape) == (config, IMAGE_SHAPE)
    assert hash(got_config) == hash(config)
    assert got_params.keys() == {"params"}
    assert got_params["params"].keys() == params["params"].keys()
    for key, value in params["params"].items():
        assert isinstance(got_params["params"][key], jax.Array)
        assert np.asarray(got_params["params"][key]).tobytes() == np.asarray(value).tobytes(), key


@pytest.mark.parametrize(
    ("name", "architecture", "tensors"),
    [
        ("kl", "sigmoid", "W_dec W_enc b_dec b_enc"),
        ("rate_kl", "standard", "W_dec W_enc b_dec b_enc"),
        ("l1", "standard", "W_dec W_enc b_dec b_enc"),
        ("wta", "standard", "W_dec W_enc b_dec b_enc"),
        ("tied", "standard", "W_dec W_enc b_dec b_enc"),
        ("topk", "topk", "W_dec W_enc b_dec b_enc"),
        ("batch_topk", "jumprelu", "W_dec W_enc b_dec b_enc threshold"),
        ("matryoshka", "jumprelu", "W_dec W_enc b_dec b_enc threshold"),
        ("jumprelu", "jumprelu", "W_dec W_enc b_dec b_enc threshold"),
        ("gated", "gated", "W_dec W_enc b_dec b_gate b_mag r_mag"),
        ("sigmoid output", "sigmoid", "W_dec W_enc b_dec b_enc"),
    ],
)
def test_files_have_the_names_of_the_other_tool(name: str, architecture: str, tensors: str, tmp_path: Path) -> None:
    config, params = make(name)
    folder = export_sae(tmp_path, config, params, image_shape=IMAGE_SHAPE)
    cfg = json.loads((folder / "cfg.json").read_text())
    assert (cfg["architecture"], cfg["d_in"], cfg["d_sae"], cfg["dtype"]) == (architecture, D_IN, D_SAE, "float32")
    assert cfg.get("k") == (7 if architecture == "topk" else None)
    assert cfg["apply_b_dec_to_input"] is False
    assert cfg["saegan_jax"]["image_shape"] == [4, 3, 2]
    arrays = load_file(folder / "sae_weights.safetensors")
    assert sorted(arrays) == tensors.split()
    W_enc = np.asarray(params["params"]["W_enc"])
    assert np.array_equal(arrays["W_enc"], W_enc)
    assert np.array_equal(arrays["W_dec"], W_enc.T if name == "tied" else params["params"]["W_dec"])
    assert np.array_equal(arrays["b_gate" if name == "gated" else "b_enc"], params["params"]["b_enc"])


def test_pre_bias_and_patches_reach_the_shared_keys(tmp_path: Path) -> None:
    for name, key, value in (("centred", "apply_b_dec_to_input", True), ("patches", "d_in", 18)):
        config, params = make(name)
        folder = export_sae(tmp_path / name, config, params, image_shape=IMAGE_SHAPE)
        assert json.loads((folder / "cfg.json").read_text())[key] == value


def test_an_export_is_replaced_only_when_asked(tmp_path: Path) -> None:
    config, params = make("l1")
    export_sae(tmp_path, config, params, image_shape=IMAGE_SHAPE)
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    other_config, other = make("gated")
    with pytest.raises(ValueError, match=r"overwrite=True"):
        export_sae(tmp_path, other_config, other, image_shape=IMAGE_SHAPE)
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before
    (tmp_path / "cfg.json").unlink()
    with pytest.raises(ValueError, match=r"sae_weights.safetensors already"):
        export_sae(tmp_path, other_config, other, image_shape=IMAGE_SHAPE)
    export_sae(tmp_path, other_config, other, image_shape=IMAGE_SHAPE, overwrite=True)
    assert import_sae(tmp_path)[0] == other_config


@pytest.mark.parametrize("fails_in", ["write_bytes", "write_json"])
def test_an_interrupted_overwrite_leaves_no_folder_that_looks_complete(
    fails_in: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config, params = make("l1")
    export_sae(tmp_path, config, params, image_shape=IMAGE_SHAPE)

    def fail(*_: object) -> None:
        raise OSError("disk full")

    monkeypatch.setattr(interchange, fails_in, fail)
    with pytest.raises(OSError, match="disk full"):
        export_sae(tmp_path, config, make("l1")[1], image_shape=IMAGE_SHAPE, overwrite=True)
    assert os.listdir(tmp_path) == ["sae_weights.safetensors"]
    with pytest.raises(ValueError, match=r"no cfg\.json"):
        import_sae(tmp_path)


def test_parameters_of_another_shape_are_not_exported(tmp_path: Path) -> None:
    config, params = make("jumprelu")
    p = dict(params["params"])
    del p["threshold"]
    p |= {"b_enc": jnp.zeros(3), "W_dec": p["W_dec"].astype(jnp.bfloat16), "extra": jnp.zeros(2)}
    with pytest.raises(ValueError, match="cannot be exported") as error:
        export_sae(tmp_path, config, {"params": p}, image_shape=IMAGE_SHAPE)
    for part in (
        "threshold (40,) is missing",
        "extra (2,) is unexpected",
        "b_enc has shape (3,), expected (40,)",
        "W_dec has dtype bfloat16, expected float32",
    ):
        assert part in str(error.value)
    for bad in (np.nan, np.inf):
        broken = {**params["params"], "b_dec": params["params"]["b_dec"].at[1].set(bad)}
        with pytest.raises(ValueError, match="b_dec holds 1 non-finite values of 24"):
            export_sae(tmp_path, config, {"params": broken}, image_shape=IMAGE_SHAPE)
    negative = {**params["params"], "threshold": -params["params"]["threshold"]}
    with pytest.raises(ValueError, match="threshold is out of the bounds of jumprelu for 40 units"):
        export_sae(tmp_path, config, {"params": negative}, image_shape=IMAGE_SHAPE)
    for shape in ((4, 3), (4, 3, 0), (4.0, 3, 2)):
        with pytest.raises(ValueError, match="image_shape"):
            export_sae(tmp_path, config, params, image_shape=shape)
    assert list(tmp_path.iterdir()) == []


def test_a_foreign_weights_file_is_refused_with_all_differences(tmp_path: Path) -> None:
    config, params = make("gated")
    export_sae(tmp_path, config, params, image_shape=IMAGE_SHAPE)
    path = tmp_path / "sae_weights.safetensors"
    arrays = load_file(path)
    wrong = {
        **{n: a for n, a in arrays.items() if n not in ("r_mag", "b_gate")},
        "b_enc": arrays["b_gate"],
        "W_enc": arrays["W_enc"].T.copy(),
        "b_dec": arrays["b_dec"].astype(np.float16),
    }
    save_file(wrong, path)
    with pytest.raises(ValueError, match=r"sae_weights\.safetensors does not hold") as error:
        import_sae(tmp_path)
    for part in (
        "r_mag (40,) is missing",
        "b_gate (40,) is missing",
        "b_enc (40,) is unexpected",
        "W_enc has shape (40, 24), expected (24, 40)",
        "b_dec has dtype F16, expected float32",
    ):
        assert part in str(error.value)
    for bad in (np.nan, -np.inf):
        save_file({**arrays, "r_mag": np.full(D_SAE, bad, np.float32)}, path)
        with pytest.raises(ValueError, match="r_mag holds 40 non-finite values of 40"):
            import_sae(tmp_path)
    whole = path.read_bytes()
    for broken in (b"", whole[:50], whole[:-4], b"\x80\x04."):
        path.write_bytes(broken)
        with pytest.raises(ValueError, match="no whole safetensors file"):
            import_sae(tmp_path)


def test_a_tied_file_whose_decoder_is_another_is_refused(tmp_path: Path) -> None:
    config, params = make("tied")
    export_sae(tmp_path, config, params, image_shape=IMAGE_SHAPE)
    path = tmp_path / "sae_weights.safetensors"
    arrays = load_file(path)
    save_file({**arrays, "W_dec": 2 * arrays["W_dec"]}, path)
    with pytest.raises(ValueError, match="W_dec is not W_enc transposed"):
        import_sae(tmp_path)
    save_file({n: a for n, a in arrays.items() if n != "W_dec"}, path)
    with pytest.raises(ValueError, match=r"W_dec \(40, 24\) is missing"):
        import_sae(tmp_path)


def test_a_wrong_cfg_is_refused_with_what_is_wrong(tmp_path: Path) -> None:
    config, params = make("topk")
    export_sae(tmp_path, config, params, image_shape=IMAGE_SHAPE)
    path = tmp_path / "cfg.json"
    good = json.loads(path.read_text())

    def refused(change) -> str:
        cfg = json.loads(json.dumps(good))
        change(cfg)
        path.write_text(json.dumps(cfg))
        with pytest.raises(ValueError, match=r"cfg\.json") as error:
            import_sae(tmp_path)
        return str(error.value)

    def without_and_unknown(cfg: dict) -> None:
        del cfg["d_in"], cfg["saegan_jax"]
        cfg["architecture"] = "crosscoder"

    message = refused(without_and_unknown)
    assert "'d_in' is missing" in message
    assert "'saegan_jax' is missing" in message
    assert "architecture 'crosscoder' is unknown, expected one of gated, jumprelu, sigmoid, standard, topk" in message

    def settings(cfg: dict) -> None:
        del cfg["saegan_jax"]["config"]["variant"]
        cfg["saegan_jax"]["config"]["activation"] = "relu"

    message = refused(settings)
    assert "lacks 'variant'" in message
    assert "unknown setting 'activation'" in message
    assert "k = 41" in refused(lambda cfg: cfg["saegan_jax"]["config"].update(k=41))
    for name, bad, kind in (("d_sae", "40", "int"), ("d_sae", 40.0, "int"), ("tied", 0, "bool"), ("levels", 3, "list")):
        change = lambda cfg, name=name, bad=bad: cfg["saegan_jax"]["config"].update({name: bad})  # noqa: E731
        assert f"saegan_jax.config.{name} is {bad!r}, expected {kind}" in refused(change)
    assert "in saegan_jax.config" in refused(lambda cfg: cfg["saegan_jax"]["config"].update(levels=["a"]))
    message = refused(lambda cfg: cfg.update(k=9, d_in=25, apply_b_dec_to_input=True))
    assert "k is 9, but saegan_jax.config makes it 7" in message
    assert "d_in is 25, but saegan_jax.config makes it 24" in message
    assert "apply_b_dec_to_input is True" in message
    assert "format is 2" in refused(lambda cfg: cfg["saegan_jax"].update(format=2))
    assert "'saegan_jax.image_shape' is missing" in refused(lambda cfg: cfg["saegan_jax"].pop("image_shape"))
    for bad in ([4, 3], [4, 3, 0], [4, 3, 2.0], [4, 3, True], "432"):
        assert "image_shape is" in refused(lambda cfg, bad=bad: cfg["saegan_jax"].update(image_shape=bad))
    assert "no JSON object" in refused(lambda cfg: cfg.update(saegan_jax=[1]))
    assert "no JSON object" in refused(lambda cfg: cfg["saegan_jax"].update(config=3))
    assert "unknown" in refused(lambda cfg: cfg.update(architecture=["topk"]))
    for text in ("", "{", "[]", "\x00"):
        path.write_text(text)
        with pytest.raises(ValueError, match=r"cfg\.json"):
            import_sae(tmp_path)
    # What another tool adds or changes of its own is none of our business.
    path.write_text(json.dumps({**good, "device": "cuda", "metadata": {}, "new_key": 1}))
    assert import_sae(tmp_path)[0] == config


def test_a_folder_without_an_export_is_named(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"no cfg\.json and no sae_weights\.safetensors"):
        import_sae(tmp_path / "nothing")
    with pytest.raises(ValueError, match="folder = "):
        import_sae(tmp_path)


def test_no_pickle_is_written(tmp_path: Path) -> None:
    config, params = make("l1")
    export_sae(tmp_path, config, params, image_shape=IMAGE_SHAPE)
    content = (tmp_path / "sae_weights.safetensors").read_bytes()
    header = json.loads(content[8 : 8 + int.from_bytes(content[:8], "little")])
    assert {entry["dtype"] for name, entry in header.items() if name != "__metadata__"} == {"F32"}


@pytest.mark.skipif(importlib.util.find_spec("sae_lens") is None, reason="needs sae-lens")
@pytest.mark.parametrize("name", [n for n in SETTINGS if n not in ("kl", "sigmoid output")])
def test_sae_lens_computes_the_same_from_the_files(name: str, tmp_path: Path) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of sae_lens and what it imports
        import torch
        from sae_lens import SAE

        config, params = make(name)
        folder = export_sae(tmp_path, config, params, image_shape=IMAGE_SHAPE)
        theirs = SAE.load_from_disk(folder)
    net = module(config, theirs.cfg.d_in)
    x = np.random.default_rng(1).random((50, theirs.cfg.d_in)).astype(np.float32)
    activate = partial(autoencoder(config, image_shape=IMAGE_SHAPE).activate, params)
    x_hat, codes, _ = net.apply(params, jnp.asarray(x), activate)
    with torch.no_grad():
        their_codes = theirs.encode(torch.from_numpy(x))
        their_x_hat = theirs.decode(torch.from_numpy(np.array(codes)))
    assert 0.02 < np.mean(np.asarray(codes) > 0) < 0.9
    np.testing.assert_allclose(their_codes.numpy(), codes, rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(their_x_hat.numpy(), x_hat, rtol=1e-5, atol=1e-5)


@pytest.mark.skipif(importlib.util.find_spec("sae_lens") is None, reason="needs sae-lens")
def test_sae_lens_refuses_what_it_cannot_compute(tmp_path: Path) -> None:
    config, params = make("kl")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from sae_lens import SAE

        with pytest.raises(Exception, match="sigmoid"):
            SAE.load_from_disk(export_sae(tmp_path, config, params, image_shape=IMAGE_SHAPE))
