"""The trainings of ``python -m benchmarks.quality`` that are ours, from the presets of the command line, and the scorer.

Claim: how long a user waits for samples of a quality, with all that an arm needs charged to it.
"""

from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from typing import Any, NamedTuple

import jax
import numpy as np

from benchmarks.harness.timing import stopwatch
from benchmarks.workloads import gan as gans
from benchmarks.workloads.package import (
    Algorithm,
    Examples,
    GANConfig,
    SAEGANConfig,
    Start,
    compile_chunk,
    data_center,
    draw,
    fit_pretrained,
    gan,
    many_steps,
    sae,
    saegan,
)
from benchmarks.workloads.work import Work
from saegan_jax.data import Dataset
from saegan_jax.evaluation.features import FeatureNetwork
from saegan_jax.evaluation.sample_quality import sample_quality
from saegan_jax.runs.compare.arms import PLAIN_GAN, SAE_GAN, Arm
from saegan_jax.runs.compare.budgets import cost
from saegan_jax.runs.presets import PRESETS, preset_name

SAE_CHUNK = 100


class Recipe(NamedTuple):
    """What the presets say of a data set.

    Attributes:
      plain: the GAN alone, as ``saegan train gan`` trains it.
      pairs: pairs of image and code, as ``saegan train saegan`` plays them.
    """

    plain: GANConfig
    pairs: SAEGANConfig


def fixed_schedule(config: GANConfig) -> GANConfig:
    """The same training however long it goes on: what moves along it ends at the preset's last step."""
    return replace(config, schedule_steps=config.schedule_steps or config.steps)


def recipe(dataset: str) -> Recipe:
    """Of a data set by name."""
    preset = PRESETS[preset_name(dataset, "auto")]
    pairs = preset.pairs or preset.model
    return Recipe(fixed_schedule(preset.model.gan), replace(pairs, gan=fixed_schedule(pairs.gan)))


def scorer(network: FeatureNetwork, dataset: Dataset) -> Callable[[np.ndarray], float]:
    """Frechet distance of samples to the validation images over that of as many training images; NaN of non-finite samples.

    The test images are not used.
    """

    def score(images: np.ndarray) -> float:
        if not np.isfinite(images).all():
            return float("nan")
        return float(sample_quality(network, images, dataset, reference="validation", pairs=False)["ratio"])

    return score


def peer_work(dataset: Dataset, config: GANConfig) -> Work:
    """The plain GAN as a work that peers agree on."""
    return gans.work("plain", config, image_shape=dataset.image_shape)


def plain_arm(found: Recipe) -> Arm:
    """The plain GAN as an arm whose operations are counted."""
    return Arm("", PLAIN_GAN, SAEGANConfig(gan=found.plain, generator_input="gaussian", discriminator="pixels"))


def pairs_arm(found: Recipe) -> Arm:
    """The GAN of pairs, with its autoencoder and its prior."""
    return Arm("", SAE_GAN, found.pairs)


def flops_of(arm: Arm, dataset: Dataset) -> tuple[float, float] | None:
    """Operations before the first step and of a step, on a CPU; elsewhere libraries compute what XLA does not count."""
    if jax.default_backend() != "cpu":
        return None
    n = len(dataset.train.label)
    counted = cost(arm, image_shape=dataset.image_shape, n_classes=dataset.num_classes, n_images=n)
    return counted.before, counted.step


class _Compiler:
    """Programs compiled before they are run, and the seconds that it took."""

    def __init__(self) -> None:
        self.seconds = 0.0

    def __call__(self, jitted: Any, *shapes: Any) -> Any:
        program, took = stopwatch(lambda: jitted.lower(*shapes).compile())
        self.seconds += took
        return program


class Plain:
    """Programs of the plain GAN, compiled once for all seeds."""

    def __init__(self, config: GANConfig, data: Examples, *, every: int) -> None:
        self._compile, self.data, self.every = _Compiler(), data, every
        self.algorithm = gan(config, image_shape=data.image.shape[1:])  # type: ignore[arg-type]
        key = jax.random.key(0)
        self.init = self._compile(jax.jit(self.algorithm.init), key)
        self.chunk = self._compile(
            compile_chunk(many_steps(self.algorithm.step, length=every, batch_size=config.batch_size)),
            jax.eval_shape(self.algorithm.init, key),
            data,
        )

    @property
    def compile_s(self) -> float:
        """Seconds that compiling took."""
        return self._compile.seconds

    def start(self, seed: int) -> tuple[Any, Mapping[str, float]]:
        """The state before the first step, and seconds of what was needed for it."""
        return self.init(jax.random.key(seed)), {}


