"""Adversarial losses: elementwise on logits of any shape, unreduced, minimised, real before fake.

Every discriminator loss is the real term plus the fake term of each pair, so its mean is the usual objective and a
caller may mask it. Unless a docstring says otherwise: `real_logits` and `fake_logits` are the critic's outputs before
any sigmoid, of one shape; the result has that shape, in float32 at least; and a ValueError is raised for integer or
empty arrays and for shapes that differ. Logistic losses are in nats.
"""

from typing import NamedTuple

import jax
from jax import Array
from jax import numpy as jnp
from jax.sharding import PartitionSpec
from jax.typing import ArrayLike

from saegan_jax.losses._arrays import floating, floatings, hyper, safe_sqrt, unit_max
from saegan_jax.spmd import with_auto_axes


def minimax_discriminator_loss(real_logits: ArrayLike, fake_logits: ArrayLike) -> Array:
    """-log sigmoid(real) - log(1 - sigmoid(fake)) = softplus(-real) + softplus(fake).

    Args: real_logits, fake_logits of one shape. Returns: that shape, nats. Raises: ValueError, see the module.
    Source: Goodfellow et al., Generative adversarial nets, 2014, eq. 1.
    """
    real, fake = floatings(real_logits=real_logits, fake_logits=fake_logits)
    return jax.nn.softplus(-real) + jax.nn.softplus(fake)


def minimax_generator_loss(fake_logits: ArrayLike) -> Array:
    """log(1 - sigmoid(fake)) = -softplus(fake): saturating, no gradient where the critic is sure.

    Args: fake_logits of any shape. Returns: that shape, nats, <= 0. Raises: ValueError, see the module.
    Source: Goodfellow et al., Generative adversarial nets, 2014, eq. 1.
    """
    return -jax.nn.softplus(floating("fake_logits", fake_logits))


def non_saturating_discriminator_loss(real_logits: ArrayLike, fake_logits: ArrayLike) -> Array:
    """softplus(-real) + softplus(fake), the same as the minimax discriminator's.

    Args: real_logits, fake_logits of one shape. Returns: that shape, nats. Raises: ValueError, see the module.
    Source: Goodfellow et al., Generative adversarial nets, 2014, eq. 1.
    """
    return minimax_discriminator_loss(real_logits, fake_logits)


def non_saturating_generator_loss(fake_logits: ArrayLike) -> Array:
    """-log sigmoid(fake) = softplus(-fake).

    Args: fake_logits of any shape. Returns: that shape, nats. Raises: ValueError, see the module.
    Source: Goodfellow et al., Generative adversarial nets, 2014, section 3.
    """
    return jax.nn.softplus(-floating("fake_logits", fake_logits))


def least_squares_discriminator_loss(real_logits: ArrayLike, fake_logits: ArrayLike) -> Array:
    """1/2 (real - 1)^2 + 1/2 fake^2: targets 1 for real and 0 for fake, with the paper's 1/2.

    Args: real_logits, fake_logits of one shape. Returns: that shape. Raises: ValueError, see the module.
    Source: Mao et al., Least squares generative adversarial networks, 2017, eq. 9 (a = 0, b = c = 1).
    """
    real, fake = floatings(real_logits=real_logits, fake_logits=fake_logits)
    return 0.5 * jnp.square(real - 1) + 0.5 * jnp.square(fake)


def least_squares_generator_loss(fake_logits: ArrayLike) -> Array:
    """1/2 (fake - 1)^2.

    Args: fake_logits of any shape. Returns: that shape. Raises: ValueError, see the module.
    Source: Mao et al., Least squares generative adversarial networks, 2017, eq. 9 (a = 0, b = c = 1).
    """
    return 0.5 * jnp.square(floating("fake_logits", fake_logits) - 1)


def hinge_discriminator_loss(real_logits: ArrayLike, fake_logits: ArrayLike) -> Array:
    """max(0, 1 - real) + max(0, 1 + fake).

    Args: real_logits, fake_logits of one shape. Returns: that shape. Raises: ValueError, see the module.
    Source: Miyato et al., Spectral normalization for generative adversarial networks, 2018, eq. 16.
    """
    real, fake = floatings(real_logits=real_logits, fake_logits=fake_logits)
    return jax.nn.relu(1 - real) + jax.nn.relu(1 + fake)


def hinge_generator_loss(fake_logits: ArrayLike) -> Array:
    """-fake.

    Args: fake_logits of any shape. Returns: that shape. Raises: ValueError, see the module.
    Source: Miyato et al., Spectral normalization for generative adversarial networks, 2018, eq. 17.
    """
    return -floating("fake_logits", fake_logits)


def wasserstein_discriminator_loss(real_logits: ArrayLike, fake_logits: ArrayLike) -> Array:
    """fake - real; the critic must be kept Lipschitz, see `gradient_penalty`.

    Args: real_logits, fake_logits of one shape. Returns: that shape. Raises: ValueError, see the module.
    Source: Arjovsky, Chintala and Bottou, Wasserstein generative adversarial networks, 2017, algorithm 1.
    """
    real, fake = floatings(real_logits=real_logits, fake_logits=fake_logits)
    return fake - real


def wasserstein_generator_loss(fake_logits: ArrayLike) -> Array:
    """-fake.

    Args: fake_logits of any shape. Returns: that shape. Raises: ValueError, see the module.
    Source: Arjovsky, Chintala and Bottou, Wasserstein generative adversarial networks, 2017, algorithm 1.
    """
    return -floating("fake_logits", fake_logits)


