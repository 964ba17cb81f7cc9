"""Run by test_x64.py in a process of its own with JAX_ENABLE_X64=1: a chunk of every system, traced; prints what is wide."""

import json
import sys
from typing import Any

import jax
import jax.numpy as jnp

from saegan_jax.algorithms.base import Examples
from saegan_jax.algorithms.classifier import ClassifierConfig, classifier
from saegan_jax.algorithms.cyclegan import CycleGANConfig, TranslationConfig, TwoDomains
from saegan_jax.algorithms.energy import EnergyConfig, EnergyGANConfig
from saegan_jax.algorithms.gan import GANConfig
from saegan_jax.algorithms.sae import VARIANTS, SAEConfig
from saegan_jax.algorithms.saegan import DISCRIMINATORS, SAEGANConfig
from saegan_jax.algorithms.vae import VAEConfig
from saegan_jax.priors import PRIORS
from saegan_jax.training.systems import abstract_system
from saegan_jax.training.transforms import many_steps

SHAPE, N = (8, 8, 1), 8
GAN: dict[str, Any] = {"hidden": (8,), "d_noise": 4, "batch_size": N}
PENALISED = GANConfig(
    conditional=True, lecam=0.1, spectral_norm=True, augment=("color", "translation", "cutout"), d_steps=2,
    gradient_penalty=1.0, dragan_penalty=1.0, **GAN,
)  # fmt: skip


def sae(variant: str = "kl", **settings: Any) -> SAEConfig:
    return SAEConfig(variant=variant, d_sae=8, k=3, batch_size=N, steps=4, **settings)


def saegan(**settings: Any) -> SAEGANConfig:
    return SAEGANConfig(sae=sae(), gan=GANConfig(**GAN), code_hidden=(4,), **settings)


def cases() -> dict[str, Any]:
    """One of every system, variant, prior and discriminator."""
    found: dict[str, Any] = {f"sae {name}": sae(name) for name in VARIANTS}
    found["sae revived"] = sae("topk", auxk=1 / 32, k_aux=2, resample_every=2, pre_bias="mean")
    found |= {"gan": GANConfig(**GAN), "gan penalised": PENALISED}
    found["residual"] = GANConfig(network="residual", width=4, d_noise=4, batch_size=N)
    found["dcgan"] = GANConfig(network="dcgan", width=4, d_noise=4, batch_size=N)
    found |= {f"prior {name}": saegan(sampler=name) for name in PRIORS}
    found |= {f"discriminator {name}": saegan(discriminator=name) for name in DISCRIMINATORS}
    for kind in ("gaussian", "sparse", "kl_sae"):
        found[f"vae {kind}"] = VAEConfig(kind=kind, d_latent=3, hidden=(8,), batch_size=N, steps=4)
    for kind in ("ebgan", "began"):
        found[kind] = EnergyConfig(kind=kind, sae=SAEConfig(d_sae=8), gan=EnergyGANConfig(**GAN))
    for kind in ("plain", "sparse"):
        found[f"cyclegan {kind}"] = TranslationConfig(
            cyclegan=CycleGANConfig(kind=kind, width=4, blocks=1, d_width=4, steps=4), sae=sae("topk")
        )
    return found


def wide(tree: Any) -> list[str]:
    """Paths of the leaves of 64 bits."""
    leaves, _ = jax.tree.flatten_with_path(tree)
    return [jax.tree_util.keystr(path) for path, leaf in leaves if leaf.dtype in (jnp.float64, jnp.int64)]


def main() -> None:
    one = jax.ShapeDtypeStruct((N, *SHAPE), jnp.float32)
    data = Examples(jax.ShapeDtypeStruct((40, *SHAPE), jnp.uint8), jax.ShapeDtypeStruct((40,), jnp.int32))  # type: ignore[arg-type]
    found = {}
    for name, settings in cases().items():
        algorithm, state = abstract_system(settings, image_shape=SHAPE, n_seeds=1, n_classes=2)
        if isinstance(settings, TranslationConfig):
            after = jax.eval_shape(algorithm.step, state, TwoDomains(one, one))[0]
        else:
            after = jax.eval_shape(many_steps(algorithm.step, length=2, batch_size=N), state, data)[0]
        found[name] = wide(state) + wide(after)
    network = classifier(ClassifierConfig(image_shape=SHAPE, num_classes=2, total_steps=4, width=4, feature_dim=4))
    state = jax.eval_shape(network.init, jax.random.key(0))
    found["classifier"] = wide(jax.eval_shape(many_steps(network.step, length=2, batch_size=N), state, data)[0])
    sys.stdout.write(json.dumps(found) + "\n")


if __name__ == "__main__":
    main()
