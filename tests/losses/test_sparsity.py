"""Sparsity penalties and autoencoder objectives: hand values, saturation, devices, degenerate codes."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import special

from saegan_jax import losses


def test_hand_values():
    kl = losses.kl_sparsity(jnp.array([0.5, 0.05, 0.2]), 0.05)
    # 0.05 ln 0.1 + 0.95 ln 1.9; then equality; then 0.05 ln 0.25 + 0.95 ln 1.1875
    np.testing.assert_allclose(kl, [0.494631934, 0.0, 0.093943027], atol=1e-7)
    rate = losses.kl_sparsity_rate(jnp.array([2.0, 0.05]), 0.05)
    np.testing.assert_allclose(rate, [0.05 * np.log(0.025) + 1.95, 0.0], atol=1e-7)
    codes = jnp.array([[3.0, -4.0, 0.0, 0.0], [1.0, 1.0, 1.0, 1.0], [0.0, 0.0, 5.0, 0.0], [0.0, 0.0, 0.0, 0.0]])
    np.testing.assert_allclose(losses.l1_sparsity(codes), [7.0, 4.0, 5.0, 0.0])
    np.testing.assert_allclose(losses.hoyer_sparsity(codes), [0.6, 0.0, 1.0, 1.0], atol=1e-6)
    np.testing.assert_allclose(losses.mean_activation(codes), [1.0, -0.75, 1.5, 0.25])


def test_constant_code_has_no_divergence_although_it_is_dense():
    rho = jnp.float32(0.05)
    codes = jnp.full((256, 10), rho)
    np.testing.assert_allclose(losses.kl_sparsity(losses.mean_activation(codes), 0.05), 0.0, atol=1e-6)
    np.testing.assert_allclose(losses.kl_sparsity(jnp.full(10, rho), 0.05), np.zeros(10), atol=0)
    np.testing.assert_allclose(losses.hoyer_sparsity(codes), 0.0, atol=1e-6)
    logits = jnp.full((256, 10), np.log(0.05 / 0.95), jnp.float32)
    np.testing.assert_allclose(losses.kl_sparsity_from_logits(logits, 0.05), 0.0, atol=1e-6)


@pytest.mark.parametrize(("z", "slope"), [(-200.0, -0.05), (200.0, 0.95)])
def test_saturated_logits_keep_value_and_gradient_where_the_clipped_form_has_none(z, slope):
    logits = jnp.full((8, 3), z)
    value, gradient = jax.jit(jax.value_and_grad(lambda x: losses.kl_sparsity_from_logits(x, 0.05).sum()))(logits)
    want = special.xlogy(0.05, 0.05) + special.xlogy(0.95, 0.95) + abs(slope) * 200
    np.testing.assert_allclose(value, 3 * want, rtol=1e-6)
    np.testing.assert_allclose(gradient, slope / 8, rtol=1e-6)

    def clipped(x):
        return losses.kl_sparsity(jnp.clip(losses.mean_activation(jax.nn.sigmoid(x)), 1e-6, 1 - 1e-6), 0.05).sum()

    np.testing.assert_array_equal(jax.jit(jax.grad(clipped))(logits), 0.0)


def test_mixed_saturation_equals_float64():
    rng = np.random.default_rng(0)
    logits = np.where(rng.random((64, 6)) < 0.5, rng.normal(size=(64, 6)) * 100, rng.normal(size=(64, 6)))
    logits[:, 0] = -30 - 20 * rng.random(64)  # float32's sigmoid still holds these, but 1 - mean does not
    log_on = special.logsumexp(special.log_expit(logits), axis=0) - np.log(64)
    log_off = special.logsumexp(special.log_expit(-logits), axis=0) - np.log(64)
    want = 0.05 * (np.log(0.05) - log_on) + 0.95 * (np.log(0.95) - log_off)
    np.testing.assert_allclose(losses.kl_sparsity_from_logits(jnp.asarray(logits, jnp.float32), 0.05), want, rtol=1e-5)


def test_boundaries_are_not_hidden():
    np.testing.assert_array_equal(losses.kl_sparsity(jnp.array([0.0, 1.0]), 0.05), np.inf)
    assert np.isnan(losses.kl_sparsity(jnp.array([1.5, -0.1]), 0.05)).all()
    assert np.isnan(losses.kl_sparsity_rate(jnp.array([-0.1]), 0.05)).all()


def test_dead_relu_units_give_the_rate_divergence_a_finite_value_and_no_nan():
    pre = jnp.array([[-1.0, 2.0], [-2.0, 1.0]])

    def loss(x):
        return losses.kl_sparsity_rate(losses.mean_activation(jax.nn.relu(x)), 0.05).sum()

    value, gradient = jax.value_and_grad(loss)(pre)
    assert np.isfinite(value)
    np.testing.assert_allclose(gradient, [[0.0, (1 - 0.05 / 1.5) / 2]] * 2, rtol=1e-6)
    assert losses.kl_sparsity_rate(jnp.zeros(1), 0.05) > losses.kl_sparsity_rate(jnp.full(1, 1e-30), 0.05)


@pytest.mark.parametrize("axis", [0, (0, 1), 1])
def test_other_axes(axis):
    z = np.random.default_rng(3).normal(size=(4, 5, 3))
    rho_hat = special.expit(z).mean(axis)
    want = special.rel_entr(0.1, rho_hat) + special.rel_entr(0.9, 1 - rho_hat)
    x = jnp.asarray(z, jnp.float32)
    np.testing.assert_allclose(losses.kl_sparsity_from_logits(x, 0.1, axis=axis), want, rtol=1e-4, atol=1e-6)
    via_mean = losses.kl_sparsity(losses.mean_activation(jax.nn.sigmoid(x), axis=axis), 0.1)
    np.testing.assert_allclose(via_mean, want, rtol=1e-4, atol=1e-6)


SHARDS = jnp.stack([jnp.full((4, 3), -200.0), jax.numpy.linspace(-3.0, 5.0, 12, dtype=jnp.float32).reshape(4, 3)])


@pytest.mark.parametrize("shards", [SHARDS, SHARDS[:1].repeat(2, 0), -SHARDS], ids=["one off", "all off", "one on"])
def test_devices_are_combined_before_the_divergence(shards):
    whole = shards.reshape(8, 3)

    def loss(bias, z, axis_name=None):
        return losses.kl_sparsity_from_logits(z + bias, 0.05, axis_name=axis_name).sum()

    def member(z):
        value, gradient = jax.value_and_grad(loss)(jnp.zeros(()), z, "data")
        return value, jax.lax.pmean(gradient, "data")

    want, want_gradient = jax.jit(jax.value_and_grad(loss))(jnp.zeros(()), whole)
    got, gradient = jax.jit(jax.vmap(member, axis_name="data"))(shards)
    np.testing.assert_allclose(got, [want, want], rtol=1e-6)
    np.testing.assert_allclose(gradient, [want_gradient] * 2, rtol=1e-5)
    assert abs(want_gradient) > 0.01


def test_mean_of_divergences_is_another_number():
    codes = jnp.array([[[0.9], [0.7]], [[0.1], [0.3]]])
    mapped = jax.vmap(lambda h: losses.mean_activation(h, axis_name="data"), axis_name="data")(codes)
    np.testing.assert_allclose(mapped, [[0.5], [0.5]], rtol=1e-6)
    apart = losses.kl_sparsity(losses.mean_activation(codes, axis=1), 0.5).mean()
    assert apart > 0.1
    np.testing.assert_allclose(losses.kl_sparsity(mapped, 0.5), 0.0, atol=1e-6)


def test_hoyer_ignores_scale_and_stays_finite():
    codes = jnp.asarray(np.random.default_rng(0).normal(size=(3, 6)), jnp.float32)
    want = losses.hoyer_sparsity(codes)
    for scale in (1e-30, 1e30):
        np.testing.assert_allclose(losses.hoyer_sparsity(scale * codes), want, rtol=1e-5)
    assert np.all((want > 0) & (want < 1))
    gradient = jax.jit(jax.grad(lambda h: losses.hoyer_sparsity(h).sum()))(jnp.zeros((2, 4)))
    np.testing.assert_array_equal(gradient, 0.0)
    with pytest.raises(ValueError, match="at least two"):
        losses.hoyer_sparsity(codes[:, :1])
    np.testing.assert_allclose(losses.hoyer_sparsity(codes.T, axis=0), want, rtol=1e-6)


def test_l1_does_not_grow_with_the_batch():
    codes = jnp.ones((2, 5))
    np.testing.assert_allclose(losses.l1_sparsity(codes).mean(), losses.l1_sparsity(jnp.tile(codes, (9, 1))).mean())


def test_sae_loss_hand_value_and_convolutional_codes():
    x, x_hat = jnp.array([[1.0, 2.0], [0.0, 0.0]]), jnp.array([[1.0, 0.0], [3.0, 1.0]])
    logits = jnp.zeros((2, 3))  # rho_hat = 1/2 everywhere: KL 0.494631934 for each of 3 units
    got = losses.sae_loss(x, x_hat, logits, rho=0.05, beta=3.0)
    np.testing.assert_allclose(got, 0.5 * (4 + 10) / 2 + 3 * 3 * 0.494631934, rtol=1e-6)
    z = jnp.asarray(np.random.default_rng(0).normal(size=(2, 4, 4, 3)), jnp.float32)
    kl = losses.sae_loss(x, x, z, rho=0.05, beta=1.0)
    np.testing.assert_allclose(kl, losses.kl_sparsity_from_logits(z.reshape(32, 3), 0.05).sum(), rtol=1e-6)


def test_pixel_mean_squared_error_balances_at_three_over_392():
    rng = np.random.default_rng(0)
    x, x_hat, z = (jnp.asarray(rng.random(s), jnp.float32) for s in ((4, 784), (4, 784), (4, 9)))
    mse = jnp.mean((x - x_hat) ** 2) + 3 / 392 * losses.kl_sparsity_from_logits(z, 0.05).sum()
    np.testing.assert_allclose(losses.sae_loss(x, x_hat, z, rho=0.05, beta=3.0), 392 * mse, rtol=1e-5)


def auxk_inputs(batch=6, d_in=4, d_sae=9, seed=0):
    rng = np.random.default_rng(seed)
    e, a, w = (rng.normal(size=s).astype(np.float32) for s in ((batch, d_in), (batch, d_sae), (d_sae, d_in)))
    return jnp.asarray(e), jnp.asarray(a), jnp.asarray(w), jnp.arange(d_sae) % 3 != 0


def test_auxk_gradient_reaches_dead_units_alone():
    rng = np.random.default_rng(4)
    e, _, w_dec, dead = auxk_inputs()
    x = e + 1
    params = {
        "W_enc": jnp.asarray(rng.normal(size=(4, 9)), jnp.float32),
        "b_enc": jnp.zeros(9),
        "W_dec": w_dec,
        "b_dec": jnp.ones(4),
    }

    def loss(p):
        pre = (x - jax.lax.stop_gradient(p["b_dec"])[None]) @ p["W_enc"] + p["b_enc"][None]
        x_hat = jax.nn.relu(pre) @ p["W_dec"] + p["b_dec"][None]
        return losses.auxk_loss(x - x_hat, pre, p["W_dec"], dead, k_aux=4).mean()

    gradient = jax.jit(jax.grad(loss))(params)
    live = ~np.asarray(dead)
    np.testing.assert_array_equal(gradient["b_dec"], 0.0)
    np.testing.assert_array_equal(gradient["W_dec"][live], 0.0)
    np.testing.assert_array_equal(gradient["W_enc"][:, live], 0.0)
    np.testing.assert_array_equal(gradient["b_enc"][live], 0.0)
    assert np.all(gradient["b_enc"][~live] != 0)
    assert np.all(np.abs(gradient["W_dec"][~live]).sum(1) > 0)


def test_auxk_counts_the_decoder_bias_once():
    # A dead unit that would repair the residual to the bit leaves nothing over.
    e, a, w_dec, _ = auxk_inputs(batch=1)
    w_dec = w_dec.at[5].set(e[0] / a[0, 5])
    np.testing.assert_allclose(losses.auxk_loss(e, a, w_dec, jnp.arange(9) == 5, k_aux=3), 0.0, atol=1e-12)


def test_auxk_picks_the_largest_dead_units():
    e, a, w_dec, dead = auxk_inputs(batch=40)
    a = a.at[:, 0].set(1e4)  # a live giant must not coarsen the search among the dead
    traced = jax.jit(lambda k: losses.auxk_loss(e, a, w_dec, dead, k_aux=k))
    order = np.argsort(-np.where(dead, a, -np.inf), axis=1)
    for k_aux in (1, 3, 6, 50):
        best = order[:, : min(k_aux, int(dead.sum()))]
        e_hat = np.einsum("bk,bkd->bd", np.take_along_axis(np.asarray(a), best, 1), np.asarray(w_dec)[best])
        want = np.sum((e - e_hat) ** 2, 1) / np.mean(np.sum(np.square(e), 1))
        np.testing.assert_allclose(traced(jnp.int32(k_aux)), want, rtol=1e-4)
    np.testing.assert_allclose(losses.auxk_loss(e, a, w_dec, dead, k_aux=50), want, rtol=1e-4)


def test_auxk_at_its_edges():
    e, a, w_dec, dead = auxk_inputs()

    @jax.jit
    def loss(e, a, w, dead):
        return losses.auxk_loss(e, a, w, dead, k_aux=2).mean()

    np.testing.assert_allclose(loss(e, 0 * a, w_dec, dead), 1.0, rtol=1e-6)
    np.testing.assert_allclose(loss(7 * e, 7 * a, w_dec, dead), loss(e, a, w_dec, dead), rtol=1e-5)
    for edge in ((e, a, w_dec, jnp.zeros(9, bool)), (0 * e, a, w_dec, dead)):
        value, gradients = jax.jit(jax.value_and_grad(loss, argnums=(0, 1, 2)))(*edge)
        assert value == 0
        assert not any(np.any(g) for g in gradients)
    with pytest.raises(ValueError, match="k_aux must be at least 1, got 0"):
        losses.auxk_loss(e, a, w_dec, dead, k_aux=0)
    for bad in (dead.astype(jnp.float32), dead[:-1], dead[None]):
        with pytest.raises(ValueError, match="bool"):
            loss(e, a, w_dec, bad)
