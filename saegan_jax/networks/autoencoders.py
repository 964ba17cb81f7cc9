"""The encoder and decoder of sparse autoencoders as a Flax module, with the parameter names that SAE tools share."""

from collections.abc import Callable
from functools import partial

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax.sharding import PartitionSpec

from saegan_jax.spmd import spec_of, varying_alike, with_auto_axes

Initializer = Callable[[jax.Array, tuple[int, ...]], jax.Array]


def symmetric_uniform(key: jax.Array, shape: tuple[int, ...]) -> jax.Array:
    """U(-r, r) with r = sqrt(6 / (fan_in + fan_out + 1)) (Ng, CS294A lecture notes, 2011)."""
    r = (6 / (sum(shape) + 1)) ** 0.5
    return jax.random.uniform(key, shape, jnp.float32, -r, r)


def unit_columns(key: jax.Array, shape: tuple[int, ...]) -> jax.Array:
    """Directions at random, each column of norm 1."""
    w = jax.random.normal(key, shape, jnp.float32)
    return w / jnp.linalg.norm(w, axis=0, keepdims=True)


def per_unit(vector: jax.Array, like: jax.Array) -> jax.Array:
    """``(d_sae,)`` with the leading axes of length 1 that strict broadcasting with ``like`` wants."""
    return vector.reshape((1,) * (like.ndim - 1) + (-1,))


def sparse_product(codes: jax.Array, weights: jax.Array, k: int) -> jax.Array:
    """``codes @ weights`` of codes of which at most ``k`` a row are not 0, from k rows of ``weights`` instead of all.

    ``y[n] = sum_{j in S_n} codes[n, j] weights[j]``, ``S_n`` the k largest of row n. The gradient of ``weights`` is that of the
    product; that of ``codes`` too, on ``S_n``, and 0 elsewhere, where TopK lets none pass.

    Args:
      codes: ``(rows, d_sae)``, none negative, at most ``k`` in a row not 0; more are left out.
      weights: ``(d_sae, d_in)``.
      k: static; ``rows * k * d_in`` numbers are gathered.

    Returns:
      ``(rows, d_in)``, equal to the product up to rounding.

    Source: Gao et al., Scaling and evaluating sparse autoencoders, 2024, appendix (sparse kernels).
    """
    codes, weights = varying_alike(codes, weights)
    product = partial(_sparse_product, k)
    return with_auto_axes(product, codes, weights, spec=lambda codes, weights: PartitionSpec(*spec_of(codes)[:1]))


@partial(jax.custom_vjp, nondiff_argnums=(0,))
def _sparse_product(k: int, codes: jax.Array, weights: jax.Array) -> jax.Array:
    return _sparse_forward(k, codes, weights)[0]


def _sparse_forward(k: int, codes: jax.Array, weights: jax.Array) -> tuple[jax.Array, tuple[jax.Array, ...]]:
    values, index = jax.lax.top_k(codes, k)
    # The codes are kept for their shape alone: they exist anyway, and a shape cannot be a residual.
    return jnp.einsum("nk,nkd->nd", values, weights[index]), (codes, values, index, weights)


def _sparse_backward(k: int, residuals: tuple[jax.Array, ...], g: jax.Array) -> tuple[jax.Array, jax.Array]:
    codes, values, index, weights = residuals
    row = jnp.arange(codes.shape[0])[:, None]
    d_codes = jnp.zeros_like(codes).at[row, index].set(jnp.einsum("nd,nkd->nk", g, weights[index]))
    parts = values[:, :, None] * g[:, None, :]
    return d_codes, jnp.zeros_like(weights).at[index.reshape(-1)].add(parts.reshape(-1, g.shape[-1]))


_sparse_product.defvjp(_sparse_forward, _sparse_backward)


