"""What the trials of planted defects share: an autoencoder, held-out images and their altered versions, all described once."""

from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import numpy as np

from saegan_jax.algorithms.sae import SAEConfig
from saegan_jax.data.dataset import Split
from saegan_jax.evaluation.audit.defects import DEFECTS, Pool, Trial, run_trial
from saegan_jax.evaluation.audit.evidence import Trained, gather_evidence, refer_to, train_sae
from saegan_jax.evaluation.audit.run import ClassOfFeature, classes_of
from saegan_jax.evaluation.audit.settings import AuditSettings, default_sae
from saegan_jax.evaluation.features import FeatureNetwork


class Bench(NamedTuple):
    """Of one autoencoder.

    Attributes:
      trained: the autoencoder.
      classes: see :func:`saegan_jax.evaluation.audit.classes_of`.
      pool: held-out images.
      altered: by defect, the altered versions of the pool, or training images.
      n_classes: of the data.
    """

    trained: Trained
    classes: dict[int, ClassOfFeature]
    pool: Pool
    altered: dict[str, Pool]
    n_classes: int


def make_bench(
    split: Split,
    network: FeatureNetwork,
    defects: Sequence[str],
    *,
    n_train: int,
    n_pool: int,
    seed: int,
    sae: SAEConfig | None = None,
    say: Callable[[str], None] = lambda text: None,
) -> Bench:
    """Train an autoencoder on ``n_train`` random images of ``split`` and describe ``n_pool`` others.

    Args:
      split: at least ``n_train + n_pool`` images.
      network: whose features the metrics read.
      defects: of :data:`saegan_jax.evaluation.audit.defects.DEFECTS`.
      n_train, n_pool: images.
      seed: of the choice and of the autoencoder.
      sae: settings of the autoencoder, an audit's own by default.
      say: called with the progress.
    """
    order = np.random.default_rng(seed).permutation(len(split.label))[: n_train + n_pool]
    train, held_out = (Split(split.image[rows], split.label[rows]) for rows in np.split(order, [n_train]))
    height, width, channels = train.image.shape[1:]
    config = default_sae((height, width, channels), n_train) if sae is None else sae
    trained = train_sae(config, train.image, seed=seed, say=say)

    reference = refer_to(trained, train.image)

    def described(images: np.ndarray, label: np.ndarray) -> Pool:
        evidence = gather_evidence(reference, images, neighbours=AuditSettings().neighbours)
        return Pool(evidence, network.features(images), label)

    say("codes and nearest images")
    altered = {}
    for name in defects:
        defect = DEFECTS[name]
        if defect.alter is not None:
            altered[name] = described(defect.alter(held_out.image), held_out.label)
        elif defect.share:
            some = slice(None, max(1, n_pool // 10))
            altered[name] = described(train.image[some], train.label[some])
    classes = classes_of(reference.codes, train.label)
    n_classes = int(split.label.max()) + 1
    return Bench(trained, classes, described(held_out.image, held_out.label), altered, n_classes)


def run_trials(bench: Bench, counts: Mapping[str, int], *, n: int, seed: int) -> dict[str, list[Trial]]:
    """So many trials of each defect in ``counts``, with ``n`` reals and fakes; the dropped class is another in every trial."""
    names = list(DEFECTS)
    return {
        name: [
            run_trial(
                DEFECTS[name],
                bench.pool,
                bench.altered.get(name),
                n=n,
                target=(seed * count + i) % bench.n_classes,
                classes=bench.classes,
                settings=AuditSettings(),
                rng=np.random.default_rng((seed, n, i, names.index(name))),
            )
            for i in range(count)
        ]
        for name, count in counts.items()
    }
