"""What an arm's training costs, and how long each may train. A new rule is one line in :data:`BUDGETS`."""

import functools
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp

from saegan_jax.algorithms.base import Batch
from saegan_jax.algorithms.sae import autoencoder, sae
from saegan_jax.algorithms.saegan import fitting_operations
from saegan_jax.errors import ConfigError, require
from saegan_jax.runs.compare.arms import Arm
from saegan_jax.runs.compare.sizes import ImageShape
from saegan_jax.training.systems import abstract_system

Equal = Literal["flops", "steps"]


def program_flops(function: Callable[..., Any], *arguments: Any) -> float:
    """Floating-point operations of one call, counted by XLA in the compiled program; loops within it count once.

    Raises:
      ConfigError: a back end that does not count them.
    """
    analysis = jax.jit(function).lower(*arguments).compile().cost_analysis() or {}
    if not analysis.get("flops", 0) > 0:
        fix = "this back end does not count operations; compare at equal steps."
        raise ConfigError("equal", "flops", fix)
    return float(analysis["flops"])


@dataclass(frozen=True)
class Cost:
    """Floating-point operations of an arm's parts.

    Attributes:
      before: of training the autoencoder, encoding the training images and fitting the prior; 0 without one.
      step: of one step of the GAN.
    """

    before: float
    step: float


class Operations(NamedTuple):
    """Floating-point operations of one GAN step, one step of the autoencoder, and encoding one image; 0 where there is none."""

    step: float
    sae_step: float
    encode: float


def _batch(n: int, image_shape: ImageShape) -> Batch:
    """Shapes and dtypes of a batch."""
    return Batch(jax.ShapeDtypeStruct((n, *image_shape), jnp.float32), jax.ShapeDtypeStruct((n,), jnp.int32))  # type: ignore[arg-type]


@functools.cache  # fractions of the data differ in the number of images alone
def operations(settings: Any, image_shape: ImageShape, n_classes: int, *, encodes_first: bool) -> Operations:
    """Counts of the compiled programs."""
    algorithm, state = abstract_system(settings, image_shape=image_shape, n_seeds=1, n_classes=n_classes)
    step = program_flops(algorithm.step, state, _batch(settings.gan.batch_size, image_shape))
    if not encodes_first:
        return Operations(step, 0.0, 0.0)
    training = sae(settings.sae, image_shape=image_shape)
    start = jax.eval_shape(training.init, jax.random.key(0))
    trained, batch = settings.encoder == "trained", _batch(settings.sae.batch_size, image_shape)
    sae_step = program_flops(training.step, start, batch) if trained else 0.0
    encode = autoencoder(settings.sae, image_shape=image_shape).encode
    return Operations(step, sae_step, program_flops(encode, start.params, _batch(1, image_shape).image))


def cost(arm: Arm, *, image_shape: ImageShape, n_classes: int, n_images: int) -> Cost:
    """What an arm's training costs; compiles its steps, once for all numbers of images."""
    counted = operations(arm.settings, image_shape, n_classes, encodes_first=arm.family.encodes_first)
    before = arm.settings.sae.steps * counted.sae_step + n_images * counted.encode
    if arm.family.encodes_first:
        before += fitting_operations(arm.settings, n_images=n_images, image_shape=image_shape)
    return Cost(before, counted.step)


Budget = Callable[..., tuple[Arm, float | None]]


def as_many_steps(arm: Arm, baseline: Arm, *, log_every: int, **data: Any) -> tuple[Arm, None]:
    """``arm`` as it is; its operations are not counted."""
    return arm, None


def as_many_operations(arm: Arm, baseline: Arm, *, log_every: int, **data: Any) -> tuple[Arm, float]:
    """``arm`` with the steps that leave it at the operations of ``baseline``, the autoencoder's charged; and its operations.

    Args:
      arm: its steps are set.
      baseline: whose steps are the budget.
      log_every: the steps are a multiple of it.
      data: ``image_shape``, ``n_classes`` and ``n_images``, see :func:`cost`.

    Raises:
      ConfigError: an autoencoder that costs more than the whole budget.
    """
    budget = baseline.settings.gan.steps * cost(baseline, **data).step
    spent = cost(arm, **data)
    steps = int((budget - spent.before) / spent.step) // log_every * log_every
    fix = f"{arm.name}: the autoencoder alone costs the whole budget."
    require(steps > 0, "sae.steps", arm.settings.sae.steps, fix)
    return arm.with_steps(steps), spent.before + steps * spent.step


BUDGETS: Mapping[Equal, Budget] = {"flops": as_many_operations, "steps": as_many_steps}
"""How arms are made to cost the same."""
