"""Steer a trained generator along the features of a sparse autoencoder on one of its layers, beside other directions."""

import functools
import io
import math
import shlex
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import tyro
from rich.console import Console
from rich.markdown import Markdown
from rich.text import Text

from saegan_jax.algorithms.base import Batch
from saegan_jax.algorithms.classifier import classifier
from saegan_jax.algorithms.gan import GANConfig, image_networks
from saegan_jax.algorithms.geometric_median import center
from saegan_jax.algorithms.sae import SAEConfig, Start, sae
from saegan_jax.data import load
from saegan_jax.errors import require, require_positive
from saegan_jax.evaluation.features import FeatureNetwork, load_feature_network
from saegan_jax.files import write_bytes
from saegan_jax.metrics import SAEMetrics
from saegan_jax.report.steering import dose_response_curves, strips
from saegan_jax.report.table import Result, Row, document, origin, pivot
from saegan_jax.runs.checks import check_options
from saegan_jax.runs.program import main
from saegan_jax.runs.restore import Restored, restore_run
from saegan_jax.steering import (
    Effect,
    Split,
    association,
    class_directions,
    difference_directions,
    dose_response,
    effects_at_level,
    feature_activity,
    flatten_positions,
    layers,
    mean_over_positions,
    principal_directions,
    random_directions,
    sample_distance,
    selectivity,
    split,
    spread,
    steer,
    strongest_directions,
    unit_scale,
)
from saegan_jax.training.run_folder import read_config, to_json
from saegan_jax.training.systems import member_keys
from saegan_jax.training.transforms import compile_chunk, ensemble, many_fresh_steps

SAE, CLASS_MEAN = "SAE feature", "class mean"
CONTROLS = ("SAE of an untrained generator", "principal component", "random direction", "difference of two samples")
REAL = 1000  # images that "real" is measured against
BATCH = 500
UNITS = {
    "target": "rise of the target's probability",
    "others": "total variation distance among the other classes",
    "features": "distance moved in the classifier's features",
    "pixels": "root mean squared pixel change",
    "unreal": "further from the nearest real image, in the same features",
    "dose": "spreads of the activations",
    "selectivity": "target / others, others at least 0.01",
}


@dataclass(frozen=True, kw_only=True)
class Steer:
    """Edit a generator's activations along the features of a TopK autoencoder, and measure what that does to images.

    For every class, features are chosen on some samples by the correlation of their activity with the class's probability, and
    measured on others. The controls are chosen by the same rule from as many directions, and pushed by the same norm: random
    ones, differences between samples, principal components, features of an autoencoder on the activations of an untrained
    generator. The class's own mean is what labels could give. The run folder is not changed.
    """

    run: Path
    """Run folder of train_gan or train_saegan."""
    out: Path | None = None
    """Folder for results and pictures; by default runs/steer-<run>."""
    results: Path | None = None
    """JSON to write, table (.md) beside it; by default results.json in the folder."""
    layer: int | None = None
    """Hidden layer, counted from 1, or from the end by -1; by default a dense one: the last of mlp, else the first."""
    d_sae: int = 512
    """Features of the autoencoder."""
    k: int = 16
    """Active features per activation vector."""
    sae_steps: int = 3000
    """Steps of the autoencoder."""
    sae_seeds: int = 3
    """Autoencoders, and sets of random directions, for each generator."""
    features: int = 3
    """Directions chosen for each class."""
    alphas: tuple[float, ...] = (0.25, 0.5, 1.0, 2.0, 4.0, 8.0)
    """Doses, increasing, in units of the activations' root mean squared distance to their mean."""
    match: float = 0.5
    """Directions are also compared where they change pixels equally: by this share of the distance between two samples."""
    vectors: int = 50_000
    """Activation vectors that the autoencoder is trained on; a feature map gives one at every position."""
    choose: int = 2000
    """Samples that features are chosen on."""
    measure: int = 256
    """Other samples, that their effect is measured on."""
    seed: int = 0
    """Seed of everything here."""
    step: int | None = None
    """Checkpoint; by default the newest complete one."""
    member: int | None = None
    """Member of an ensemble, counted from 0; by default each, with intervals over them."""
    manual_dir: Path | None = None
    """Folder that holds the four official MNIST gz files, to prepare the data set without the network."""
    data_dir: Path | None = None
    """Folder of prepared data sets; by default TFDS's own, ~/tensorflow_datasets."""

    def __post_init__(self) -> None:
        require_positive(d_sae=self.d_sae, sae_steps=self.sae_steps, sae_seeds=self.sae_seeds, features=self.features)
        require_positive(match=self.match, vectors=self.vectors, choose=self.choose, measure=self.measure)
        check_options(self)
        increasing = all(a < b for a, b in zip((0.0, *self.alphas), self.alphas, strict=False))
        require(bool(self.alphas) and increasing, "alphas", self.alphas, "give increasing doses above 0.")
        require(self.measure >= 2, "measure", self.measure, "the distance between samples needs two.")
        path = self.results
        require(path is None or path.suffix == ".json", "results", str(path), "give it a name that ends in .json.")
        require(self.features <= self.d_sae, "features", self.features, f"there are only d_sae={self.d_sae}.")
        _ = self.sae  # has errors of its own

    @property
    def sae(self) -> SAEConfig:
        """The autoencoder's settings."""
        return SAEConfig(
            variant="topk", d_sae=self.d_sae, k=self.k, steps=self.sae_steps, pre_bias="mean", auxk=1 / 32, learning_rate=3e-3
        )  # fmt: skip


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
    metrics: list[SAEMetrics]
    spread: float


