"""How far sampled sparse codes are from those of data: active units, pairs of them, a classifier two-sample test."""

from collections.abc import Sequence
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
import scipy
from numpy.typing import ArrayLike

from saegan_jax.networks.discriminators import MLPDiscriminator


class L0Error(NamedTuple):
    """What `l0_error` returns, in active units.

    Attributes:
      mean: mean L0 of the sampled codes minus that of the real ones.
      distance: 1-Wasserstein distance of the two distributions of L0, >= ``abs(mean)``.
    """

    mean: float
    distance: float


class CoActivationError(NamedTuple):
    """What `co_activation_error` returns.

    Attributes:
      rms: root mean square over pairs of the difference in probability of being active together.
      relative: Frobenius norm of the difference over that of the real co-activation, both without the diagonal; 0 is right.
      independent: the ``rms`` that independent units with the real densities would have.
    """

    rms: float
    relative: float
    independent: float


class TwoSample(NamedTuple):
    """What `two_sample_accuracy` returns.

    Attributes:
      accuracy: share of held-out codes classified right as real or sampled; 0.5 is indistinguishable.
      low, high: Wilson's 95 % interval of it, as if all codes had been judged by one classifier.
      examples: codes judged.
    """

    accuracy: float
    low: float
    high: float
    examples: int


def l0_error(real_codes: ArrayLike, fake_codes: ArrayLike, *, threshold: float) -> L0Error:
    """How the number of active units, ``L0(h) = #{j : h_j > threshold}``, differs between two sets of codes.

    ``mean = E[L0(fake)] - E[L0(real)]``, and ``distance = int |F_real(t) - F_fake(t)| dt`` with F the distributions of L0.

    Args:
      real_codes: ``(n_real, d_sae)``.
      fake_codes: ``(n_fake, d_sae)``; the counts may differ.
      threshold: a code above it counts as active.

    Returns:
      See `L0Error`; units: active units.

    Raises:
      ValueError: a set that is no matrix, is empty or holds a non-finite value, or widths that differ.
    """
    real, fake = _active(real_codes, fake_codes, threshold)
    real_l0, fake_l0 = real.sum(axis=1), fake.sum(axis=1)
    return L0Error(
        mean=float(fake_l0.mean() - real_l0.mean()),
        distance=float(scipy.stats.wasserstein_distance(real_l0, fake_l0)),
    )


def co_activation_error(real_codes: ArrayLike, fake_codes: ArrayLike, *, threshold: float) -> CoActivationError:
    """How the probabilities of two units being active together differ between two sets of codes.

    With ``C_jk = P(h_j > threshold, h_k > threshold)`` over pairs ``j != k``: ``rms = sqrt(mean_jk (C_fake - C_real)^2)``,
    ``relative = ||C_fake - C_real||_F / ||C_real||_F``, and ``independent`` the ``rms`` of ``p_j p_k`` instead of ``C_fake``.

    Sampling alone gives about ``sqrt(mean_jk C_jk (1 - C_jk) (1 / n_real + 1 / n_fake))``: print the error of a second set of
    real codes, of the sampled ones' size, beside it.

    Args:
      real_codes: ``(n_real, d_sae)`` with ``d_sae >= 2``.
      fake_codes: ``(n_fake, d_sae)``; the counts may differ.
      threshold: a code above it counts as active.

    Returns:
      See `CoActivationError`; ``relative`` is infinite where no two units are ever active together in the real codes but
      some are in the sampled ones, and 0 where none are in either.

    Raises:
      ValueError: a set that is no matrix, is empty, of one unit or holds a non-finite value, or widths that differ.
    """
    real, fake = _active(real_codes, fake_codes, threshold)
    if real.shape[1] < 2:
        raise ValueError("real_codes have one unit: co-activation compares pairs and needs at least 2.")
    pairs = ~np.eye(real.shape[1], dtype=bool)
    real_c, fake_c = (_co_activation(active)[pairs] for active in (real, fake))
    p = real.mean(axis=0)
    difference, norm = np.linalg.norm(fake_c - real_c), np.linalg.norm(real_c)
    none = np.inf if difference > 0 else 0.0
    return CoActivationError(
        rms=float(difference / np.sqrt(real_c.size)),
        relative=float(difference / norm) if norm > 0 else none,
        independent=float(np.sqrt(np.mean((np.outer(p, p)[pairs] - real_c) ** 2))),
    )


