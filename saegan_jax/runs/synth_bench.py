"""Features that are known, found again by autoencoders: arms of a study. A new one is one line of :data:`ARMS`."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from rich.console import Console

from saegan_jax.algorithms.base import Batch
from saegan_jax.algorithms.sae import VARIANTS, SAEConfig, SAEState, Start, autoencoder, hyper, sae
from saegan_jax.data.superposition import World, WorldConfig, draw_world, ranks, world
from saegan_jax.evaluation.autoencoders import decoder
from saegan_jax.metrics import init_sae_stats, summarise, update_sae_stats
from saegan_jax.metrics.recovery import Activity, Matched, activity, detection, match_features
from saegan_jax.runs.program import prefixed
from saegan_jax.training.busy import busy
from saegan_jax.training.members import unstacked
from saegan_jax.training.run_folder import to_json
from saegan_jax.training.sweep import CENTER_IMAGES, Member, grid, nearest_l0
from saegan_jax.training.transforms import compile_chunk, ensemble, many_fresh_steps

Say = Callable[[str], None]
WORLD_SEED = 42  # one world for all seeds, whose draws differ
CHUNK = 500
TOGETHER = 1_000  # examples of one step of the scoring
Part = Literal["center", "validation", "test"]


@dataclass(frozen=True, kw_only=True)
class Size:
    """A world, and the training in it.

    Attributes:
      world: the features.
      d_sae, k: units, and the active ones that every arm is brought to.
      batch_size, steps: of every training.
      learning_rate: of every training; None for each variant's own.
      scored: examples of the validation and of the test.
    """

    world: WorldConfig
    d_sae: int
    k: int
    batch_size: int
    steps: int
    learning_rate: float | None
    scored: int


SIZES: Mapping[str, Size] = {
    "small": Size(
        world=WorldConfig(), d_sae=128, k=4, batch_size=256, steps=2_000, learning_rate=None, scored=20_000
    ),
    "16k": Size(
        world=WorldConfig(features=16_384, d=768, roots=128),
        d_sae=4_096, k=25, batch_size=1_024, steps=195_313, learning_rate=3e-4, scored=500_000,
    ),
}  # fmt: skip
"""16k: the published size, 200 million examples. small: as many features to a unit, and trees of the same shape."""


@dataclass(frozen=True, kw_only=True)
class Study:
    """What all arms have in common."""

    size: str
    steps: int | None
    seed: int
    seeds: int

    @property
    def of(self) -> Size:
        """The size, with the number of steps that was asked for."""
        size = SIZES[self.size]
        return replace(size, steps=self.steps or size.steps)


@dataclass(frozen=True)
class Arm:
    """An autoencoder.

    Attributes:
      variant: of the registry.
      settings: other than the variant's own.
      axes: values of its penalty, of which that with an L0 nearest to ``k`` is taken; none for what is set by ``k``.
      trained: or left as it was drawn.
    """

    variant: str
    settings: Mapping[str, Any] = field(default_factory=dict)
    axes: Mapping[str, tuple[float, ...]] = field(default_factory=dict)
    trained: bool = True


# Penalties and widths in the unit of the magnitudes, which are about 4.5; sigmoid codes reach 1 at most, so that their
# decoder's rows are as long as a magnitude.
ARMS: Mapping[str, Arm] = {
    "topk": Arm("topk"),
    "batch_topk": Arm("batch_topk"),
    "matryoshka": Arm("matryoshka"),
    "jumprelu": Arm("jumprelu", {"bandwidth": 0.5, "initial_threshold": 0.5}, {"beta": (0.3, 1.0, 2.0, 4.0, 8.0)}),
    "gated": Arm("gated", axes={"beta": (0.3, 0.6, 1.2, 2.4, 4.8)}),
    "kl": Arm("kl", {"decoder_norm": 4.5}, {"rho": (0.005, 0.01, 0.02, 0.04, 0.08)}),
    "l1": Arm("l1", axes={"beta": (0.3, 0.6, 1.2, 2.4, 4.8)}),
    "dense autoencoder": Arm("l1", {"beta": 0.0}),
    "untrained topk": Arm("topk", trained=False),
}
"""What is scored, by name."""
PUBLISHED: Mapping[tuple[str, str], float] = {
    ("batch_topk", "f1"): 0.7316, ("batch_topk", "mcc"): 0.7574, ("batch_topk", "explained_variance"): 0.7923,
    ("matryoshka", "f1"): 0.8793, ("matryoshka", "mcc"): 0.7927, ("matryoshka", "explained_variance"): 0.7792,
    ("l1", "f1"): 0.5562, ("l1", "mcc"): 0.6039, ("l1", "explained_variance"): 0.7654,
    ("jumprelu", "f1"): 0.7317, ("jumprelu", "mcc"): 0.7527, ("jumprelu", "explained_variance"): 0.7951,
}  # fmt: skip
"""At the size 16k and L0 25: Chanin and Garriga-Alonso, SynthSAEBench, 2026, and the documentation of SAELens."""


def config_of(arm: Arm, size: Size) -> SAEConfig:
    """An arm's settings at a size."""
    settings = dict(VARIANTS[arm.variant].wants((1, size.world.d, 1))) | {"k": size.k} | dict(arm.settings)
    if size.learning_rate is not None:
        settings["learning_rate"] = size.learning_rate
    return SAEConfig(variant=arm.variant, d_sae=size.d_sae, batch_size=size.batch_size, steps=size.steps, **settings)


