"""Directions in a generator's activations, chosen by one rule in many ways, and what pushing along them does to images.

A new way to find directions is one function and one line in :data:`ARMS`.
"""

import functools
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from saegan_jax.algorithms.base import Batch
from saegan_jax.algorithms.classifier import classifier
from saegan_jax.algorithms.geometric_median import center
from saegan_jax.algorithms.sae import SAEConfig, Start, sae
from saegan_jax.evaluation.features import FeatureNetwork
from saegan_jax.metrics import SAEMetrics
from saegan_jax.steering import (
    Effect,
    Split,
    association,
    class_directions,
    difference_directions,
    dose_response,
    feature_activity,
    flatten_positions,
    mean_over_positions,
    principal_directions,
    random_directions,
    sample_distance,
    spread,
    strongest_directions,
    unit_scale,
)
from saegan_jax.training.members import unstacked
from saegan_jax.training.systems import member_keys
from saegan_jax.training.transforms import compile_chunk, ensemble, many_fresh_steps

BATCH = 500


@dataclass(frozen=True, kw_only=True)
class SteeringSettings:
    """How directions are found, chosen and measured.

    Attributes:
      sae: the autoencoder of the activations.
      sae_seeds: autoencoders, and sets of random directions, for each generator.
      features: directions chosen for each class.
      alphas: doses, increasing, in units of the activations' spread.
      match: pixel change at which arms are compared, as a share of the distance between two samples.
      vectors: that the autoencoder is trained on; a feature map gives one at every position.
      choose: samples that directions are chosen on.
      measure: other samples, that their effect is measured on.
      seed: of the autoencoders.
    """

    sae: SAEConfig
    sae_seeds: int
    features: int
    alphas: tuple[float, ...]
    match: float
    vectors: int
    choose: int
    measure: int
    seed: int


class Arm(NamedTuple):
    """Chosen directions ``(seeds, n_classes, features, d)`` and how they are associated with the class, ``(seeds, n_classes)``.

    Seeds or features are 1 where there is but one set of them.
    """

    directions: jax.Array
    associated: np.ndarray


class Found(NamedTuple):
    """What one generator gave.

    Attributes:
      effects: by arm, arrays ``(seeds, n_classes, features, n_doses)``.
      arms: by name.
      level: pixel change at which arms are compared.
      metrics: of the autoencoders on the samples that features were chosen on.
      spread: of the activations, the unit of doses.
    """

    effects: Mapping[str, Effect]
    arms: Mapping[str, Arm]
    level: float
    metrics: Sequence[SAEMetrics]
    spread: float


class Programs(NamedTuple):
    """The compiled parts, shared by the members of a run."""

    cut: Split
    before: Callable[..., jax.Array]
    after: Callable[..., jax.Array]
    response: Callable[..., Effect]
    classify: Callable[[jax.Array], tuple[jax.Array, jax.Array]]
    real: jax.Array