class Programs(NamedTuple):
    """The compiled parts, shared by the members of a run."""

    cut: Split
    before: Callable[..., jax.Array]
    after: Callable[..., jax.Array]
    response: Callable[..., Effect]
    classify: Callable[[jax.Array], tuple[jax.Array, jax.Array]]
    real: jax.Array


def programs(cut: Split, network: FeatureNetwork, real_images: np.ndarray) -> Programs:
    """Compile once for all members."""
    predict: Any = classifier(network.config).predict
    mean, std = jnp.asarray(network.mean).reshape(1, -1), jnp.asarray(network.std).reshape(1, -1)

    def classify(images: jax.Array) -> tuple[jax.Array, jax.Array]:
        logits, features = predict(network.params, images)
        return logits, (features - mean) / std

    @jax.jit
    def response(
        state: Any, a: jax.Array, d: jax.Array, target: jax.Array, doses: jax.Array, real: jax.Array
    ) -> Effect:
        return dose_response(lambda a: cut.after(state, a), classify, a, d, target, doses, real)

    return Programs(
        cut,
        jax.jit(cut.before, static_argnums=2),
        jax.jit(cut.after),
        response,
        jax.jit(classify),
        jnp.asarray(network.features(real_images)),
    )


def activations(before: Callable[..., jax.Array], state: Any, key: jax.Array, n: int) -> jax.Array:
    """Those of ``n`` samples, made in batches."""
    size = min(n, BATCH)
    parts = [before(state, jax.random.fold_in(key, i), size) for i in range(math.ceil(n / size))]
    return jnp.concatenate(parts)[:n]


_feature_activity = jax.jit(feature_activity, static_argnums=0)
_strongest_directions = jax.jit(strongest_directions, static_argnums=3)


@functools.cache
def _training(config: SAEConfig, d: int, n_seeds: int) -> tuple[Any, Any]:
    """Programs of :func:`train_autoencoders`, compiled once for all members of a run."""

    def init(keys: jax.Array, middle: jax.Array) -> Any:
        return jax.vmap(sae(config, image_shape=(1, 1, d)).init, in_axes=(0, None))(keys, Start(center=middle))

    def draw(key: jax.Array, x: jax.Array) -> Batch:
        chosen = jax.random.randint(key, (config.batch_size,), 0, len(x))
        return Batch(x[chosen].reshape(-1, 1, 1, d), jnp.zeros(config.batch_size, jnp.int32))

    steps: Any = many_fresh_steps(sae(config, image_shape=(1, 1, d)).step, draw, length=config.steps)
    return jax.jit(init), compile_chunk(ensemble(steps))