def relativistic_discriminator_loss(real_logits: ArrayLike, fake_logits: ArrayLike) -> Array:
    """softplus(-(real - fake)), RpGAN: each real example against one fake, not against the batch's average.

    Args: real_logits, fake_logits of one shape. Returns: that shape, nats. Raises: ValueError, see the module.
    Source: Jolicoeur-Martineau, The relativistic discriminator, 2019 (RpGAN), with the logistic f of R3GAN (Huang et
    al., The GAN is dead; long live the GAN!, 2024, eq. 2).
    """
    real, fake = floatings(real_logits=real_logits, fake_logits=fake_logits)
    return jax.nn.softplus(fake - real)


def relativistic_generator_loss(real_logits: ArrayLike, fake_logits: ArrayLike) -> Array:
    """softplus(-(fake - real)), the mirror of the discriminator's; it needs the real logits too.

    Args: real_logits, fake_logits of one shape. Returns: that shape, nats. Raises: ValueError, see the module.
    Source: as `relativistic_discriminator_loss`.
    """
    real, fake = floatings(real_logits=real_logits, fake_logits=fake_logits)
    return jax.nn.softplus(real - fake)


def energy_discriminator_loss(real_energy: ArrayLike, fake_energy: ArrayLike, *, margin: ArrayLike) -> Array:
    """EBGAN: real + max(0, margin - fake), energies being reconstruction errors; the generator minimises fake.

    Args: real_energy, fake_energy of one shape, usually (batch,) and >= 0; margin > 0 in the energies' unit, a number
    or an array that matches their last axes. Returns: the energies' shape. Raises: ValueError, see the module, and for
    a margin <= 0.
    Source: Zhao, Mathieu and LeCun, Energy-based generative adversarial network, 2017, eq. 1.
    """
    real, fake = floatings(real_energy=real_energy, fake_energy=fake_energy)
    margin = hyper(
        "margin", margin, "(0, inf)", fake, "it is the energy from which a fake is left alone, for instance 10."
    )
    return real + jax.nn.relu(margin - fake)


def pulling_away(pre_activations: ArrayLike) -> Array:
    """EBGAN's repelling term, the mean over ordered pairs i != j of cos(s_i, s_j)^2, in [0, 1].

    Pass pre-activations: sparse codes with disjoint supports have cosine 0 and no gradient. A row of zeros has cosine 0
    with every other and gradient 0.

    Args: pre_activations (batch >= 2, ...) of fakes; all axes after the first are one vector. Returns: scalar. Raises:
    ValueError for integer arrays, fewer than two axes or fewer than two examples.
    Source: Zhao, Mathieu and LeCun, Energy-based generative adversarial network, 2017, eq. 4.
    """
    s = floating("pre_activations", pre_activations, min_ndim=2)
    n = s.shape[0]
    if n < 2:
        raise ValueError(
            f"pre_activations has shape {s.shape}, one example, but pulling away compares pairs: pass a batch."
        )
    return with_auto_axes(_pulling_away, s, spec=lambda s: PartitionSpec())


def _pulling_away(s: Array) -> Array:
    n = s.shape[0]
    s = unit_max(s.reshape(n, -1), axis=1)
    norm = safe_sqrt(jnp.sum(jnp.square(s), axis=1, keepdims=True))
    s = s / jnp.where(norm == 0, jnp.ones_like(norm), norm)
    return jnp.sum(jnp.square(s @ s.T) * (1 - jnp.eye(n, dtype=s.dtype))) / (n * (n - 1))


class BeganBalance(NamedTuple):
    """What `began_balance` returns: the next weight `k` in [0, 1] and the `convergence` measure, both scalars."""

    k: Array
    convergence: Array


def began_balance(
    k: ArrayLike, real_energy: ArrayLike, fake_energy: ArrayLike, *, gamma: ArrayLike, lambda_k: ArrayLike
) -> BeganBalance:
    """BEGAN's controller: ``k' = clip(k + lambda_k (gamma L(x) - L(G)), 0, 1)``, ``M = L(x) + |gamma L(x) - L(G)|``.

    L are the mean energies. The discriminator minimises L(x) - k L(G), the generator L(G); k starts at 0.

    Args: k scalar in [0, 1]; real_energy, fake_energy of one shape, usually (batch,), averaged; gamma in [0, 1], the
    diversity ratio (0.5 in the paper, 0.7 in common code); lambda_k >= 0, usually 1e-3; k, gamma and lambda_k numbers
    or scalar arrays. Returns: `BeganBalance` (k, convergence), scalars; convergence in the energies' unit, smaller is
    better. Raises: ValueError, see the module, and for numbers out of range.
    Source: Berthelot, Schumm and Metz, BEGAN: boundary equilibrium generative adversarial networks, 2017, section 3.4.
    """
    energies = floatings(real_energy=real_energy, fake_energy=fake_energy)
    real, fake = (jnp.mean(energy) for energy in energies)
    k = hyper("k", k, "[0, 1]", real, "it is the weight of the fake energy and starts at 0.")
    gamma = hyper("gamma", gamma, "[0, 1]", real, "it is the wanted ratio of fake to real energy, for instance 0.5.")
    lambda_k = hyper("lambda_k", lambda_k, "[0, inf)", real, "it is k's learning rate, for instance 1e-3.")
    balance = gamma * real - fake
    return BeganBalance(jnp.clip(k + lambda_k * balance, 0, 1), real + jnp.abs(balance))
