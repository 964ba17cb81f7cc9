"""Which codes tell the known factors of the shapes apart: arms of a study. A new one is a function and a line of `ARMS`."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from numpy.typing import NDArray
from rich.console import Console

from saegan_jax.algorithms.base import Examples
from saegan_jax.algorithms.sae import VARIANTS, SAEConfig, SAEState, Start, sae
from saegan_jax.algorithms.vae import VAEConfig, posterior_mean, reconstruct, vae, variational
from saegan_jax.data.dataset import Split
from saegan_jax.data.shapes import ShapesWithFactors
from saegan_jax.errors import require, require_integer, require_positive
from saegan_jax.evaluation.disentanglement import score_disentanglement
from saegan_jax.images import any_to_unit_float
from saegan_jax.runs.checks import check_options
from saegan_jax.runs.program import prefixed
from saegan_jax.training.busy import busy
from saegan_jax.training.members import unstacked
from saegan_jax.training.run_folder import to_json
from saegan_jax.training.sweep import Member, data_center, encode_all, grid, nearest_l0, score_members, train_members
from saegan_jax.training.systems import member_keys
from saegan_jax.training.transforms import compile_chunk, ensemble, many_steps

Say = Callable[[str], None]
CHUNK = 100
DENSE, PCA = "dense autoencoder", "PCA"
BASELINES = (DENSE, PCA)
"""What every arm is compared with."""


@dataclass(frozen=True, kw_only=True)
class Study:
    """What all arms have in common.

    Attributes:
      d: codes of every arm.
      k: active units that the sparse arms are brought to.
      steps, batch_size: of every training.
      fitted: training images whose codes the forests are fitted to.
      seed, seeds: the first seed and their number.
    """

    d: int = 64
    k: int = 8
    steps: int = 500
    batch_size: int = 128
    fitted: int = 2_000
    seed: int = 0
    seeds: int = 5

    def __post_init__(self) -> None:
        check_options(self)
        require_positive(d=self.d, k=self.k, steps=self.steps, batch_size=self.batch_size, fitted=self.fitted)
        require_integer(d=self.d, k=self.k, steps=self.steps, batch_size=self.batch_size, fitted=self.fitted)
        require(2 <= self.d <= 3072, "d", self.d, "codes are compared with each other, and an image has 3,072 numbers.")
        require(self.k <= self.d, "k", self.k, f"there are only d={self.d} codes.")
        require(100 <= self.fitted <= 10_000, "fitted", self.fitted, "use 100 to 10,000 images, all that there are.")

    @property
    def all_seeds(self) -> range:
        """Of the members."""
        return range(self.seed, self.seed + self.seeds)


class Encoded(NamedTuple):
    """What one member makes of the images.

    Attributes:
      train, test: codes ``(n, d)`` of the first ``fitted`` training images and of all test images.
      l0, fvu: active codes and error on the test images.
    """

    train: NDArray[np.float32]
    test: NDArray[np.float32]
    l0: float
    fvu: float


class Made(NamedTuple):
    """The members of an arm, and their settings as JSON values."""

    members: Sequence[Encoded]
    settings: Any


Arm = Callable[[Study, ShapesWithFactors, Say], Made]


def base_config(study: Study, variant: str, shape: tuple[int, int, int]) -> SAEConfig:
    """A variant with what suits it, at the study's size."""
    wanted = dict(VARIANTS[variant].wants(shape)) | {"k": study.k}
    return SAEConfig(variant=variant, d_sae=study.d, steps=study.steps, batch_size=study.batch_size, **wanted)


def _train(study: Study, members: Sequence[Member], split: Split, say: Say) -> SAEState:
    data = Examples(jnp.asarray(split.image), jnp.asarray(split.label))
    states, _ = train_members(members, data, chunk=CHUNK, progress=lambda step, _: say(f"step {step} of {study.steps}"))
    return states


