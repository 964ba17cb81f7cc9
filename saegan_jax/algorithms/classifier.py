"""Supervised training of the feature classifier, under the same contract as every other system here."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from flax import struct

from saegan_jax.algorithms.augment import random_shift
from saegan_jax.algorithms.base import Batch
from saegan_jax.algorithms.optimisers import apply_gradients
from saegan_jax.errors import require, require_non_negative, require_positive
from saegan_jax.networks.classifiers import Classifier


@dataclass(frozen=True)
class ClassifierConfig:
    """Settings of `classifier`.

    Attributes:
      image_shape: ``(height, width, channels)``.
      num_classes: number of classes, >= 2.
      total_steps: steps of the cosine schedule, which ends at a learning rate of 0.
      width: channels of the first convolution.
      feature_dim: number of features.
      learning_rate: AdamW's peak learning rate.
      weight_decay: AdamW's decoupled weight decay.
      dropout: fraction of convolutional activations dropped, in [0, 1).
      max_shift: each training image is moved by up to this many pixels along both axes, uniformly; zeros move in.
    """

    image_shape: tuple[int, int, int]
    num_classes: int
    total_steps: int
    width: int = 32
    feature_dim: int = 64
    learning_rate: float = 3e-3
    weight_decay: float = 0.05
    dropout: float = 0.5
    max_shift: int = 2

    def __post_init__(self) -> None:
        require(
            len(self.image_shape) == 3 and min(self.image_shape) >= 1,
            "image_shape", self.image_shape, "give (height, width, channels), each at least 1.",
        )  # fmt: skip
        require(self.num_classes >= 2, "num_classes", self.num_classes, "a classifier needs at least 2 classes.")
        require_positive(
            total_steps=self.total_steps,
            width=self.width,
            feature_dim=self.feature_dim,
            learning_rate=self.learning_rate,
        )
        require_non_negative(weight_decay=self.weight_decay)
        require(0 <= self.dropout < 1, "dropout", self.dropout, "it is a fraction in [0, 1).")
        side = min(self.image_shape[:2])
        require(
            0 <= self.max_shift < side,
            "max_shift", self.max_shift, f"it must be at least 0 and below the image side, {side}.",
        )  # fmt: skip


@struct.dataclass
class ClassifierState:
    """``step`` int32 scalar, ``key`` typed PRNG key, ``params`` of the network, ``opt_state`` of AdamW."""

    step: jax.Array
    key: jax.Array
    params: Any
    opt_state: Any


class ClassifierInfo(NamedTuple):
    """Means over the (augmented) batch: ``loss`` cross-entropy in nats, ``accuracy`` in [0, 1]."""

    loss: jax.Array
    accuracy: jax.Array


class ClassifierAlgorithm(NamedTuple):
    """Three pure functions; `saegan_jax.algorithms.base.Algorithm` with ``predict`` in the place of ``sample``.

    Attributes:
      init: ``init(key) -> ClassifierState``.
      step: ``step(state, batch) -> (state, ClassifierInfo)``; randomness is ``fold_in(state.key, state.step)``.
      predict: ``predict(params, images) -> (logits (n, num_classes), features (n, feature_dim))`` for float32 images
        ``(n, height, width, channels)`` in [0, 1]; no augmentation and no dropout.
    """

    init: Callable[[jax.Array], ClassifierState]
    step: Callable[[ClassifierState, Batch], tuple[ClassifierState, ClassifierInfo]]
    predict: Callable[[Any, jax.Array], tuple[jax.Array, jax.Array]]


def classifier(config: ClassifierConfig) -> ClassifierAlgorithm:
    """Cross-entropy under random shifts and dropout, by AdamW on a cosine schedule after a warm-up over a twentieth.

    Source: Loshchilov and Hutter, Decoupled Weight Decay Regularization, 2019, algorithm 2.
    """
    network = Classifier(config.num_classes, config.width, config.feature_dim, config.dropout)
    schedule = optax.warmup_cosine_decay_schedule(
        0.0, config.learning_rate, max(1, config.total_steps // 20), max(2, config.total_steps)
    )
    optimiser = optax.adamw(schedule, weight_decay=config.weight_decay)

    def init(key: jax.Array) -> ClassifierState:
        init_key, key = jax.random.split(key)
        params = network.init(init_key, jnp.zeros((1, *config.image_shape), jnp.float32))["params"]
        return ClassifierState(jnp.zeros((), jnp.int32), key, params, optimiser.init(params))

    def step(state: ClassifierState, batch: Batch) -> tuple[ClassifierState, ClassifierInfo]:
        shift_key, dropout_key = jax.random.split(jax.random.fold_in(state.key, state.step))
        images = random_shift(shift_key, batch.image, max_shift=config.max_shift) if config.max_shift else batch.image

        def loss_fn(params: Any) -> tuple[jax.Array, jax.Array]:
            logits, _ = network.apply({"params": params}, images, train=True, rngs={"dropout": dropout_key})
            loss = jnp.mean(optax.softmax_cross_entropy_with_integer_labels(logits, batch.label))
            return loss, jnp.mean((jnp.argmax(logits, axis=-1) == batch.label).astype(jnp.float32))

        (loss, accuracy), gradients = jax.value_and_grad(loss_fn, has_aux=True)(state.params)
        params, opt_state = apply_gradients(optimiser, gradients, state.opt_state, state.params)
        return ClassifierState(state.step + 1, state.key, params, opt_state), ClassifierInfo(loss, accuracy)

    def predict(params: Any, images: jax.Array) -> tuple[jax.Array, jax.Array]:
        outputs: Any = network.apply({"params": params}, images)
        return outputs

    return ClassifierAlgorithm(init, step, predict)