def train_autoencoders(config: SAEConfig, vectors: jax.Array, *, seed: int, n_seeds: int) -> Any:
    """Parameters of ``n_seeds`` autoencoders, stacked, trained on ``vectors (n, d)`` times :func:`unit_scale` of them."""
    x = vectors * unit_scale(vectors)
    init, chunk = _training(config, vectors.shape[-1], n_seeds)
    return chunk(init(member_keys(seed, n_seeds), center(x, "mean")), x)[0].params


def choose_arms(
    options: Steer, compiled: Programs, state: Any, untrained: Any, key: jax.Array, chosen_on: jax.Array
) -> tuple[dict[str, Arm], list[SAEMetrics], jax.Array]:
    """Every arm's directions, chosen on the activations ``chosen_on``; the autoencoders' metrics; the activations' spread."""
    keys = jax.random.split(key, 4)
    positions = math.prod(compiled.cut.layer.shape[:-1])
    n = math.ceil(options.vectors / positions)
    config, seeds = options.sae, options.sae_seeds
    vectors = flatten_positions(activations(compiled.before, state, keys[0], n))
    trained = train_autoencoders(config, vectors, seed=options.seed, n_seeds=seeds)
    other = train_autoencoders(
        config, flatten_positions(activations(compiled.before, untrained, keys[1], n)), seed=options.seed, n_seeds=seeds
    )
    logits = jnp.concatenate(
        [compiled.classify(compiled.after(state, chosen_on[i : i + BATCH]))[0] for i in range(0, len(chosen_on), BATCH)]
    )
    probability, label = jax.nn.softmax(logits, axis=-1), jnp.argmax(logits, axis=-1)
    pooled, scale = mean_over_positions(chosen_on), unit_scale(vectors)

    def arm(parts: list[tuple[jax.Array, jax.Array]]) -> Arm:
        return Arm(jnp.stack([d for d, _ in parts]), np.stack([np.asarray(a) for _, a in parts]))

    def projected(directions: jax.Array) -> tuple[jax.Array, jax.Array]:
        return _strongest_directions(directions, pooled @ directions.T, probability, options.features)

    features, metrics = [], []
    for i in range(seeds):
        params = jax.tree.map(lambda leaf, i=i: leaf[i], trained)
        codes, found = _feature_activity(config, params, chosen_on, scale)
        metrics.append(jax.tree.map(np.asarray, found))
        features.append(_strongest_directions(params["params"]["W_dec"], codes, probability, options.features))
    d, draw = vectors.shape[-1], jax.random.split(keys[2], seeds)
    sets = {
        SAE: arm(features),
        CONTROLS[0]: arm([projected(other["params"]["W_dec"][i]) for i in range(seeds)]),
        CONTROLS[1]: arm([projected(jax.jit(principal_directions)(vectors))]),
        CONTROLS[2]: arm([projected(random_directions(key, options.d_sae, d)) for key in draw]),
        CONTROLS[3]: arm([projected(difference_directions(key, options.d_sae, vectors)) for key in draw]),
    }
    means = jax.jit(class_directions, static_argnums=2)(pooled, label, probability.shape[1])
    own = jnp.diagonal(jax.jit(association)(pooled @ means.T, probability))
    sets[CLASS_MEAN] = Arm(means.reshape(1, len(means), 1, d), np.asarray(own).reshape(1, -1))
    return sets, metrics, spread(vectors)


