"""Spectral normalisation as a transform of parameters, so that it serves every network: `spectral_normalise` before apply."""

from typing import Any

import jax
import jax.numpy as jnp
from flax.traverse_util import flatten_dict, unflatten_dict

from saegan_jax.errors import require


def _kernels(params: Any) -> dict[tuple[str, ...], jax.Array]:
    """The leaves named "kernel" by path, in an order that does not depend on the tree's."""
    kernels = {path: leaf for path, leaf in sorted(flatten_dict(params).items()) if path[-1] == "kernel"}
    if not kernels:
        raise ValueError(
            'spectral normalisation acts on the leaves named "kernel", and this parameter tree has none; give the '
            "parameters of a Flax network with dense or convolutional layers."
        )
    return kernels


def _unit(x: jax.Array, *, fallback: jax.Array) -> jax.Array:
    """``x / ||x||``, or ``fallback`` where x is zero."""
    norm = jnp.linalg.norm(x)
    return jnp.where(norm > 0, x / jnp.where(norm > 0, norm, jnp.ones_like(norm)), fallback)


def _singular_vectors(matrix: jax.Array, u: jax.Array, iterations: int) -> tuple[jax.Array, jax.Array]:
    """``(v, u)`` after power iterations from u; of a zero matrix v is zero and u what it was."""

    def iterate(_: int, vectors: tuple[jax.Array, jax.Array]) -> tuple[jax.Array, jax.Array]:
        v = matrix @ vectors[1]
        v = _unit(v, fallback=v)
        return v, _unit(v @ matrix, fallback=vectors[1])

    return jax.lax.fori_loop(0, iterations, iterate, (jnp.zeros_like(matrix[:, 0]), u))


def spectral_init(params: Any, key: jax.Array) -> Any:
    """Random unit vectors to start the power iterations of :func:`spectral_normalise` from.

    Args:
      params: parameters of a network, nested dictionaries of arrays.
      key: typed PRNG key.

    Returns:
      The same tree without the leaves that are not named "kernel"; the others become unit vectors ``(c_out,)``.

    Raises:
      ValueError: no leaf is named "kernel".
    """
    kernels = _kernels(params)
    keys = jax.random.split(key, len(kernels))
    vectors = {}
    for k, (path, kernel) in zip(keys, kernels.items(), strict=True):
        draw = jax.random.normal(k, kernel.shape[-1:], kernel.dtype)
        vectors[path] = draw / jnp.linalg.norm(draw)
    return unflatten_dict(vectors)


def spectral_normalise(params: Any, vectors: Any, *, iterations: int = 1) -> tuple[Any, Any]:
    """Divides each kernel by its largest singular value, estimated by power iteration.

    Each kernel is taken as the matrix ``W (everything else, c_out)``. An iteration is ``v = W u / ||W u||``, then
    ``u = W^T v / ||W^T v||``; the result is ``W / sigma`` with ``sigma = v^T W u``. Gradients pass through W in both places
    and not through u and v, which at convergence gives the true gradient of ``W / sigma(W)``. One iteration a step suffices
    when the vectors are carried along, since weights move slowly. A kernel of zeros has no largest singular direction: it
    and its vector stay as they are (and the first update makes it one of norm 1: residual blocks that start at zero do not
    stay small). As in the paper's code, grouped convolutions are taken as one matrix too, and
    the singular value is that of the kernel as a matrix, not of the convolution.

    Args:
      params: parameters of a network, nested dictionaries of arrays; leaves not named "kernel" pass untouched.
      vectors: ``u`` for each kernel, from :func:`spectral_init` or the previous call; no gradient flows to them.
      iterations: power iterations, >= 1.

    Returns:
      ``(normalised params, new vectors)``, trees like the two arguments.

    Raises:
      ConfigError: iterations below 1.
      ValueError: no leaf is named "kernel", or the vectors belong to other parameters.

    Source: Miyato et al., Spectral normalization for generative adversarial networks, 2018, algorithm 1.
    """
    require(iterations >= 1, "iterations", iterations, "the estimate needs at least one power iteration.")
    kernels, start = _kernels(params), flatten_dict(vectors)
    want = {path: kernel.shape[-1:] for path, kernel in kernels.items()}
    if want != (got := {path: u.shape for path, u in start.items()}):
        raise ValueError(f"vectors must be those of spectral_init for these parameters, shapes {want}, got {got}.")
    normalised, new = flatten_dict(params), {}
    for path, kernel in kernels.items():
        matrix = kernel.reshape(-1, kernel.shape[-1])
        v, u = _singular_vectors(*jax.lax.stop_gradient((matrix, start[path])), iterations)
        sigma = v @ matrix @ u
        normalised[path] = kernel / jnp.where(sigma > 0, sigma, jnp.ones_like(sigma))
        new[path] = u
    return unflatten_dict(normalised), unflatten_dict(new)