def draw_batch(config: WorldConfig, n: int, key: jax.Array, world: World) -> Batch:
    """A batch of activations as images ``(n, 1, d, 1)``."""
    x, _ = draw_world(config, world, key, n)
    return Batch(x.reshape(n, 1, config.d, 1), jnp.zeros(n, jnp.int32))


def _key(part: Part) -> jax.Array:
    number = ("world", "center", "validation", "test").index(part)
    return jax.random.fold_in(jax.random.key(WORLD_SEED), number)


def trained(members: Sequence[Member], size: Size, made: World, say: Say, *, steps: int) -> SAEState:
    """The members' states after ``steps`` steps, each on draws of its own, all in one vmapped program."""
    base, shape = members[0].config, (1, size.world.d, 1)
    drawn = jax.jit(partial(draw_world, size.world), static_argnums=2)(made, _key("center"), CENTER_IMAGES)[0]
    start = Start(center=None if base.pre_bias == "none" else drawn.mean(axis=0))
    own = jax.tree.map(lambda *leaves: jnp.stack(leaves), *(hyper(member.config) for member in members))

    @jax.jit
    def init(seeds: jax.Array, start: Start) -> SAEState:
        one = lambda seed, mine: sae(base, image_shape=shape, member=mine).init(jax.random.key(seed), start)  # noqa: E731
        return jax.vmap(one)(seeds, own)

    states = init(jnp.asarray([member.seed for member in members]), start)
    algorithm, draw = sae(base, image_shape=shape), partial(draw_batch, size.world, base.batch_size)
    programs: dict[int, Any] = {}
    for taken in range(0, steps, CHUNK):
        length = min(CHUNK, steps - taken)
        if length not in programs:
            programs[length] = compile_chunk(ensemble(many_fresh_steps(algorithm.step, draw, length=length)))
        states, _ = programs[length](states, made)
        say(f"step {taken + length} of {steps}")
    return states


class Counted(NamedTuple):
    """What one member does with drawn examples: scores of :class:`SAEMetrics`, and its units beside their features."""

    explained_variance: jax.Array
    l0: jax.Array
    dead_fraction: jax.Array
    activity: Activity