def classify_images(network: FeatureNetwork, images: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Logits ``(n, n_classes)`` and standardised features ``(n, d_features)`` of images in [0, 1]; traceable."""
    predict: Any = classifier(network.config).predict
    mean, std = jnp.asarray(network.mean).reshape(1, -1), jnp.asarray(network.std).reshape(1, -1)
    logits, features = predict(network.params, images)
    return logits, (features - mean) / std


def _response(after: Callable[..., jax.Array], classify: Callable[..., Any], state: Any, *given: jax.Array) -> Effect:
    """:func:`saegan_jax.steering.dose_response` of one state's generator."""
    return dose_response(functools.partial(after, state), classify, *given)


def programs(cut: Split, network: FeatureNetwork, real_images: np.ndarray) -> Programs:
    """Compile once for all members; ``real_images`` are those that "real" is measured against."""
    classify = functools.partial(classify_images, network)
    return Programs(
        cut,
        jax.jit(cut.before, static_argnums=2),
        jax.jit(cut.after),
        jax.jit(functools.partial(_response, cut.after, classify)),
        jax.jit(classify),
        jnp.asarray(network.features(real_images)),
    )


def activations(before: Callable[..., jax.Array], state: Any, key: jax.Array, n: int) -> jax.Array:
    """Those of ``n`` samples, made in batches."""
    size = min(n, BATCH)
    parts = [before(state, jax.random.fold_in(key, i), size) for i in range(math.ceil(n / size))]
    return jnp.concatenate(parts)[:n]


def halves(settings: SteeringSettings, compiled: Programs, state: Any, key: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Activations to choose directions on, and others to measure them on, which have no sample in common."""
    both = activations(compiled.before, state, key, settings.choose + settings.measure)
    return both[: settings.choose], both[settings.choose :]


_feature_activity = jax.jit(feature_activity, static_argnums=0)
_strongest_directions = jax.jit(strongest_directions, static_argnums=3)
_principal_directions = jax.jit(principal_directions)
_class_directions = jax.jit(class_directions, static_argnums=2)
_association = jax.jit(association)


def _start_autoencoders(config: SAEConfig, d: int, keys: jax.Array, middle: jax.Array) -> Any:
    return jax.vmap(sae(config, image_shape=(1, 1, d)).init, in_axes=(0, None))(keys, Start(center=middle))


def _draw_vectors(config: SAEConfig, d: int, key: jax.Array, x: jax.Array) -> Batch:
    chosen = jax.random.randint(key, (config.batch_size,), 0, len(x))
    return Batch(x[chosen].reshape(-1, 1, 1, d), jnp.zeros(config.batch_size, jnp.int32))


@functools.cache
def _training(config: SAEConfig, d: int) -> tuple[Any, Any]:
    """Programs of :func:`train_autoencoders`, compiled once for all members of a run."""
    draw = functools.partial(_draw_vectors, config, d)
    steps: Any = many_fresh_steps(sae(config, image_shape=(1, 1, d)).step, draw, length=config.steps)
    return jax.jit(functools.partial(_start_autoencoders, config, d)), compile_chunk(ensemble(steps))


def train_autoencoders(config: SAEConfig, vectors: jax.Array, *, seed: int, n_seeds: int) -> Any:
    """Parameters of ``n_seeds`` autoencoders, stacked, trained on ``vectors (n, d)`` times :func:`unit_scale` of them."""
    x = vectors * unit_scale(vectors)
    init, chunk = _training(config, vectors.shape[-1])
    return chunk(init(member_keys(seed, n_seeds), center(x, "mean")), x)[0].params


class Choice(NamedTuple):
    """What directions are chosen from, and by.

    Attributes:
      features: directions chosen for each class.
      n_directions: to choose from, where they are drawn.
      vectors: activations ``(n, d)`` that the autoencoders were trained on.
      trained: parameters of every autoencoder of these, one a seed.
      untrained: the same of the activations of an untrained generator.
      codes: of every trained one, ``(samples, d_sae)`` of the samples that directions are chosen on.
      pooled: activations of these samples, means over positions, ``(samples, d)``.
      probability: of their classes, ``(samples, n_classes)``.
      label: the most probable class, ``(samples,)``.
      keys: of random directions, one a seed.
    """

    features: int
    n_directions: int
    vectors: jax.Array
    trained: Sequence[Any]
    untrained: Sequence[Any]
    codes: Sequence[jax.Array]
    pooled: jax.Array
    probability: jax.Array
    label: jax.Array
    keys: jax.Array


def choose_from(choice: Choice, sets: Sequence[jax.Array], activity: Sequence[jax.Array] | None = None) -> Arm:
    """The directions of each set ``(m, d)`` that are most associated with each class, by their activity or projection."""
    if activity is None:
        activity = [choice.pooled @ directions.T for directions in sets]
    chosen = [
        _strongest_directions(directions, active, choice.probability, choice.features)
        for directions, active in zip(sets, activity, strict=True)
    ]
    return Arm(jnp.stack([d for d, _ in chosen]), np.stack([np.asarray(a) for _, a in chosen]))


def decoders(params: Sequence[Any]) -> list[jax.Array]:
    """The directions ``(d_sae, d)`` of every autoencoder."""
    return [one["params"]["W_dec"] for one in params]


def sae_features(choice: Choice) -> Arm:
    """Features of the autoencoders, by their codes."""
    return choose_from(choice, decoders(choice.trained), choice.codes)


def untrained_features(choice: Choice) -> Arm:
    """Features of autoencoders on the activations of an untrained generator."""
    return choose_from(choice, decoders(choice.untrained))


def principal_components(choice: Choice) -> Arm:
    """Principal components, in both signs."""
    return choose_from(choice, [_principal_directions(choice.vectors)])


def random_sets(choice: Choice) -> Arm:
    """As many random directions as an autoencoder has features."""
    d = choice.vectors.shape[-1]
    return choose_from(choice, [random_directions(key, choice.n_directions, d) for key in choice.keys])


def sample_differences(choice: Choice) -> Arm:
    """As many differences of two samples as an autoencoder has features."""
    return choose_from(choice, [difference_directions(key, choice.n_directions, choice.vectors) for key in choice.keys])


def class_means(choice: Choice) -> Arm:
    """From the mean of the other classes to that of each class: what labels could give."""
    means = _class_directions(choice.pooled, choice.label, choice.probability.shape[1])
    associated = jnp.diagonal(_association(choice.pooled @ means.T, choice.probability))
    return Arm(means.reshape(1, len(means), 1, -1), np.asarray(associated).reshape(1, -1))


SAE, CLASS_MEAN = "SAE feature", "class mean"
ARMS: Mapping[str, Callable[[Choice], Arm]] = {
    SAE: sae_features,
    "SAE of an untrained generator": untrained_features,
    "principal component": principal_components,
    "random direction": random_sets,
    "difference of two samples": sample_differences,
    CLASS_MEAN: class_means,
}
"""Ways to find directions."""
CONTROLS = tuple(name for name in ARMS if name not in (SAE, CLASS_MEAN))


def choice_of(
    settings: SteeringSettings, compiled: Programs, states: tuple[Any, Any], key: jax.Array, chosen_on: jax.Array
) -> tuple[Choice, list[SAEMetrics]]:
    """Train the autoencoders of a generator and of an untrained one; what arms choose from, and the metrics of the former.

    Args:
      settings: see there.
      compiled: programs of the run.
      states: of the generator, and of the untrained one.
      key: random key.
      chosen_on: activations of the samples that directions are chosen on.
    """
    keys = jax.random.split(key, 4)
    positions, n_seeds = math.prod(compiled.cut.layer.shape[:-1]), settings.sae_seeds
    n = math.ceil(settings.vectors / positions)
    vectors = [
        flatten_positions(activations(compiled.before, state, k, n)) for state, k in zip(states, keys[:2], strict=True)
    ]
    trained, untrained = (
        unstacked(train_autoencoders(settings.sae, v, seed=settings.seed, n_seeds=n_seeds), n_seeds) for v in vectors
    )
    starts = range(0, len(chosen_on), BATCH)
    images = (compiled.after(states[0], chosen_on[i : i + BATCH]) for i in starts)
    logits = jnp.concatenate([compiled.classify(part)[0] for part in images])
    scale = unit_scale(vectors[0])
    active = [_feature_activity(settings.sae, params, chosen_on, scale) for params in trained]
    choice = Choice(
        features=settings.features,
        n_directions=settings.sae.d_sae,
        vectors=vectors[0],
        trained=trained,
        untrained=untrained,
        codes=[codes for codes, _ in active],
        pooled=mean_over_positions(chosen_on),
        probability=jax.nn.softmax(logits, axis=-1),
        label=jnp.argmax(logits, axis=-1),
        keys=jax.random.split(keys[2], n_seeds),
    )
    return choice, [jax.tree.map(np.asarray, metrics) for _, metrics in active]


def effect_of(arm: Arm, respond: Callable[[jax.Array, jax.Array], Effect]) -> Effect:
    """``respond(direction, target)`` of every direction of an arm: arrays ``(seeds, n_classes, features, n_doses)``."""
    seeds, n_classes, features, d = arm.directions.shape
    targets = np.tile(np.repeat(np.arange(n_classes, dtype=np.int32), features), seeds)
    found = [
        respond(direction, jnp.asarray(target))
        for direction, target in zip(arm.directions.reshape(-1, d), targets, strict=True)
    ]
    shape = (seeds, n_classes, features, -1)
    return Effect(*(np.stack([np.asarray(v) for v in values]).reshape(shape) for values in zip(*found, strict=True)))  # type: ignore[arg-type]


def measure(
    settings: SteeringSettings,
    compiled: Programs,
    states: tuple[Any, Any],
    key: jax.Array,
    say: Callable[[str], None],
) -> Found:
    """Choose and measure the directions of one generator.

    Args:
      settings: see there.
      compiled: programs of the run.
      states: of the generator, and of the untrained one.
      key: random key.
      say: called with the progress.
    """
    sample_key, arms_key = jax.random.split(key)
    chosen_on, measured_on = halves(settings, compiled, states[0], sample_key)
    say("training autoencoders")
    choice, metrics = choice_of(settings, compiled, states, arms_key, chosen_on)
    arms = {name: choose(choice) for name, choose in ARMS.items()}
    size = spread(choice.vectors)
    doses = size * jnp.asarray(settings.alphas)

    def respond(direction: jax.Array, target: jax.Array) -> Effect:
        return compiled.response(states[0], measured_on, direction, target, doses, compiled.real)

    effects = {}
    for name, arm in arms.items():
        say(name)
        effects[name] = effect_of(arm, respond)
    apart = sample_distance(compiled.after(states[0], measured_on))
    return Found(effects, arms, settings.match * float(apart), metrics, float(size))
