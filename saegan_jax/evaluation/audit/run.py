"""The audit of a generator: what it leaves out, invents or copies, by the features of a sparse autoencoder."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import NamedTuple

import numpy as np

from saegan_jax.algorithms.sae import SAEConfig
from saegan_jax.errors import require
from saegan_jax.evaluation.audit.compare import Comparison, compare
from saegan_jax.evaluation.audit.evidence import Evidence, Trained, gather_evidence, refer_to, train_sae
from saegan_jax.evaluation.audit.images import check_pair, checked_images
from saegan_jax.evaluation.audit.settings import FEWEST_FAKE, AuditSettings, default_sae
from saegan_jax.metrics import class_purity

MOST_COMPARED = 10_000


class RealSplit(NamedTuple):
    """Numbers of the real images that train the autoencoder, and of those that are compared with the fakes."""

    train: np.ndarray
    compared: np.ndarray


class ClassOfFeature(NamedTuple):
    """The most frequent class among the training images that activate a feature.

    Attributes:
      label: its number.
      purity: its share of these images.
    """

    label: int
    purity: float


class Audit(NamedTuple):
    """What :func:`audit` returns.

    Attributes:
      comparison: the tests.
      trained: the autoencoder.
      split: of the real images.
      real, fake: evidence of the compared reals, in the order of ``split.compared``, and of the fakes.
      real_images, fake_images: ``(n, height, width, channels)`` uint8, all of them.
      classes: of every feature, where labels were given and it is ever active; else empty.
    """

    comparison: Comparison
    trained: Trained
    split: RealSplit
    real: Evidence
    fake: Evidence
    real_images: np.ndarray
    fake_images: np.ndarray
    classes: dict[int, ClassOfFeature]

    @property
    def config(self) -> SAEConfig:
        """Settings of the autoencoder."""
        return self.trained.config


def audit(
    real: np.ndarray,
    fake: np.ndarray,
    *,
    settings: AuditSettings | None = None,
    sae: SAEConfig | Trained | None = None,
    labels: np.ndarray | None = None,
    seed: int = 0,
    say: Callable[[str], None] = lambda text: None,
) -> Audit:
    """Compare fake with real images, feature by feature of a sparse autoencoder of the reals.

    The real images are split at random. One part trains the autoencoder, and is where copies are looked for. The other part is
    held out and compared with the fakes. A generator that draws from the distribution of the reals gives fakes that are
    exchangeable with the held-out reals, even for what was fitted to the training part. That is what all tests rest on.

    Args:
      real: ``(n, height, width, channels)`` uint8, or floats in [0, 1], at least 200: those that the generator learned from, or
        others of their distribution. Copies of images that are not among them go unseen, and so do those of the held-out part.
      fake: the same of the generator, at least 100. They must be independent draws: no truncation, no selection.
      settings: see :class:`AuditSettings`; by default its defaults.
      sae: settings of the autoencoder to train, :func:`default_sae` by default; or a trained one. Its training images should
        not be among ``real``: it describes these better than fresh ones, so that fakes seem badly described.
      labels: ``(n,)`` integers of the reals, to name the class that a feature stands for; no test reads them.
      seed: of the split and of the autoencoder.
      say: called with the progress.

    Returns:
      An :class:`Audit`.

    Raises:
      ConfigError: images that :func:`checked_images` or :func:`check_pair` refuse, an autoencoder of other images, labels of
        another number, or more images to compare than leave enough to train on.
    """
    settings = AuditSettings() if settings is None else settings
    real, fake = checked_images(real, "real"), checked_images(fake, "fake")
    check_pair(real, fake)
    check_labels(labels, len(real))
    split = split_reals(len(real), settings.compared, seed=seed)
    training = real[split.train]
    trained = sae if isinstance(sae, Trained) else train_sae(sae_for(sae, training), training, seed=seed, say=say)
    check_trained(trained, real)
    say("codes and nearest images of the reals")
    reference = refer_to(trained, training)
    one, other = (
        gather_evidence(reference, images, neighbours=settings.neighbours) for images in (real[split.compared], fake)
    )
    say("tests")
    comparison = compare(one, other, settings)
    classes = {} if labels is None else classes_of(reference.codes, np.asarray(labels)[split.train])
    return Audit(comparison, trained, split, one, other, real, fake, classes)


def sae_for(config: SAEConfig | None, training: np.ndarray) -> SAEConfig:
    """The settings asked for, or the default ones, with a batch that the training images can fill."""
    height, width, channels = training.shape[1:]
    chosen = default_sae((height, width, channels), len(training)) if config is None else config
    return replace(chosen, batch_size=min(chosen.batch_size, len(training)))


def split_reals(n: int, compared: int | None, *, seed: int) -> RealSplit:
    """A random split: by default half is compared, at most 10,000.

    Raises:
      ConfigError: fewer than 100 images are left to train on.
    """
    size = min(n // 2, MOST_COMPARED) if compared is None else compared
    fix = f"of {n} real images at least {FEWEST_FAKE} must be left to train on; hold out at most {n - FEWEST_FAKE}."
    require(size <= n - FEWEST_FAKE, "compared", size, fix)
    order = np.random.default_rng(seed).permutation(n)
    return RealSplit(train=np.sort(order[size:]), compared=np.sort(order[:size]))


def check_labels(labels: np.ndarray | None, n: int) -> None:
    """Refuse labels that are not one whole number for each real image.

    Raises:
      ConfigError: they are not.
    """
    if labels is not None:
        found = np.asarray(labels)
        right = found.shape == (n,) and np.issubdtype(found.dtype, np.integer)
        shown = f"{found.dtype} {found.shape}"
        require(right, "labels", shown, f"they must be {n} whole numbers, one for each real image.")


def check_trained(trained: Trained, real: np.ndarray) -> None:
    """Refuse an autoencoder of other images.

    Raises:
      ConfigError: of another size or number of channels.
    """
    sizes = [f"{w}x{h} pixels and {c} channel{'s' * (c > 1)}" for h, w, c in (trained.image_shape, real.shape[1:])]
    fix = (
        f"it reads images of {sizes[0]}, and the real ones have {sizes[1]}; train one of these images, or leave it out."
    )
    require(tuple(trained.image_shape) == real.shape[1:], "sae", f"{trained.config.d_sae} units", fix)


def classes_of(codes: np.ndarray, labels: np.ndarray | Sequence[int]) -> dict[int, ClassOfFeature]:
    """The most frequent class among the images that activate each feature, of ``codes (n, d_sae)`` and ``labels (n,)``."""
    known, number = np.unique(np.asarray(labels), return_inverse=True)
    found = class_purity(codes, number, num_classes=len(known), threshold=0)
    return {
        int(j): ClassOfFeature(int(known[found.label[j]]), float(found.purity[j]))
        for j in np.flatnonzero(found.label >= 0)
    }
