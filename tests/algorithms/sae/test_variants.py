"""Every variant of the sparse autoencoder, dense and convolutional: formulas, equivalences, patches, AuxK."""

from dataclasses import replace

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers import SHAPE, normal, unit_batch
from sae_formulas import (
    BASE,
    CODES,
    D_SAE,
    DEAD,
    FORMULAS,
    N,
    codes64,
    cut64,
    decode64,
    dense,
    differences,
    images64,
    join64,
    loss64,
    loss_program,
    pre_activations64,
    quick,
    reconstruction64,
    weights,
)

from saegan_jax.algorithms.sae import VARIANTS, autoencoder, hyper, sae
from saegan_jax.algorithms.sae.patches import patches as geometry
from saegan_jax.errors import ConfigError
from saegan_jax.networks.autoencoders import sparse_product


def test_every_variant_is_here():
    assert {config.variant for config in CODES.values()} == set(VARIANTS)
    assert {config.variant for config in CODES.values() if config.patch_size} == set(VARIANTS) - {"rate_kl"}


@pytest.mark.parametrize("name", FORMULAS)
def test_loss_and_its_gradient_equal_the_formulas(name):
    config = FORMULAS[name]
    p, x = weights(config), images64()
    value, terms, gradient, *_ = loss_program(config)(p, unit_batch(N).image)
    want, parts = loss64(config, p, x, p)
    np.testing.assert_allclose(value, want, rtol=2e-6)
    for got, part in zip(terms[:3], parts, strict=True):
        np.testing.assert_allclose(got, part, rtol=1e-5, atol=1e-6)

    a = pre_activations64(config, p, x)
    codes = codes64(config, p, a, training=True)
    np.testing.assert_allclose(terms.codes, codes, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(terms.inputs, cut64(config, x), rtol=1e-6)
    residual = cut64(config, x - decode64(config, p, codes))
    np.testing.assert_allclose(terms.residual, residual, rtol=1e-4, atol=1e-5)
    if config.variant != "kl":
        # On for some and off for others, and no unit never on: a gradient to compare everywhere.
        assert 0 < (codes > 0).mean() < 1
        assert (codes.reshape(-1, D_SAE) > 0).any(axis=0).all()

    gradient = gradient["params"]
    assert gradient.keys() == p.keys()
    for n in p:
        if n == "threshold":
            continue
        want = differences(lambda v, n=n: loss64(config, {**p, n: v}, x, p)[0], np.array(p[n]))
        assert np.abs(want).max() > 1e-3, n
        np.testing.assert_allclose(gradient[n], want, rtol=2e-4, atol=1e-5, err_msg=n)
    if config.variant == "jumprelu":
        t, width = p["threshold"], config.bandwidth
        in_codes = differences(lambda h: reconstruction64(config, p, h, x), codes)
        window = np.abs(a - t) < width / 2
        want = np.where(window, -t / width * in_codes - config.beta / (N * width), 0).reshape(-1, D_SAE).sum(axis=0)
        np.testing.assert_allclose(gradient["threshold"], want, rtol=1e-4, atol=1e-5)
        assert (window.reshape(-1, D_SAE).any(axis=0)).sum() >= 4
    elif "threshold" in p:
        np.testing.assert_array_equal(gradient["threshold"], 0)


@pytest.mark.parametrize("name", CODES)
def test_codes_after_training_are_of_each_image_for_itself(name):
    """Equal to the formulas, nonnegative, and to the bit the same whatever else is in the batch."""
    config = CODES[name]
    p, x = weights(config), images64()
    image = unit_batch(N).image
    *_, codes, decoded = loss_program(config)(p, image)
    want = codes64(config, p, pre_activations64(config, p, x), training=False)
    np.testing.assert_allclose(codes, want, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(decoded, decode64(config, p, want), rtol=1e-5, atol=1e-5)
    positions = (2, 2) if config.patch_size else ()
    assert codes.shape == (N, *positions, D_SAE)
    assert decoded.shape == (N, *SHAPE)
    assert np.min(codes) >= 0
    if config.variant == "topk":
        assert (np.asarray(codes) > 0).sum(axis=-1).max() == config.k
    others = unit_batch(N, seed=7).image.at[3].set(image[3])
    *_, among_others, _ = loss_program(config)(p, others)
    np.testing.assert_array_equal(among_others[3], codes[3])
    assert np.abs(among_others - codes).max() > 0.1


@pytest.mark.parametrize("name", ["batch_topk", "conv batch_topk", "matryoshka", "conv matryoshka"])
def test_a_batch_shares_k_a_row(name):
    config = FORMULAS[name]
    _, terms, *_ = loss_program(config)(weights(config), unit_batch(N).image)
    l0 = (np.asarray(terms.codes) > 0).sum(axis=-1)
    assert l0.mean() == config.k
    assert len(np.unique(l0)) > 1


@pytest.mark.parametrize("name", ["wta", "conv wta"])
def test_a_unit_wins_its_share_of_the_rows(name):
    config = FORMULAS[name]
    _, terms, *_ = loss_program(config)(weights(config), unit_batch(N).image)
    codes = np.asarray(terms.codes).reshape(-1, D_SAE)
    assert (codes > 0).sum(axis=0).max() == round(0.3 * len(codes))


def test_encode_takes_another_k():
    config = CODES["conv topk"]
    encode = quick(autoencoder(config, image_shape=SHAPE).encode)
    p, x = weights(config), images64()
    params = {"params": {n: jnp.asarray(v, jnp.float32) for n, v in p.items()}}
    for k in (1, 3):
        want = codes64(replace(config, k=k), p, pre_activations64(config, p, x), training=False)
        np.testing.assert_allclose(encode(params, unit_batch(N).image, k=jnp.int32(k)), want, rtol=1e-5, atol=1e-6)


def test_topk_of_all_units_is_relu():
    """Codes, loss and gradient of the l1 variant without its penalty, to the bit."""
    topk, l1 = dense("topk"), dense("l1")
    p, image = weights(l1), unit_batch(N).image
    kept = loss_program(topk)(p, image, settings=hyper(replace(topk, k=D_SAE)))
    plain = loss_program(l1)(p, image, settings=hyper(replace(l1, beta=0.0)))
    np.testing.assert_array_equal(kept[1].codes, plain[1].codes)
    np.testing.assert_array_equal(kept[0], plain[0])
    chex.assert_trees_all_close(kept[2], plain[2], rtol=1e-6, atol=1e-7)


def test_a_sparse_decoder_keeps_a_nan_and_reads_k_rows_alone():
    codes = jnp.array([[0.0, 2.0, 0.0, 1.0], [0.0, 0.0, jnp.nan, 0.0]])
    weights = jnp.arange(8.0).reshape(4, 2).at[0].set(jnp.nan)
    product = sparse_product(codes, weights, 2)
    np.testing.assert_array_equal(product[0], [10.0, 13.0])  # a product of matrices would read the first row, times 0
    assert np.isnan(product[1]).all()


@pytest.mark.parametrize(
    ("settings", "message"),
    [({"variant": "batch_topk"}, "only topk"), ({"tied": True, "decoder_norm": 0.0}, "tied decoder")],
)
def test_where_a_sparse_decoder_is_refused(settings, message):
    with pytest.raises(ConfigError, match=message):
        replace(BASE, sparse_decoder=True, **settings)


def test_a_sweep_refuses_a_sparse_decoder():
    config = dense("topk", sparse_decoder=True)
    with pytest.raises(ConfigError, match="members of a sweep"):
        sae(config, image_shape=SHAPE, member=hyper(config))


@pytest.mark.parametrize(("patch_size", "stride"), [(2, 2), (4, 2), (3, 1), (1, 1), (4, 4)])
def test_patches_put_together_again_are_the_image(patch_size, stride):
    shape = (8, 4, 2)
    config = dense("topk", patch_size=patch_size, stride=stride)
    cut, join, d_in, positions = geometry(shape, patch_size=patch_size, stride=stride)
    assert positions == (8 // stride, 4 // stride)
    assert d_in == patch_size**2 * 2
    x = normal(3, *shape)
    patches = quick(cut)(x)
    assert patches.shape == (3, *positions, d_in)
    np.testing.assert_array_equal(patches, cut64(config, np.asarray(x)))
    back = quick(join)
    np.testing.assert_allclose(back(patches), x, rtol=1e-6)
    # What the patches disagree on is averaged.
    y = normal(*patches.shape, seed=1)
    np.testing.assert_allclose(back(y), join64(config, np.asarray(y), shape), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("variant", ["kl", "l1", "topk", "batch_topk"])
def test_separate_patches_are_images_of_a_dense_autoencoder(variant):
    """Squared error and L1 are summed over an image's four patches; the KL's mean activation is over all patches."""
    config = replace(BASE, variant=variant, pre_bias="mean")
    conv = replace(config, patch_size=2, stride=2)
    p, image = weights(conv), unit_batch(N).image
    value, terms, gradient, codes, decoded = loss_program(conv)(p, image)
    tiles = jnp.asarray(cut64(conv, np.asarray(image)).reshape(4 * N, 2, 2, 1))
    functions = autoencoder(config, image_shape=(2, 2, 1))

    @quick
    def on_tiles(params):
        settings = hyper(config if variant != "kl" else replace(config, beta=config.beta / 4))
        loss, gradient = jax.value_and_grad(lambda p: functions.loss(p, tiles, hyper=settings), has_aux=True)(params)
        codes = functions.encode(params, tiles)
        return *loss, gradient, codes, functions.decode(params, codes)

    params = {"params": {n: jnp.asarray(v, jnp.float32) for n, v in p.items()}}
    tile_value, tile_terms, tile_gradient, tile_codes, tile_decoded = on_tiles(params)
    np.testing.assert_allclose(codes.reshape(4 * N, D_SAE), tile_codes, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(cut64(conv, np.asarray(decoded)).reshape(4 * N, 2, 2, 1), tile_decoded, atol=1e-5)
    np.testing.assert_allclose(terms.codes.reshape(4 * N, D_SAE), tile_terms.codes, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(terms.residual.reshape(4 * N, 4), tile_terms.residual, rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(value, 4 * tile_value, rtol=1e-5)
    chex.assert_trees_all_close(gradient, jax.tree.map(lambda g: 4 * g, tile_gradient), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("shape", "patch_size", "stride"), [((5, 4, 1), 2, 2), ((4, 6, 1), 4, 4), ((4, 4, 1), 6, 2), ((4, 2, 1), 4, 2)]
)
def test_patches_that_do_not_fit_are_refused(shape, patch_size, stride):
    config = dense("topk", patch_size=patch_size, stride=stride)
    for make in (autoencoder, sae):
        with pytest.raises(ConfigError, match=r"^stride = .* must divide both sides") as error:
            make(config, image_shape=shape)
        assert error.value.field == "stride"


# The bias of the decoder, and arguments that are missing.


@pytest.mark.parametrize("name", ["batch_topk", "gated"])
def test_centred_codes_follow_the_images(name):
    """Images and b_dec moved together: the codes stay."""
    config = FORMULAS[name]
    assert config.pre_bias != "none"
    p, image = weights(config), unit_batch(N).image
    shift = np.linspace(-0.5, 0.5, 16)
    moved = {**p, "b_dec": p["b_dec"] + shift}
    before, after = (
        loss_program(config)(p, image),
        loss_program(config)(moved, image + shift.reshape(1, *SHAPE).astype("f4")),
    )
    np.testing.assert_allclose(after[3], before[3], atol=1e-5)
    np.testing.assert_allclose(after[0], before[0], rtol=1e-5)
    *_, alone, _ = loss_program(config)(moved, image)
    assert np.abs(alone - before[3]).max() > 0.05


@pytest.mark.parametrize(
    ("config", "message"),
    [(FORMULAS["topk auxk"], "needs dead"), (FORMULAS["kl running"], "needs mean_activation")],
    ids=["dead", "mean_activation"],
)
def test_a_loss_without_what_it_needs_says_so(config, message):
    loss = autoencoder(config, image_shape=SHAPE).loss
    params = {"params": {n: jnp.asarray(v, jnp.float32) for n, v in weights(config).items()}}
    with pytest.raises(ValueError, match=message):
        jax.eval_shape(lambda: loss(params, unit_batch(N).image, hyper=hyper(config)))


# Dead units: AuxK.


@pytest.mark.parametrize("settings", [{}, {"patch_size": 2}], ids=["dense", "conv"])
def test_auxk_teaches_the_dead_units_alone(settings):
    """Its share of the gradient is what remains without it; twice the weight makes twice the share."""
    p, image = weights(dense("topk", **settings)), unit_batch(N).image
    off, on, twice = (loss_program(dense("topk", auxk=auxk, **settings)) for auxk in (0.0, 0.25, 0.5))
    g_off, g_on, g_twice = (program(p, image)[2]["params"] for program in (off, on, twice))
    share = {n: np.asarray(g_on[n]) - np.asarray(g_off[n]) for n in p}
    np.testing.assert_array_equal(g_on["b_dec"], g_off["b_dec"])
    for n, dead in (("W_enc", DEAD[None]), ("W_dec", DEAD[:, None]), ("b_enc", DEAD)):
        dead = np.broadcast_to(dead, share[n].shape)
        np.testing.assert_array_equal(share[n][~dead], 0, err_msg=n)
        assert (share[n][dead] != 0).mean() > 0.9, n
        np.testing.assert_allclose(np.asarray(g_twice[n]) - g_off[n], 2 * share[n], rtol=1e-3, atol=1e-5)
    value, terms = on(p, image)[:2]
    assert terms.auxiliary > 0.01
    np.testing.assert_allclose(value, terms.reconstruction + terms.auxiliary, rtol=1e-6)
    np.testing.assert_allclose(twice(p, image)[1].auxiliary, 2 * terms.auxiliary, rtol=1e-6)
    np.testing.assert_array_equal(terms.reconstruction, off(p, image)[1].reconstruction)


def test_auxk_without_dead_units_is_nothing():
    p, image = weights(dense("topk")), unit_batch(N).image
    on = loss_program(FORMULAS["topk auxk"])(p, image, dead=np.zeros(D_SAE, bool))
    off = loss_program(dense("topk"))(p, image)
    assert on[1].auxiliary == 0
    np.testing.assert_array_equal(on[0], off[0])
    chex.assert_trees_all_close(on[2], off[2], rtol=1e-6, atol=1e-7)


def test_auxk_weighs_as_much_beside_patches_as_beside_images():
    """Reconstruction over four separate patches is four times that of the patches as images; so must AuxK be."""
    config = dense("topk", auxk=0.25)
    conv = replace(config, patch_size=2, stride=2)
    p, image = weights(conv), unit_batch(N).image
    tiles = jnp.asarray(cut64(conv, np.asarray(image)).reshape(4 * N, 2, 2, 1))
    functions = autoencoder(config, image_shape=(2, 2, 1))
    params = {"params": {n: jnp.asarray(v, jnp.float32) for n, v in p.items()}}
    _, tile_terms = quick(lambda p: functions.loss(p, tiles, hyper=hyper(config), dead=jnp.asarray(DEAD)))(params)
    _, terms, *_ = loss_program(conv)(p, image)
    np.testing.assert_allclose(terms.reconstruction, 4 * tile_terms.reconstruction, rtol=1e-5)
    np.testing.assert_allclose(terms.auxiliary, 4 * tile_terms.auxiliary, rtol=1e-5)


def test_auxk_leaves_b_dec_alone_where_the_encoder_sees_it():
    p, image = weights(dense("topk", pre_bias="mean")), unit_batch(N).image
    off, on = (loss_program(dense("topk", pre_bias="mean", auxk=a))(p, image)[2]["params"] for a in (0.0, 0.25))
    np.testing.assert_allclose(on["b_dec"], off["b_dec"], atol=1e-6)
    assert np.abs(np.asarray(on["b_enc"]) - off["b_enc"]).max() > 1e-3
