"""A mixture of autoregressive networks over the units: which are active, and how strongly, given all units before."""

import math
from typing import Any, NamedTuple

import flax.struct
import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.scipy.special import logit

from saegan_jax.errors import require
from saegan_jax.priors.base import (
    N_QUANTILES,
    Prior,
    check_codes,
    check_fitted,
    check_n_quantiles,
    code_scale,
    magnitudes_at,
    quantile_table,
)
from saegan_jax.priors.k_means import k_means, k_means_operations

MOST_UNITS = 2048  # the network has a weight for every pair of units and every level
LEVELS = 8  # of a unit's magnitude, each as frequent as any other
WIDTH = 4  # hidden units for each unit of the code
BATCH = 128
LEARNING_RATE = 3e-3
WEIGHT_DECAY = 1e-2
ROUNDS = 10  # after which held-out codes decide which parameters are kept
MOST_HELD_OUT = 1000
NEVER = -1e4  # a log probability


@flax.struct.dataclass
class LearnedPrior:
    """``p(h) = sum_c p(c) sum_L p(L | c) prod_i p(h_i | h_1 .. h_{i-1}, c, L)``, L the active units of the code.

    Units come in the order of ``order``.

    Attributes:
      params: of the network, see :func:`logits`.
      order: ``(d_sae,)`` int32, the rarest unit first.
      quantiles: ``(n_quantiles, d_sae)``, of the active magnitudes, in that order.
      weight: ``(n_groups,)``, p(c), of sum 1.
      counts: ``(n_groups, d_sae + 1)``, p(L | c), as in the codes that it was fitted to.
      offsets: ``(d_sae, d_sae + 1)``, see :func:`count_offsets`.
      held_out: nats a code, the negative log likelihood of codes that were held out of the training, given their group.
      scale: ``(d_sae,)``, see :func:`saegan_jax.priors.base.code_scale`.
    """

    params: Any
    order: jax.Array
    quantiles: jax.Array
    weight: jax.Array
    counts: jax.Array
    offsets: jax.Array
    held_out: jax.Array
    scale: jax.Array


class Masks(NamedTuple):
    """Which weights may be other than 0: ``w_in (d_sae, width)``, ``w_out (width, d_sae)``, ``w_direct (d_sae, d_sae)``."""

    w_in: np.ndarray
    w_out: np.ndarray
    w_direct: np.ndarray


def masks(d_sae: int) -> Masks:
    """Hidden unit m reads the first ``m mod d_sae`` units of the code, and feeds those that come after them."""
    units, degrees = np.arange(d_sae), np.arange(WIDTH * d_sae) % d_sae
    return Masks(
        (units[:, None] < degrees[None]).astype(np.float32),
        (degrees[:, None] <= units[None]).astype(np.float32),
        (units[:, None] < units[None]).astype(np.float32),
    )


def off_the_ends(density: jax.Array) -> jax.Array:
    """Probabilities kept off 0 and 1, so that their logarithms are finite."""
    return jnp.clip(density, 1e-6, 1 - 1e-6)


def count_offsets(density: jax.Array) -> jax.Array:
    """What remains to be turned on changes the log odds of a unit by this much, were units independent.

    ``offsets[j, r] = log Q_{j+1}(r - 1) - log Q_{j+1}(r)``, ``Q_j(r)`` the probability that r of the units j, j+1, .. are
    active. With r units left to turn on and no more units than that they are all on; with none left they are all off.

    Args:
      density: ``(d_sae,)`` in order.

    Returns:
      ``(d_sae, d_sae + 1)``, from -50 to 50.
    """
    d_sae = density.shape[0]
    p = off_the_ends(density)

    def shifted(log_q: jax.Array) -> jax.Array:
        return jnp.concatenate([jnp.full(1, NEVER, log_q.dtype), log_q[:-1]])

    def before(log_q: jax.Array, p_j: jax.Array) -> tuple[jax.Array, jax.Array]:
        offset = jnp.clip(shifted(log_q) - log_q, -50.0, 50.0)
        return jnp.logaddexp(jnp.log1p(-p_j) + log_q, jnp.log(p_j) + shifted(log_q)), offset

    none = jnp.where(jnp.arange(d_sae + 1) == 0, 0.0, NEVER).astype(jnp.float32)
    _, reverse = jax.lax.scan(before, none, p[::-1])
    return reverse[::-1]


def for_every_level(x: jax.Array) -> jax.Array:
    """``(..., d_sae)`` logits of being active as those of every level, beside 0 for off: ``(..., d_sae, 1 + LEVELS)``."""
    return jnp.concatenate([jnp.zeros_like(x)[..., None], jnp.repeat(x[..., None], LEVELS, axis=-1)], axis=-1)


