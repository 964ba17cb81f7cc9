"""Many sparse autoencoders of one variant as one program: members that differ in settings and seed."""

import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from itertools import product
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike

from saegan_jax.algorithms.base import Examples
from saegan_jax.algorithms.geometric_median import center
from saegan_jax.algorithms.sae import VARIANTS, SAEConfig, SAEState, Start, autoencoder, hyper, sae
from saegan_jax.images import any_to_unit_float, flatten_images
from saegan_jax.metrics import SAEMetrics, init_sae_stats, summarise, update_sae_stats
from saegan_jax.training.memory import check_members
from saegan_jax.training.transforms import compile_chunk, ensemble, many_steps

CPU_MEMBERS_PER_VMAP = 8  # the weights and moments of more leave the cache; measured on two cores, 784-128, batch 256
CENTER_IMAGES = 10_000
SWEPT = ("rho", "beta", "k", "learning_rate")


class Member(NamedTuple):
    """One autoencoder of a sweep: its settings, and its seed."""

    config: SAEConfig
    seed: int


def data_center(config: SAEConfig, images: jax.Array) -> jax.Array | None:
    """Where ``b_dec`` starts: the centre that ``config.pre_bias`` names, of at most 10,000 images evenly taken.

    Args:
      config: the autoencoder's settings.
      images: ``(n, height, width, channels)`` uint8 training images, or float32 vectors.

    Returns:
      ``(d_in,)``, or None for ``pre_bias="none"``.
    """
    if config.pre_bias == "none":
        return None
    height, width, channels = images.shape[1:]
    inputs = autoencoder(config, image_shape=(height, width, channels)).inputs
    chosen = any_to_unit_float(jnp.asarray(images[:: -(-len(images) // CENTER_IMAGES)]))
    x = jax.jit(inputs)(chosen)
    return center(x.reshape(-1, x.shape[-1]), config.pre_bias)


def grid(config: SAEConfig, seeds: Sequence[int], **values: Sequence[Any]) -> list[Member]:
    """Every combination of the given values of ``rho``, ``beta``, ``k`` and ``learning_rate``, with every seed.

    Raises:
      ConfigError: a combination that cannot work, before any is trained.
    """
    names = list(values)
    settings: list[dict[str, Any]] = [dict(zip(names, chosen, strict=True)) for chosen in product(*values.values())]
    configs = [replace(config, **one) for one in settings]
    return [Member(one, seed) for one in configs for seed in seeds]


def default_members_per_vmap(config: SAEConfig, d_in: int, n: int) -> int:
    """Members computed together: on a CPU as many as stay in its cache, elsewhere what a third of the memory holds."""
    device = jax.devices()[0]
    if device.platform == "cpu":
        return min(n, CPU_MEMBERS_PER_VMAP)
    weights = 2 * d_in * config.d_sae * 4 * 5  # parameters, gradients, two moments, new parameters
    activations = config.batch_size * (6 * d_in + 8 * config.d_sae) * 4
    limit = (device.memory_stats() or {}).get("bytes_limit", 8 * 2**30)
    return int(max(1, min(n, limit / 3 // (weights + activations))))


def train_members(
    members: Sequence[Member],
    data: Examples,
    *,
    chunk: int = 500,
    members_per_vmap: int | None = None,
    progress: Callable[[int, Any], None] = lambda step, infos: None,
) -> tuple[SAEState, Any]:
    """Train all members in one vmapped program; a member that diverges harms no other.

    Args:
      members: their configurations may differ in ``rho``, ``beta``, ``k`` and ``learning_rate`` alone.
      data: all training images, uint8, and labels.
      chunk: steps in one call of the program; the last call is as long as what is left.
      members_per_vmap: members computed together, see :func:`default_members_per_vmap`, the default.
      progress: called after every chunk with the steps taken and its infos.

    Returns:
      ``(states, infos)``: the states stacked; of each chunk the mean of every info over its steps, ``(members, chunks)``.

    Raises:
      ValueError: members that differ in anything else.
      ConfigError: members whose states are together larger than the device's memory.
    """
    base = members[0].config
    for member in members:
        same = replace(member.config, **{name: getattr(base, name) for name in SWEPT})
        if same != base:
            raise ValueError(f"members of one sweep may differ in {', '.join(SWEPT)} alone: {same} is not {base}.")
    height, width, channels = data.image.shape[1:]
    shape = (height, width, channels)
    start = Start(center=data_center(base, data.image))
    own = jax.tree.map(lambda *leaves: jnp.stack(leaves), *(hyper(member.config) for member in members))
    algorithm = sae(base, image_shape=shape)

    @jax.jit
    def init(seeds: jax.Array) -> SAEState:
        return jax.vmap(lambda seed, mine: sae(base, image_shape=shape, member=mine).init(jax.random.key(seed), start))(
            seeds, own
        )

    one = jax.eval_shape(lambda: algorithm.init(jax.random.key(0), start))
    check_members("SAEConfig", one, batch=base.batch_size * math.prod(shape) * 4, n_seeds=len(members))
    states = init(jnp.asarray([member.seed for member in members]))
    if members_per_vmap is None:
        members_per_vmap = default_members_per_vmap(base, autoencoder(base, image_shape=shape).d_in, len(members))
    programs: dict[int, Any] = {}
    history, taken = [], 0
    while taken < base.steps:
        length = min(chunk, base.steps - taken)
        if length not in programs:
            steps = many_steps(algorithm.step, length=length, batch_size=base.batch_size)
            programs[length] = compile_chunk(ensemble(steps, members_per_vmap=members_per_vmap))
        states, infos = programs[length](states, data)
        infos = jax.tree.map(lambda leaf: np.asarray(leaf.mean(axis=1)), infos)
        taken += length
        history.append(infos)
        progress(taken, infos)
    return states, jax.tree.map(lambda *leaves: np.stack(leaves, axis=1), *history)


def score(
    config: SAEConfig, params: Any, images: jax.Array, *, k: jax.Array | None = None, active_only: bool = False
) -> SAEMetrics:
    """Metrics of one autoencoder on ``(n, height, width, channels)`` images; traceable, streamed by 1,000.

    Args:
      config: its settings.
      params: its parameters.
      images: uint8, or float32 vectors.
      k: a member's own, see :class:`saegan_jax.algorithms.sae.Autoencoder`.
      active_only: reconstruct from the codes that count as active, the others set to 0. Only sigmoid codes, which are never
        0, lose by it; it is what their L0 pays for.
    """
    height, width, channels = images.shape[1:]
    functions = autoencoder(config, image_shape=(height, width, channels))
    stats = init_sae_stats(height * width * channels, config.d_sae)
    for start in range(0, len(images), 1000):
        part = any_to_unit_float(images[start : start + 1000])
        codes = functions.encode(params, part, k=k)
        if active_only:
            codes = jnp.where(codes > config.active_above, codes, 0.0)
        x, x_hat = flatten_images(part), flatten_images(functions.decode(params, codes))
        stats = update_sae_stats(stats, x, x_hat, codes, threshold=config.active_above)
    return summarise(stats)


def nearest_l0(members: Sequence[Member], l0: ArrayLike, k: int) -> SAEConfig:
    """The settings of the member whose L0 is nearest to ``k``, in ratio; one that is not finite is taken last."""
    distance = np.abs(np.log(np.maximum(np.asarray(l0, np.float64), 1e-3) / k))
    return members[int(np.nan_to_num(distance, nan=np.inf).argmin())].config


def score_members(
    members: Sequence[Member], states: SAEState, images: jax.Array, *, active_only: bool = False
) -> SAEMetrics:
    """:func:`score` of every member, fields with a leading axis of members, on the host."""
    config = members[0].config
    counted = VARIANTS[config.variant].counts_k

    def one(images: jax.Array, member: tuple[Any, jax.Array]) -> SAEMetrics:
        params, k = member
        return score(config, params, images, k=k if counted else None, active_only=active_only)

    # Images are an argument: as a constant of the program they would be computed on while it is compiled.
    scored = jax.jit(lambda members, images: jax.lax.map(partial(one, images), members))
    return jax.tree.map(np.asarray, scored((states.params, states.hyper.k), images))


def encode_all(config: SAEConfig, params: Any, images: jax.Array) -> np.ndarray:
    """Codes of ``(n, height, width, channels)`` uint8 images, ``(n, codes)`` on the host; positions flattened.

    Args:
      config: the autoencoder's settings, with its own ``k``.
      params: its parameters.
      images: uint8.
    """
    # What a sweep varies is taken out of the static part, so that all members share a program.
    base = replace(config, rho=0.5, beta=1.0, k=1, learning_rate=1.0)
    k = jnp.asarray(config.k, jnp.int32) if VARIANTS[config.variant].counts_k else None
    codes = [np.asarray(_encode(base, params, images[i : i + 1000], k)) for i in range(0, len(images), 1000)]
    return np.concatenate(codes)


@partial(jax.jit, static_argnames="config")
def _encode(config: SAEConfig, params: Any, images: jax.Array, k: jax.Array | None) -> jax.Array:
    height, width, channels = images.shape[1:]
    codes = autoencoder(config, image_shape=(height, width, channels)).encode(params, any_to_unit_float(images), k=k)
    return codes.reshape(len(images), -1)
