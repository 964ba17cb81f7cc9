"""A page of a run that never was, with names that would be markup if they were not escaped."""

import base64
from typing import Any

import numpy as np
from helpers import png

from saegan_jax.evaluation.atlas import Atlas
from saegan_jax.report.atlas import atlas_data
from saegan_jax.report.page import RunPage, strip

NASTY = "<b>x</b>"


def synthetic_atlas(units: int, side: int, *, channels: int = 1, seed: int = 0) -> Atlas:
    """Blobs as atoms; digits-like images, smooth enough that a PNG makes them smaller as it does real ones."""
    rng = np.random.default_rng(seed)
    line = np.linspace(-1, 1, side)
    centre = rng.uniform(-1, 1, (units * 8, 2))
    blobs = np.exp(
        -8 * ((line[None, :, None] - centre[:, :1, None]) ** 2 + (line[None, None] - centre[:, 1:, None]) ** 2)
    )
    images = np.repeat((255 * blobs).astype(np.uint8)[..., None], channels, axis=3)
    top = np.arange(units * 8).reshape(units, 8)
    return Atlas(
        units=np.arange(units),
        d_sae=units,
        atoms=blobs[:units, ..., None].repeat(channels, axis=3) - 0.2,
        density=rng.uniform(0, 1, units),
        strength=rng.uniform(0, 3, units),
        top=top,
        top_activity=np.sort(rng.uniform(0, 9, top.shape), axis=1)[:, ::-1],
        purity=rng.uniform(0.1, 1, units),
        label=rng.integers(0, 3, units),
        purity_floor=0.35,
        nearest=(np.arange(units)[:, None] + np.arange(1, 7)) % units,
        cosine=np.sort(rng.uniform(-1, 1, (units, 6)), axis=1)[:, ::-1],
        images=images,
        image_label=rng.integers(0, 3, len(images)),
        n_images=10_000,
        usual=rng.uniform(0.1, 3, units).astype(np.float32),
    )


def synthetic_page(units: int = 12, side: int = 8, **changes: Any) -> RunPage:
    atlas = synthetic_atlas(units, side)
    strips = (
        atlas.images[: units * 8].reshape(units, 8, side, side, 1)[:, None, [0, 1, 2, 3, 4]].repeat(2, axis=1) / 255
    )
    levels = (0.0, 0.5, 1.0, 2.0, 4.0)
    picture = "data:image/png;base64," + base64.b64encode(png(atlas.images[0, ..., 0])).decode()
    metrics = []
    for i in range(1, 40):
        lines = {"generator_loss": [1 / i, 2 / i], "r1": [0.5, None if i == 3 else 0.1], "steps_per_second": 9.0}
        metrics.append({"phase": "gan", "step": 100 * i, **lines})
    metrics += [{"phase": "gan", "step": step, "critic_loss": [0.25, 0.75]} for step in (500, 3900)]  # a rarer line
    given: dict[str, Any] = {
        "title": f"run {NASTY}",
        "facts": {"data": NASTY},
        "frames": [{"name": NASTY, "left_out": 2, "pictures": [{"step": s, "src": picture} for s in (100, 200, 300)]}],
        "metrics": metrics,
        "alarms": [{"phase": "gan", "step": 300, "kind": NASTY, "state": "begins", "member": 0, "value": None}],
        "scores": {
            f"Frechet {NASTY}": {"values": [1.5, 2.0], "unit": "ratio", "note": NASTY, "floor": 1.0},
            "alarms": {"values": [1.0, None], "unit": "count", "note": "", "floor": None},
        },
        "atlas": atlas_data(atlas, class_names=["zero", NASTY, "</script>"], strips=strips, levels=levels),
        "dictionary": strip(atlas.images[:4].reshape(2, 2, side, side, 1), NASTY),
        "interpolation": [strip(atlas.images[:6].reshape(2, 3, side, side, 1), "ways")],
        "truncation": [strip(atlas.images[:6].reshape(2, 3, side, side, 1), "less")],
        "nearest": [strip(atlas.images[:6].reshape(2, 3, side, side, 1), "pairs")],
        "configuration": {"options.gan.width": 32, "options.name": NASTY},
    }
    return RunPage(**(given | changes))
