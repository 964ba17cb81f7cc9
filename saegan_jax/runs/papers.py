"""Published results on sparse autoencoders, rerun. A new one is a function and one line in :data:`STUDIES`."""

from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import product
from typing import Any, Literal, NamedTuple, TypeVar

import jax
import jax.numpy as jnp
import numpy as np
from rich.console import Console

from saegan_jax.algorithms.base import Batch, Examples
from saegan_jax.algorithms.sae import SAEConfig, sae
from saegan_jax.data import Dataset
from saegan_jax.data.dataset import Split
from saegan_jax.data.synthetic import SparseMixture, draw_mixture, sparse_mixture
from saegan_jax.evaluation.probe import Probe, fit_probe, linear_probe
from saegan_jax.metrics import dictionary_match
from saegan_jax.report.table import Row
from saegan_jax.runs.program import prefixed
from saegan_jax.training.busy import busy
from saegan_jax.training.members import unstacked
from saegan_jax.training.run_folder import to_json
from saegan_jax.training.sweep import Member, encode_all, train_members
from saegan_jax.training.systems import member_keys
from saegan_jax.training.transforms import many_fresh_steps

Study = Literal["ufldl", "k_sparse", "fc_wta", "recovery"]
Say = Callable[[str], None]
Candidate = TypeVar("Candidate", bound=Hashable)

# Accuracies as published, in [0, 1].
UFLDL = 0.9828
K_SPARSE = {10: 0.9790, 25: 0.9865, 40: 0.9846}
FC_WTA = 0.988
LABELLED = 10_000  # examples that the classifier of self-taught learning is fitted to
D, ACTIVE, NOISE = 64, 4.0, 0.01  # of the synthetic mixtures


@dataclass(frozen=True, kw_only=True)
class Rerun:
    """How often and how long: seeds of every row, steps of every autoencoder (None for each study's own), true atoms."""

    seed: int
    seeds: int
    steps: int | None
    atoms: tuple[int, ...]

    def configured(self, **settings: Any) -> SAEConfig:
        """An autoencoder's settings, with the number of steps that was asked for."""
        config = SAEConfig(**settings)
        return replace(config, steps=self.steps or config.steps)


def trained(rerun: Rerun, config: SAEConfig, split: Split, say: Say) -> list[Any]:
    """Parameters of every seed."""
    members = [Member(config, rerun.seed + i) for i in range(rerun.seeds)]
    data = Examples(jnp.asarray(split.image), jnp.asarray(split.label))
    states, _ = train_members(members, data, progress=lambda step, _: say(f"step {step} of {config.steps}"))
    return unstacked(states.params, len(members))


def only(split: Split, classes: Sequence[int]) -> Split:
    """The examples of some classes."""
    kept = np.isin(split.label, classes)
    return Split(split.image[kept], split.label[kept])


class SplitCodes(NamedTuple):
    """Codes ``(n, d_sae)`` of each split."""

    train: np.ndarray
    validation: np.ndarray
    test: np.ndarray


def split_codes(config: SAEConfig, params: Any, dataset: Dataset) -> SplitCodes:
    """The codes of all images."""
    splits = (dataset.train, dataset.validation, dataset.test)
    return SplitCodes(*(encode_all(config, params, jnp.asarray(split.image)) for split in splits))


def best_probe(
    candidates: Sequence[Candidate],
    codes: Callable[[Candidate], SplitCodes],
    fit: Callable[[Candidate, np.ndarray], Probe],
    dataset: Dataset,
) -> tuple[Candidate, float]:
    """The candidate whose probe is the most accurate on validation images, and that probe's accuracy on test images.

    Args:
      candidates: settings to choose among.
      codes: those that a candidate reads.
      fit: ``fit(candidate, training codes)``.
      dataset: its labels.
    """
    found: dict[Candidate, tuple[float, Probe, np.ndarray]] = {}
    for one in candidates:
        known = codes(one)
        probe = fit(one, known.train)
        found[one] = probe.accuracy(known.validation, dataset.validation.label), probe, known.test
    best = max(found, key=lambda one: found[one][0])
    _, probe, test = found[best]
    return best, probe.accuracy(test, dataset.test.label)


