"""k-means labels in an autoencoder's place: which unit is on, what it draws, and what cannot be such labels."""

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers import SHAPE, uint8_data

from saegan_jax.algorithms.gan import GANConfig
from saegan_jax.algorithms.sae import SAEConfig, autoencoder
from saegan_jax.algorithms.saegan import SAEGANConfig, fit_pretrained, fitting_operations
from saegan_jax.algorithms.saegan.k_means_encoder import OFFSET
from saegan_jax.errors import ConfigError
from saegan_jax.priors.k_means import k_means_operations

SAE = SAEConfig(variant="topk", d_sae=5, k=1, auxk=0.0)
CONFIG = SAEGANConfig(
    encoder="kmeans", discriminator="joint", sampler="bootstrap", sae=SAE, gan=GANConfig(hidden=(4,), d_noise=2)
)


def test_codes_are_the_nearest_of_the_centres_and_these_are_means():
    images = uint8_data(64).image
    pretrained = fit_pretrained(CONFIG, None, images, jax.random.key(0))
    functions = autoencoder(SAE, image_shape=SHAPE)
    x = images.astype(jnp.float32) / 255
    codes = functions.encode(pretrained.sae, x)
    flat = np.asarray(x, np.float64).reshape(64, -1)
    centres = np.asarray(pretrained.sae["params"]["W_enc"], np.float64).T / 2
    label = ((flat[:, None] - centres[None]) ** 2).sum(-1).argmin(1)
    np.testing.assert_array_equal(np.asarray(codes > 0), np.eye(5)[label] > 0)
    assert len(set(label)) == 5
    for j, centre in enumerate(centres):
        np.testing.assert_allclose(centre, flat[label == j].mean(0), atol=1e-5)
    on = np.asarray(codes)[np.arange(64), label]
    assert on.max() / on.min() < 1 + 2 / OFFSET
    drawn = np.asarray(functions.decode(pretrained.sae, codes)).reshape(64, -1)
    np.testing.assert_allclose(drawn, centres[label], rtol=0.02)
    np.testing.assert_array_equal(np.asarray(pretrained.prior.codes > 0).sum(1)[:64], np.ones(64))


def test_its_operations_are_counted():
    data = {"n_images": 100, "image_shape": SHAPE}
    labels = fitting_operations(CONFIG, **data) - fitting_operations(replace(CONFIG, encoder="random"), **data)
    assert labels == k_means_operations(100, 16, n_clusters=5)


@pytest.mark.parametrize(
    "changes", [{"variant": "batch_topk"}, {"tied": True, "decoder_norm": 0.0}, {"k": 2}, {"patch_size": 2}]
)
def test_other_autoencoders_are_refused(changes):
    name = next(iter(changes))
    with pytest.raises(ConfigError, match=f"sae.{name}.*labels"):
        replace(CONFIG, sae=replace(SAE, **changes))
