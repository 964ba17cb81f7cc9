"""How good a variational model is: its bounds and how many of its units carry anything."""

import math

import jax
import jax.numpy as jnp


def importance_bound(log_weights: jax.Array, *, axis: int = 0) -> jax.Array:
    """Importance-weighted bound, ``log 1/K sum_k exp(w_k)``, in nats: the ELBO's estimate at K = 1, log p(x) as K grows.

    Args:
      log_weights: ``w_k = log p(x | z_k) + log p(z_k) - log q(z_k | x)`` of independent draws from q, K of them along ``axis``.
      axis: that of the draws.

    Returns:
      The shape of ``log_weights`` without ``axis``.

    Source: Burda, Grosse and Salakhutdinov, Importance weighted autoencoders, 2016, eq. 8.
    """
    return jax.nn.logsumexp(log_weights, axis=axis) - math.log(log_weights.shape[axis])


def active_units(posterior_means: jax.Array, *, threshold: float = 0.01) -> jax.Array:
    """How many units' posterior mean varies over the data: ``#{j : Var_x(E_q[z_j | x]) > threshold}``, an int32 scalar.

    Args:
      posterior_means: ``(n, d_latent)``, of n examples.
      threshold: the paper's 0.01.

    Source: Burda, Grosse and Salakhutdinov, Importance weighted autoencoders, 2016, section 5.
    """
    return jnp.sum(jnp.var(posterior_means, axis=0) > threshold)
