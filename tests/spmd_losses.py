"""Every loss and activation on a batch that is spread over four devices, beside one device: prints the differences as JSON.

Run by test_spmd.py in a process of its own, which has several virtual devices.
"""

import json
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from helpers import normal
from jax.sharding import NamedSharding
from jax.sharding import PartitionSpec as P

from saegan_jax import activations, losses
from saegan_jax.networks.autoencoders import sparse_product

jax.config.update("jax_numpy_dtype_promotion", "strict")
jax.config.update("jax_numpy_rank_promotion", "raise")

N, UNITS = 8, 6
quick = partial(jax.jit, compiler_options={"xla_backend_optimization_level": 0})
X, Y, LOGITS, FAKE = normal(N, UNITS, seed=1), normal(N, UNITS, seed=2), normal(N, seed=3), normal(N, seed=4)
POSITIVE = jnp.abs(X) + 0.1
W = normal(UNITS, UNITS, seed=5)
DEAD = jnp.asarray([True, True, True, False, False, False])
KEY = jax.random.key(0)


def critic(x):
    return jnp.tanh(x @ W).sum(axis=1)


def stepped(activation):
    """With a threshold for each unit, so that the gradient in it adds up over the batch."""
    return lambda x, t: activation(x, jnp.broadcast_to(t.reshape(1, -1), x.shape), 0.5)


# By name: a function, and its arguments, spread along their first axis where that is the batch.
CASES = {
    "mean_activation": (losses.mean_activation, X),
    "kl_sparsity": (lambda h: losses.kl_sparsity(losses.mean_activation(jax.nn.sigmoid(h)), 0.1), X),
    "kl_sparsity_from_logits": (lambda z: losses.kl_sparsity_from_logits(z, 0.1), X),
    "kl_sparsity_rate": (lambda h: losses.kl_sparsity_rate(losses.mean_activation(h), 0.1), POSITIVE),
    "l1_sparsity": (losses.l1_sparsity, X),
    "hoyer_sparsity": (losses.hoyer_sparsity, X),
    "sae_loss": (partial(losses.sae_loss, rho=0.1, beta=3.0), X, Y, X),
    "auxk_loss": (lambda e, a, w: losses.auxk_loss(e, a, w, DEAD, k_aux=2), X, Y, W),
    "hinge_discriminator_loss": (losses.hinge_discriminator_loss, LOGITS, FAKE),
    "relativistic_generator_loss": (losses.relativistic_generator_loss, LOGITS, FAKE),
    "energy_discriminator_loss": (partial(losses.energy_discriminator_loss, margin=1.0), POSITIVE, jnp.abs(Y)),
    "pulling_away": (losses.pulling_away, X),
    "began_balance": (partial(losses.began_balance, 0.1, gamma=0.5, lambda_k=0.01), jnp.abs(LOGITS), jnp.abs(FAKE)),
    "lecam": (lambda r, f: losses.lecam(r, f, 0.1, 0.2), LOGITS, FAKE),
    "r1_penalty": (partial(losses.r1_penalty, critic), X),
    "gradient_penalty": (lambda x, y: losses.gradient_penalty(critic, x, y, KEY), X, Y),
    "dragan_penalty": (lambda x: losses.dragan_penalty(critic, x, KEY), X),
    "gaussian_kl": (losses.gaussian_kl, X, Y),
    "spike_and_slab_kl": (lambda m, v: losses.spike_and_slab_kl(m, v, m, alpha=0.1), X, Y),
    "elbo": (losses.elbo, X, Y),
    "cycle_consistency": (losses.cycle_consistency, X, Y),
    "topk": (lambda x: activations.topk(x, 2), X),
    "topk of the batch": (lambda x: activations.topk(x, 16, axis=(0, 1)), X),
    "topk of each unit": (lambda x: activations.topk(x, 3, axis=0), X),
    "jumprelu": (stepped(activations.jumprelu), X, jnp.full(UNITS, 0.1)),
    "heaviside": (stepped(activations.heaviside), X, jnp.full(UNITS, 0.1)),
    "sparse_product": (lambda h, w: sparse_product(activations.topk(h, 2), w, 2), X, W),
}
# What reads the whole batch, with the name of the axis over which it is spread.
MAPPED = {
    "mean_activation": partial(losses.mean_activation, axis_name="d"),
    "kl_sparsity": lambda h: losses.kl_sparsity(losses.mean_activation(jax.nn.sigmoid(h), axis_name="d"), 0.1),
    "kl_sparsity_from_logits": lambda z: losses.kl_sparsity_from_logits(z, 0.1, axis_name="d"),
    "kl_sparsity_rate": lambda h: losses.kl_sparsity_rate(losses.mean_activation(h, axis_name="d"), 0.1),
    "auxk_loss": lambda e, a, w: losses.auxk_loss(e, a, w, DEAD, k_aux=2, axis_name="d"),
    "topk of the batch": lambda x: activations.topk(x, 16, axis=(0, 1), axis_name="d"),
    "topk of each unit": lambda x: activations.topk(x, 3, axis=0, axis_name="d"),
}
# These have one value for each unit, the same on every device; the others one for each example.
SAME_EVERYWHERE = {"mean_activation", "kl_sparsity", "kl_sparsity_from_logits", "kl_sparsity_rate"}
# These read the whole batch without such a name, or draw the same numbers for every share of it.
NOT_MAPPED = {"sae_loss", "pulling_away", "began_balance", "gradient_penalty", "dragan_penalty"}


def value_and_gradients(function, *args):
    """The function's value, and the gradients of a scalar made of it."""

    def scalar(*args):
        value = function(*args)
        return sum(jnp.sum(jnp.sin(x) * x) for x in jax.tree.leaves(value)), value

    (_, value), gradients = jax.value_and_grad(scalar, tuple(range(len(args))), has_aux=True)(*args)
    return value, gradients


def difference(got, want):
    """The largest, relative to the largest number of an array."""

    def of(a, b):
        a, b = np.asarray(a), np.asarray(b)
        assert a.shape == b.shape
        return float(np.max(np.abs(a - b)) / np.max(np.abs(b), initial=1e-6))

    return float(np.max(jax.tree.leaves(jax.tree.map(of, got, want))))  # NaN where there is one, unlike max


def main():
    mesh = jax.make_mesh((4,), ("d",), devices=jax.devices()[:4])
    found = {}
    for name, (function, *args) in CASES.items():
        specs = tuple(P("d") if x.shape[0] == N else P() for x in args)
        spread = [jax.device_put(x, NamedSharding(mesh, spec)) for x, spec in zip(args, specs, strict=True)]
        plain = partial(value_and_gradients, function)
        want = quick(plain)(*args)
        found[f"{name}, explicit axes"] = difference(quick(plain)(*spread), want)
        if name in NOT_MAPPED:
            continue
        share = partial(value_and_gradients, MAPPED.get(name, function))
        out_specs = (P() if name in SAME_EVERYWHERE else P("d"), specs)
        mapped = jax.shard_map(share, mesh=mesh, in_specs=specs, out_specs=out_specs)
        found[f"{name}, shard_map"] = difference(quick(mapped)(*spread), want)
    print(json.dumps(found))


if __name__ == "__main__":
    main()
