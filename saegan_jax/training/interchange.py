"""Sparse autoencoders as files that other tools read: safetensors for the weights and JSON for the settings, no pickle.

The two files carry the names, keys and tensor names of SAELens (Bloom, Tigges, Duong and Chanin), whose loader takes the
folder wherever it knows the architecture:

==================================  ============  ================================================================
our variant                         architecture  tensors
==================================  ============  ================================================================
rate_kl, l1, wta                    standard      W_enc, b_enc, W_dec, b_dec
topk                                topk          the same; ``k`` is in cfg.json
batch_topk, matryoshka, jumprelu    jumprelu      and threshold
gated                               gated         W_enc, b_gate (our b_enc), r_mag, b_mag, W_dec, b_dec
kl, or any with sigmoid_output      sigmoid       as for its variant; SAELens has no counterpart and refuses the name
==================================  ============  ================================================================

A tied decoder is written out, ``W_dec = W_enc.T``. A patch dictionary's ``d_in`` is one patch: other tools have to cut the
image into patches themselves. Everything of ours that these keys cannot say stands under ``"saegan_jax"``.
"""

import dataclasses
import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save

import saegan_jax
from saegan_jax.algorithms.sae import VARIANTS, SAEConfig, module
from saegan_jax.data.normalisation import Normalisation
from saegan_jax.errors import require
from saegan_jax.files import write_bytes, write_json
from saegan_jax.training.normalised import check_foldable, fold
from saegan_jax.training.run_folder import from_json, to_json

WEIGHTS_FILE = "sae_weights.safetensors"
CONFIG_FILE = "cfg.json"
FORMAT = 1
"""Version of what stands under ``"saegan_jax"`` in cfg.json."""

SIGMOID_OUTPUT = "sigmoid"
"""The architecture of an autoencoder that ends in a sigmoid, a word of this project."""

JSON_KINDS: dict[type, tuple[type, ...]] = {
    bool: (bool,),
    int: (int,),
    float: (float, int),
    str: (str,),
    tuple: (list,),
    type(None): (float, int, type(None)),
}
"""What a setting may be in JSON, by the type of its default."""

ImageShape = tuple[int, int, int]


def export_sae(
    folder: str | Path,
    config: SAEConfig,
    params: Any,
    *,
    image_shape: ImageShape,
    overwrite: bool = False,
    normalisation: Normalisation | None = None,
) -> Path:
    """Write ``sae_weights.safetensors`` and ``cfg.json`` (see the module's table).

    cfg.json is written last and, where it is replaced, taken away first: a folder that has one is complete.

    Args:
      folder: made if it does not exist.
      config: settings of the autoencoder.
      params: its parameters, ``{"params": {name: float32 array}}``.
      image_shape: ``(height, width, channels)`` of the images that it encodes.
      overwrite: replace an earlier export.
      normalisation: of the vectors that it was trained on. It is folded into the weights, so that the file is for vectors as
        they are, and its statistics stand in cfg.json under ``saegan_jax.normalisation``.

    Returns:
      The folder.

    Raises:
      ValueError: if ``params`` are not those of ``config`` and ``image_shape``, all differences in one message, or hold
        a non-finite value; or if an export is there and ``overwrite`` is not set. Nothing is written then.
    """
    folder = Path(folder)
    cfg = _cfg(config, image_shape)
    if normalisation is not None:
        check_foldable(config, normalisation.kind)
        params = fold(params, normalisation)
        cfg["saegan_jax"]["normalisation"] = normalisation.to_json()
    arrays = {name: np.asarray(value) for name, value in params["params"].items()}
    own = _own_shapes(config, image_shape)
    _refuse(
        "The parameters cannot be exported", _differences(own, {n: (a.shape, str(a.dtype)) for n, a in arrays.items()})
    )
    _refuse("The parameters cannot be exported", _bad_values(config, arrays))
    existing = [name for name in (CONFIG_FILE, WEIGHTS_FILE) if (folder / name).exists()]
    require(
        overwrite or not existing,
        "folder",
        str(folder),
        f"it has {' and '.join(existing)} already; choose another folder or pass overwrite=True.",
    )
    if config.tied:
        arrays["W_dec"] = arrays["W_enc"].T
    renamed = _file_names(config)
    # safetensors writes an array's buffer as it lies in memory, whatever its strides.
    content = save({renamed.get(name, name): np.ascontiguousarray(array) for name, array in arrays.items()})
    (folder / CONFIG_FILE).unlink(missing_ok=True)
    write_bytes(folder / WEIGHTS_FILE, content)
    write_json(folder / CONFIG_FILE, cfg)
    return folder


