"""CycleGAN between two unpaired domains, plain or through sparse codes: translations, scores, and what the cycle hides."""

import argparse
import functools
import json
import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import tyro

from saegan_jax import __version__
from saegan_jax.algorithms.base import Algorithm, Batch
from saegan_jax.algorithms.cyclegan import CycleGANConfig, Direction, TwoDomains, cyclegan
from saegan_jax.algorithms.sae import SAEConfig, autoencoder, sae
from saegan_jax.data.domains import Domains, load_domains
from saegan_jax.errors import ConfigError, require
from saegan_jax.evaluation.features import FeatureRecipe, load_feature_network
from saegan_jax.files import write_json
from saegan_jax.images import to_unit_float
from saegan_jax.metrics.cycle_robustness import BITS, SIGMAS, cycle_robustness, paired_error
from saegan_jax.report import image_grid
from saegan_jax.report.cycle_robustness import cycle_robustness_picture
from saegan_jax.runs.options import TrainCycleGAN
from saegan_jax.runs.scores import finish, row
from saegan_jax.runs.session import Run, to_json_options
from saegan_jax.training.callbacks import Callback
from saegan_jax.training.loop import train
from saegan_jax.training.phase import Phase, check_batch, check_schedule
from saegan_jax.training.run_folder import check_folder, lock_run, open_folder
from saegan_jax.training.systems import init_members
from saegan_jax.training.writers import Display, MetricsWriter

SCORED = 1000  # test images a domain
SHOWN = 10  # columns of the picture
NAMES: Mapping[Direction, str] = {"ab": "A to B", "ba": "B to A"}
NOISE_SEED = 0

DIGITS = TrainCycleGAN(
    cyclegan=CycleGANConfig(width=16, stages=1, blocks=3, mixing=True, d_width=32, d_stages=2, batch_size=8, steps=4000),
    sae=SAEConfig(
        variant="topk", d_sae=128, k=10, sigmoid_output=True, decoder_norm=1.0, learning_rate=3e-3, auxk=1 / 32,
        batch_size=128, steps=3000,
    ),
    log_every=100, save_every=1000, picture_every=1000,
)  # fmt: skip
MNIST = TrainCycleGAN(
    domains="mnist_inverted_rotated",
    cyclegan=CycleGANConfig(width=8, stages=2, blocks=3, mixing=True, d_width=16, d_stages=2, batch_size=4, steps=6000),
    sae=SAEConfig(
        variant="topk", d_sae=512, k=30, sigmoid_output=True, decoder_norm=1.0, learning_rate=3e-3, auxk=1 / 32,
        batch_size=128, steps=3000,
    ),
    log_every=100, save_every=1000, picture_every=1000,
)  # fmt: skip


def parse_options(arguments: Sequence[str] | None = None) -> TrainCycleGAN:
    """The command line as options; defaults are those that suit the domains."""
    arguments = sys.argv[1:] if arguments is None else list(arguments)
    first = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    first.add_argument("--domains", default="digits_inverted_rotated")
    domains = first.parse_known_args(arguments)[0].domains
    return tyro.cli(TrainCycleGAN, args=arguments, default=MNIST if domains.startswith("mnist") else DIGITS)


class Labellers(NamedTuple):
    """Classifiers of images ``(n, h, w, c)`` in [0, 1], one a domain, and what the table says of them."""

    a: Callable[[np.ndarray], np.ndarray]
    b: Callable[[np.ndarray], np.ndarray]
    note: str


def labellers(domains: Domains) -> Labellers:
    """Where the map is known, the classifier of the source data for both, after undoing the map; else one of each domain."""
    undo = domains.to_a
    if domains.source is not None and undo is not None:
        network = load_feature_network(domains.source)
        return Labellers(
            network.predict_labels,
            lambda images: network.predict_labels(np.ascontiguousarray(undo(images))),
            f"classifier {network.hash[:8]}, accuracy {network.accuracy:.4f}, true map undone",
        )
    a = load_feature_network(domains.a)
    b = load_feature_network(domains.b, recipe=FeatureRecipe(epochs=40, batch_size=64))
    return Labellers(
        a.predict_labels, b.predict_labels, f"classifiers {a.hash[:8]} {a.accuracy:.4f}, {b.hash[:8]} {b.accuracy:.4f}"
    )


def two_batches(batch_size: int) -> Callable[[jax.Array, Any], Any]:
    """``draw(key, data) -> TwoDomains``: images of each domain at random, independently."""

    def draw(key: jax.Array, data: TwoDomains) -> TwoDomains:
        def some(key: jax.Array, images: jax.Array) -> jax.Array:
            return to_unit_float(images[jax.random.randint(key, (batch_size,), 0, images.shape[0])])

        a_key, b_key = jax.random.split(key)
        return TwoDomains(some(a_key, data.a), some(b_key, data.b))

    return draw