def chosen(study: Study, config: SAEConfig, shapes: ShapesWithFactors, say: Say) -> SAEConfig:
    """The value of a variant's penalty whose L0 on validation images is nearest to ``k``: neither factors nor test images.

    One autoencoder is trained for each value, with a seed that is none of the study's.
    """
    axes = {name: values for name, values in VARIANTS[config.variant].sweep_axes.items() if name != "k"}
    if not axes:
        return config
    members = grid(config, [study.seed + study.seeds], **axes)
    states = _train(study, members, shapes.dataset.train, prefixed(say, f"choosing {' and '.join(axes)}, "))
    l0 = score_members(members, states, jnp.asarray(shapes.dataset.validation.image)).l0
    return nearest_l0(members, l0, study.k)


def _encoded(
    config: SAEConfig, study: Study, states: SAEState, shapes: ShapesWithFactors, *, active_only: bool = False
) -> Made:
    train, test = shapes.dataset.train.image[: study.fitted], shapes.dataset.test.image
    metrics = score_members([Member(config, seed) for seed in study.all_seeds], states, jnp.asarray(test))
    made = []
    for i, params in enumerate(unstacked(states.params, study.seeds)):
        fitted, held = (encode_all(config, params, jnp.asarray(images)) for images in (train, test))
        if active_only:
            fitted, held = (np.where(codes > config.active_above, codes, 0.0) for codes in (fitted, held))
        made.append(Encoded(fitted, held, float(metrics.l0[i]), float(metrics.fvu[i])))
    return Made(made, to_json(config))


def sparse(variant: str, study: Study, shapes: ShapesWithFactors, say: Say, *, active_only: bool = False) -> Made:
    """A trained sparse autoencoder; with ``active_only`` what its L0 does not count is 0 in its codes."""
    config = chosen(study, base_config(study, variant, shapes.dataset.image_shape), shapes, say)
    states = _train(study, [Member(config, seed) for seed in study.all_seeds], shapes.dataset.train, say)
    return _encoded(config, study, states, shapes, active_only=active_only)


def dense(study: Study, shapes: ShapesWithFactors, say: Say) -> Made:
    """The ReLU autoencoder without a penalty: of the size of the sparse ones."""
    config = replace(base_config(study, "l1", shapes.dataset.image_shape), beta=0.0)
    states = _train(study, [Member(config, seed) for seed in study.all_seeds], shapes.dataset.train, say)
    return _encoded(config, study, states, shapes)


def untrained(study: Study, shapes: ShapesWithFactors, say: Say) -> Made:
    """TopK codes of weights as they are drawn, centred on the training images."""
    shape = shapes.dataset.image_shape
    config = base_config(study, "topk", shape)
    start = Start(center=data_center(config, jnp.asarray(shapes.dataset.train.image)))
    init = jax.jit(jax.vmap(sae(config, image_shape=shape).init, in_axes=(0, None)))
    return _encoded(config, study, init(member_keys(study.seed, study.seeds), start), shapes)


def _unit(images: NDArray[np.uint8]) -> NDArray[np.float32]:
    return images.reshape(len(images), -1).astype(np.float32) / np.float32(255)


def _fvu(x: NDArray[np.float32], x_hat: NDArray[np.float32]) -> float:
    return float(np.sum((x - x_hat) ** 2) / np.sum((x - x.mean(axis=0)) ** 2))


def pca(study: Study, shapes: ShapesWithFactors, say: Say) -> Made:
    """Principal components: the same codes for every seed, so that only the forests differ."""
    from sklearn import decomposition  # slow to import

    train, test = _unit(shapes.dataset.train.image), _unit(shapes.dataset.test.image)
    fitted = decomposition.PCA(study.d, svd_solver="randomized", random_state=0).fit(train)
    codes, held = (fitted.transform(x).astype(np.float32) for x in (train[: study.fitted], test))
    one = Encoded(codes, held, float(study.d), _fvu(test, fitted.inverse_transform(held)))
    return Made([one] * study.seeds, {"n_components": study.d})


