"""Supervised training of the feature classifier, under the same contract as every other system here."""

from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from flax import struct

from saegan_jax.algorithms.augment import random_shift
from saegan_jax.algorithms.base import Algorithm, Batch
from saegan_jax.algorithms.optimisers import apply_gradients
from saegan_jax.errors import require, require_integer, require_non_negative, require_positive
from saegan_jax.images import check_unit
from saegan_jax.networks.classifiers import Classifier
from saegan_jax.spmd import step_on_any_mesh


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
        require_integer(
            num_classes=self.num_classes,
            total_steps=self.total_steps,
            width=self.width,
            feature_dim=self.feature_dim,
            max_shift=self.max_shift,
        )
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


class Parts(NamedTuple):
    """What a classifier is made of; static."""

    config: ClassifierConfig
    network: Classifier
    optimiser: optax.GradientTransformation


def init_state(parts: Parts, key: jax.Array, pretrained: Any = None) -> ClassifierState:
    """New parameters.

    Raises:
      ValueError: ``pretrained`` given, of which a classifier reads nothing.
    """
    if pretrained is not None:
        raise ValueError("a classifier starts from new parameters: call init(key) without pretrained.")
    init_key, key = jax.random.split(key)
    params = parts.network.init(init_key, jnp.zeros((1, *parts.config.image_shape), jnp.float32))["params"]
    return ClassifierState(jnp.zeros((), jnp.int32), key, params, parts.optimiser.init(params))


def loss_and_accuracy(
    network: Classifier, params: Any, images: jax.Array, label: jax.Array, key: jax.Array
) -> tuple[jax.Array, jax.Array]:
    """``mean_n -log softmax(logits_n)[label_n]`` in nats, and the share predicted right; both scalars.

    Args:
      network: the classifier.
      params: its parameters.
      images: ``(batch, height, width, channels)`` in [0, 1].
      label: ``(batch,)`` int32.
      key: of the dropout.
    """
    logits, _ = network.apply({"params": params}, images, train=True, rngs={"dropout": key})
    loss = jnp.mean(optax.softmax_cross_entropy_with_integer_labels(logits, label))
    return loss, jnp.mean((jnp.argmax(logits, axis=-1) == label).astype(jnp.float32))


def train_step(parts: Parts, state: ClassifierState, batch: Batch) -> tuple[ClassifierState, ClassifierInfo]:
    """One update by AdamW on randomly shifted images.

    Raises:
      ValueError: integer images.
    """
    images, max_shift = check_unit(batch.image), parts.config.max_shift
    shift_key, dropout_key = jax.random.split(jax.random.fold_in(state.key, state.step))
    if max_shift:
        images = random_shift(shift_key, images, max_shift=max_shift)
    (loss, accuracy), gradients = jax.value_and_grad(partial(loss_and_accuracy, parts.network), has_aux=True)(
        state.params, images, batch.label, dropout_key
    )
    params, opt_state = apply_gradients(parts.optimiser, gradients, state.opt_state, state.params)
    return ClassifierState(state.step + 1, state.key, params, opt_state), ClassifierInfo(loss, accuracy)


def predict(network: Classifier, params: Any, images: jax.Array) -> tuple[jax.Array, jax.Array]:
    """``(logits (n, num_classes), features (n, feature_dim))`` without augmentation and dropout.

    Args:
      network: the classifier.
      params: its parameters.
      images: ``(n, height, width, channels)`` float32 in [0, 1].

    Raises:
      ValueError: integer images.
    """
    outputs: Any = network.apply({"params": params}, check_unit(images))
    return outputs


def classifier(config: ClassifierConfig) -> Algorithm:
    """Cross-entropy under random shifts and dropout, by AdamW on a cosine schedule after a warm-up over a twentieth.

    Returns:
      An :class:`saegan_jax.algorithms.base.Algorithm` that predicts and cannot sample. ``init(key)`` takes no ``pretrained``;
      ``step(state, batch) -> (state, ClassifierInfo)``, its randomness ``fold_in(state.key, state.step)``; ``predict(params,
      images) -> (logits, features)``, see :func:`predict`.

    Source: Loshchilov and Hutter, Decoupled Weight Decay Regularization, 2019, algorithm 2.
    """
    schedule = optax.warmup_cosine_decay_schedule(
        0.0, config.learning_rate, max(1, config.total_steps // 20), max(2, config.total_steps)
    )
    parts = Parts(
        config=config,
        network=Classifier(config.num_classes, config.width, config.feature_dim, config.dropout),
        optimiser=optax.adamw(schedule, weight_decay=config.weight_decay),
    )
    return Algorithm(
        init=partial(init_state, parts),
        step=step_on_any_mesh(partial(train_step, parts)),
        predict=partial(predict, parts.network),
    )
