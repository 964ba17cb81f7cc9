"""The findings of an audit as one picture: what a feature draws, and the real and fake images in which it is most active."""

import os
from typing import Any, NamedTuple

import numpy as np
from matplotlib.figure import Figure

from saegan_jax.evaluation.audit import Audit
from saegan_jax.evaluation.audit.evidence import reconstruct
from saegan_jax.evaluation.autoencoders import decoder
from saegan_jax.report.audit import difference_text, percent, shown_differences
from saegan_jax.report.figures import write_figure
from saegan_jax.report.pictures import atom_pixels, tile

EACH = 8
"""Images of each kind in a row."""


class Strip(NamedTuple):
    """One row: a line of text, and three groups of images, each ``(k, h, w, c)`` uint8, with a heading."""

    text: str
    groups: tuple[tuple[str, np.ndarray], ...]


def strips(audit: Audit, *, names: Any = (), most: int = 4) -> list[Strip]:
    """Rows of the picture: at most so many findings of each section, then whole images that were singled out."""
    rows = []
    for one in shown_differences(audit, most=most):
        real, fake = (strongest(part.codes[:, one.feature]) for part in (audit.real, audit.fake))
        groups = (
            ("decoder", atom(audit, one.feature)),
            ("reals", audit.real_images[audit.split.compared[real]]),
            ("fakes", audit.fake_images[fake]),
        )
        rows.append(Strip(difference_text(one, audit.classes.get(one.feature), names), groups))
    for asked in audit.comparison.answered:
        share, chance = percent(asked.effect), percent(asked.expected)
        if asked.question == "undescribed":
            worst = audit.fake_images[np.argsort(-audit.fake.error, kind="stable")[:EACH]]
            shown = np.rint(255 * reconstruct(audit.trained, worst)).astype(np.uint8)
            text = f"badly described: {share} of the fakes, {chance} expected; the largest errors"
            rows.append(Strip(text, (("fakes", worst), ("reconstructed", shown))))
        elif asked.question == "copies":
            nearest = np.argsort(audit.fake.nearness, kind="stable")[:EACH]
            training = audit.real_images[audit.split.train[audit.fake.nearest[nearest]]]
            text = f"copies: {share} of the fakes, {chance} expected; the nearest ones"
            rows.append(Strip(text, (("fakes", audit.fake_images[nearest]), ("training images", training))))
    return rows


def strongest(strength: np.ndarray) -> np.ndarray:
    """Numbers of the images in which a feature is strongest, at most :data:`EACH`, none in which it is not active."""
    order = np.argsort(-strength, kind="stable")[:EACH]
    return order[strength[order] > 0]


def atom(audit: Audit, feature: int) -> np.ndarray:
    """What a feature adds to an image, ``(1, h, w, c)`` uint8: 0 is mid-grey."""
    weights = decoder(audit.config, audit.trained.params)[feature].astype(np.float64)
    height, width, channels = audit.trained.image_shape
    side = audit.config.patch_size
    shape = (side, side, channels) if side else (height, width, channels)
    pixels = atom_pixels(weights[None]).reshape(shape)
    canvas = np.full((1, height, width, channels), 128, np.uint8)
    canvas[0, : shape[0], : shape[1]] = pixels
    return canvas


def audit_picture(audit: Audit, path: str | os.PathLike[str], *, names: Any = ()) -> bool:
    """Write the picture; of no findings none is written, and False is returned."""
    rows = strips(audit, names=names)
    if not rows:
        return False
    columns = max(sum(max(1, len(images)) if head != "decoder" else 1 for head, images in row.groups) for row in rows)
    figure = Figure(figsize=(0.62 * max(columns, 14), 0.95 * len(rows)), layout="constrained")
    axes = figure.subplots(len(rows), 1, squeeze=False)[:, 0]
    for axis, row in zip(axes, rows, strict=True):
        axis.imshow(line(row), cmap="gray", vmin=0, vmax=255, interpolation="nearest")
        axis.set_title(f"{row.text}\n{' | '.join(head for head, _ in row.groups)}", fontsize=6.5, loc="left", pad=2)
        axis.set_axis_off()
    write_figure(figure, path, dpi=130)
    return True


def line(row: Strip) -> np.ndarray:
    """The groups of a row beside each other, ``(H, W)`` or ``(H, W, 3)``, all but the decoder :data:`EACH` images wide."""
    parts = []
    for head, images in row.groups:
        width = 1 if head == "decoder" else EACH
        blank = np.full((width - len(images), *images.shape[1:]), 255, np.uint8)
        parts.append(tile(np.concatenate([images, blank]), columns=width, upscale=1))
    gap = np.full((parts[0].shape[0], 6, *parts[0].shape[2:]), 255, np.uint8)
    return np.concatenate([part for one in parts for part in (one, gap)][:-1], axis=1)
