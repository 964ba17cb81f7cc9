"""A mixture of autoregressive networks over the units: which are active, and how strongly, given all units before."""

from typing import Any, NamedTuple

import flax.struct
import jax
import jax.numpy as jnp
import numpy as np
import optax

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
from saegan_jax.priors.k_means import LLOYD_STEPS, k_means

MOST_UNITS = 2048  # the network has a weight for every pair of units and every level
LEVELS = 8  # of a unit's magnitude, each as frequent as any other
WIDTH = 4  # hidden units for each unit of the code
BATCH = 128
LEARNING_RATE = 3e-3
WEIGHT_DECAY = 1e-2
ROUNDS = 10  # after which held-out codes decide which parameters are kept
MOST_HELD_OUT = 1000


@flax.struct.dataclass
class LearnedPrior:
    """``p(h) = sum_c p(c) prod_i p(h_i | h_1 .. h_{i-1}, c)``, units in the order of ``order``.

    Attributes:
      params: of the network, see :func:`logits`.
      order: ``(d_sae,)`` int32, the rarest unit first.
      quantiles: ``(n_quantiles, d_sae)``, of the active magnitudes, in that order.
      weight: ``(n_groups,)``, p(c), of sum 1.
      least, most: int32 scalars, active units of the codes that it was fitted to: no code drawn has fewer or more.
      held_out: nats a code, the negative log likelihood of codes that were held out of the training, given their group.
      scale: ``(d_sae,)``, see :func:`saegan_jax.priors.base.code_scale`.
    """

    params: Any
    order: jax.Array
    quantiles: jax.Array
    weight: jax.Array
    least: jax.Array
    most: jax.Array
    held_out: jax.Array
    scale: jax.Array


class Masks(NamedTuple):
    """Which weights may be other than 0: ``reads (d_sae, width)``, ``tells (width, d_sae)``, ``before (d_sae, d_sae)``."""

    reads: np.ndarray
    tells: np.ndarray
    before: np.ndarray


def masks(d_sae: int) -> Masks:
    """Hidden unit m reads the first ``m mod d_sae`` units of the code, and tells those that come after them."""
    units, degrees = np.arange(d_sae), np.arange(WIDTH * d_sae) % d_sae
    return Masks(
        (units[:, None] < degrees[None]).astype(np.float32),
        (degrees[:, None] <= units[None]).astype(np.float32),
        (units[:, None] < units[None]).astype(np.float32),
    )


def init_params(density: jax.Array, key: jax.Array, *, n_groups: int) -> dict[str, jax.Array]:
    """Random weights, and biases that make every unit as frequent as it is: ``density (d_sae,)`` in order."""
    d_sae = density.shape[0]
    width = WIDTH * d_sae
    read_key, tell_key = jax.random.split(key)
    active = jnp.maximum(density.sum(), 1.0)
    off, on = jnp.log(1 - density + 1e-4)[:, None], jnp.log(density + 1e-9)[:, None] - np.log(LEVELS)
    return {
        "reads": jax.random.normal(read_key, (2, d_sae, width), jnp.float32) / jnp.sqrt(active),
        "hidden": jnp.zeros((n_groups, width), jnp.float32),
        "tells": jax.random.normal(tell_key, (width, d_sae, 1 + LEVELS), jnp.float32) * (0.5 / width**0.5),
        "before": jnp.zeros((2, d_sae, d_sae, 1 + LEVELS), jnp.float32),
        "bias": jnp.concatenate([off, jnp.broadcast_to(on, (d_sae, LEVELS))], axis=1),
        "group": jnp.zeros((n_groups, d_sae, 1 + LEVELS), jnp.float32),
    }


def features_of(rank: jax.Array, active: jax.Array) -> jax.Array:
    """What the network reads of units: whether each is active, and its rank from -1 to 1; ``(2, ...)``."""
    on = active.astype(jnp.float32)
    return jnp.stack([on, on * (2 * rank - 1)])


