"""CycleGAN between two unpaired domains, plain or through sparse codes: translations, scores, and what the cycle hides."""

import argparse
import json
import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import tyro
from jax.sharding import Mesh

from saegan_jax.algorithms.base import Algorithm, Batch
from saegan_jax.algorithms.cyclegan import CycleGANConfig, TwoDomains, cyclegan
from saegan_jax.algorithms.sae import SAEConfig, autoencoder, sae
from saegan_jax.data.domains import Domains, load_domains
from saegan_jax.errors import ConfigError, require
from saegan_jax.files import write_json
from saegan_jax.images import to_unit_float
from saegan_jax.metrics.cycle_robustness import BITS, SIGMAS, paired_error
from saegan_jax.report import image_grid
from saegan_jax.report.cycle_robustness import cycle_robustness_picture
from saegan_jax.runs.guides import check_classes, fit_member_guides, guide_classifiers
from saegan_jax.runs.label_evaluator import SHOWN as SHOWN_SCORES
from saegan_jax.runs.label_evaluator import label_evaluator
from saegan_jax.runs.options import RunOptions, TrainCycleGAN
from saegan_jax.runs.scores import finish, row
from saegan_jax.runs.session import Run, RunData, mean_image_error, on_device, open_run
from saegan_jax.runs.translations import NAMES, SCORED, cycled, held_out, labellers, scores
from saegan_jax.training.busy import busy
from saegan_jax.training.members import members_of
from saegan_jax.training.phase import check_batch
from saegan_jax.training.systems import init_members

SHOWN = 10  # columns of the picture

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


def some_images(key: jax.Array, images: jax.Array, *, n: int) -> jax.Array:
    """``n`` of ``(m, height, width, channels)`` uint8 images at random, float32 in [0, 1]."""
    return to_unit_float(images[jax.random.randint(key, (n,), 0, images.shape[0])])


def two_batches(batch_size: int) -> Callable[[jax.Array, Any], Any]:
    """``draw(key, data) -> TwoDomains``: images of each domain at random, independently."""

    def draw(key: jax.Array, data: TwoDomains) -> TwoDomains:
        a_key, b_key = jax.random.split(key)
        return TwoDomains(some_images(a_key, data.a, n=batch_size), some_images(b_key, data.b, n=batch_size))

    return draw