def gaussian_vae(study: Study, shapes: ShapesWithFactors, say: Say) -> Made:
    """Posterior means of the project's Gaussian VAE, whose hidden layer makes it larger than the others."""
    shape = shapes.dataset.image_shape
    config = VAEConfig(d_latent=study.d, steps=study.steps, batch_size=study.batch_size)
    algorithm = vae(config, image_shape=shape)
    states = jax.jit(jax.vmap(algorithm.init))(member_keys(study.seed, study.seeds))
    data = Examples(jnp.asarray(shapes.dataset.train.image), jnp.asarray(shapes.dataset.train.label))
    programs: dict[int, Any] = {}
    for taken in range(0, study.steps, CHUNK):
        length = min(CHUNK, study.steps - taken)
        if length not in programs:
            steps = many_steps(algorithm.step, length=length, batch_size=study.batch_size)
            programs[length] = compile_chunk(ensemble(steps))
        states, _ = programs[length](states, data)
        say(f"step {taken + length} of {study.steps}")
    encode = jax.jit(
        lambda s, x: posterior_mean(variational(config, image_shape=shape).encode(s.params, any_to_unit_float(x)))
    )
    train, test = (jnp.asarray(split.image) for split in (shapes.dataset.train, shapes.dataset.test))
    made = []
    for state in unstacked(states, study.seeds):
        codes, held = (np.asarray(encode(state, images)) for images in (train[: study.fitted], test))
        decoded = np.asarray(reconstruct(config, state, any_to_unit_float(test))).reshape(len(test), -1)
        made.append(Encoded(codes, held, float(study.d), _fvu(_unit(shapes.dataset.test.image), decoded)))
    return Made(made, to_json(config))


ARMS: Mapping[str, Arm] = {
    DENSE: dense,
    PCA: pca,
    "untrained topk": untrained,
    **{name: partial(sparse, name) for name in ("topk", *(other for other in VARIANTS if other != "topk"))},
    # Sigmoid codes are never 0: is it what L0 counts that tells factors apart, or the faint rest?
    "kl, active codes alone": partial(sparse, "kl", active_only=True),
    "Gaussian VAE": gaussian_vae,
}
"""What makes codes, by name."""


def scores_of(one: Encoded, study: Study, shapes: ShapesWithFactors, *, seed: int) -> dict[str, float]:
    """Every measure of one member; NaN where its codes are not finite or all constant."""
    found = {"l0": one.l0, "fvu": one.fvu}
    names = ("disentanglement", "completeness", "informativeness", "mig")
    train, test = shapes.factors["train"][: study.fitted], shapes.factors["test"]
    if not (np.isfinite(one.train).all() and np.isfinite(one.test).all() and one.train.std(axis=0).any()):
        return dict.fromkeys(names, math.nan) | found
    scores = score_disentanglement(one.train, train, one.test, test, seed=seed)
    return {name: float(getattr(scores, name)) for name in names} | found


def chance(shapes: ShapesWithFactors) -> float:
    """Informativeness of the commonest level of each factor."""
    test = shapes.factors["test"]
    return float(np.mean([np.bincount(column).max() / len(column) for column in test.T]))


def asked_of(study: Study) -> dict[str, Any]:
    """What an arm's scores depend on, as JSON values."""
    return {"study": to_json(study)}


def run_arm(name: str, study: Study, shapes: ShapesWithFactors, console: Console) -> dict[str, Any]:
    """Train and score an arm: what its file holds."""
    with busy(console, name) as tell:
        say = prefixed(tell, f"{name}: ")
        made = ARMS[name](study, shapes, say)
        scores = []
        for seed, one in zip(study.all_seeds, made.members, strict=True):
            say(f"forests of seed {seed}")
            scores.append(scores_of(one, study, shapes, seed=seed))
    console.print(f"{name}: done")
    values = {metric: [s[metric] if math.isfinite(s[metric]) else None for s in scores] for metric in scores[0]}
    return {"values": values, "settings": made.settings}