def ufldl(rerun: Rerun, dataset: Dataset, say: Say) -> list[Row]:
    """Trained on digits 5 to 9 without labels; a softmax classifier of 0 to 4 on its codes and, beside it, on pixels."""
    config = rerun.configured(
        variant="kl",
        d_sae=200,
        rho=0.1,
        beta=3.0,
        weight_decay=3e-3,
        decoder_norm=0.0,
        sigmoid_output=True,
        steps=8000,
        learning_rate=2e-3,
    )
    unlabelled, low = only(dataset.train, range(5, 10)), range(5)
    labelled = only(dataset.train, low)
    labelled = Split(labelled.image[:LABELLED], labelled.label[:LABELLED])
    test = only(dataset.test, low)
    accuracies = []
    for i, params in enumerate(trained(rerun, config, unlabelled, say)):
        say(f"classifier of seed {rerun.seed + i}")
        codes = [encode_all(config, params, jnp.asarray(split.image)) for split in (labelled, test)]
        accuracies.append(linear_probe(codes[0], labelled.label, codes[1], test.label).accuracy)
    pixels = [split.image.reshape(len(split.label), -1) / 255 for split in (labelled, test)]
    raw = linear_probe(pixels[0], labelled.label, pixels[1], test.label).accuracy
    row = partial(Row.of, unit="share", table="ufldl")
    arm = "codes of digits 5-9, softmax on 0-4, 10,000 labels"
    return [
        row(arm, "accuracy", accuracies, published=UFLDL, settings=to_json(config)),
        row("the same on pixels", "accuracy", [raw]),
    ]


def wide_codes(config: SAEConfig, params: Any, dataset: Dataset, wide: int) -> SplitCodes:
    """Codes with ``wide`` active units instead of the trained k."""
    return split_codes(replace(config, k=min(wide, config.d_sae)), params, dataset)


def _fit_logistic(labels: np.ndarray, wide: int, codes: np.ndarray) -> Probe:
    # The scales of the codes mean something: a unit that is seldom on says less.
    return fit_probe(codes, labels, C=0.1, per_unit=False)


def k_sparse(rerun: Rerun, dataset: Dataset, say: Say) -> list[Row]:
    """TopK with 1,000 tied units and a logistic regression on codes whose k after training is chosen on validation images."""
    rows, fit = [], partial(_fit_logistic, dataset.train.label)
    for k, published in K_SPARSE.items():
        config = rerun.configured(
            variant="topk", d_sae=1000, k=k, tied=True, decoder_norm=0.0, steps=3000, learning_rate=1e-3
        )
        tell, best = prefixed(say, f"k={k}, "), []
        for i, params in enumerate(trained(rerun, config, dataset.train, tell)):
            tell(f"classifiers of seed {rerun.seed + i}")
            best.append(best_probe((4 * k, 8 * k), partial(wide_codes, config, params, dataset), fit, dataset))
        extra: dict[str, Any] = {"table": "k_sparse", "settings": to_json(config)}
        extra["k_after_training"] = [wide for wide, _ in best]
        accuracies, arm = [accuracy for _, accuracy in best], f"k={k}, logistic regression"
        rows.append(Row.of(arm, "accuracy", accuracies, unit="share", published=published, **extra))
    return rows


def _fit_svm(labels: np.ndarray, C: float, codes: np.ndarray) -> Probe:
    return fit_probe(codes, labels, kind="svm", C=C)


def fc_wta(rerun: Rerun, dataset: Dataset, say: Say) -> list[Row]:
    """Lifetime sparsity of 5 % with 2,000 units and a linear SVM on the codes, its C chosen on validation images."""
    config = rerun.configured(variant="wta", d_sae=2000, rho=0.05, batch_size=100, steps=8000, learning_rate=1e-3)
    best, fit = [], partial(_fit_svm, dataset.train.label)
    for i, params in enumerate(trained(rerun, config, dataset.train, say)):
        say(f"SVMs of seed {rerun.seed + i}")
        codes = split_codes(config, params, dataset)
        best.append(best_probe((1e-4, 1e-3), lambda C, codes=codes: codes, fit, dataset))  # type: ignore[misc]
    arm = "2,000 units, 5 % lifetime sparsity, linear SVM"
    extra: dict[str, Any] = {"table": "fc_wta", "settings": to_json(config), "C": [C for C, _ in best]}
    accuracies = [accuracy for _, accuracy in best]
    return [Row.of(arm, "accuracy", accuracies, unit="share", published=FC_WTA, **extra)]


class Recovered(NamedTuple):
    """True atoms and found ones, each ``(seeds, n_atoms, D)``."""

    truth: jax.Array
    found: jax.Array


def _mixture_batch(mixture: SparseMixture, batch_size: int, key: jax.Array) -> Batch:
    x, _ = draw_mixture(mixture, key, batch_size)
    return Batch(x.reshape(-1, 1, D, 1), jnp.zeros(batch_size, jnp.int32))