def logits(params: dict[str, jax.Array], allowed: Masks, x: jax.Array, group: jax.Array) -> jax.Array:
    """``(n, d_sae, 1 + LEVELS)`` of every unit given those before it: off, or active at one of the levels.

    ``ReLU(x R + r_c) T + x B + b + b_c``, R, T and B masked so that no unit sees itself or a later one.

    Args:
      params: see :func:`init_params`.
      allowed: see :class:`Masks`.
      x: ``(2, n, d_sae)``, see :func:`features_of`.
      group: ``(n,)`` int32.
    """
    read = jnp.einsum("ind,idw->nw", x, params["reads"] * allowed.reads[None])
    hidden = jax.nn.relu(read + params["hidden"][group])
    told = jnp.einsum("nw,wdl->ndl", hidden, params["tells"] * allowed.tells[:, :, None])
    direct = jnp.einsum("ine,iedl->ndl", x, params["before"] * allowed.before[None, :, :, None])
    return told + direct + params["bias"][None] + params["group"][group]


def ranks(codes: jax.Array, quantiles: jax.Array) -> jax.Array:
    """Ranks in [0, 1] of magnitudes ``(n, d_sae)`` among the active ones of their unit, from tables of quantiles."""
    level = jnp.linspace(0.0, 1.0, quantiles.shape[0], dtype=jnp.float32)
    rank = jax.vmap(lambda c, q: jnp.interp(c, q, level), in_axes=1, out_axes=1)(codes, quantiles)
    return jnp.clip(jnp.nan_to_num(rank), 0.0, 1.0)


def nll(
    params: dict[str, jax.Array], allowed: Masks, codes: jax.Array, group: jax.Array, quantiles: jax.Array
) -> jax.Array:
    """``-mean_n sum_i log p(h_i | h_1 .. h_{i-1}, c)``, nats a code: codes ``(n, d_sae)`` in order, inactive units at 0."""
    active, rank = codes > 0, ranks(codes, quantiles)
    level = jnp.minimum(jnp.floor(rank * LEVELS), LEVELS - 1).astype(jnp.int32)
    found = logits(params, allowed, features_of(rank, active), group)
    return optax.softmax_cross_entropy_with_integer_labels(found, jnp.where(active, 1 + level, 0)).sum(axis=1).mean()


