"""Objectives of sparse autoencoders."""

import numpy as np
from jax import Array, lax
from jax import numpy as jnp
from jax.typing import ArrayLike

from saegan_jax.activations import topk_mask
from saegan_jax.losses._arrays import floating, floatings, hyper
from saegan_jax.losses.sparsity import AxisName, kl_sparsity_from_logits


def sae_loss(x: ArrayLike, x_hat: ArrayLike, code_logits: ArrayLike, *, rho: ArrayLike, beta: ArrayLike) -> Array:
    """The sigmoid sparse autoencoder's objective, mean_i 1/2 ||x_hat_i - x_i||^2 + beta sum_j KL(rho || rho_hat_j).

    rho_hat_j is the mean of sigmoid(code_logits) over the batch. With a squared error averaged over the pixels in place
    of half their sum, the same balance on 784 pixels is beta = 3 / 392.

    Args:
      x: (batch, ...) inputs.
      x_hat: reconstructions, shape of `x`.
      code_logits: (batch, ..., d_sae), codes before the sigmoid; axes between (positions of a convolution) are averaged
        too.
      rho: target mean activation in (0, 1), for instance 0.05; a number, a scalar array, or one per unit.
      beta: weight >= 0 of the sparsity, for instance 3; a number or a scalar array.

    Returns:
      Scalar: squared error summed over features, mean over examples, plus nats summed over units.

    Raises:
      ValueError: integer or empty arrays, `x` and `x_hat` of different shapes, another batch size in `code_logits`, a
        number `rho` outside (0, 1) or `beta` below 0.

    Source: Ng, Sparse autoencoder, CS294A lecture notes, 2011, section 3 (without its weight decay, an optimiser's
    business).
    """
    x, x_hat = floatings(x=x, x_hat=x_hat, min_ndim=1)
    code_logits = floating("code_logits", code_logits, min_ndim=2)
    if code_logits.shape[0] != x.shape[0]:
        raise ValueError(
            f"code_logits {code_logits.shape} and x {x.shape} differ in the number of examples: encode the same batch."
        )
    reconstruction = 0.5 * jnp.sum(jnp.square(x_hat - x)) / x.shape[0]
    beta = hyper("beta", beta, "[0, inf)", reconstruction, "it weighs a penalty, for instance 3.")
    kl = kl_sparsity_from_logits(code_logits, rho, axis=tuple(range(code_logits.ndim - 1)))
    return reconstruction + beta * jnp.sum(kl)


def auxk_loss(
    residual: ArrayLike,
    pre_activations: ArrayLike,
    W_dec: ArrayLike,
    dead: ArrayLike,
    *,
    k_aux: int | Array,
    axis_name: AxisName | None = None,
) -> Array:
    """AuxK: how badly the dead units alone reconstruct what the SAE missed, ||e_i - a_i W_dec||^2 / mean_i ||e_i||^2.

    e = x - x_hat is held constant, and a keeps the k_aux largest pre-activations among the dead units of each example,
    as they are (all dead units where there are fewer). x_hat holds b_dec already, so none is added here; live units and
    the encoder and decoder of x_hat get a gradient of exactly 0. The value is 1 where dead units explain nothing, and 0
    without gradient when no unit is dead or nothing was missed. Weigh it by 1/32 against a main loss that is normalised
    in the same way. The authors' code applies ReLU first, which leaves a unit below 0 without gradient: pass
    jax.nn.relu(pre_activations) for that. It also divides by the residual's variance about its batch mean, equal to
    this while that mean is 0.

    Args:
      residual: (..., d_in), x - x_hat of the main reconstruction.
      pre_activations: (..., d_sae), the encoder's output before its activation.
      W_dec: (d_sae, d_in).
      dead: (d_sae,) bool, True for units that have not been active for long.
      k_aux: how many dead units reconstruct, >= 1 (256 is usual); a number or, in a sweep, a scalar integer array.
      axis_name: mapped axes that hold equal shares of one batch, over which mean_i is taken too.

    Returns:
      One value per example, shape (...), not reduced.

    Raises:
      ValueError: integer or empty arrays, shapes that do not fit together, `dead` not bool, `k_aux` below 1.

    Source: Gao et al., Scaling and evaluating sparse autoencoders, 2024, appendix A.2.
    """
    residual = lax.stop_gradient(floating("residual", residual, min_ndim=1))
    pre_activations = floating("pre_activations", pre_activations, min_ndim=1)
    W_dec, dead = floating("W_dec", W_dec, min_ndim=2), jnp.asarray(dead)
    d_sae, d_in = pre_activations.shape[-1], residual.shape[-1]
    if (
        residual.shape[:-1] != pre_activations.shape[:-1]
        or W_dec.shape != (d_sae, d_in)
        or dead.shape != (d_sae,)
        or dead.dtype != jnp.bool_
    ):
        raise ValueError(
            f"residual {residual.shape}, pre_activations {pre_activations.shape}, W_dec {W_dec.shape} and dead "
            f"{dead.shape} {dead.dtype} must be (..., d_in), (..., d_sae), (d_sae, d_in) and (d_sae,) bool."
        )
    if isinstance(k_aux, (int, np.integer)) and k_aux < 1:
        raise ValueError(f"k_aux must be at least 1, got {k_aux}: leave the loss out to switch AuxK off.")
    mask = jnp.broadcast_to(dead, pre_activations.shape)
    chosen = topk_mask(pre_activations, k_aux, where=mask)
    error = residual - jnp.where(chosen, pre_activations, jnp.zeros_like(pre_activations)) @ W_dec
    scale = jnp.mean(jnp.sum(jnp.square(residual), axis=-1))
    if axis_name is not None:
        scale = lax.pmean(scale, axis_name)
    undefined = ~jnp.any(dead) | (scale == 0)
    loss = jnp.sum(jnp.square(error), axis=-1) / jnp.where(undefined, jnp.ones_like(scale), scale)
    return jnp.where(undefined, jnp.zeros_like(loss), loss)