def _recover_one(config: SAEConfig, key: jax.Array) -> Recovered:
    """Train one autoencoder on a mixture of its own, of as many atoms as it has units."""
    truth_key, run_key = jax.random.split(key)
    mixture = sparse_mixture(truth_key, n_atoms=config.d_sae, d=D, active=ACTIVE, noise=NOISE)
    algorithm = sae(config, image_shape=(1, D, 1))
    draw = partial(_mixture_batch, mixture, config.batch_size)
    state, _ = many_fresh_steps(algorithm.step, draw, length=config.steps)(algorithm.init(run_key))
    return Recovered(mixture.atoms, state.params["params"]["W_dec"])


def recovery_rows(rerun: Rerun, variant: str, n_atoms: int, **settings: Any) -> list[Row]:
    """Cosines of the true atoms with those that autoencoders of one variant found."""
    k = int(ACTIVE)
    base: dict[str, Any] = {"variant": variant, "d_sae": n_atoms, "k": k, "batch_size": 512}
    config = rerun.configured(**(base | {"steps": 4000, "learning_rate": 3e-3} | settings))
    keys = member_keys(rerun.seed, rerun.seeds)
    recovered = jax.jit(lambda keys: jax.lax.map(partial(_recover_one, config), keys))(keys)
    # Codes are not negative, so that a direction counts with its sign.
    matched = [dictionary_match(t, w, signed=True).matched_cosine for t, w in zip(*recovered, strict=True)]
    first, rng = recovered.truth[0], np.random.default_rng(rerun.seed)
    chance = dictionary_match(first, rng.normal(size=first.shape), signed=True).mean_cosine
    arm = f"{variant}, {n_atoms} atoms in {D} dimensions"
    extra: dict[str, Any] = {"table": "recovery", "settings": to_json(config), "atoms": n_atoms, "variant": variant}
    mean, near = [float(m.mean()) for m in matched], [float((m > 0.9).mean()) for m in matched]
    return [
        Row.of(arm, "mean cosine", mean, unit="share", floor=chance, **extra),
        Row.of(arm, "atoms with cosine > 0.9", near, unit="share", **extra),
    ]


RECOVERING: Mapping[str, Mapping[str, Any]] = {
    "batch_topk": {"auxk": 1 / 32},
    "topk": {"k": int(ACTIVE) + 2, "auxk": 1 / 32},  # an example may have more than the mean
    "l1": {"beta": 0.1},
}
"""Variants that recover atoms, and their settings."""


def recovery(rerun: Rerun, dataset: Dataset, say: Say) -> list[Row]:
    """True atoms found again in sparse mixtures in 64 dimensions, from half as many atoms as dimensions to eight times."""
    rows = []
    for variant, n_atoms in product(RECOVERING, rerun.atoms):
        say(f"{variant}, {n_atoms} atoms")
        rows += recovery_rows(rerun, variant, n_atoms, **RECOVERING[variant])
    return rows


class PaperStudy(NamedTuple):
    """A published result that is rerun.

    Attributes:
      run: ``run(rerun, dataset, say)``, its rows.
      reads_images: it needs the data set.
      options: fields of :class:`Rerun` that its rows depend on, beside seeds and steps.
    """

    run: Callable[[Rerun, Dataset, Say], list[Row]]
    reads_images: bool = True
    options: tuple[str, ...] = ()


STUDIES: Mapping[Study, PaperStudy] = {
    "ufldl": PaperStudy(ufldl),
    "k_sparse": PaperStudy(k_sparse),
    "fc_wta": PaperStudy(fc_wta),
    "recovery": PaperStudy(recovery, reads_images=False, options=("atoms",)),
}
"""Published results that are rerun, by name."""


def asked_of(rerun: Rerun, study: Study) -> dict[str, Any]:
    """What a study's rows depend on, as JSON values."""
    names = ("seed", "seeds", "steps", *STUDIES[study].options)
    values = {name: getattr(rerun, name) for name in names}
    return {name: list(value) if isinstance(value, tuple) else value for name, value in values.items()}


def run_study(study: Study, rerun: Rerun, dataset: Dataset, console: Console) -> dict[str, Any]:
    """The rows of one published result, as JSON values."""
    with busy(console, study) as say:
        rows = STUDIES[study].run(rerun, dataset, prefixed(say, f"{study}: "))
    console.print(f"{study}: done")
    return {"rows": [row.to_json() for row in rows]}