def mixed_batches(batch_size: int) -> Callable[[jax.Array, Any], Batch]:
    """``draw(key, data) -> Batch``: as many images of each domain, for the autoencoder; labels are not looked at."""
    draw = two_batches(batch_size // 2)

    def mixed(key: jax.Array, data: TwoDomains) -> Batch:
        return Batch(jnp.concatenate(draw(key, data)), jnp.zeros(batch_size // 2 * 2, jnp.int32))

    return mixed


class Cycled(NamedTuple):
    """Test images of one direction: source, translation, and back again, ``(n, h, w, c)`` in [0, 1]."""

    source: np.ndarray
    there: np.ndarray
    back: np.ndarray


@functools.partial(jax.jit, static_argnames=("algorithm", "direction"))
def _translate(state: Any, images: jax.Array, *, algorithm: Algorithm, direction: Direction) -> jax.Array:
    assert algorithm.translate is not None
    return algorithm.translate(state, images, direction)


def _other(direction: Direction) -> Direction:
    return "ba" if direction == "ab" else "ab"


def cycled(algorithm: Algorithm, state: Any, images: jax.Array, direction: Direction) -> Cycled:
    """Translate, and translate back."""
    there = _translate(state, images, algorithm=algorithm, direction=direction)
    back = _translate(state, there, algorithm=algorithm, direction=_other(direction))
    return Cycled(*(np.asarray(x) for x in (images, there, back)))


class Held(NamedTuple):
    """What is scored in one direction: source images and labels, and the true counterparts or None."""

    image: jax.Array
    label: np.ndarray
    truth: jax.Array | None


def held_out(domains: Domains, direction: Direction, *, n: int = SCORED, seed: int = 0) -> Held:
    """At most ``n`` test images of the source domain, those that ``seed`` chooses, with their counterparts."""
    split, other = (domains.a, domains.b) if direction == "ab" else (domains.b, domains.a)
    chosen = np.random.default_rng(seed).permutation(len(split.test.label))[:n]
    truth = None if domains.to_b is None else to_unit_float(jnp.asarray(other.test.image[chosen]))
    return Held(to_unit_float(jnp.asarray(split.test.image[chosen])), split.test.label[chosen], truth)


def members_of(state: Any, n_seeds: int) -> list[Any]:
    """The states of an ensemble's members, one by one."""
    return [state] if n_seeds == 1 else [jax.tree.map(lambda x, i=i: x[i], state) for i in range(n_seeds)]


def picture_of(domains: Domains, algorithm: Algorithm, state: Any, path: Path) -> None:
    """Ten columns, a class each as far as there are ten; for each direction rows of source, translation, cycle and truth."""
    rows = []
    for direction in NAMES:
        held = held_out(domains, direction)
        order = np.argsort([np.sum(held.label[:i] == c) for i, c in enumerate(held.label)], kind="stable")
        first = order[:SHOWN][np.argsort(held.label[order[:SHOWN]], kind="stable")]
        columns = jnp.asarray(first)
        rows += list(cycled(algorithm, state, held.image[columns], direction))
        if held.truth is not None:
            rows.append(np.asarray(held.truth[columns]))
    images = np.nan_to_num(np.concatenate(rows), nan=0.5)
    image_grid(images, path, columns=len(rows[0]))


class Scored(NamedTuple):
    """Rows of the closing table, and the curves of the cycle's robustness: by name, seeds first."""

    rows: dict[str, dict[str, Any]]
    robustness: dict[str, dict[str, list[Any]]]


def scores(
    domains: Domains, algorithm: Algorithm, state: Any, *, n_seeds: int, name: str, label_of: Labellers | None
) -> Scored:
    """Score every member on test images of both domains."""
    rows: dict[str, dict[str, Any]] = {}
    curves: dict[str, list[dict[str, list[float]]]] = {name: []}
    members = members_of(state, n_seeds)
    for direction, arrow in NAMES.items():
        held = held_out(domains, direction)
        results = [cycled(algorithm, member, held.image, direction) for member in members]
        if label_of is not None:
            target, source = (label_of.b, label_of.a) if direction == "ab" else (label_of.a, label_of.b)
            values = [np.mean(target(np.nan_to_num(r.there)) == held.label) for r in results]
            ceiling = float(np.mean(source(np.asarray(held.image)) == held.label))
            untouched = float(np.mean(target(np.asarray(held.image)) == held.label))
            note = f"{label_of.note}; of the sources themselves {ceiling:.3f}, left untranslated {untouched:.3f}"
            rows[f"label kept, {arrow}"] = row(values, "share", note, floor=ceiling)
        if held.truth is not None:
            truth = held.truth
            constant = float(paired_error(truth, jnp.broadcast_to(truth.mean(axis=0)[None], truth.shape)).mean())
            values = [float(paired_error(truth, jnp.asarray(r.there)).mean()) for r in results]
            note = f"to the true counterpart, never shown; of their mean image {constant:.3f}"
            rows[f"paired error, {arrow}"] = row(values, "|pixel|", note)
        errors = [float(paired_error(held.image, jnp.asarray(r.back)).mean()) for r in results]
        rows[f"cycle error, {arrow} and back"] = row(errors, "|pixel|", f"{len(held.label)} test images")
        if algorithm.codes is not None:
            active = [
                np.mean(np.sum(np.asarray(algorithm.codes(m, held.image, direction)) > 0, axis=-1)) for m in members
            ]
            rows[f"code L0, {arrow}"] = row(active, "units", "active codes a translation is drawn from")
        for i, member in enumerate(members):
            curve = cycle_robustness(
                functools.partial(_translate, member, algorithm=algorithm, direction=direction),
                functools.partial(_translate, member, algorithm=algorithm, direction=_other(direction)),
                held.image,
                jax.random.key(NOISE_SEED),
            )
            if direction == "ab":
                curves[name].append({})
            curves[name][i][direction] = [float(curve.clean), *map(float, curve.quantised), *map(float, curve.noisy)]
        if domains.to_b is not None and domains.to_a is not None:
            there, back = (domains.to_b, domains.to_a) if direction == "ab" else (domains.to_a, domains.to_b)
            curve = cycle_robustness(on_host(there), on_host(back), held.image, jax.random.key(NOISE_SEED))
            exact = curves.setdefault("the true map", [{}])
            exact[0][direction] = [float(curve.clean), *map(float, curve.quantised), *map(float, curve.noisy)]
    n = len(BITS)
    robustness: dict[str, dict[str, list[Any]]] = {}
    for arm, found in curves.items():
        both = np.array([[one[d] for d in NAMES] for one in found]).mean(axis=1)  # (seeds, curve)
        robustness[arm] = {
            "clean": both[:, 0].tolist(), "quantised": both[:, 1 : n + 1].tolist(), "noisy": both[:, n + 1 :].tolist(),
            **{d: [one[d] for one in found] for d in NAMES},
        }  # fmt: skip
    own = np.array(robustness[name]["quantised"]), np.array(robustness[name]["noisy"])
    for bits in (8, 4, 1):
        rows[f"cycle error, middle in {bits} bits"] = row(own[0][:, BITS.index(bits)], "|pixel|", "both directions")
    for sigma in (0.01, 0.05, 0.2):
        rows[f"cycle error, middle + noise {sigma}"] = row(own[1][:, SIGMAS.index(sigma)], "|pixel|", "both directions")
    return Scored(rows, robustness)


def on_host(function: Callable[[Any], Any]) -> Callable[[jax.Array], jax.Array]:
    """A NumPy function of images as one of jax arrays."""
    return lambda images: jnp.asarray(np.ascontiguousarray(function(np.asarray(images))))


def sae_rows(run: Run, config: SAEConfig, params: Any, domains: Domains) -> dict[str, dict[str, Any]]:
    """How well the autoencoder alone draws test images of each domain: the least that any translation can be off."""
    functions = autoencoder(config, image_shape=domains.image_shape)
    rows = {}
    for name, dataset in (("A", domains.a), ("B", domains.b)):
        images = to_unit_float(jnp.asarray(dataset.test.image[:SCORED]))
        found = []
        for member in members_of(params, run.n_seeds):
            x_hat = functions.decode(member, functions.encode(member, images))
            found.append(float(paired_error(images, jnp.clip(x_hat, 0.0, 1.0)).mean()))
        rows[f"SAE error, {name}"] = row(
            found, "|pixel|", f"the autoencoder alone, k {config.k} of {config.d_sae} units"
        )
    return rows


def read_robustness(folder: Path, domains: str) -> dict[str, Any]:
    """The curves that a finished run left.

    Raises:
      ConfigError: no such run, or one on other domains.
    """
    try:
        path = folder / "cycle_robustness.json"
        path = path if path.exists() else folder / "honesty.json"  # the name that earlier versions wrote
        found = json.loads(path.read_text())
        same = found["domains"] == domains and found["bits"] == list(BITS) and found["sigmas"] == list(SIGMAS)
        arms = dict(found["arms"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        fix = f"it holds no cycle_robustness.json of a finished run ({type(error).__name__}: {error})."
        raise ConfigError("beside", str(folder), fix) from None
    require(same, "beside", str(folder), f"it is a run on {found['domains']}, or of other bits or noise.")
    return {f"{arm} ({folder.name})" if arm != "the true map" else arm: values for arm, values in arms.items()}


def run(options: TrainCycleGAN) -> None:
    """Train, score and show one run."""
    config, sae_config, n_seeds = options.cyclegan, options.sae, options.seeds
    sparse = config.kind == "sparse"
    folder = options.out or Path("runs") / f"cyclegan-{options.domains}-{config.kind}-seed{options.seed}"
    intervals: dict[str, Any] = {
        "log_every": options.log_every, "save_every": options.save_every, "picture_every": options.picture_every
    }  # fmt: skip
    phases: dict[str, Any] = {"cyclegan": config} | ({"sae": sae_config} if sparse else {})
    for phase, settings in phases.items():
        check_schedule(phase, steps=settings.steps, **intervals)
    arms: dict[str, Any] = {}
    for other in options.beside:
        arms |= read_robustness(other, options.domains)
    domains = load_domains(options.domains, manual_dir=options.manual_dir, data_dir=options.data_dir)
    for dataset in (domains.a, domains.b):
        check_batch("cyclegan", config.batch_size, len(dataset.train.label), steps=config.steps)
    if sparse:
        batch_size = sae_config.batch_size
        require(batch_size % 2 == 0, "sae.batch_size", batch_size, "half of it comes from each domain; make it even.")
    shape = domains.image_shape
    algorithm = cyclegan(config, image_shape=shape, sae=sae_config)  # finds networks that cannot make such images

    # What is drawn beside it is no part of a run, and a path no JSON.
    told = {
        key: value for key, value in to_json_options(replace(options, beside=())).items()
        if key not in ("out", "resume", "manual_dir", "data_dir", "dataset", "preset", "beside")
    }  # fmt: skip
    record = {"script": "cyclegan", "version": __version__, "image_shape": list(shape), "options": told}
    check_folder(folder, record, resume=options.resume)
    with ExitStack() as stack:
        open_folder(folder, record)
        stack.enter_context(lock_run(folder))
        writer, display = MetricsWriter(folder), Display()
        stack.callback(writer.close)
        stack.callback(display.stop)
        data: Any = TwoDomains(jnp.asarray(domains.a.train.image), jnp.asarray(domains.b.train.image))
        job = Run(options, folder, record, domains.a, data, writer, display)
        label_of = labellers(domains) if options.evaluate else None

        def trained(phase: str, settings: Any, step: Any, init: Callable[[], Any], **extra: Any) -> Any:
            one = Phase(
                name=phase, init=jax.jit(init), step=step, n_seeds=n_seeds, steps=settings.steps,
                batch_size=settings.batch_size, **intervals, **extra,
            )  # fmt: skip
            return train(one, data, folder=folder, config=record, writer=writer, display=display)

        rows: dict[str, dict[str, Any]] = {}
        sae_params = None
        if sparse:
            pre = sae(sae_config, image_shape=shape)
            state = trained(
                "sae",
                sae_config,
                pre.step,
                lambda: init_members(pre, seed=options.seed, n_seeds=n_seeds),
                draw=mixed_batches(sae_config.batch_size),
                shown=("reconstruction", "l0", "dead_fraction"),
            )
            sae_params = state.params
            rows |= sae_rows(job, sae_config, sae_params, domains)

        def init() -> Any:
            return init_members(algorithm, seed=options.seed, n_seeds=n_seeds, pretrained=sae_params)

        def picture(step: int, state: Any) -> None:
            for i, member in enumerate(members_of(state, n_seeds)):
                name = f"{step:07d}" + (f"-member{i}" if n_seeds > 1 else "")
                picture_of(domains, algorithm, member, folder / "samples" / f"{name}.png")

        state = trained(
            "cyclegan",
            config,
            algorithm.step,
            init,
            draw=two_batches(config.batch_size),
            shown=("discriminator_loss", "generator_loss", "cycle", "accuracy"),
            callbacks=(Callback(on_evaluation=picture),),
            # Convolutions of several members leave a CPU's cache, as in saegan_jax.training.systems.gan_members_per_vmap.
            members_per_vmap=1 if jax.default_backend() == "cpu" else None,
        )
        display.stop()
        arm = f"{config.kind}, k {sae_config.k}" if sparse else config.kind
        with display.console.status("scoring translations"):
            scored = scores(domains, algorithm, state, n_seeds=n_seeds, name=arm, label_of=label_of)
        curves = {"domains": options.domains, "bits": list(BITS), "sigmas": list(SIGMAS), "arms": scored.robustness}
        write_json(folder / "cycle_robustness.json", curves)
        drawn = scored.robustness | arms
        path = folder / "cycle_robustness.png"
        cycle_robustness_picture(drawn, path, bits=BITS, sigmas=SIGMAS, title=options.domains)
        finish(job, rows | scored.rows)
