"""Sparse autoencoders as Flax modules, with the parameter names that SAE tools share."""

from collections.abc import Callable
from functools import partial
from typing import Literal

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from saegan_jax.activations import jumprelu, topk

Variant = Literal["kl", "rate_kl", "l1", "topk", "batch_topk", "matryoshka", "jumprelu", "gated", "wta"]
WITH_THRESHOLD = ("batch_topk", "matryoshka", "jumprelu")
BATCH_TOPK = ("batch_topk", "matryoshka")


def _symmetric_uniform(key: jax.Array, shape: tuple[int, ...], dtype: jnp.dtype = jnp.float32) -> jax.Array:
    """U(-r, r) with r = sqrt(6 / (fan_in + fan_out + 1)) (Ng, CS294A lecture notes, 2011)."""
    r = (6 / (sum(shape) + 1)) ** 0.5
    return jax.random.uniform(key, shape, dtype, -r, r)


def _unit_columns(key: jax.Array, shape: tuple[int, ...]) -> jax.Array:
    """Directions at random, each column of norm 1."""
    w = jax.random.normal(key, shape)
    return w / jnp.linalg.norm(w, axis=0, keepdims=True)


def _per_unit(vector: jax.Array, like: jax.Array) -> jax.Array:
    """``(d_sae,)`` with the leading axes of length 1 that strict broadcasting wants."""
    return vector.reshape((1,) * (like.ndim - 1) + (-1,))


@partial(jax.custom_vjp, nondiff_argnums=(2,))
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
    return _sparse_forward(codes, weights, k)[0]


def _sparse_forward(codes: jax.Array, weights: jax.Array, k: int) -> tuple[jax.Array, tuple[jax.Array, ...]]:
    values, index = jax.lax.top_k(codes, k)
    # The codes themselves are kept for their shape alone: they are there anyway, and a shape is no residual.
    return jnp.einsum("nk,nkd->nd", values, weights[index]), (codes, values, index, weights)


def _sparse_backward(k: int, residuals: tuple[jax.Array, ...], g: jax.Array) -> tuple[jax.Array, jax.Array]:
    codes, values, index, weights = residuals
    row = jnp.arange(codes.shape[0])[:, None]
    d_codes = jnp.zeros_like(codes).at[row, index].set(jnp.einsum("nd,nkd->nk", g, weights[index]))
    parts = values[:, :, None] * g[:, None, :]
    return d_codes, jnp.zeros_like(weights).at[index.reshape(-1)].add(parts.reshape(-1, g.shape[-1]))


sparse_product.defvjp(_sparse_forward, _sparse_backward)