class Pairs:
    """Programs of the GAN of pairs: of its autoencoder, of encoding and fitting, and of the game; compiled once."""

    def __init__(self, config: SAEGANConfig, data: Examples, *, every: int) -> None:
        self._compile, self.data, self.every, self.config = _Compiler(), data, every, config
        shape: Any = data.image.shape[1:]
        # The centre is compiled as it is computed, within a second; it is the same for all seeds.
        center, self.center_s = stopwatch(lambda: data_center(config.sae, data.image))
        self.middle, key = Start(center=center), jax.random.key(0)
        autoencoder = sae(config.sae, image_shape=shape)
        self.algorithm = saegan(config, image_shape=shape)
        fit = partial(fit_pretrained, config)
        trained = jax.eval_shape(autoencoder.init, key, self.middle)
        self.sae_init = self._compile(jax.jit(autoencoder.init), key, self.middle)
        self.sae_chunks = self._sae_chunks(autoencoder, trained)
        self.fit = self._compile(jax.jit(fit), trained.params, data.image, key)
        pretrained = jax.eval_shape(fit, trained.params, data.image, key)
        self.init = self._compile(jax.jit(self.algorithm.init), key, pretrained)
        chunk = many_steps(self.algorithm.step, length=every, batch_size=config.gan.batch_size)
        self.chunk = self._compile(compile_chunk(chunk), jax.eval_shape(self.algorithm.init, key, pretrained), data)

    def _sae_chunks(self, autoencoder: Algorithm, state: Any) -> list[Any]:
        """The programs of the autoencoder's training, in order: all but the last are one."""
        config = self.config.sae
        whole, rest = divmod(config.steps, SAE_CHUNK)

        def program(length: int) -> Any:
            chunk = many_steps(autoencoder.step, length=length, batch_size=config.batch_size)
            return self._compile(compile_chunk(chunk), state, self.data)

        first = [program(SAE_CHUNK)] * whole if whole else []
        return first + ([program(rest)] if rest else [])

    @property
    def compile_s(self) -> float:
        """Seconds that compiling took."""
        return self._compile.seconds

    def _trained(self, key: jax.Array) -> Any:
        state = self.sae_init(key, self.middle)
        for chunk in self.sae_chunks:
            state, _ = chunk(state, self.data)
        return state.params

    def start(self, seed: int) -> tuple[Any, Mapping[str, float]]:
        """The state before the first step, and seconds of what was needed for it."""
        key = jax.random.key(seed)
        params, training_s = stopwatch(lambda: self._trained(key))
        pretrained, fitting_s = stopwatch(lambda: self.fit(params, self.data.image, key))
        before = {"training the autoencoder": self.center_s + training_s, "encoding and fitting the prior": fitting_s}
        return self.init(key, pretrained), before


class Ours:
    """A training of ours as :class:`benchmarks.harness.crossing.Trainee`.

    Args:
      programs: of its arm.
      seed: of the training and of its samples.
    """

    def __init__(self, programs: Plain | Pairs, *, seed: int) -> None:
        self._programs, self._seed = programs, seed
        self.compile_s = programs.compile_s
        self._state, self.before = programs.start(seed)

    def advance(self, steps: int) -> None:
        """See :class:`benchmarks.harness.crossing.Trainee`."""
        if steps != self._programs.every:
            raise ValueError(f"steps = {steps}: the program takes {self._programs.every} at a time.")
        self._state, infos = self._programs.chunk(self._state, self._programs.data)
        jax.block_until_ready((self._state, infos))

    def sample(self, n: int) -> np.ndarray:
        """See :class:`benchmarks.harness.crossing.Trainee`; of the same latents every time."""
        return draw(self._programs.algorithm, self._state, seed=self._seed, n=n, n_seeds=1)[0]

    def close(self) -> None:
        """See :class:`benchmarks.harness.crossing.Trainee`."""
        self._state = None


class Entry(NamedTuple):
    """An arm of ours.

    Attributes:
      settings: of a recipe.
      programs: that train them.
      arm: whose operations are counted.
    """

    settings: Callable[[Recipe], Any]
    programs: Callable[..., Plain | Pairs]
    arm: Callable[[Recipe], Arm]


OURS: Mapping[str, Entry] = {
    "plain GAN": Entry(lambda found: found.plain, Plain, plain_arm),
    "pairs of image and code": Entry(lambda found: found.pairs, Pairs, pairs_arm),
}
"""Arms of ours by name."""