def init_params(density: jax.Array, by_group: jax.Array, key: jax.Array) -> dict[str, jax.Array]:
    """Small random weights, and biases with which units are independent within groups.

    Args:
      density: ``(d_sae,)`` in order, over all groups.
      by_group: ``(n_groups, d_sae)``, within each.
      key: random key.
    """
    n_groups, d_sae = by_group.shape
    width = WIDTH * d_sae
    in_key, out_key = jax.random.split(key)
    active = jnp.maximum(density.sum(), 1.0)
    overall, within = logit(off_the_ends(density)), logit(off_the_ends(by_group))
    return {
        "w_in": jax.random.normal(in_key, (2, d_sae, width), jnp.float32) / jnp.sqrt(active),
        "hidden": jnp.zeros((n_groups, width), jnp.float32),
        "w_out": jax.random.normal(out_key, (width, d_sae, 1 + LEVELS), jnp.float32) * (0.01 / width**0.5),
        "w_direct": jnp.zeros((2, d_sae, d_sae, 1 + LEVELS), jnp.float32),
        "bias": for_every_level(overall - math.log(LEVELS)),
        "group": for_every_level(within - overall[None]),
    }


def features_of(rank: jax.Array, active: jax.Array) -> jax.Array:
    """What the network reads of units: whether each is active, and its rank from -1 to 1; ``(2, ...)``."""
    on = active.astype(jnp.float32)
    return jnp.stack([on, on * (2 * rank - 1)])


def logits(params: dict[str, jax.Array], allowed: Masks, x: jax.Array, group: jax.Array) -> jax.Array:
    """``(n, d_sae, 1 + LEVELS)`` of every unit given those before it: off, or active at one of the levels.

    ``ReLU(x W_in + r_c) W_out + x W_direct + b + b_c``, the weights masked so that no unit depends on itself or a later one.

    Args:
      params: see :func:`init_params`.
      allowed: see :class:`Masks`.
      x: ``(2, n, d_sae)``, see :func:`features_of`.
      group: ``(n,)`` int32.
    """
    pre_activations = jnp.einsum("ind,idw->nw", x, params["w_in"] * allowed.w_in[None])
    hidden = jax.nn.relu(pre_activations + params["hidden"][group])
    from_hidden = jnp.einsum("nw,wdl->ndl", hidden, params["w_out"] * allowed.w_out[:, :, None])
    direct = jnp.einsum("ine,iedl->ndl", x, params["w_direct"] * allowed.w_direct[None, :, :, None])
    return from_hidden + direct + params["bias"][None] + params["group"][group]


def ranks(codes: jax.Array, quantiles: jax.Array) -> jax.Array:
    """Ranks in [0, 1] of magnitudes ``(n, d_sae)`` among the active ones of their unit, from tables of quantiles."""
    level = jnp.linspace(0.0, 1.0, quantiles.shape[0], dtype=jnp.float32)
    rank = jax.vmap(lambda c, q: jnp.interp(c, q, level), in_axes=1, out_axes=1)(codes, quantiles)
    return rank


class Tables(NamedTuple):
    """What the network is not trained on and reads: ``quantiles (n_quantiles, d_sae)`` and ``offsets (d_sae, d_sae + 1)``."""

    quantiles: jax.Array
    offsets: jax.Array


def nll(params: dict[str, jax.Array], allowed: Masks, codes: jax.Array, group: jax.Array, tables: Tables) -> jax.Array:
    """``-mean_n sum_i log p(h_i | h_1 .. h_{i-1}, c, L)``, nats a code: codes ``(n, d_sae)`` in order, inactive units at 0."""
    active, rank = codes > 0, ranks(codes, tables.quantiles)
    level = jnp.minimum(jnp.floor(rank * LEVELS), LEVELS - 1).astype(jnp.int32)
    so_far = jnp.cumsum(active, axis=1, dtype=jnp.int32)
    left = so_far[:, -1:] - so_far + active.astype(jnp.int32)  # before each unit
    offset = tables.offsets[jnp.arange(codes.shape[1])[None], left]
    found = logits(params, allowed, features_of(rank, active), group)
    found = found.at[:, :, 0].add(-offset)
    return optax.softmax_cross_entropy_with_integer_labels(found, jnp.where(active, 1 + level, 0)).sum(axis=1).mean()