def halves(options: Steer, compiled: Programs, state: Any, key: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Activations to choose features on, and others to measure them on, which have no sample in common."""
    both = activations(compiled.before, state, key, options.choose + options.measure)
    return both[: options.choose], both[options.choose :]


def measure(
    options: Steer, compiled: Programs, state: Any, untrained: Any, key: jax.Array, say: Callable[[str], None]
) -> Found:
    """Choose and measure the directions of one generator."""
    sample_key, arms_key = jax.random.split(key)
    chosen_on, measured_on = halves(options, compiled, state, sample_key)
    say("training autoencoders")
    arms, metrics, size = choose_arms(options, compiled, state, untrained, arms_key, chosen_on)
    images = compiled.after(state, measured_on)
    apart = sample_distance(images)
    doses = size * jnp.asarray(options.alphas)
    effects: dict[str, Effect] = {}
    for name, arm in arms.items():
        say(name)
        seeds, n_classes, features, d = arm.directions.shape
        targets = np.tile(np.repeat(np.arange(n_classes, dtype=np.int32), features), seeds)
        found = [
            compiled.response(state, measured_on, direction, jnp.asarray(target), doses, compiled.real)
            for direction, target in zip(arm.directions.reshape(-1, d), targets, strict=True)
        ]
        effects[name] = jax.tree.map(
            lambda *x, shape=arm.directions.shape[:3]: np.stack([np.asarray(v) for v in x]).reshape(*shape, -1), *found
        )
    return Found(effects, arms, options.match * float(apart), metrics, float(size))


def units(values: list[np.ndarray]) -> np.ndarray:
    """What intervals are over, of one ``(seeds, n_classes, features)`` per generator: generators, or the only one's classes.

    Features of one class are alike, and several autoencoders find the same ones: they count as one.
    """
    if len(values) > 1:
        return np.array([v.mean() for v in values], np.float64)
    return values[0].mean(axis=(0, 2), dtype=np.float64)


def rows_of(found: list[Found], alphas: tuple[float, ...]) -> list[Row]:
    """Of every arm: the autoencoder, each dose, the doses that change pixels equally, and differences to the controls there."""
    rows: list[Row] = []

    def add(arm: str, metric: str, values: np.ndarray, dose: float | str | None, unit: str | None = None) -> None:
        rows.append(Row.of(arm, metric, values, unit=unit or UNITS[metric], dose=dose))

    for metric, unit in (
        ("fvu", "share of variance"),
        ("l0", "active features a vector"),
        ("dead_fraction", "share never active"),
    ):
        each = [np.array([float(getattr(m, metric)) for m in one.metrics]) for one in found]
        add(SAE, metric, each[0] if len(each) == 1 else np.array([e.mean() for e in each]), None, unit)
    matched = [
        {arm: effects_at_level(course, alphas, one.level) for arm, course in one.effects.items()} for one in found
    ]
    by_arm: dict[str, dict[str, np.ndarray]] = {}
    for arm in found[0].effects:
        associated = [one.arms[arm].associated[:, :, None] for one in found]
        add(arm, "association", units(associated), None, "correlation with the target's probability, where chosen")
        for i, dose in enumerate(alphas):
            at = {m: units([getattr(one.effects[arm], m)[..., i] for one in found]) for m in Effect._fields}
            for metric, values in (at | {"selectivity": selectivity(at["target"], at["others"])}).items():
                add(arm, metric, values, dose)
        equal = {m: units([one[arm][m] for one in matched]) for m in matched[0][arm]}
        add(arm, "reached", equal.pop("reached"), "matched", "share that change pixels so much at some dose")
        by_arm[arm] = equal | {"selectivity": selectivity(equal["target"], equal["others"])}
        for metric, values in by_arm[arm].items():
            add(arm, metric, values, "matched")
    for arm in (*CONTROLS, CLASS_MEAN):
        for metric in ("target", "others", "unreal", "selectivity"):
            add(f"{SAE} - {arm}", metric, by_arm[SAE][metric] - by_arm[arm][metric], "matched")
    return rows


def tables(result: Result) -> str:
    """Arms down, metrics across: at equal pixel change, and at the dose of one spread."""
    one = min(
        (row["dose"] for row in result.rows if isinstance(row["dose"], float)), key=lambda dose: abs(math.log(dose))
    )
    parts = [origin(result), result.extra["note"]]
    for dose, title in (("matched", "At equal change of pixels"), (one, f"At equal norm, {one:g} spreads")):
        rows = [row for row in result.rows if row["dose"] == dose and row.metric in UNITS]
        columns = {metric: metric for metric in UNITS if any(row.metric == metric for row in rows)}
        parts += [f"## {title}", pivot(rows, columns=columns, drop_empty=True)]
    return document(*parts, "; ".join(f"{metric}: {unit}" for metric, unit in UNITS.items()) + ".")


def draw_strips(options: Steer, compiled: Programs, state: Any, key: jax.Array, found: Found, folder: Path) -> None:
    """For every arm a picture: a row for each class, its first direction, a column for each dose."""
    measured_on = halves(options, compiled, state, jax.random.split(key)[0])[1]
    label = np.asarray(jnp.argmax(compiled.classify(compiled.after(state, measured_on))[0], axis=-1))
    alphas = (*(-a for a in options.alphas[::-1]), 0.0, *options.alphas)
    for name, arm in found.arms.items():
        shown = []
        for target in range(arm.directions.shape[1]):
            index = int(np.argmax(label != target))  # the first image of another class
            doses = found.spread * jnp.asarray(alphas)
            steered = jax.vmap(steer, in_axes=(None, None, 0))(
                measured_on[index : index + 1], arm.directions[0, target, 0], doses
            )
            shown.append(np.asarray(compiled.after(state, steered[:, 0])))
        rows = [f"to {target}" for target in range(len(shown))]
        path = folder / f"strips-{name.lower().replace(' ', '-')}.png"
        columns = [f"{alpha:+g}" if alpha else "0" for alpha in alphas]
        strips(np.stack(shown), path, rows=rows, columns=columns, title=f"{name}; dose / spread of the activations")


def check_places(options: Steer, folder: Path, results: Path) -> None:
    """Raise :class:`saegan_jax.errors.ConfigError` where anything would be written into the run folder."""
    for field, place in (("out", folder), ("results", results)):
        inside = place.resolve().is_relative_to(options.run.resolve())
        require(not inside, field, str(place), "it lies in the run folder, which is left as it is; choose another.")


def member_states(options: Steer, restored: Restored) -> dict[int, Any]:
    """The states of the members to steer, by number.

    Raises:
      ConfigError: one whose weights are not finite.
    """
    several = restored.n_seeds > 1
    members = range(restored.n_seeds) if options.member is None else [options.member]
    states = {i: jax.tree.map(lambda x, i=i: x[i], restored.state) if several else restored.state for i in members}
    bad = [i for i, state in states.items() if not all(np.isfinite(x).all() for x in jax.tree.leaves(state.ema))]
    require(not bad, "member", bad, "its training failed, and its weights are not finite; choose another.")
    return states


def untrained_generator(options: Steer, restored: Restored, gan: GANConfig, state: Any) -> Callable[[jax.Array], Any]:
    """``fresh(key)``: new weights of the generator of ``state``.

    Raises:
      ConfigError: a generator that draws no images itself.
    """
    d_latent = layers(restored.algorithm.sample, state)[0].shape[-1]
    generator = image_networks(gan, restored.image_shape).generator
    fresh = jax.jit(lambda key: generator.init(key, jnp.zeros((1, d_latent))))
    shapes = jax.tree.map(lambda leaf: leaf.shape, jax.eval_shape(fresh, jax.random.key(0)))
    fix = "its generator does not draw images itself, which the untrained control needs."
    require(jax.tree.map(jnp.shape, state.ema) == shapes, "run", str(options.run), fix)
    return fresh


def result_of(
    options: Steer, restored: Restored, cut: Split, number: int, network: FeatureNetwork, found: list[Found]
) -> Result:
    """The published result: rows, and a note that says what they are of."""
    name = options.run.resolve().name
    shape = " x ".join(map(str, cut.layer.shape))
    over = f"{len(found)} generators" if len(found) > 1 else "the classes of one generator"
    n_classes = len(found[0].arms[CLASS_MEAN].directions[0])
    return Result.here(
        f"steering {name}, layer {number} ({shape})",
        f"python -m experiments.steer {shlex.join(sys.argv[1:])}".strip(),
        rows_of(found, options.alphas),
        note=(
            f"{name} at step {restored.step}, what enters {cut.layer.name} ({shape}); TopK autoencoder of {options.d_sae} "
            f"features, k {options.k}, {options.sae_steps:,} steps, {options.sae_seeds} seed{'s' * (options.sae_seeds > 1)}. "
            f"For each of {n_classes} classes {options.features} directions an arm and seed, chosen by correlation on "
            f"{options.choose:,} samples, measured on {options.measure:,} others, those not of the class. Mean "
            f"[bootstrap 95 % interval over {over}]. Equal change of pixels: {options.match:g} of the distance between two "
            f"samples, {np.mean([one.level for one in found]):.3g}; a direction that never reaches it counts where it came "
            f"nearest. Classifier {network.hash[:8]}, accuracy {network.accuracy:.4f}."
        ),
        config={k: v for k, v in asdict(options).items() if not (v is None or isinstance(v, Path))}
        | {"sae": to_json(options.sae)},
    )


def write_directions(path: Path, found: Found) -> None:
    """An .npz of every arm's directions, and the spread of the activations."""
    buffer = io.BytesIO()
    arrays: dict[str, Any] = {name.replace(" ", "_"): np.asarray(arm.directions) for name, arm in found.arms.items()}
    np.savez_compressed(buffer, **arrays, spread=np.array(found.spread))
    write_bytes(path, buffer.getvalue())


def run(options: Steer) -> None:
    """Restore, train, choose, measure, write and show."""
    console = Console()
    folder = options.out or Path("runs") / f"steer-{options.run.resolve().name}"
    path = options.results or folder / "results.json"
    check_places(options, folder, path)
    restored = restore_run(options.run, step=options.step, member=options.member)
    gan: Any = getattr(restored.settings, "gan", restored.settings)
    fix = "it was not trained as a GAN; give a run of train_gan or train_saegan."
    require(isinstance(gan, GANConfig), "run", str(options.run), fix)
    states = member_states(options, restored)
    first, state = next(iter(states.items()))
    number = options.layer if options.layer is not None else -1 if gan.network == "mlp" else 1
    cut = split(restored.algorithm.sample, state, layer=number)
    fresh = untrained_generator(options, restored, gan, state)
    dataset = load(
        read_config(options.run)["options"]["dataset"], manual_dir=options.manual_dir, data_dir=options.data_dir
    )
    with console.status("training the feature network, or opening the cached one"):
        network = load_feature_network(dataset)
    some = np.random.default_rng(0).permutation(len(dataset.test.image))[:REAL]
    compiled = programs(cut, network, dataset.test.image[some])
    found = []
    with console.status("starting") as status:
        for member, state in states.items():
            key = jax.random.fold_in(jax.random.key(options.seed), member)
            untrained = replace(state, ema=fresh(jax.random.fold_in(key, 1)))
            prefix = f"member {member}: " if len(states) > 1 else ""

            def say(text: str, prefix: str = prefix) -> None:
                status.update(prefix + text)

            found.append(measure(options, compiled, state, untrained, key, say))
    result = result_of(options, restored, cut, number, network, found)
    result.write(path, tables(result))
    rows = [row.to_json() for row in result.rows]
    dose_response_curves(rows, folder / "dose_response.png", title=result.name)
    key = jax.random.fold_in(jax.random.key(options.seed), first)
    draw_strips(options, compiled, states[first], key, found[0], folder)
    write_directions(folder / "directions.npz", found[0])
    console.print(Markdown(tables(result)))
    console.print(Text(f"{path}, its table, and in {folder} the pictures are written."), soft_wrap=True)


def parse_options(arguments: Sequence[str] | None = None) -> Steer:
    """The command line as options."""
    return tyro.cli(Steer, args=arguments)


if __name__ == "__main__":
    main(lambda: run(parse_options()))