def count(
    config: SAEConfig, size: Size, n: int, params: Any, nearest: jax.Array, made: World, key: jax.Array
) -> Counted:
    """Encode and decode ``n`` fresh examples, 1,000 at a time; traceable."""
    functions = autoencoder(config, image_shape=(1, size.world.d, 1))

    def body(carry: tuple[Any, Activity], i: jax.Array) -> tuple[tuple[Any, Activity], None]:
        stats, counts = carry
        x, h = draw_world(size.world, made, jax.random.fold_in(key, i), TOGETHER)
        codes = functions.encode(params, x.reshape(TOGETHER, 1, -1, 1))
        x_hat = functions.decode(params, codes).reshape(TOGETHER, -1)
        stats = update_sae_stats(stats, x, x_hat, codes, threshold=config.active_above)
        more = activity(codes, h, nearest, threshold=config.active_above)
        return (stats, jax.tree.map(jnp.add, counts, more)), None

    none = Activity(*(jnp.zeros(config.d_sae, jnp.int32) for _ in Activity._fields))
    start = (init_sae_stats(size.world.d, config.d_sae), none)
    (stats, counts), _ = jax.lax.scan(body, start, jnp.arange(max(1, n // TOGETHER)))
    found = summarise(stats)
    return Counted(found.explained_variance, found.l0, found.dead_fraction, counts)


def counted(config: SAEConfig, size: Size, params: Any, nearest: Any, made: World, part: Part) -> Counted:
    """:func:`count` of stacked members, one after another, all on the same examples."""

    @jax.jit
    def program(params: Any, nearest: jax.Array, made: World, key: jax.Array) -> Counted:
        one = lambda both: count(config, size, size.scored, both[0], both[1], made, key)  # noqa: E731
        return jax.lax.map(one, (params, nearest))

    return jax.tree.map(np.asarray, program(params, jnp.asarray(nearest), made, _key(part)))


def chosen(arm: Arm, config: SAEConfig, study: Study, made: World, say: Say) -> SAEConfig:
    """The value of a penalty whose L0 on validation draws is nearest to ``k``, of one seed that is none of the study's."""
    if not arm.axes:
        return config
    size, members = study.of, grid(config, [study.seed + study.seeds], **arm.axes)
    states = trained(members, size, made, prefixed(say, "choosing the penalty, "), steps=size.steps)
    nearest = np.zeros((len(members), config.d_sae), np.int32)
    l0 = counted(config, size, states.params, nearest, made, "validation").l0
    return nearest_l0(members, l0, size.k)


def scores(config: SAEConfig, size: Size, states: SAEState, n: int, made: World) -> dict[str, list[float]]:
    """Every measure of every member, on test draws; NaN of one that is not finite."""
    members, atoms = unstacked(states.params, n), np.asarray(made.atoms)
    good = [all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(params)) for params in members]
    failed = Matched(math.nan, math.nan, np.zeros(config.d_sae, np.int32))
    matched = [match_features(decoder(config, p), atoms) if ok else failed for p, ok in zip(members, good, strict=True)]
    found = counted(config, size, states.params, np.stack([m.nearest for m in matched]), made, "test")
    detected = [detection(one) for one in unstacked(found.activity, n)]
    values = {"mcc": [m.mcc for m in matched], "uniqueness": [m.uniqueness for m in matched]}
    values |= {name: [getattr(d, name) for d in detected] for name in ("f1", "precision", "recall")}
    values |= {name: getattr(found, name).tolist() for name in ("explained_variance", "l0", "dead_fraction")}
    return {name: [v if ok else math.nan for v, ok in zip(mine, good, strict=True)] for name, mine in values.items()}


def asked_of(study: Study) -> dict[str, Any]:
    """What an arm's scores depend on, as JSON values."""
    return {"size": to_json(study.of), "seeds": [study.seed, study.seeds]}


def make_world(size: Size) -> World:
    """The world of a size: always the same one."""
    return jax.jit(partial(world, config=size.world))(jax.random.fold_in(jax.random.key(WORLD_SEED), 0))


def run_arm(name: str, study: Study, made: World, console: Console) -> dict[str, Any]:
    """Train and score an arm: what its file holds."""
    arm, size = ARMS[name], study.of
    with busy(console, name) as tell:
        say = prefixed(tell, f"{name}: ")
        config = chosen(arm, config_of(arm, size), study, made, say)
        members = [Member(config, study.seed + i) for i in range(study.seeds)]
        states = trained(members, size, made, say, steps=size.steps if arm.trained else 0)
        say("scoring")
        found = scores(config, size, states, study.seeds, made)
    console.print(f"{name}: done")
    values = {metric: [v if math.isfinite(v) else None for v in mine] for metric, mine in found.items()}
    return {"values": values, "settings": to_json(config)}


def true_l0(size: Size, made: World) -> tuple[float, float]:
    """Active features of an example, on the mean; and of the ``d_sae`` commonest ones alone."""
    _, h = jax.jit(partial(draw_world, size.world), static_argnums=2)(made, _key("test"), TOGETHER)
    on = np.asarray(h) > 0
    return float(on.sum(axis=1).mean()), float(on[:, ranks(size.world) < size.d_sae].sum(axis=1).mean())


def chance(size: Size, made: World) -> float:
    """MCC of directions at random."""
    rng = np.random.default_rng(0)
    return match_features(rng.normal(size=(size.d_sae, size.world.d)), np.asarray(made.atoms)).mcc