def train(
    codes: jax.Array, group: jax.Array, tables: Tables, params: Any, key: jax.Array, *, steps: int
) -> tuple[Any, jax.Array]:
    """AdamW on batches of codes; of the parameters before and after each of ``ROUNDS`` rounds the best for held-out codes.

    Args:
      codes: ``(n, d_sae)`` in order, inactive units at 0. A tenth is held out, at most ``MOST_HELD_OUT``.
      group: ``(n,)`` int32.
      tables: see :class:`Tables`.
      params: to begin with.
      key: of the split and the batches.
      steps: rounded up to a multiple of ``ROUNDS``.

    Returns:
      Parameters, and the negative log likelihood of the held-out codes in nats a code.
    """
    split_key, batch_key = jax.random.split(key)
    allowed, n = masks(codes.shape[1]), codes.shape[0]
    shuffled = jax.random.permutation(split_key, n)
    held = min(MOST_HELD_OUT, n // 10)
    held_out, trained = (shuffled[:held], shuffled[held:]) if held else (shuffled, shuffled)
    length = -(-steps // ROUNDS)
    optimiser = optax.adamw(
        optax.cosine_decay_schedule(LEARNING_RATE, length * ROUNDS), b2=0.99, weight_decay=WEIGHT_DECAY
    )

    def loss(params: Any, chosen: jax.Array) -> jax.Array:
        return nll(params, allowed, codes[chosen], group[chosen], tables)

    def step(carry: tuple[Any, Any], i: jax.Array) -> tuple[tuple[Any, Any], None]:
        params, opt_state = carry
        chosen = trained[jax.random.randint(jax.random.fold_in(batch_key, i), (BATCH,), 0, len(trained))]
        gradient = jax.grad(loss)(params, chosen)
        # Optax raises Python floats to the power of an int32 step count, which strict dtype promotion forbids.
        with jax.numpy_dtype_promotion("standard"):
            updates, opt_state = optimiser.update(gradient, opt_state, params)
        return (optax.apply_updates(params, updates), opt_state), None

    def rounds(carry: tuple[Any, Any, Any, jax.Array], first: jax.Array) -> tuple[Any, None]:
        params, opt_state, best, least = carry
        (params, opt_state), _ = jax.lax.scan(step, (params, opt_state), first + jnp.arange(length))
        found = loss(params, held_out)
        best = jax.tree.map(lambda new, old: jnp.where(found < least, new, old), params, best)
        return (params, opt_state, best, jnp.minimum(found, least)), None

    start = (params, optimiser.init(params), params, loss(params, held_out))
    (_, _, best, least), _ = jax.lax.scan(rounds, start, length * jnp.arange(ROUNDS))
    return best, least


def fit_learned(
    codes: jax.Array,
    key: jax.Array,
    *,
    threshold: float,
    n_quantiles: int = N_QUANTILES,
    n_groups: int = 64,
    steps: int = 2000,
) -> LearnedPrior:
    """Train a mixture of autoregressive networks on codes.

    k-means gives every code its group c. One network with a hidden layer of ``WIDTH`` d_sae units then predicts each unit from
    those before it, c, and how many units are still to be turned on: off, or active at one of ``LEVELS`` equally frequent
    levels of its magnitude. It starts as independent units within groups. A tenth of the codes is held out, and the parameters
    that predict it best are kept. The number of active units is drawn as it is in the group.

    Args:
      codes: ``(n, d_sae)`` codes of training data, non-negative.
      key: random key.
      threshold: a code above it counts as active.
      n_quantiles: resolution of the magnitude tables.
      n_groups: of the mixture; those beyond the number of distinct codes stay empty.
      steps: of training.

    Returns:
      A :class:`LearnedPrior`.

    Raises:
      ValueError: codes that are no matrix, none, or too wide; no group, no step, or a table of fewer than two quantiles.

    Source: Germain et al., MADE: masked autoencoder for distribution estimation, 2015, section 4.
    """
    check_codes(codes)
    check_n_quantiles(n_quantiles)
    require(n_groups >= 1, "n_groups", n_groups, "a mixture needs at least one group.")
    require(steps >= 1, "steps", steps, "train for at least one step.")
    d_sae = codes.shape[1]
    fix = f"a learned prior takes codes of at most {MOST_UNITS} units; use the sampler clusters."
    require(d_sae <= MOST_UNITS, "d_sae", d_sae, fix)
    group_key, init_key, train_key = jax.random.split(key, 3)
    kept = jnp.where(codes > threshold, codes, 0.0)
    group = k_means(kept, group_key, n_clusters=n_groups)
    density = (kept > 0).mean(axis=0, dtype=jnp.float32)
    order = jnp.argsort(density).astype(jnp.int32)
    kept, density = kept[:, order], density[order]
    active = kept > 0
    count = active.sum(axis=0, dtype=jnp.int32)
    quantiles = quantile_table(jnp.sort(kept, axis=0), kept.shape[0], count, n_quantiles=n_quantiles)
    inside = jax.nn.one_hot(group, n_groups, dtype=jnp.float32)
    size = inside.sum(axis=0).reshape(-1, 1)
    # As if one more code of the whole had fallen into each group: no unit is impossible in it.
    by_group = (jnp.matmul(inside.T, active.astype(jnp.float32)) + density.reshape(1, -1)) / (size + 1)
    tables = Tables(quantiles, count_offsets(density))
    params, held_out = train(kept, group, tables, init_params(density, by_group, init_key), train_key, steps=steps)
    l0 = jax.nn.one_hot(active.sum(axis=1), d_sae + 1, dtype=jnp.float32)
    return LearnedPrior(
        params=params,
        order=order,
        quantiles=quantiles,
        weight=inside.mean(axis=0),
        counts=jnp.matmul(inside.T, l0) / jnp.maximum(size, 1.0),
        offsets=tables.offsets,
        held_out=held_out,
        scale=code_scale(codes),
    )


class Drawn(NamedTuple):
    """A code in the making: the hidden layer so far ``(n, width)``, logits of all units so far, and units yet to turn on."""

    pre_activations: jax.Array
    direct: jax.Array
    left: jax.Array


def sample_learned(fitted: LearnedPrior, key: jax.Array, n: int) -> jax.Array:
    """Draw codes unit by unit.

    Args:
      fitted: from :func:`fit_learned`.
      key: random key.
      n: number of codes, static.

    Returns:
      ``(n, d_sae)``; exactly zero where a unit is off.

    Raises:
      ValueError: what another prior fitted.
    """
    check_fitted(fitted, LearnedPrior)
    params, n_quantiles = fitted.params, fitted.quantiles.shape[0]
    d_sae = fitted.order.shape[0]
    allowed = masks(d_sae)
    group_key, count_key, key = jax.random.split(key, 3)
    group = jax.random.categorical(group_key, jnp.log(fitted.weight), shape=(n,))
    left = jax.random.categorical(count_key, jnp.log(fitted.counts[group]), axis=1).astype(jnp.int32)

    def unit(so_far: Drawn, given: tuple[jax.Array, ...]) -> tuple[Drawn, tuple[jax.Array, jax.Array]]:
        j, w_in, w_out, w_direct, offsets, key = given
        found = jax.nn.relu(so_far.pre_activations) @ w_out + so_far.direct[:, j] + params["bias"][j][None]
        found = found.at[:, 0].add(-offsets[so_far.left])
        # Exactly as many as were drawn: none beyond them, and all where no more units are left than have to be on.
        full, short = so_far.left <= 0, so_far.left >= d_sae - j
        off = jnp.where(short[:, None], -jnp.inf, found[:, :1])
        on = jnp.where(full[:, None], -jnp.inf, found[:, 1:])
        level_key, rank_key = jax.random.split(key)
        level = jax.random.categorical(level_key, jnp.concatenate([off, on], axis=1), axis=1)
        active = level > 0
        rank = (level.astype(jnp.float32) - 1 + jax.random.uniform(rank_key, (n,), jnp.float32)) / LEVELS
        rank = jnp.where(active, rank, 0.0)
        x = features_of(rank, active)
        pre_activations = so_far.pre_activations + jnp.einsum("in,iw->nw", x, w_in)
        direct = so_far.direct + jnp.einsum("in,idl->ndl", x, w_direct)
        return Drawn(pre_activations, direct, so_far.left - active.astype(jnp.int32)), (active, rank)

    given = (
        jnp.arange(d_sae),
        jnp.swapaxes(params["w_in"] * allowed.w_in[None], 0, 1),
        jnp.swapaxes(params["w_out"] * allowed.w_out[:, :, None], 0, 1),
        jnp.swapaxes(params["w_direct"] * allowed.w_direct[None, :, :, None], 0, 1),
        fitted.offsets,
        jax.random.split(key, d_sae),
    )
    start = Drawn(params["hidden"][group], params["group"][group], left)
    _, (active, rank) = jax.lax.scan(unit, start, given)
    magnitude = magnitudes_at(fitted.quantiles, rank.T, n_quantiles=n_quantiles)
    ordered = jnp.where(active.T, magnitude, 0.0)
    return jnp.zeros((n, d_sae), ordered.dtype).at[:, fitted.order].set(ordered)


def fit_operations(n: int, d_sae: int, *, n_groups: int = 64, steps: int = 2000) -> float:
    """Floating-point operations of :func:`fit_learned`, of its matrix products: ``6 batch weights steps``, and k-means.

    A weight costs two operations forward and four backward, for every code of a batch.
    """
    width = WIDTH * d_sae
    weights = 2 * d_sae * width + width * d_sae * (1 + LEVELS) + 2 * d_sae**2 * (1 + LEVELS)
    return 6.0 * BATCH * weights * steps + k_means_operations(n, d_sae, n_clusters=n_groups)


LEARNED = Prior(fit=fit_learned, sample=sample_learned, operations=fit_operations)
