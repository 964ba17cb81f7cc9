"""Penalties that keep a critic smooth: one value per example, unreduced.

A critic is a function from a batch of images (batch, ...) to logits (batch,), close over its parameters to pass one. It
must act on each example alone (no batch norm, no minibatch statistics): only then is the gradient of the summed logits
at an example that of its own logit.

It is a function of the images alone, and changes nothing: JAX transforms it. A Flax NNX critic with BatchNorm or Dropout
updates its statistics or its random stream when it is called, which Flax refuses here with a TraceContextError. Pass it in
evaluation mode and split from its state: ``graph, state = nnx.split(critic)`` after ``critic.eval()``, then
``lambda x: nnx.merge(graph, state)(x)``.
"""

from collections.abc import Callable

import jax
from jax import Array, lax
from jax import numpy as jnp
from jax.typing import ArrayLike

from saegan_jax.losses._arrays import checked, floatings, hyper, per_example, safe_sqrt, same_shape, widened

Critic = Callable[[Array], Array]


def logits_and_gradient_norm(critic: Critic, x: ArrayLike) -> tuple[Array, Array]:
    """The critic's logits and its squared gradient norm at each example, ||grad_x D(x_i)||^2, from one forward pass.

    A training step that needs both saves a forward pass over calling the critic and `r1_penalty`. The norm is summed
    over all pixels and channels, in units of logit^2 per image unit^2, with no 1/2.

    Args:
      critic: (batch, ...) -> (batch,), acting on each example alone: the gradients come from one pullback of ones.
      x: (batch, ...), floating, in the range that the critic is trained on.

    Returns:
      logits (batch,) as the critic gives them, squared_norm (batch,) in float32 at least.

    Raises:
      ValueError: integer or empty images, a critic whose output is not one floating logit per example.

    Source: Drucker and LeCun, Improving generalization performance using double backpropagation, 1992.
    """
    x = checked("x", x, min_ndim=1)
    logits, pullback = jax.vjp(critic, x)
    if getattr(logits, "shape", None) != x.shape[:1] or not jnp.issubdtype(logits.dtype, jnp.floating):
        got = jax.tree.map(lambda y: f"{y.dtype}{y.shape}", logits)
        raise ValueError(
            f"The critic returned {got} for images {x.shape}, but must return floating logits {x.shape[:1]}: one logit "
            "per example, for instance logits.squeeze(-1), without auxiliary outputs."
        )
    (gradient,) = pullback(jnp.ones_like(logits))
    return logits, per_example(jnp.square(widened(gradient)))


def r1_penalty(critic: Critic, real: ArrayLike) -> Array:
    """R1, ||grad D(x_i)||^2 at real images; the caller multiplies by gamma / 2.

    Args: critic, see `logits_and_gradient_norm`; real (batch, ...) images. Returns: (batch,), summed over pixels and
    channels.
    Raises: ValueError, see `logits_and_gradient_norm`.
    Source: Mescheder, Geiger and Nowozin, Which training methods for GANs do actually converge?, 2018, eq. 9 (without
    gamma / 2).
    """
    return logits_and_gradient_norm(critic, checked("real", real, min_ndim=1))[1]


def r2_penalty(critic: Critic, fake: ArrayLike) -> Array:
    """R2, ||grad D(G(z)_i)||^2 at fake images; the caller multiplies by gamma / 2.

    Args: critic, see `logits_and_gradient_norm`; fake (batch, ...) images. Returns: (batch,), summed over pixels and
    channels.
    Raises: ValueError, see `logits_and_gradient_norm`.
    Source: Mescheder, Geiger and Nowozin, Which training methods for GANs do actually converge?, 2018, eq. 10 (without
    gamma / 2).
    """
    return logits_and_gradient_norm(critic, checked("fake", fake, min_ndim=1))[1]


def gradient_penalty(critic: Critic, real: ArrayLike, fake: ArrayLike, key: Array) -> Array:
    """WGAN-GP, (||grad D(y_i)|| - 1)^2 at y_i = eps_i x_i + (1 - eps_i) G(z)_i, eps_i uniform, one per example.

    Where the gradient is exactly 0 the value is 1, with gradient 0 and not NaN.

    Args: critic, see `logits_and_gradient_norm`; real, fake (batch, ...) of one shape and dtype; key, a PRNG key.
    Returns: (batch,); the caller multiplies by lambda, usually 10. Raises: ValueError, see `logits_and_gradient_norm`,
    and for shapes that differ.
    Source: Gulrajani et al., Improved training of Wasserstein GANs, 2017, eq. 3 and algorithm 1.
    """
    real, fake = checked("real", real, min_ndim=1), checked("fake", fake, min_ndim=1)
    same_shape(real=real, fake=fake)
    epsilon = _uniform_per_example(key, real)
    return _distance_from_one(critic, epsilon * real + (1 - epsilon) * fake)


def dragan_penalty(critic: Critic, real: ArrayLike, key: Array) -> Array:
    """DRAGAN, (||grad D(y_i)|| - 1)^2 around the data, y_i = x_i + a_i u_i std(x) / 2.

    a_i is uniform in [0, 1) per example, u_i uniform in [0, 1) per pixel, and std(x) that of all pixels of the batch,
    as in the authors' code; through it the examples' penalties depend on each other a little.

    Args: critic, see `logits_and_gradient_norm`; real (batch, ...); key, a PRNG key. Returns: (batch,); the caller
    multiplies by lambda, usually 10. Raises: ValueError, see `logits_and_gradient_norm`.
    Source: Kodali et al., On convergence and stability of GANs, 2017.
    """
    real = checked("real", real, min_ndim=1)
    key_scale, key_noise = jax.random.split(key)
    noise = 0.5 * safe_sqrt(jnp.var(real)) * jax.random.uniform(key_noise, real.shape, real.dtype)
    return _distance_from_one(critic, real + _uniform_per_example(key_scale, real) * noise)


def _uniform_per_example(key: Array, like: Array) -> Array:
    return jax.random.uniform(key, like.shape[:1] + (1,) * (like.ndim - 1), like.dtype)


def _distance_from_one(critic: Critic, x: Array) -> Array:
    return jnp.square(safe_sqrt(logits_and_gradient_norm(critic, x)[1]) - 1)


def lecam(real_logits: ArrayLike, fake_logits: ArrayLike, real_ema: ArrayLike, fake_ema: ArrayLike) -> Array:
    """LeCam regulariser, (real - fake_ema)^2 + (fake - real_ema)^2, elementwise.

    It holds logits near the other side's average, which is held constant. This is the paper's equation; the authors'
    code keeps only max(0, real - fake_ema) and max(0, real_ema - fake).

    Args: real_logits, fake_logits of one shape; real_ema, fake_ema, moving averages of the critic's mean logit on real
    and on fake images, numbers or scalar arrays. Returns: the logits' shape; the caller multiplies by lambda. Raises:
    ValueError for integer or empty arrays and for shapes that differ.
    Source: Tseng et al., Regularizing generative adversarial networks under limited data, 2021.
    """
    real, fake = floatings(real_logits=real_logits, fake_logits=fake_logits)
    fix = "pass the moving average of the critic's logits."
    real_ema = lax.stop_gradient(hyper("real_ema", real_ema, "(-inf, inf)", real, fix))
    fake_ema = lax.stop_gradient(hyper("fake_ema", fake_ema, "(-inf, inf)", fake, fix))
    return jnp.square(real - fake_ema) + jnp.square(fake - real_ema)