def import_sae(folder: str | Path) -> tuple[SAEConfig, Any, ImageShape]:
    """Read what :func:`export_sae` wrote, equal to the bit.

    Args:
      folder: a folder with ``sae_weights.safetensors`` and ``cfg.json``.

    Returns:
      ``(config, params, image_shape)``, the parameters as ``{"params": {name: float32 array}}``.

    Raises:
      ValueError: if a file is missing or unreadable, cfg.json lacks keys, contradicts itself or names an unknown
        architecture or format, the tensors' names, shapes or dtypes are not those that the settings call for, or a value
        is not finite. All differences of one file stand in one message.
    """
    config, arrays, image_shape = read_sae(folder)
    return config, {"params": {name: jnp.asarray(array) for name, array in arrays.items()}}, image_shape


def read_sae(folder: str | Path) -> tuple[SAEConfig, dict[str, np.ndarray], ImageShape]:
    """:func:`import_sae` with the parameters by name on the host, where nothing is compiled to put them on a device."""
    folder = Path(folder)
    missing = [name for name in (CONFIG_FILE, WEIGHTS_FILE) if not (folder / name).is_file()]
    require(
        not missing,
        "folder",
        str(folder),
        f"it has no {' and no '.join(missing)}; name a folder that export_sae wrote.",
    )
    config, image_shape = _read_cfg(folder / CONFIG_FILE)
    return config, _read_weights(folder / WEIGHTS_FILE, config, image_shape), image_shape


def architecture(config: SAEConfig) -> str:
    """What cfg.json calls the autoencoder that ``config`` describes."""
    return SIGMOID_OUTPUT if config.sigmoid_output else VARIANTS[config.variant].saelens.architecture


def _cfg(config: SAEConfig, image_shape: ImageShape) -> dict[str, Any]:
    """The whole of cfg.json."""
    return {
        "architecture": architecture(config),
        "d_in": _d_in(config, image_shape),
        "d_sae": config.d_sae,
        "dtype": "float32",
        "device": "cpu",
        "apply_b_dec_to_input": config.pre_bias != "none",
        "normalize_activations": "none",
        "reshape_activations": "none",
        **({} if config.sigmoid_output else VARIANTS[config.variant].saelens.cfg(config)),
        # The version is that of the file's layout: without it SAELens takes the file for one from before its 6.0.
        "metadata": {
            "sae_lens_version": "6.0.0",
            "sae_lens_training_version": None,
            "saegan_jax_version": saegan_jax.__version__,
        },
        "saegan_jax": {"format": FORMAT, "image_shape": list(image_shape), "config": to_json(config)},
    }


def _d_in(config: SAEConfig, image_shape: ImageShape) -> int:
    valid = len(image_shape) == 3 and all(isinstance(n, int) and n >= 1 for n in image_shape)
    require(valid, "image_shape", image_shape, "it must be (height, width, channels), three integers of at least 1.")
    return config.patch_size**2 * image_shape[2] if config.patch_size else math.prod(image_shape)


def _own_shapes(config: SAEConfig, image_shape: ImageShape) -> dict[str, tuple[int, ...]]:
    """Names and shapes of the network's own parameters."""
    d_in = _d_in(config, image_shape)
    net = module(config, d_in)
    # `init` sees the key only through eval_shape, so that no device computes anything.
    variables = jax.eval_shape(lambda: net.init(jax.random.key(0), jnp.zeros((1, d_in))))
    return {name: value.shape for name, value in variables["params"].items()}


def _file_names(config: SAEConfig) -> Mapping[str, str]:
    """Our name to the file's, where they differ."""
    return VARIANTS[config.variant].saelens.names


def _differences(
    expected: Mapping[str, tuple[int, ...]], found: Mapping[str, tuple[tuple[int, ...], str]]
) -> list[str]:
    problems = [f"{name} {shape} is missing" for name, shape in expected.items() if name not in found]
    for name, (shape, dtype) in found.items():
        if name not in expected:
            problems.append(f"{name} {shape} is unexpected")
            continue
        if shape != expected[name]:
            problems.append(f"{name} has shape {shape}, expected {expected[name]}")
        if dtype != "float32":
            problems.append(f"{name} has dtype {dtype}, expected float32")
    return problems


def _bad_values(config: SAEConfig, arrays: Mapping[str, np.ndarray]) -> list[str]:
    problems = [
        f"{name} holds {np.sum(~np.isfinite(array))} non-finite values of {array.size}"
        for name, array in arrays.items()
        if not np.isfinite(array).all()
    ]
    project = VARIANTS[config.variant].project
    if project is not None and not problems:
        for name, bounded in project({name: jnp.asarray(array) for name, array in arrays.items()}).items():
            n = np.sum(np.asarray(bounded) != arrays[name])
            if n:
                problems.append(
                    f"{name} is out of the bounds of {config.variant} for {n} units: other tools would differ"
                )
    return problems