def train(
    codes: jax.Array, group: jax.Array, quantiles: jax.Array, params: Any, key: jax.Array, *, steps: int
) -> tuple[Any, jax.Array]:
    """AdamW on batches of codes; of the parameters after each of ``ROUNDS`` rounds those that held-out codes like best.

    Args:
      codes: ``(n, d_sae)`` in order, inactive units at 0. A tenth is held out, at most ``MOST_HELD_OUT``.
      group: ``(n,)`` int32.
      quantiles: of the active magnitudes.
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
    tried, rest = (shuffled[:held], shuffled[held:]) if held else (shuffled, shuffled)
    length = -(-steps // ROUNDS)
    optimiser = optax.adamw(
        optax.cosine_decay_schedule(LEARNING_RATE, length * ROUNDS), b2=0.99, weight_decay=WEIGHT_DECAY
    )

    def loss(params: Any, chosen: jax.Array) -> jax.Array:
        return nll(params, allowed, codes[chosen], group[chosen], quantiles)

    def step(carry: tuple[Any, Any], i: jax.Array) -> tuple[tuple[Any, Any], None]:
        params, opt_state = carry
        chosen = rest[jax.random.randint(jax.random.fold_in(batch_key, i), (BATCH,), 0, len(rest))]
        gradient = jax.grad(loss)(params, chosen)
        # Optax raises Python floats to the power of an int32 step count, which strict dtype promotion forbids.
        with jax.numpy_dtype_promotion("standard"):
            updates, opt_state = optimiser.update(gradient, opt_state, params)
        return (optax.apply_updates(params, updates), opt_state), None

    def rounds(carry: tuple[Any, Any, Any, jax.Array], first: jax.Array) -> tuple[Any, None]:
        params, opt_state, best, least = carry
        (params, opt_state), _ = jax.lax.scan(step, (params, opt_state), first + jnp.arange(length))
        found = loss(params, tried)
        best = jax.tree.map(lambda new, old: jnp.where(found < least, new, old), params, best)
        return (params, opt_state, best, jnp.minimum(found, least)), None

    start = (params, optimiser.init(params), params, jnp.asarray(jnp.inf, jnp.float32))
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
    those before it and c: off, or active at one of ``LEVELS`` equally frequent levels of its magnitude. A tenth of the codes
    is held out, and the parameters that predict it best are kept.

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
    kept, count = kept[:, order], (kept > 0).sum(axis=0)[order]
    quantiles = quantile_table(jnp.sort(kept, axis=0), kept.shape[0], count, n_quantiles=n_quantiles)
    params = init_params(density[order], init_key, n_groups=n_groups)
    params, held_out = train(kept, group, quantiles, params, train_key, steps=steps)
    active = (kept > 0).sum(axis=1).astype(jnp.int32)
    return LearnedPrior(
        params=params,
        order=order,
        quantiles=quantiles,
        weight=jax.nn.one_hot(group, n_groups, dtype=jnp.float32).mean(axis=0),
        least=active.min(),
        most=active.max(),
        held_out=held_out,
        scale=code_scale(codes),
    )


class Drawn(NamedTuple):
    """A code in the making: the hidden layer so far ``(n, width)``, logits of all units so far, and units that are active."""

    read: jax.Array
    direct: jax.Array
    n_active: jax.Array


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
    group_key, key = jax.random.split(key)
    group = jax.random.categorical(group_key, jnp.log(fitted.weight), shape=(n,))

    def unit(so_far: Drawn, given: tuple[jax.Array, ...]) -> tuple[Drawn, tuple[jax.Array, jax.Array]]:
        j, reads, tells, before, key = given
        found = jax.nn.relu(so_far.read) @ tells + so_far.direct[:, j] + params["bias"][j][None]
        # As many active units as the codes have: not more, and not so few that the remaining ones could not make up for it.
        full, short = so_far.n_active >= fitted.most, fitted.least - so_far.n_active >= d_sae - j
        off = jnp.where(short[:, None], -jnp.inf, found[:, :1])
        on = jnp.where(full[:, None], -jnp.inf, found[:, 1:])
        level_key, rank_key = jax.random.split(key)
        level = jax.random.categorical(level_key, jnp.concatenate([off, on], axis=1), axis=1)
        active = level > 0
        rank = (level.astype(jnp.float32) - 1 + jax.random.uniform(rank_key, (n,), jnp.float32)) / LEVELS
        rank = jnp.where(active, rank, 0.0)
        x = features_of(rank, active)
        read = so_far.read + jnp.einsum("in,iw->nw", x, reads)
        direct = so_far.direct + jnp.einsum("in,idl->ndl", x, before)
        return Drawn(read, direct, so_far.n_active + active.astype(jnp.int32)), (active, rank)

    given = (
        jnp.arange(d_sae),
        jnp.swapaxes(params["reads"] * allowed.reads[None], 0, 1),
        jnp.swapaxes(params["tells"] * allowed.tells[:, :, None], 0, 1),
        jnp.swapaxes(params["before"] * allowed.before[None, :, :, None], 0, 1),
        jax.random.split(key, d_sae),
    )
    start = Drawn(params["hidden"][group], params["group"][group], jnp.zeros(n, jnp.int32))
    _, (active, rank) = jax.lax.scan(unit, start, given)
    magnitude = magnitudes_at(fitted.quantiles, rank.T, n_quantiles=n_quantiles)
    ordered = jnp.where(active.T, magnitude, 0.0)
    return jnp.zeros((n, d_sae), ordered.dtype).at[:, fitted.order].set(ordered)


def fit_operations(n: int, d_sae: int, *, n_groups: int = 64, steps: int = 2000) -> float:
    """Floating-point operations of :func:`fit_learned`, of its matrix products: ``6 batch weights steps + 2 Lloyd n d c``.

    A weight costs two operations forward and four backward, for every code of a batch.
    """
    width = WIDTH * d_sae
    weights = 2 * d_sae * width + width * d_sae * (1 + LEVELS) + 2 * d_sae**2 * (1 + LEVELS)
    return 6.0 * BATCH * weights * steps + 2.0 * LLOYD_STEPS * n * d_sae * n_groups


LEARNED = Prior(fit=fit_learned, sample=sample_learned, operations=fit_operations)
