"""The units of a sparse autoencoder as data of a page: columns of numbers, and sprite sheets."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from saegan_jax.report.pictures import atom_pixels
from saegan_jax.report.sprites import sheets, to_json, to_pixels

if TYPE_CHECKING:
    from saegan_jax.evaluation.atlas import Atlas

SHEET_CHARACTERS = 12_000_000  # of all sheets; numbers and pictures of the training come on top


def rounded(values: np.ndarray, digits: int = 4) -> Any:
    """Nested lists of numbers to so many significant digits; None for what is not finite."""
    if values.ndim > 1:
        return [rounded(row, digits) for row in values]
    return [float(f"{x:.{digits}g}") if np.isfinite(x) else None for x in values.tolist()]


def atlas_data(
    atlas: "Atlas",
    *,
    class_names: Sequence[str] | None,
    strips: np.ndarray | None = None,
    levels: Sequence[float] = (),
    most: int = SHEET_CHARACTERS,
) -> dict[str, Any]:
    """What the page's script shows of every unit.

    Args:
      atlas: see :class:`saegan_jax.evaluation.atlas.Atlas`.
      class_names: one for each class; None without labels, of which the page says nothing then.
      strips: ``(m, rows, len(levels), height, width, channels)``, generated images with each unit at ``levels`` times its
        usual activity; None without a generator that reads codes.
      levels: of the strips.
      most: characters of all sheets; images are shrunk until they fit.

    Returns:
      JSON values: one list for each column, with an entry for each unit; ``top`` are places in the sheet ``images``. ``effect``
      is the mean absolute difference of pixels between the unit off and at its usual activity, in [0, 1].
    """
    opaque = atlas.atoms[..., :3]
    atoms = opaque.reshape(len(opaque), -1)
    named = {"atoms": atom_pixels(atoms).reshape(opaque.shape), "images": to_pixels(atlas.images)}
    columns: dict[str, Any] = {
        "unit": atlas.units.tolist(),
        "density": rounded(atlas.density),
        "strength": rounded(atlas.strength),
        "top": atlas.top.tolist(),
        "activity": rounded(atlas.top_activity, 3),
        "nearest": atlas.nearest.tolist(),
        "cosine": rounded(atlas.cosine, 3),
    }
    labelled = class_names is not None
    if labelled:
        columns |= {"purity": rounded(atlas.purity), "label": atlas.label.tolist()}
    rows = 0
    if strips is not None:
        rows = strips.shape[1]
        named["strips"] = to_pixels(strips).reshape(-1, *strips.shape[3:])
        off, usual = (strips[:, :, list(levels).index(level)] for level in (0.0, 1.0))
        columns["effect"] = rounded(np.abs(usual - off).reshape(len(strips), -1).mean(axis=1))
    return {
        "columns": columns,
        "d_sae": atlas.d_sae,
        "n_images": atlas.n_images,
        "purity_floor": atlas.purity_floor if labelled else None,
        "image_label": atlas.image_label.tolist() if labelled else None,
        "class_names": None if class_names is None else list(class_names),
        "levels": list(levels) if rows else [],
        "strip_rows": rows,
        "sheets": to_json(sheets(named, most=most)),
    }