class SparseAutoencoder(nn.Module):
    """The two affine maps of a sparse autoencoder, ``a = x W_enc + b_enc`` and ``x_hat = codes W_dec + b_dec``.

    Both act on the last axis. What makes codes of the pre-activations ``a`` is a function outside, which may read further
    parameters: ``extra_params`` declares them.

    Parameters are ``W_enc (d_in, d_sae)``, ``b_enc (d_sae,)``, ``W_dec (d_sae, d_in)``, ``b_dec (d_in,)`` and the extra ones,
    ``(d_sae,)`` each; a tied autoencoder has no ``W_dec`` and decodes with ``W_enc`` transposed.

    Attributes:
      d_in: number of inputs.
      d_sae: number of units.
      tied: share the weights of encoder and decoder.
      centred: the encoder sees ``x - b_dec``.
      sigmoid_output: ``x_hat = sigmoid(codes W_dec + b_dec)``.
      encoder_init: initial ``W_enc``.
      decoder_init: initial ``W_dec``; None for the encoder's transpose.
      initial_bias: initial value of ``b_enc``.
      extra_params: pairs of name and initial value.
    """

    d_in: int
    d_sae: int
    tied: bool = False
    centred: bool = False
    sigmoid_output: bool = False
    encoder_init: Initializer = unit_columns
    decoder_init: Initializer | None = None
    initial_bias: float = 0.0
    extra_params: tuple[tuple[str, float], ...] = ()

    def setup(self) -> None:
        def bias(name: str, size: int, value: float = 0.0) -> jax.Array:
            return self.param(name, nn.initializers.constant(value, jnp.float32), (size,))

        def transposed(_: jax.Array, shape: tuple[int, ...]) -> jax.Array:
            # Each unit already draws what it detects, and fewer die. `+ 0`: two parameters may not be one buffer, which a
            # donating step would give away twice.
            return self.W_enc.T.reshape(shape) + 0.0

        self.W_enc = self.param("W_enc", self.encoder_init, (self.d_in, self.d_sae))
        self.b_enc = bias("b_enc", self.d_sae, self.initial_bias)
        if not self.tied:
            self.W_dec = self.param("W_dec", self.decoder_init or transposed, (self.d_sae, self.d_in))
        self.b_dec = bias("b_dec", self.d_in)
        for name, value in self.extra_params:
            bias(name, self.d_sae, value)

    def pre_activations(self, x: jax.Array) -> jax.Array:
        """``x W_enc + b_enc``, ``(..., d_in) -> (..., d_sae)``; of ``x - b_dec`` where centred."""
        if self.centred:
            x = x - per_unit(self.b_dec, x)
        a = x @ self.W_enc
        return a + per_unit(self.b_enc, a)

    def decode(self, codes: jax.Array) -> jax.Array:
        """Reconstructions, ``(..., d_sae) -> (..., d_in)``."""
        return self.decode_levels(codes, (self.d_sae,))[0]

    def decode_sparse(self, codes: jax.Array, *, k: int) -> jax.Array:
        """:meth:`decode` of codes with at most ``k`` active units a row, by :func:`sparse_product`."""
        product = sparse_product(codes.reshape(-1, self.d_sae), self.W_dec, k).reshape(*codes.shape[:-1], self.d_in)
        return self._output(product)

    def decode_levels(self, codes: jax.Array, levels: tuple[int, ...]) -> list[jax.Array]:
        """Reconstructions from the first ``levels[0]``, ``levels[1]``, ... units, each ``(..., d_in)``."""
        W_dec = self.W_enc.T if self.tied else self.W_dec
        total, start, out = None, 0, []
        for end in levels:
            part = codes[..., start:end] @ W_dec[start:end]
            total, start = part if total is None else total + part, end
            out.append(self._output(total))
        return out

    def _output(self, product: jax.Array) -> jax.Array:
        x_hat = product + per_unit(self.b_dec, product)
        return nn.sigmoid(x_hat) if self.sigmoid_output else x_hat

    def __call__(self, x: jax.Array, activation: Callable[[jax.Array], jax.Array] = nn.relu) -> tuple[jax.Array, ...]:
        """``(x_hat, codes, pre_activations)`` with ``codes = activation(pre_activations)``."""
        a = self.pre_activations(x)
        codes = activation(a)
        return self.decode(codes), codes, a
