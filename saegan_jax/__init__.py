"""Sparse autoencoders inside generative models, in JAX and Flax.

Import the part you need: ``from saegan_jax import losses`` touches no device and imports nothing beyond jax.
"""

__version__ = "0.1.0"
