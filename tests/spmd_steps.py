"""Training steps whose batch is spread over four devices, beside one device: prints the differences as JSON.

Run by test_spmd.py in a process of its own, which has several virtual devices.
"""

import json
import sys
from dataclasses import replace
from functools import partial

import jax
import numpy as np
from helpers import SHAPE, numpy_leaves, unit_batch
from jax.sharding import NamedSharding
from jax.sharding import PartitionSpec as P
from sae_formulas import STEPS, dense, quick, start

from saegan_jax.algorithms.classifier import ClassifierConfig, classifier
from saegan_jax.algorithms.cyclegan import CycleGANConfig, TwoDomains, cyclegan
from saegan_jax.algorithms.energy import EnergyConfig, EnergyGANConfig, energy
from saegan_jax.algorithms.gan import GANConfig, gan
from saegan_jax.algorithms.sae import SAEConfig, sae
from saegan_jax.algorithms.saegan import SAEGANConfig, fit_pretrained, saegan
from saegan_jax.algorithms.vae import VAEConfig, vae

jax.config.update("jax_numpy_dtype_promotion", "strict")
jax.config.update("jax_numpy_rank_promotion", "raise")

N = 8
EVERY = "every" in sys.argv[1:]  # case, and not only one of each kind
AUTOENCODERS = STEPS | {
    "l1": dense("l1", resample_every=2, dead_after=3),
    "matryoshka": replace(STEPS["batch_topk"], variant="matryoshka"),
    "sparse decoder": dense("topk", sparse_decoder=True),
}
# A statistic of the batch, a selection over it, thresholds that it moves, and a GAN.
SOME = ("kl", "batch_topk", "jumprelu", "gan")


def difference(got, want, *, exact=True):
    """The largest, relative to the largest number of an array; of integers, and if ``exact`` of thresholds, 0 or infinity."""
    a, b = numpy_leaves(got), numpy_leaves(want)
    assert a.keys() == b.keys()

    def of(path):
        x, y = a[path], b[path]
        assert x.shape == y.shape
        assert x.dtype == y.dtype
        if not np.issubdtype(x.dtype, np.floating) or (exact and path.endswith(".params['params']['threshold']")):
            return 0.0 if np.array_equal(x, y) else np.inf
        return float(np.max(np.abs(x - y), initial=0.0) / np.max(np.abs(y), initial=1e-3))

    return float(np.max([of(path) for path in a]))  # NaN where there is one, unlike max


def algorithms():
    """By name: an algorithm, what its ``init`` is given, and a batch."""
    images = unit_batch(N, seed=2)
    small = {"hidden": (8,), "d_noise": 4, "batch_size": N, "steps": 4}
    play = GANConfig(**small, gradient_penalty=1.0, dragan_penalty=1.0, lecam=0.1, d_steps=2, spectral_norm=True)
    play = replace(play, augment=("color", "translation", "cutout"), conditional=True)
    code = SAEConfig(variant="topk", d_sae=8, k=2, steps=4, batch_size=N)
    both = SAEGANConfig(
        sae=code, gan=GANConfig(**small, loss="non_saturating"), code_hidden=(8,), generator_hidden=(8,)
    )
    params = quick(sae(code, image_shape=SHAPE).init)(jax.random.key(1)).params
    fitted = quick(partial(fit_pretrained, both))(params, unit_batch(64).image, jax.random.key(2))
    domains = TwoDomains(images.image, unit_batch(N, seed=3).image)
    small_energy = EnergyConfig(sae=replace(code, variant="kl", decoder_norm=1.0), gan=EnergyGANConfig(**small))
    recognise = ClassifierConfig(image_shape=SHAPE, num_classes=N, total_steps=4, width=4, feature_dim=4, max_shift=1)
    shift = CycleGANConfig(width=4, blocks=1, d_width=4, d_stages=1, steps=4, history=3)
    return {
        "gan": (gan(play, image_shape=SHAPE, n_classes=N), (), images),
        "saegan": (saegan(both, image_shape=SHAPE), (fitted,), images),
        "energy": (energy(small_energy, image_shape=SHAPE), (), images),
        "vae": (vae(VAEConfig(kind="sparse", d_latent=4, hidden=(8,), steps=4), image_shape=SHAPE), (), images),
        "cyclegan": (cyclegan(shift, image_shape=SHAPE), (), domains),
        "classifier": (classifier(recognise), (), images),
    }


def main():
    mesh = jax.make_mesh((4,), ("d",), devices=jax.devices()[:4])
    rows = NamedSharding(mesh, P("d"))
    found = {}
    for name, config in AUTOENCODERS.items():
        if not EVERY and name not in SOME:
            continue
        state, batch = start(config, step=201), unit_batch(N, seed=2)
        want = quick(sae(config, image_shape=SHAPE).step)(state, batch)
        step = sae(config, image_shape=SHAPE, axis_name="d").step
        mapped = jax.shard_map(step, mesh=mesh, in_specs=(P(), P("d")), out_specs=P())
        found[f"{name}, shard_map"] = difference(quick(mapped)(state, jax.device_put(batch, rows)), want)
        if name in ("jumprelu", "batch_topk"):
            got = quick(sae(config, image_shape=SHAPE).step)(state, jax.device_put(batch, rows))
            found[f"{name}, explicit axes"] = difference(got, want)
    for name, (algorithm, given, batch) in algorithms().items():
        if not EVERY and name not in SOME:
            continue
        state, spread = jax.eval_shape(algorithm.init, jax.random.key(0), *given), jax.device_put(batch, rows)
        # What explicit axes refuse is refused while tracing; compiled, they are the automatic ones of spmd_trainings.
        traced = jax.jit(algorithm.step).trace(state, spread).out_info
        shapes = jax.eval_shape(algorithm.step, state, batch)
        same = jax.tree.map(lambda x: x.shape, traced) == jax.tree.map(lambda x: x.shape, shapes)
        found[f"{name}, explicit axes"] = 0.0 if same else np.inf
    print(json.dumps(found))  # noqa: T201


if __name__ == "__main__":
    main()