def mixed_batches(batch_size: int) -> Callable[[jax.Array, Any], Batch]:
    """``draw(key, data) -> Batch``: as many images of each domain, for the autoencoder; labels are not looked at."""
    draw = two_batches(batch_size // 2)

    def mixed(key: jax.Array, data: TwoDomains) -> Batch:
        return Batch(jnp.concatenate(draw(key, data)), jnp.zeros(batch_size // 2 * 2, jnp.int32))

    return mixed


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


def check_translators(domains: Domains, settings: CycleGANConfig) -> None:
    """Raise :class:`ConfigError` for a batch larger than a domain, or other classes than its labels have."""
    check_classes(settings, domains)
    for dataset in (domains.a, domains.b):
        check_batch("cyclegan", settings.batch_size, len(dataset.train.label), steps=settings.steps)


def check_autoencoder(domains: Domains, settings: SAEConfig) -> None:
    """Raise :class:`ConfigError` for a batch that cannot have as many images of each domain."""
    fix = "half of it comes from each domain; make it even."
    require(settings.batch_size % 2 == 0, "sae.batch_size", settings.batch_size, fix)


UNRECORDED = ("dataset", "beside")
"""Options that are no part of a run: it reads domains, and what is drawn beside it changes nothing."""
CHECKS: Mapping[str, Callable[[Domains, Any], None]] = {"cyclegan": check_translators, "sae": check_autoencoder}
"""What is checked of each phase before anything is trained."""


def both_domains(domains: Domains, options: RunOptions, mesh: Mesh | None) -> RunData:
    """The training images of both domains, which have no labels."""
    return RunData(
        dataset=domains.a,
        image_shape=domains.image_shape,
        n_classes=None,
        feed=lambda: on_device(TwoDomains(domains.a.train.image, domains.b.train.image), mesh),
        check_phase=lambda name, settings: CHECKS[name](domains, settings),
        unrecorded=UNRECORDED,
    )


def train_autoencoder(job: Run, domains: Domains, *, train: bool = True) -> tuple[Any, dict[str, dict[str, Any]]]:
    """The autoencoder of both domains, or one that is left as it begins: its parameters, and its rows of the closing table."""
    config: SAEConfig = job.options.sae  # type: ignore[attr-defined]
    algorithm = sae(config, image_shape=domains.image_shape)
    if not train:
        params = start(job, algorithm)().params
        return params, sae_rows(job, config, params, domains)
    state = job.train(
        "sae",
        algorithm.step,
        start(job, algorithm),
        config,
        draw=mixed_batches(config.batch_size),
        shown=("reconstruction", "l0", "dead_fraction"),
        trivial={
            "reconstruction": mean_image_error(np.concatenate([d.train.image[:1000] for d in (domains.a, domains.b)]))
        },
    )
    return state.params, sae_rows(job, config, state.params, domains)


def start(job: Run, algorithm: Algorithm, pretrained: Any = None) -> Callable[[], Any]:
    """``init()``, the initial state of every member; each has its own ``pretrained``."""
    members: dict[str, Any] = {"seed": job.options.seed, "n_seeds": job.n_seeds}
    # An argument: as constants large weights would take minutes to compile.
    init = jax.jit(lambda given: init_members(algorithm, pretrained=given, **members))
    return partial(init, pretrained)


def translation_pictures(job: Run, domains: Domains, algorithm: Algorithm) -> Callable[[int, Any], None]:
    """A callback that draws every member's translations under ``samples/``."""

    def picture(step: int, state: Any) -> None:
        for i, member in enumerate(members_of(state, job.n_seeds)):
            name = f"{step:07d}" + (f"-member{i}" if job.n_seeds > 1 else "")
            picture_of(domains, algorithm, member, job.folder / "samples" / f"{name}.png")

    return picture


def phases_of(options: TrainCycleGAN) -> dict[str, Any]:
    """Settings of what is trained, by phase: an autoencoder where its codes are read and it is not left as it begins."""
    config = options.cyclegan
    trains = config.kind == "sparse" or (config.concept_weight > 0 and config.concept_encoder == "trained")
    return {"cyclegan": config} | ({"sae": options.sae} if trains else {})


def pretrain(job: Run, options: TrainCycleGAN, domains: Domains) -> tuple[Any, dict[str, dict[str, Any]]]:
    """What the translators read of earlier trainings, None for nothing, and its rows of the closing table."""
    config = options.cyclegan
    params: Any = None
    rows: dict[str, dict[str, Any]] = {}
    if config.kind == "sparse" or config.concept_weight:
        params, rows = train_autoencoder(job, domains, train="sae" in phases_of(options))
    if not config.guided:
        return params, rows
    job.display.stop()
    with busy(job.display.console, "training the classifiers of the labels, or opening the cached ones"):
        classifiers = guide_classifiers(config, domains)
    return fit_member_guides(config, options.sae, params, domains, classifiers, n_seeds=job.n_seeds), rows


def arm_of(options: TrainCycleGAN) -> str:
    """The run's name beside others."""
    config, sae = options.cyclegan, options.sae
    if config.kind == "sparse":
        return f"{config.kind}, k {sae.k}"
    encoder = "" if config.concept_encoder == "trained" else f" {config.concept_encoder}"
    concept = f", concepts {config.concept_weight:g}{encoder}, k {sae.k}" if config.concept_weight else ""
    labels = f", labels of {config.semantic_labels} {config.semantic_weight:g}" if config.semantic_weight else ""
    return f"{config.kind}{concept}{labels}"


def run(options: TrainCycleGAN) -> None:
    """Train, score and show one run."""
    config, n_seeds = options.cyclegan, options.seeds
    arms: dict[str, Any] = {}
    for other in options.beside:
        arms |= read_robustness(other, options.domains)
    domains = load_domains(options.domains, manual_dir=options.manual_dir, data_dir=options.data_dir)
    algorithm = cyclegan(config, image_shape=domains.image_shape, sae=options.sae)
    guides = ("-concept" if config.concept_weight else "") + ("-semantic" if config.semantic_weight else "")
    name = f"cyclegan-{options.domains}-{config.kind}{guides}-seed{options.seed}"
    phases, data = phases_of(options), partial(both_domains, domains)
    with ExitStack() as stack:
        job = open_run(stack, options, name=name, model=options.model, phases=phases, data=data, scores_samples=False)
        label_of = labellers(domains) if options.evaluate else None
        pretrained, rows = pretrain(job, options, domains)
        state = job.train(
            "cyclegan",
            algorithm.step,
            start(job, algorithm, pretrained),
            config,
            draw=two_batches(config.batch_size),
            shown=("discriminator_loss", "generator_loss", "cycle", "accuracy"),
            score=None if label_of is None else label_evaluator(domains, algorithm, label_of, n_seeds=n_seeds),
            shown_scores=SHOWN_SCORES,
            picture=translation_pictures(job, domains, algorithm),
            # Convolutions of several members leave a CPU's cache, as in saegan_jax.training.systems.gan_members_per_vmap.
            members_per_vmap=1 if jax.default_backend() == "cpu" else None,
        )
        job.display.stop()
        arm = arm_of(options)
        with busy(job.display.console, "scoring translations"):
            scored = scores(domains, algorithm, state, n_seeds=n_seeds, name=arm, label_of=label_of)
        curves = {"domains": options.domains, "bits": list(BITS), "sigmas": list(SIGMAS), "arms": scored.robustness}
        write_json(job.folder / "cycle_robustness.json", curves)
        path = job.folder / "cycle_robustness.png"
        cycle_robustness_picture(scored.robustness | arms, path, bits=BITS, sigmas=SIGMAS, title=options.domains)
        finish(job, rows | scored.rows)
