"""Random shifts and differentiable augmentation: each change by definition, its draws and its gradient."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers import normal

from saegan_jax.algorithms.augment import diff_augment, random_shift
from saegan_jax.errors import ConfigError

jitted = jax.jit(diff_augment, static_argnames="policy")


def augmented(key, images, *policy):
    return np.asarray(jitted(key, images, policy=policy))


def moved(image, row, column):
    """The image moved down by ``row`` and right by ``column`` pixels, zeros moving in."""
    h, w, _ = image.shape
    out = np.zeros_like(image)
    out[max(row, 0) : h + min(row, 0), max(column, 0) : w + min(column, 0)] = image[
        max(-row, 0) : h - max(row, 0), max(-column, 0) : w - max(column, 0)
    ]
    return out


def offsets(images, shifted, margins):
    """The (row, column) offset of each image, which must be exactly one of those allowed."""
    found = []
    for image, result in zip(np.asarray(images), shifted, strict=True):
        fits = [
            (r, c)
            for r in range(-margins[0], margins[0] + 1)
            for c in range(-margins[1], margins[1] + 1)
            if np.array_equal(moved(image, r, c), result)
        ]
        assert len(fits) == 1
        found += fits
    return np.array(found)


def test_random_shift_cuts_windows_at_the_offsets_it_draws(key):
    """To the bit, with the generator call spelt out: changing it would change every trained feature network."""
    images = normal(20, 5, 7, 2)
    drawn = np.asarray(jax.random.randint(key, (20, 2), 0, 5))
    padded = np.pad(images, ((0, 0), (2, 2), (2, 2), (0, 0)))
    want = [image[r : r + 5, c : c + 7] for image, (r, c) in zip(padded, drawn, strict=True)]
    np.testing.assert_array_equal(random_shift(key, images, max_shift=2), want)


def test_no_policy_is_the_identity(key):
    images = normal(2, 4, 4, 1)
    assert diff_augment(key, images, policy=()) is images


@pytest.mark.parametrize("policy", [("colour",), "color", ("color", "flip")])
def test_unknown_change_raises(key, policy):
    with pytest.raises(ConfigError, match=r"policy = .*choose one of color, translation, cutout"):
        diff_augment(key, jnp.zeros((1, 4, 4, 1)), policy=policy)


def test_translation_moves_each_image_by_up_to_an_eighth_of_its_sides(key):
    images = normal(300, 16, 28, 2)
    found = offsets(images, augmented(key, images, "translation"), (2, 3))
    for axis, margin in enumerate((2, 3)):
        values, counts = np.unique(found[:, axis], return_counts=True)
        np.testing.assert_array_equal(values, np.arange(-margin, margin + 1))
        # Uniform: five standard deviations of a binomial count.
        p = 1 / len(values)
        assert np.abs(counts - 300 * p).max() < 5 * (300 * p * (1 - p)) ** 0.5
    assert abs(np.corrcoef(found.T)[0, 1]) < 5 / 300**0.5


def test_gradient_of_a_translation_is_the_opposite_translation(key):
    images, cotangents = normal(20, 16, 24, 1), normal(20, 16, 24, 1, seed=1)
    result, pullback = jax.vjp(lambda x: diff_augment(key, x, policy=("translation",)), images)
    (gradient,) = pullback(cotangents)
    found = offsets(images, np.asarray(result), (2, 3))
    want = [moved(c, -row, -column) for c, (row, column) in zip(np.asarray(cotangents), found, strict=True)]
    np.testing.assert_array_equal(gradient, want)


@pytest.mark.parametrize("shape", [(8, 12, 3), (7, 10, 1)])
def test_cutout_sets_one_rectangle_of_half_the_sides_to_zero(key, shape):
    images = 2 + jnp.abs(normal(400, *shape))
    result = augmented(key, images, "cutout")
    cut = (result == 0).all(axis=3)
    np.testing.assert_array_equal(result, np.where(cut[..., None], 0, images))
    sizes = (shape[0] // 2, shape[1] // 2)
    for axis, size in enumerate(sizes):
        hit = cut.any(axis=2 - axis)
        # A contiguous run on both axes, and their product: a rectangle; shorter only where the border cuts it.
        lengths = hit.sum(axis=1)
        assert (np.abs(np.diff(np.pad(hit, ((0, 0), (1, 1))).astype(int), axis=1)).sum(axis=1) == 2).all()
        inside = ~hit[:, 0] & ~hit[:, -1]
        np.testing.assert_array_equal(lengths[inside], size)
        assert lengths.max() == size
        assert lengths.min() == size - size // 2
        # As often at one border as at the other.
        ends = hit[:, [0, -1]].mean(axis=0)
        assert abs(ends[0] - ends[1]) < 5 * (2 * ends.mean() / 400) ** 0.5
    np.testing.assert_array_equal(cut, cut.any(axis=2)[:, :, None] & cut.any(axis=1)[:, None, :])
    assert inside.any()


def test_color_of_grey_images_is_brightness_and_contrast(key):
    images = normal(300, 4, 6, 1)
    result = augmented(key, images, "color")
    brightness = result.mean(axis=(1, 2, 3)) - np.asarray(images).mean(axis=(1, 2, 3))
    centred = [x - x.mean(axis=(1, 2, 3), keepdims=True) for x in (np.asarray(images), result)]
    contrast = (centred[0] * centred[1]).sum(axis=(1, 2, 3)) / (centred[0] ** 2).sum(axis=(1, 2, 3))
    np.testing.assert_allclose(centred[1], contrast[:, None, None, None] * centred[0], rtol=1e-4, atol=1e-5)
    for draws, low, high in ((brightness, -0.5, 0.5), (contrast, 0.5, 1.5)):
        assert low - 1e-5 <= draws.min() < low + 0.05
        assert high + 1e-5 >= draws.max() > high - 0.05
        assert abs(draws.mean() - (low + high) / 2) < 5 / (12 * 300) ** 0.5
    assert abs(np.corrcoef(brightness, contrast)[0, 1]) < 5 / 300**0.5


def test_brightness_alone_shifts_by_a_constant(key):
    """An image of one value has no contrast to change."""
    result = augmented(key, jnp.full((50, 4, 6, 1), 0.25), "color")
    np.testing.assert_allclose(result, np.broadcast_to(result[:, :1, :1], result.shape), rtol=0, atol=1e-6)
    assert np.abs(result - 0.25).max() <= 0.5 + 1e-6
    assert result.std() > 0.2


def test_saturation_scales_the_distance_to_the_grey_image(key):
    images = normal(300, 4, 6, 3)
    result = augmented(key, images, "color")
    chroma = [x - x.mean(axis=3, keepdims=True) for x in (np.asarray(images), result)]
    luma = [x.mean(axis=3) - x.mean(axis=(1, 2, 3)).reshape(-1, 1, 1) for x in (np.asarray(images), result)]
    # Contrast multiplies both, saturation the chroma only.
    both = (chroma[0] * chroma[1]).sum(axis=(1, 2, 3)) / (chroma[0] ** 2).sum(axis=(1, 2, 3))
    contrast = (luma[0] * luma[1]).sum(axis=(1, 2)) / (luma[0] ** 2).sum(axis=(1, 2))
    np.testing.assert_allclose(chroma[1], both[:, None, None, None] * chroma[0], rtol=1e-3, atol=1e-4)
    np.testing.assert_allclose(luma[1], contrast[:, None, None] * luma[0], rtol=1e-3, atol=1e-4)
    saturation = both / contrast
    assert -1e-3 <= saturation.min() < 0.1
    assert 2 + 1e-3 >= saturation.max() > 1.9
    assert abs(saturation.mean() - 1) < 5 * 2 / (12 * 300) ** 0.5
    assert abs(np.corrcoef(saturation, contrast)[0, 1]) < 5 / 300**0.5


def test_changes_follow_one_another_in_the_policy_s_order(key):
    images = 2 + jnp.abs(normal(30, 8, 8, 3))
    policy = ("color", "translation", "cutout")
    result = augmented(key, images, *policy)
    # Cutout is last: its square is exactly 0, and of the size it has alone.
    assert ((result == 0).all(axis=3).sum(axis=(1, 2)) >= 4).all()
    turned = augmented(key, images, "cutout", "translation", "color")
    assert not np.allclose(result, turned)
    assert not np.allclose(result, augmented(jax.random.key(1), images, *policy))


@pytest.mark.parametrize("policy", [("color",), ("translation",), ("cutout",), ("color", "translation", "cutout")])
def test_examples_do_not_mix_and_gradients_flow(key, policy):
    images = normal(6, 16, 16, 3)

    direction = normal(6, 16, 16, 3, seed=1)

    @jax.jit
    def everything(images, others):
        def run(images):
            return diff_augment(key, images, policy=policy)

        result, pullback = jax.vjp(run, images)
        return result, jax.vmap(run)(others), jax.jvp(run, (images,), (direction,))[1], pullback(direction)[0]

    others = jnp.stack([images.at[2].add(1.0), images + direction, jnp.broadcast_to(images[:1], images.shape)])
    result, (other, plus, same), tangent, pulled = everything(images, others)
    changed = np.abs(np.asarray(result - other)).max(axis=(1, 2, 3)) > 1e-5  # two programs round differently
    assert list(changed) == [False, False, True, False, False, False]
    # Every change is affine in the image, so that the derivative along a direction is a difference, exactly.
    np.testing.assert_allclose(tangent, plus - result, rtol=1e-3, atol=1e-4)
    # <c, J d> = <J^T c, d>, with c = d here.
    np.testing.assert_allclose(jnp.vdot(direction, tangent), jnp.vdot(pulled, direction), rtol=1e-4)
    assert (np.abs(pulled).max(axis=(1, 2, 3)) > 0).all()
    # Other images of the batch get other draws.
    assert np.asarray(same).std(axis=0).max() > 0