class SparseAutoencoder(nn.Module):
    """One hidden layer: ``codes = act(x W_enc + b_enc)``, ``x_hat = codes W_dec + b_dec``, on the last axis of ``x``.

    Parameters are ``W_enc (d_in, d_sae)``, ``b_enc (d_sae,)``, ``W_dec (d_sae, d_in)`` and ``b_dec (d_in,)``; a tied
    autoencoder has no ``W_dec`` and decodes with ``W_enc`` transposed. What the variants add:

    ============  =============================================  ==========================================
    variant       codes, a = pre-activations                     further parameters
    ============  =============================================  ==========================================
    kl            sigmoid(a)
    rate_kl, l1   relu(a)
    topk          relu(a) where among the k largest of its row
    batch_topk,   training: among the k * rows largest of the    threshold (d_sae,), all equal, kept by the
    matryoshka    batch; afterwards a where a > threshold        training step
    jumprelu      a where a > threshold                          threshold (d_sae,) >= 0
    gated         relu(exp(r_mag) (a - b_enc) + b_mag)           r_mag, b_mag (d_sae,)
                  where a > 0
    wta           training: relu(a) where among the unit's
                  rho * rows largest; afterwards relu(a)
    ============  =============================================  ==========================================

    Attributes:
      d_in: number of inputs.
      d_sae: number of units.
      variant: see the table.
      k: active units per row of the variants that count them.
      tied: share the weights of encoder and decoder.
      centred: the encoder sees ``x - b_dec``.
      sigmoid_output: ``x_hat = sigmoid(codes W_dec + b_dec)``.
      initial_logit: initial value of ``b_enc``; logit(rho) starts sigmoid codes at the sparsity target, instead of at 1/2
        from where the sparsity term has to drive every unit down at once.
      initial_threshold: initial value of jumprelu's threshold; that of batch_topk is 0 until the first step.
      bandwidth: width of the kernel that estimates jumprelu's gradient in its threshold.
    """

    d_in: int
    d_sae: int
    variant: Variant = "kl"
    k: int = 25
    tied: bool = False
    centred: bool = False
    sigmoid_output: bool = False
    initial_logit: float = 0.0
    initial_threshold: float = 0.0
    bandwidth: float = 0.1

    def setup(self) -> None:
        def bias(name: str, size: int, value: float = 0.0) -> jax.Array:
            return self.param(name, nn.initializers.constant(value), (size,))

        shape, transposed = (self.d_in, self.d_sae), (self.d_sae, self.d_in)
        encoder: Callable[..., jax.Array] = _symmetric_uniform if self.variant == "kl" else _unit_columns
        self.W_enc = self.param("W_enc", encoder, shape)
        self.b_enc = bias("b_enc", self.d_sae, self.initial_logit)
        if not self.tied:
            # Rectified units start as the decoder's transpose: each already draws what it detects, and fewer die.
            # `+ 0`: two parameters may not be one buffer, which a donating step would give away twice.
            self.W_dec = (
                self.param("W_dec", _symmetric_uniform, transposed)
                if self.variant == "kl"
                else self.param("W_dec", lambda _, shape: self.W_enc.T.reshape(shape) + 0.0, transposed)
            )
        self.b_dec = bias("b_dec", self.d_in)
        if self.variant in WITH_THRESHOLD:
            start = self.initial_threshold if self.variant == "jumprelu" else 0.0
            self.threshold = bias("threshold", self.d_sae, start)
        if self.variant == "gated":
            self.r_mag, self.b_mag = bias("r_mag", self.d_sae), bias("b_mag", self.d_sae)

    def pre_activations(self, x: jax.Array) -> jax.Array:
        """``x W_enc + b_enc``, ``(..., d_in) -> (..., d_sae)``; the gate's, of the gated variant."""
        if self.centred:
            x = x - _per_unit(self.b_dec, x)
        a = x @ self.W_enc
        return a + _per_unit(self.b_enc, a)

    def activate(self, pre_activations: jax.Array, *, k: ArrayLike | None = None) -> jax.Array:
        """Codes as they are after training, each row for itself; ``k`` overrides the module's."""
        a = pre_activations
        if self.variant == "kl":
            return nn.sigmoid(a)
        if self.variant == "topk":
            return topk(a, self.k if k is None else k)
        if self.variant in BATCH_TOPK:
            return jnp.where(a > jax.lax.stop_gradient(_per_unit(self.threshold, a)), nn.relu(a), 0.0)
        if self.variant == "jumprelu":
            return jumprelu(a, jnp.broadcast_to(_per_unit(self.threshold, a), a.shape), self.bandwidth)
        if self.variant == "gated":
            magnitude = nn.relu(
                _per_unit(jnp.exp(self.r_mag), a) * (a - _per_unit(self.b_enc, a)) + _per_unit(self.b_mag, a)
            )
            return jnp.where(a > 0, magnitude, 0.0)
        return nn.relu(a)

    def activate_batch(
        self, pre_activations: jax.Array, *, k: ArrayLike, rho: ArrayLike, axis_name: str | None = None
    ) -> jax.Array:
        """Codes as training makes them: where the variant's units compete over the batch, they do so here.

        Args:
          pre_activations: ``(..., d_sae)``.
          k: active units per row (topk, batch_topk, matryoshka).
          rho: share of the rows in which a unit may be active (wta).
          axis_name: a mapped axis whose members hold equal shares of the batch.

        Returns:
          ``(..., d_sae)``.
        """
        a = pre_activations
        rows = a.size // self.d_sae * (1 if axis_name is None else jax.lax.axis_size(axis_name))
        if self.variant in BATCH_TOPK:
            return topk(a, jnp.asarray(k, jnp.int32) * rows, axis=tuple(range(a.ndim)), axis_name=axis_name)
        if self.variant == "wta":
            winners = jnp.maximum(jnp.round(jnp.asarray(rho, jnp.float32) * rows), 1.0).astype(jnp.int32)
            return topk(a, winners, axis=tuple(range(a.ndim - 1)), axis_name=axis_name)
        return self.activate(a, k=k)

    def encode(self, x: jax.Array, *, k: ArrayLike | None = None) -> jax.Array:
        """Codes, ``(..., d_in) -> (..., d_sae)``."""
        return self.activate(self.pre_activations(x), k=k)

    def decode(self, codes: jax.Array) -> jax.Array:
        """Reconstructions, ``(..., d_sae) -> (..., d_in)``."""
        return self.decode_levels(codes, (self.d_sae,))[0]

    def decode_sparse(self, codes: jax.Array, *, k: int) -> jax.Array:
        """:meth:`decode` of codes with at most ``k`` active units a row, by :func:`sparse_product`."""
        product = sparse_product(codes.reshape(-1, self.d_sae), self.W_dec, k).reshape(*codes.shape[:-1], self.d_in)
        return self._output(product)

    def _output(self, product: jax.Array) -> jax.Array:
        x_hat = product + _per_unit(self.b_dec, product)
        return nn.sigmoid(x_hat) if self.sigmoid_output else x_hat

    def decode_levels(self, codes: jax.Array, levels: tuple[int, ...]) -> list[jax.Array]:
        """Reconstructions from the first ``levels[0]``, ``levels[1]``, ... units, each ``(..., d_in)``."""
        W_dec = self.W_enc.T if self.tied else self.W_dec
        total, start, out = None, 0, []
        for end in levels:
            part = codes[..., start:end] @ W_dec[start:end]
            total, start = part if total is None else total + part, end
            out.append(self._output(total))
        return out

    def __call__(self, x: jax.Array) -> tuple[jax.Array, jax.Array, jax.Array]:
        """``(x_hat, codes, pre_activations)``."""
        a = self.pre_activations(x)
        codes = self.activate(a)
        return self.decode(codes), codes, a
