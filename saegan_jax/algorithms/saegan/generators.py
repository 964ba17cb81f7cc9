"""What a SAE-GAN's generator reads and what it draws, each a record of its own."""

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple

import jax
import jax.numpy as jnp

from saegan_jax.algorithms.gan.parts import applied, gaussian_latent
from saegan_jax.algorithms.saegan.frozen import FrozenSAE, Pretrained
from saegan_jax.networks.generators import CodeGenerator
from saegan_jax.priors import sample_prior

if TYPE_CHECKING:
    from saegan_jax.algorithms.saegan.config import SAEGANConfig


class GeneratorInput(NamedTuple):
    """What a generator reads.

    Attributes:
      latent: ``latent(config, sae)``, a function ``(pretrained, key, n) -> (n, d_latent)``.
      d_latent: ``d_latent(config, sae)``, its dimensions.
      has_code: whether it reads a code, divided by the scale, before the noise.
      latent_of: ``latent_of(config, sae)``, a function ``(pretrained, key, codes) -> (n, d_latent)`` of given codes; None
        where it reads none.
    """

    latent: Callable[["SAEGANConfig", FrozenSAE], Callable[[Any, jax.Array, int], jax.Array]]
    d_latent: Callable[["SAEGANConfig", FrozenSAE], int]
    has_code: bool
    latent_of: Callable[["SAEGANConfig", FrozenSAE], Callable[[Any, jax.Array, jax.Array], jax.Array]] | None = None


class GeneratorOutput(NamedTuple):
    """What a generator draws.

    Attributes:
      network: ``network(config, image_net)``, a Flax module.
      apply: ``apply(config, module)``, a function ``(params, latent) -> drawn``.
      codes: whether it draws codes, which the frozen decoder turns into images.
    """

    network: Callable[["SAEGANConfig", Any], Any]
    apply: Callable[["SAEGANConfig", Any], Callable[..., jax.Array]]
    codes: bool


def sparse_latent(config: "SAEGANConfig", sae: FrozenSAE) -> Callable[[Any, jax.Array, int], jax.Array]:
    """``[h / s, noise]``, h drawn from the sparse prior."""

    def latent(pretrained: Pretrained, key: jax.Array, n: int) -> jax.Array:
        code_key, noise_key = jax.random.split(key)
        codes = sample_prior(config.sampler, pretrained.prior, code_key, n)
        return code_and_noise(config, sae, pretrained, noise_key, codes)

    return latent


def code_and_noise(
    config: "SAEGANConfig", sae: FrozenSAE, pretrained: Pretrained, key: jax.Array, codes: jax.Array
) -> jax.Array:
    """``[h / s, noise]`` of given codes ``(n, d_code)``."""
    noise = jax.random.normal(key, (codes.shape[0], config.gan.d_noise), jnp.float32)
    return jnp.concatenate([sae.scaled_input(pretrained, codes), noise], axis=-1)


def code_network(config: "SAEGANConfig", image_net: Any) -> Any:
    """``T(z) = TopK(ReLU(MLP(z)))``, k the autoencoder's."""
    return CodeGenerator(config.sae.d_sae, config.sae.k, config.generator_hidden)


def alignment_loss(target: jax.Array, codes: jax.Array) -> jax.Array:
    """Relative squared distance of codes to those they were made from: ``||codes - target||^2 / ||target||^2``.

    Args:
      target: ``(batch, d_sae)``, the codes that the generator was given.
      codes: ``(batch, d_sae)``, the codes of the images it drew.

    Returns:
      ``(batch,)``; 0 where the target code is empty, since its direction is then undefined.
    """
    size = jnp.sum(target**2, axis=-1)
    empty = size == 0
    return jnp.where(empty, 0.0, jnp.sum((codes - target) ** 2, axis=-1) / jnp.where(empty, 1.0, size))


def alignment(config: "SAEGANConfig", sae: FrozenSAE) -> Callable[[Any, jax.Array, jax.Array], jax.Array] | None:
    """The generator's extra loss, ``alignment * mean ||E(G(h, noise)) - h||^2 / ||h||^2``; None where it has no weight."""
    if not config.alignment:
        return None

    def extra(pretrained: Pretrained, latent: jax.Array, images: jax.Array) -> jax.Array:
        target = sae.unscaled_input(pretrained, latent[:, : sae.d_code])
        codes = sae.codes(pretrained, images).reshape(target.shape)
        return config.alignment * alignment_loss(target, codes).mean()

    return extra


INPUTS: dict[str, GeneratorInput] = {
    "gaussian": GeneratorInput(
        latent=lambda config, sae: gaussian_latent(config.gan.d_noise),
        d_latent=lambda config, sae: config.gan.d_noise,
        has_code=False,
    ),
    "sparse": GeneratorInput(
        latent=sparse_latent,
        d_latent=lambda config, sae: config.gan.d_noise + sae.d_code,
        has_code=True,
        latent_of=lambda config, sae: partial(code_and_noise, config, sae),
    ),
}
OUTPUTS: dict[str, GeneratorOutput] = {
    "images": GeneratorOutput(
        network=lambda config, image_net: image_net,
        apply=lambda config, module: applied(module, config.gan.precision),
        codes=False,
    ),
    # A generator of codes selects among numbers by their bits, which float32 has.
    "codes": GeneratorOutput(network=code_network, apply=lambda config, module: module.apply, codes=True),
}