def _refuse(what: str, problems: list[str]) -> None:
    if problems:
        raise ValueError(f"{what}: {'; '.join(problems)}.")


def _read_cfg(path: Path) -> tuple[SAEConfig, ImageShape]:
    what = f"{path} does not describe an autoencoder of this package"
    try:
        cfg = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(f"{path} is not JSON ({error}): export it again.") from error
    required = ("architecture", "d_in", "d_sae", "dtype", "apply_b_dec_to_input", "normalize_activations", "saegan_jax")
    _refuse(what, ["it is no JSON object"] if not isinstance(cfg, dict) else [])
    problems = [f"the key {key!r} is missing" for key in required if key not in cfg]
    known = sorted({SIGMOID_OUTPUT, *(variant.saelens.architecture for variant in VARIANTS.values())})
    if cfg.get("architecture", known[0]) not in known:
        problems.append(f"architecture {cfg['architecture']!r} is unknown, expected one of {', '.join(known)}")
    ours = cfg.get("saegan_jax", {})
    _refuse(what, problems + (["'saegan_jax' is no JSON object"] if not isinstance(ours, dict) else []))
    problems = [
        f"the key 'saegan_jax.{key}' is missing" for key in ("format", "image_shape", "config") if key not in ours
    ]
    if ours.get("format", FORMAT) != FORMAT:
        problems.append(f"saegan_jax.format is {ours['format']!r}, and this version reads {FORMAT}")
    image_shape, settings = ours.get("image_shape", [1, 1, 1]), ours.get("config", {})
    if not (
        isinstance(image_shape, list) and len(image_shape) == 3 and all(type(n) is int and n >= 1 for n in image_shape)
    ):
        problems.append(f"saegan_jax.image_shape is {image_shape!r}, expected [height, width, channels]")
    if not isinstance(settings, dict):
        problems.append("saegan_jax.config is no JSON object")
    _refuse(what, problems)

    defaults = {field.name: field.default for field in dataclasses.fields(SAEConfig)}
    problems = [f"saegan_jax.config lacks {name!r}" for name in defaults if name not in settings]
    problems += [f"saegan_jax.config has an unknown setting {name!r}" for name in settings if name not in defaults]
    for name, default in defaults.items():
        kinds = JSON_KINDS[type(default)]
        if name in settings and type(settings[name]) not in kinds:
            problems.append(f"saegan_jax.config.{name} is {settings[name]!r}, expected {kinds[0].__name__}")
    _refuse(what, problems)
    try:
        config = from_json(SAEConfig, settings)
        expected = _cfg(config, tuple(image_shape))
    except (TypeError, ValueError) as error:
        raise ValueError(f"{what}: in saegan_jax.config, {error}") from error
    # What other tools read has to say the same as what we read.
    unlike = [
        key for key in expected if key not in ("metadata", "device", "saegan_jax") and cfg.get(key) != expected[key]
    ]
    _refuse(what, [f"{key} is {cfg.get(key)!r}, but saegan_jax.config makes it {expected[key]!r}" for key in unlike])
    return config, tuple(image_shape)


def _read_weights(path: Path, config: SAEConfig, image_shape: ImageShape) -> dict[str, np.ndarray]:
    what = f"{path} does not hold the tensors that {CONFIG_FILE} calls for"
    own = _own_shapes(config, image_shape)
    renamed = _file_names(config)
    expected = {renamed.get(name, name): shape for name, shape in own.items()}
    if config.tied:
        expected["W_dec"] = own["W_enc"][::-1]
    try:
        with safe_open(path, framework="numpy") as file:
            slices = {name: file.get_slice(name) for name in file.keys()}  # noqa: SIM118 (no mapping)
            found = {n: (tuple(s.get_shape()), _dtype_name(s.get_dtype())) for n, s in slices.items()}
            _refuse(what, _differences(expected, found))
            arrays = {name: file.get_tensor(renamed.get(name, name)) for name in own}
            W_dec = file.get_tensor("W_dec")
    except SafetensorError as error:
        raise ValueError(f"{path} is no whole safetensors file ({error}): export or copy it again.") from error
    problems = _bad_values(config, arrays)
    if config.tied and not problems and not np.array_equal(W_dec, arrays["W_enc"].T):
        problems.append("W_dec is not W_enc transposed, but saegan_jax.config says tied")
    _refuse(what, problems)
    return arrays


def _dtype_name(name: str) -> str:
    return "float32" if name == "F32" else name
