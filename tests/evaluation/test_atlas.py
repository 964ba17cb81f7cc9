"""The atlas of an autoencoder, dense and convolutional, beside what its codes say directly."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers import digits

from saegan_jax.algorithms.sae import SAEConfig, autoencoder, sae
from saegan_jax.evaluation import atlas
from saegan_jax.evaluation.atlas import feature_atlas
from saegan_jax.evaluation.autoencoders import decoder
from saegan_jax.images import to_unit_float
from saegan_jax.training.sweep import encode_all

CONFIGS = {
    "dense": SAEConfig(variant="topk", d_sae=12, k=3, auxk=0.0),
    "convolutional": SAEConfig(variant="topk", d_sae=12, k=3, auxk=0.0, patch_size=4, stride=4),
}


@pytest.mark.parametrize("kind", CONFIGS)
def test_an_atlas_says_what_the_codes_say(kind):
    config, data = CONFIGS[kind], digits()
    images, labels = np.asarray(data.image[:200]), np.asarray(data.label[:200])
    params = jax.jit(sae(config, image_shape=(8, 8, 1)).init)(jax.random.key(0)).params
    found = feature_atlas(config, params, images, labels, num_classes=10, most=7)
    encode = autoencoder(config, image_shape=(8, 8, 1)).encode
    codes = np.asarray(encode(params, to_unit_float(jnp.asarray(images))))
    activity = codes.reshape(200, -1, 12).max(axis=1)
    density = (activity > 0).mean(axis=0)

    assert (found.d_sae, found.n_images, len(found.units)) == (12, 200, 7)
    assert (np.diff(found.units) > 0).all()
    assert density[found.units].min() >= np.delete(density, found.units).max()
    np.testing.assert_allclose(found.density, density[found.units])
    side = 4 if config.patch_size else 8
    np.testing.assert_array_equal(found.atoms, decoder(config, params)[found.units].reshape(7, side, side, 1))
    for row, unit in enumerate(found.units):
        best = int(activity[:, unit].argmax())
        np.testing.assert_array_equal(found.images[found.top[row, 0]], images[best])
        assert found.image_label[found.top[row, 0]] == labels[best]
        assert found.top_activity[row, 0] == pytest.approx(activity[best, unit], rel=1e-5)
        active = labels[activity[:, unit] > 0]
        assert found.purity[row] == pytest.approx((active == found.label[row]).mean())
        assert found.usual[row] == pytest.approx(np.median(activity[:, unit][activity[:, unit] > 0]), rel=1e-5)
    assert set(found.nearest.ravel()) <= set(found.units)
    assert len(found.images) == len(np.unique(found.top[found.top >= 0]))


def test_a_unit_that_is_never_active_has_no_image_and_no_class():
    config, data = CONFIGS["dense"], digits()
    params = jax.jit(sae(config, image_shape=(8, 8, 1)).init)(jax.random.key(0)).params
    params["params"]["b_enc"] = params["params"]["b_enc"].at[4].set(-1e6)
    images, labels = np.asarray(data.image[:50]), np.asarray(data.label[:50])
    found = feature_atlas(config, params, images, labels, num_classes=10, most=12)
    assert (found.density[4], found.label[4], found.usual[4]) == (0, -1, 0)
    assert np.isnan(found.purity[4])
    assert (found.top[4] == -1).all()
    assert found.top.max() == len(found.images) - 1


def test_positions_do_not_lessen_the_images_that_are_counted(monkeypatch):
    """Of four positions, 12 units and 600 numbers at once, codes of 12 images are kept at a time, and 50 are counted."""
    config, data = CONFIGS["convolutional"], digits()
    params = jax.jit(sae(config, image_shape=(8, 8, 1)).init)(jax.random.key(0)).params
    images, labels = np.asarray(data.image[:50]), np.asarray(data.label[:50])
    whole = feature_atlas(config, params, images, labels, num_classes=10, most=12)
    monkeypatch.setattr(atlas, "ACTIVITIES", 600)
    sizes = []

    def watched(config, params, part):
        sizes.append(len(part))
        return encode_all(config, params, part)

    monkeypatch.setattr(atlas, "encode_all", watched)
    found = feature_atlas(config, params, images, labels, num_classes=10, most=12)
    assert sizes == [12, 12, 12, 12, 2]
    assert found.n_images == 50
    np.testing.assert_allclose(found.strength, whole.strength, rtol=1e-6)
