"""Sparse autoencoders as Flax modules, with the parameter names that SAE tools share."""

from typing import Literal

import flax.linen as nn
import jax
import jax.numpy as jnp

Activation = Literal["sigmoid", "relu"]


def _symmetric_uniform(key: jax.Array, shape: tuple[int, ...], dtype: jnp.dtype = jnp.float32) -> jax.Array:
    """U(-r, r) with r = sqrt(6 / (fan_in + fan_out + 1)) (Ng, CS294A lecture notes, 2011)."""
    r = (6 / (sum(shape) + 1)) ** 0.5
    return jax.random.uniform(key, shape, dtype, -r, r)


class SparseAutoencoder(nn.Module):
    """One hidden layer: ``codes = act(x W_enc + b_enc)``, ``x_hat = codes W_dec + b_dec``.

    Parameters are ``W_enc (d_in, d_sae)``, ``b_enc (d_sae,)``, ``W_dec (d_sae, d_in)`` and ``b_dec (d_in,)``; a tied
    autoencoder has no ``W_dec`` and decodes with ``W_enc`` transposed.

    Attributes:
      d_in: number of inputs.
      d_sae: number of units.
      activation: ``"sigmoid"`` or ``"relu"``.
      tied: share the weights of encoder and decoder.
      initial_logit: initial value of ``b_enc``; logit(rho) starts sigmoid codes at the sparsity target, instead of at 1/2
        from where the sparsity term has to drive every unit down at once.
    """

    d_in: int
    d_sae: int
    activation: Activation = "sigmoid"
    tied: bool = False
    initial_logit: float = 0.0

    def setup(self) -> None:
        self.W_enc = self.param("W_enc", _symmetric_uniform, (self.d_in, self.d_sae))
        self.b_enc = self.param("b_enc", nn.initializers.constant(self.initial_logit), (self.d_sae,))
        if not self.tied:
            self.W_dec = self.param("W_dec", _symmetric_uniform, (self.d_sae, self.d_in))
        self.b_dec = self.param("b_dec", nn.initializers.zeros_init(), (self.d_in,))

    def logits(self, x: jax.Array) -> jax.Array:
        """Pre-activations, ``(batch, d_in) -> (batch, d_sae)``."""
        return x @ self.W_enc + self.b_enc.reshape(1, -1)

    def activate(self, logits: jax.Array) -> jax.Array:
        """Codes from pre-activations, elementwise."""
        return nn.sigmoid(logits) if self.activation == "sigmoid" else nn.relu(logits)

    def encode(self, x: jax.Array) -> jax.Array:
        """Codes, ``(batch, d_in) -> (batch, d_sae)``."""
        return self.activate(self.logits(x))

    def decode(self, codes: jax.Array) -> jax.Array:
        """Reconstructions, ``(batch, d_sae) -> (batch, d_in)``."""
        return codes @ (self.W_enc.T if self.tied else self.W_dec) + self.b_dec.reshape(1, -1)

    def __call__(self, x: jax.Array) -> tuple[jax.Array, jax.Array, jax.Array]:
        """``(x_hat, codes, logits)``."""
        logits = self.logits(x)
        codes = self.activate(logits)
        return self.decode(codes), codes, logits
