"""The page of a run: everything that its folder and its last state show, as one HTML file."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np

from saegan_jax.algorithms.base import Algorithm, cannot_sample
from saegan_jax.algorithms.sae import SAEConfig
from saegan_jax.data import Dataset, share
from saegan_jax.evaluation.atlas import Atlas, feature_atlas
from saegan_jax.evaluation.nearest import nearest_training_images
from saegan_jax.evaluation.strips import LEVELS, interpolations, truncations, unit_strips
from saegan_jax.files import write_bytes
from saegan_jax.report.atlas import atlas_data
from saegan_jax.report.card import data_name, shared_settings
from saegan_jax.report.frames import picture_series
from saegan_jax.report.page import RunPage, Strip, flat, run_html, strip
from saegan_jax.report.pictures import atom_pixels
from saegan_jax.report.sprites import to_pixels
from saegan_jax.runs.records import read_summary
from saegan_jax.runs.session import GRID, SAMPLE_SEED
from saegan_jax.steering.cut import layers
from saegan_jax.training.systems import draw
from saegan_jax.training.writers import read_alarms, read_metrics

FEATURES = 1000
FRAME_BYTES = 2_500_000  # of the pictures of the training
STRIP_ROWS = 2
WAYS, WAY = 6, 9  # interpolations, and images of each
PSIS, TRUNCATED = (1.0, 0.8, 0.6, 0.4, 0.2, 0.0), 8  # truncation, and samples a row
BESIDE, PAIRS = 8, 2  # samples beside their nearest training images in a picture, and pictures
ATOMS, ATOM_COLUMNS = 144, 24


class Subject(NamedTuple):
    """What a page is made of.

    Attributes:
      folder: of the run.
      config: its config.json.
      step: of the state.
      member: whose state it is.
      algorithm: of the system.
      state: of one member.
      sae: settings and parameters of the member's autoencoder of images; None where there is none.
      dataset: that the run was trained on; None where it has no labels.
    """

    folder: Path
    config: Mapping[str, Any]
    step: int
    member: int
    algorithm: Algorithm
    state: Any
    sae: tuple[SAEConfig, Any] | None
    dataset: Dataset | None


def write_page(subject: Subject, out: Path, *, features: int = FEATURES, seed: int = SAMPLE_SEED) -> None:
    """Make the page and write it whole; of an autoencoder the ``features`` densest units are shown."""
    write_bytes(out, run_html(page_of(subject, features=features, seed=seed)).encode())


def page_of(subject: Subject, *, features: int, seed: int) -> RunPage:
    """What the page shows; ``seed`` is that of the generated images."""
    folder = subject.folder
    atlas, strips = features_of(subject, most=features, seed=seed)
    summary = read_summary(folder)
    shown = None
    if atlas is not None and subject.dataset is not None:
        names = subject.dataset.class_names if subject.dataset.labelled else None
        shown = atlas_data(atlas, class_names=names, strips=strips, levels=LEVELS)
    return RunPage(
        title=folder.resolve().name,
        facts=facts_of(subject, summary),
        frames=picture_series(folder / "samples", most_bytes=FRAME_BYTES),
        metrics=read_metrics(folder),
        alarms=read_alarms(folder),
        scores={name: vars(score) for name, score in summary.get("rows", {}).items()},
        atlas=shown,
        dictionary=None if atlas is None else dictionary_of(atlas),
        interpolation=interpolation_of(subject, seed=seed),
        truncation=truncation_of(subject, seed=seed),
        nearest=nearest_of(subject, seed=seed),
        configuration=shared_settings(flat(subject.config["options"])),
    )


def facts_of(subject: Subject, summary: Mapping[str, Any]) -> dict[str, str]:
    """What stands below the title."""
    config, options = subject.config, subject.config["options"]
    height, width, channels = config["image_shape"]
    seeds = options.get("seeds", 1)
    shown = "1" if seeds == 1 else f"{seeds}; images and features of member {subject.member}"
    facts = {
        "system": config["script"],
        "data": data_name(options.get("dataset") or options.get("domains", "")),
        "images": f"{width} x {height}, {'grey' if channels == 1 else 'colour'}",
        "step": f"{subject.step:,}",
        "seeds": shown,
        "device": summary.get("device", ""),
        "version": config.get("version", ""),
    }
    if subject.sae is not None and not finite(subject.sae[1]):
        facts["features"] = "none: the autoencoder's weights are not finite"
    return {name: value for name, value in facts.items() if value}


def finite(tree: Any) -> bool:
    """Whether all numbers of a tree are."""
    return all(bool(np.isfinite(leaf).all()) for leaf in jax.tree.leaves(tree))


def features_of(subject: Subject, *, most: int, seed: int) -> tuple[Atlas | None, np.ndarray | None]:
    """The atlas of the autoencoder, and the strips of a generator that reads its codes."""
    if subject.sae is None or subject.dataset is None or not finite(subject.sae[1]):
        return None, None
    config, params = subject.sae
    train = share(subject.dataset.train, subject.config["options"].get("fraction", 1.0))
    classes = subject.dataset.num_classes
    atlas = feature_atlas(config, params, train.image, train.label, num_classes=classes, most=most)
    if subject.algorithm.draw_codes is None:
        return atlas, None
    asked: dict[str, Any] = {"d_sae": config.d_sae, "rows": STRIP_ROWS, "seed": seed}
    return atlas, unit_strips(subject.algorithm, subject.state, atlas.units, atlas.usual, **asked)


def dictionary_of(atlas: Atlas) -> Strip:
    """The atoms that are most often active, each on its own scale."""
    order = np.argsort(-atlas.density, kind="stable")[:ATOMS]
    atoms = atlas.atoms[order][..., :3]
    columns = min(ATOM_COLUMNS, len(atoms))
    kept = len(atoms) // columns * columns
    pixels = atom_pixels(atoms[:kept].reshape(kept, -1)).reshape(-1, columns, *atoms.shape[1:])
    caption = f"The {kept} atoms that are most often active, in falling order; each on its own scale, grey is 0."
    return strip(pixels, caption)


def can_draw(algorithm: Algorithm) -> bool:
    """Whether a system draws images."""
    return algorithm.sample is not cannot_sample


def has_latents(subject: Subject) -> bool:
    """Whether images are drawn of a latent by a network."""
    return can_draw(subject.algorithm) and bool(layers(subject.algorithm.sample, subject.state))


def interpolation_of(subject: Subject, *, seed: int) -> list[Strip]:
    """Ways between two latents; none where nothing is drawn of a latent by a network."""
    algorithm, state = subject.algorithm, subject.state
    if not has_latents(subject):
        return []
    ways = to_pixels(interpolations(algorithm, state, rows=WAYS, columns=WAY, seed=seed))
    what = "codes of the prior, on a line, with one noise a row" if algorithm.draw_codes else "latents, on an arc"
    return [strip(ways, f"Each row goes from one sample to another: {what}.")]


def truncation_of(subject: Subject, *, seed: int) -> list[Strip]:
    """Samples with less and less of the prior's spread, a row each; none where nothing is drawn of a latent by a network."""
    if not has_latents(subject):
        return []
    images = truncations(subject.algorithm, subject.state, psis=PSIS, columns=TRUNCATED, seed=seed)
    shown = ", ".join(f"{psi:g}" for psi in PSIS)
    caption = f"Latents pulled towards their mean; a row keeps this share of their distance to it: {shown}."
    return [strip(to_pixels(images), caption)]


def nearest_of(subject: Subject, *, seed: int) -> list[Strip]:
    """Samples above the training images whose pixels are nearest."""
    if subject.dataset is None or not can_draw(subject.algorithm):
        return []
    # The first of those in the pictures of a training, by the program that drew them.
    drawn = draw(subject.algorithm, subject.state, seed=seed, n=GRID, n_seeds=1)[0][: PAIRS * BESIDE]
    train = share(subject.dataset.train, subject.config["options"].get("fraction", 1.0))
    samples = to_pixels(drawn)
    found, distance = nearest_training_images(samples, train.image)
    source = subject.dataset.source
    of = "" if source is None else f" of a sample of {len(train.label):,} of {len(source):,}"
    strips = []
    for part in (slice(i * BESIDE, (i + 1) * BESIDE) for i in range(PAIRS)):
        differences = " ".join(f"{d:.2f}" for d in distance[part])
        caption = f"Samples above, the nearest training images{of} below; root mean square difference {differences}."
        strips.append(strip(np.stack([samples[part], found[part]]), caption))
    return strips