def two_sample_accuracy(
    real_codes: ArrayLike,
    fake_codes: ArrayLike,
    key: jax.Array,
    *,
    folds: int = 5,
    epochs: int = 30,
    hidden: Sequence[int] = (128,),
    batch_size: int = 64,
    learning_rate: float = 3e-3,
    weight_decay: float = 1e-2,
) -> TwoSample:
    """How well a small network separates sampled from real codes that it has not seen: a classifier two-sample test.

    ``accuracy = mean_i [sign of f(z_i) is the label of z_i]`` over all codes, each judged by a network f trained (logistic
    loss, AdamW with cosine decay) on the other folds. Both sets are cut to equal size, so that chance is 0.5. A linear f would
    not do: codes whose units have the right marginal distributions but are active in the wrong combinations differ only in
    products of units.

    The codes must be made alike: inactive units of sigmoid codes, which samplers draw as 0, must be set to 0 in the real ones
    too. Sampled codes that repeat (a bootstrap) are recognised where their copies fall in several folds: leave repeats out.
    0.5 means only that *this* network, with so many codes to learn from, finds no difference.

    Args:
      real_codes: ``(n_real, d_sae)``, that no sampler was fitted to.
      fake_codes: ``(n_fake, d_sae)``.
      key: random key: of the folds, the networks' starts and their batches.
      folds: parts of the cross-validation.
      epochs: passes over the codes trained on.
      hidden: units of each hidden layer; empty for a linear classifier.
      batch_size: codes a step.
      learning_rate: AdamW's.
      weight_decay: AdamW's.

    Returns:
      See `TwoSample`.

    Raises:
      ValueError: a set that is no matrix, is empty or holds a non-finite value, widths that differ, fewer than 2 folds, or
        fewer codes than folds.

    Source: Lopez-Paz and Oquab, Revisiting Classifier Two-Sample Tests, 2017, section 3.
    """
    real, fake = _checked(real_codes, fake_codes)
    n = min(len(real), len(fake))
    if not 2 <= folds <= n:
        raise ValueError(
            f"folds = {folds} cannot be used: choose from 2 to {n}, the number of codes in the smaller set."
        )
    part = n // folds
    train = 2 * part * (folds - 1)
    batch = min(batch_size, train)
    right = _classified_right(
        jnp.asarray(real, jnp.float32),
        jnp.asarray(fake, jnp.float32),
        key,
        part=part,
        folds=folds,
        steps=-(-epochs * train // batch),
        hidden=tuple(hidden),
        batch_size=batch,
        learning_rate=learning_rate,
        weight_decay=weight_decay,
    )
    examples = 2 * part * folds
    result = scipy.stats.binomtest(int(right), examples)
    interval = result.proportion_ci(method="wilson")
    return TwoSample(float(result.statistic), float(interval.low), float(interval.high), examples)


class _Training(NamedTuple):
    """How the networks of the cross-validation are trained; static."""

    network: MLPDiscriminator
    optimiser: optax.GradientTransformation
    batch_size: int
    steps: int


def _logistic_loss(network: MLPDiscriminator, params: Any, x: jax.Array, sign: jax.Array) -> jax.Array:
    """``mean_n softplus(-s_n f(x_n))``, labels ``sign (n,)`` 1 for real and -1 for sampled codes."""
    logits: Any = network.apply(params, x)
    return jax.nn.softplus(-sign * logits).mean()


def _fit(training: _Training, x: jax.Array, sign: jax.Array, params: Any, key: jax.Array) -> Any:
    """Parameters after training on ``x (n, d_sae)``; step i draws its batch with ``fold_in(key, i)``."""
    gradient_of = jax.grad(partial(_logistic_loss, training.network))

    def step(carry: tuple[Any, Any], i: jax.Array) -> tuple[tuple[Any, Any], None]:
        params, opt_state = carry
        chosen = jax.random.randint(jax.random.fold_in(key, i), (training.batch_size,), 0, len(x))
        gradient = gradient_of(params, x[chosen], sign[chosen])
        # Optax raises Python floats to the power of an int32 step count, which strict dtype promotion forbids.
        with jax.numpy_dtype_promotion("standard"):
            updates, opt_state = training.optimiser.update(gradient, opt_state, params)
        return (optax.apply_updates(params, updates), opt_state), None

    start = (params, training.optimiser.init(params))
    return jax.lax.scan(step, start, jnp.arange(training.steps))[0][0]


def _right_in_fold(
    training: _Training, real: jax.Array, fake: jax.Array, key: jax.Array, part: int, index: jax.Array
) -> jax.Array:
    """How many of the ``2 part`` codes of fold ``index`` a network trained on the other folds classifies right, int32."""
    rolled = [jnp.roll(codes, -index * part, axis=0) for codes in (real, fake)]
    tested, x = (jnp.concatenate([codes[s] for codes in rolled]) for s in (slice(part), slice(part, None)))
    varies = jnp.any(x != x[:1], axis=0, keepdims=True)  # not std > 0, which rounding makes of equal numbers
    mean = jnp.where(varies, x.mean(axis=0, keepdims=True), x[:1])
    std = jnp.where(
        varies, x.std(axis=0, keepdims=True), 1.0
    )  # 1 for a unit that is always equal in the training folds
    x, tested = (x - mean) / std, (tested - mean) / std
    sign = jnp.where(jnp.arange(len(x)) < len(x) // 2, 1.0, -1.0)
    init_key, batch_key = jax.random.split(jax.random.fold_in(key, index))
    params = _fit(training, x, sign, training.network.init(init_key, x[:1]), batch_key)
    logits: Any = training.network.apply(params, tested)
    return jnp.sum((logits > 0) == (jnp.arange(2 * part) < part))


@partial(
    jax.jit,
    static_argnames=("part", "folds", "steps", "hidden", "batch_size", "learning_rate", "weight_decay"),
)
def _classified_right(
    real: jax.Array,
    fake: jax.Array,
    key: jax.Array,
    *,
    part: int,
    folds: int,
    steps: int,
    hidden: tuple[int, ...],
    batch_size: int,
    learning_rate: float,
    weight_decay: float,
) -> jax.Array:
    """How many of ``2 * part * folds`` codes the networks of the other folds classify right, int32."""
    real_key, fake_key, key = jax.random.split(key, 3)
    real = jax.random.permutation(real_key, real)[: part * folds]
    fake = jax.random.permutation(fake_key, fake)[: part * folds]
    optimiser = optax.adamw(optax.cosine_decay_schedule(learning_rate, steps), weight_decay=weight_decay)
    training = _Training(MLPDiscriminator(hidden), optimiser, batch_size, steps)
    return jax.lax.map(partial(_right_in_fold, training, real, fake, key, part), jnp.arange(folds)).sum()


def _checked(real_codes: ArrayLike, fake_codes: ArrayLike) -> tuple[np.ndarray, np.ndarray]:
    real, fake = np.asarray(real_codes), np.asarray(fake_codes)
    for name, codes in (("real_codes", real), ("fake_codes", fake)):
        if codes.ndim != 2 or 0 in codes.shape:
            raise ValueError(f"{name} must be (n, d_sae) with n >= 1, got shape {codes.shape}: pass one row per code.")
        if not np.isfinite(codes).all():
            raise ValueError(f"{name} holds non-finite values: the autoencoder or the sampler is broken.")
    if real.shape[1] != fake.shape[1]:
        raise ValueError(
            f"real_codes have {real.shape[1]} units and fake_codes {fake.shape[1]}: both must be of one autoencoder."
        )
    return real, fake


def _active(real_codes: ArrayLike, fake_codes: ArrayLike, threshold: float) -> tuple[np.ndarray, np.ndarray]:
    real, fake = _checked(real_codes, fake_codes)
    return real > threshold, fake > threshold


def _co_activation(active: np.ndarray) -> np.ndarray:
    on = active.astype(np.float32)  # counts, exact below 2^24
    return (on.T @ on).astype(np.float64) / len(on)
