"""A GAN that obeys sparse codes: the losses and TopK come from saegan_jax, the rest is yours. Half a minute on a CPU."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import optax
from sklearn.datasets import load_digits
from sklearn.metrics import r2_score

from saegan_jax import activations, losses

D_CODE, K, NOISE, WIDTH, GAMMA, BATCH, STEPS = 32, 3, 16, 128, 0.1, 128, 3000
features = nn.Sequential([nn.Dense(WIDTH), nn.leaky_relu, nn.Dense(WIDTH), nn.leaky_relu])
generator = nn.Sequential([nn.Dense(WIDTH), nn.leaky_relu, nn.Dense(WIDTH), nn.leaky_relu, nn.Dense(64), nn.sigmoid])
adam = optax.adam(1e-3, b1=0.0, b2=0.99)


def encode(params, x):
    return activations.topk((x - params["b"]) @ params["W_enc"], K)


def sae_objective(params, x):
    return jnp.square(encode(params, x) @ params["W_dec"] + params["b"] - x).sum(axis=-1).mean()


def generate(params, code, key):
    noise = jax.random.normal(key, (len(code), NOISE))
    return generator.apply(params, jnp.concatenate([code, noise], axis=-1))


def logits(params, x, code):
    phi = features.apply(params["phi"], x)
    return phi @ params["w"] + jnp.sum(phi * (code @ params["V"]), axis=-1) / WIDTH**0.5


def d_objective(params, g_params, x, code, fake_code, key):
    fake = generate(g_params, fake_code, key)
    real_logits, r1 = losses.logits_and_gradient_norm(lambda x: logits(params, x, code), x)
    fake_logits, r2 = losses.logits_and_gradient_norm(lambda x: logits(params, x, fake_code), fake)
    return (losses.relativistic_discriminator_loss(real_logits, fake_logits) + GAMMA / 2 * (r1 + r2)).mean()


def g_objective(params, d_params, x, code, fake_code, key):
    fake = generate(params, fake_code, key)
    return losses.relativistic_generator_loss(logits(d_params, x, code), logits(d_params, fake, fake_code)).mean()


def updated(objective, params, state, *args):
    updates, state = adam.update(jax.grad(objective)(params, *args), state, params)
    return optax.apply_updates(params, updates), state


def main(steps: int = STEPS) -> float:
    """Train both; the share of the variance of test images' codes that is read back from images drawn of them."""
    x = jnp.asarray(load_digits().data / 16, jnp.float32)
    key, x, x_test = jax.random.key(0), x[:1300], x[1300:]
    w = jax.random.normal(key, (D_CODE, 64)) / 8
    sae = {"W_enc": w.T, "W_dec": w, "b": x.mean(axis=0)}
    sae, _ = jax.lax.fori_loop(0, steps, lambda i, c: updated(sae_objective, *c, x), (sae, adam.init(sae)))
    g = generator.init(key, jnp.zeros((1, D_CODE + NOISE)))
    d = {"phi": features.init(key, x[:1]), "w": jnp.zeros(WIDTH), "V": jnp.zeros((D_CODE, WIDTH))}

    def step(i, carry):
        g, g_state, d, d_state = carry
        row_key, *keys = jax.random.split(jax.random.fold_in(key, i), 3)
        real = x[jax.random.randint(row_key, (BATCH,), 0, len(x))]
        code = encode(sae, real)
        pairs = (real, code, jnp.roll(code, 1, axis=0))  # a fake is drawn of the code of another real
        d, d_state = updated(d_objective, d, d_state, g, *pairs, keys[0])
        return *updated(g_objective, g, g_state, d, *pairs, keys[1]), d, d_state

    g, *_ = jax.lax.fori_loop(0, steps, step, (g, adam.init(g), d, adam.init(d)))
    code = encode(sae, x_test)
    r2 = r2_score(code, encode(sae, generate(g, code, key)), multioutput="variance_weighted")
    print(f"R2 of codes read back from images drawn of them: {r2:.2f}")
    return float(r2)


if __name__ == "__main__":
    main()
