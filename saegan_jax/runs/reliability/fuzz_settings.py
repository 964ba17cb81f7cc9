"""Settings drawn at random: each gives two finite steps, or one clear error before anything is compiled."""

import dataclasses
import traceback
import types
import typing
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, fields, is_dataclass, replace
from pathlib import Path
from typing import Any, Literal, get_args, get_origin

import hypothesis
import jax
import jax.numpy as jnp
import numpy as np
from hypothesis import strategies as st

import saegan_jax
from saegan_jax.algorithms.base import Algorithm, Batch
from saegan_jax.algorithms.cyclegan import CycleGANConfig, TranslationConfig, TwoDomains
from saegan_jax.algorithms.energy import EnergyConfig
from saegan_jax.algorithms.energy.config import EnergyGANConfig
from saegan_jax.algorithms.gan import GANConfig
from saegan_jax.algorithms.gan.networks import NETWORKS
from saegan_jax.algorithms.sae import VARIANTS, SAEConfig, sae
from saegan_jax.algorithms.saegan import SAEGANConfig, fit_pretrained
from saegan_jax.algorithms.vae import VAEConfig
from saegan_jax.algorithms.vae.kinds import KINDS as VAE_KINDS
from saegan_jax.algorithms.vae.likelihoods import LIKELIHOODS
from saegan_jax.data.registry import load
from saegan_jax.errors import ConfigError
from saegan_jax.priors import PRIORS
from saegan_jax.training.systems import abstract_system, pretrained_shapes

PACKAGE = str(Path(saegan_jax.__file__).parent)
SHAPE, CLASSES = (8, 8, 1), 10
SAE = SAEConfig(d_sae=8, k=2, batch_size=4, steps=4)
GAN = GANConfig(hidden=(4,), d_noise=3, width=2, batch_size=4, steps=4)
GENERATOR = EnergyGANConfig(hidden=(4,), d_noise=3, width=2, batch_size=4, steps=4)
TRANSLATORS = CycleGANConfig(
    width=2, stages=1, blocks=1, d_width=2, d_stages=1, shift_hidden=(4,), batch_size=2, steps=4, history=4
)
BASES: Mapping[str, Any] = {
    "sae": SAE,
    "gan": GAN,
    "saegan": SAEGANConfig(sae=SAE, gan=GAN, code_hidden=(4,), generator_hidden=(4,), prior_steps=2),
    "energy": EnergyConfig(sae=replace(SAE, decoder_norm=3.0), gan=GENERATOR),
    "vae": VAEConfig(hidden=(4,), d_latent=3, batch_size=4, steps=4),
    "cyclegan": TranslationConfig(cyclegan=TRANSLATORS, sae=SAE),
}
"""Small settings that work, from which the others are made."""
CHOICES: Mapping[str, tuple[str, ...]] = {
    "variant": tuple(VARIANTS),
    "sampler": tuple(PRIORS),
    "likelihood": tuple(LIKELIHOODS),
    "network": tuple(NETWORKS),
}
"""Texts that are no Literal, by the name of their field."""
WHOLE = (0, 1, 2, 3, 4, 5, 8, 16, -1)
REAL = (0.0, 1e-6, 1e-3, 0.05, 0.3, 0.5, 0.9, 1.0, 2.0, 10.0, -1.0, float("nan"), float("inf"))
STEPS = 2


@dataclass(frozen=True, kw_only=True)
class Drawn:
    """Settings, and what became of them.

    Attributes:
      system: theirs.
      changes: by field, the values that differ from :data:`BASES`.
      outcome: ``refused``, ``traced`` or ``run``.
      fault: what was wrong; empty where nothing was.
    """

    system: str
    changes: Mapping[str, Any]
    outcome: str
    fault: str


def values_of(name: str, hint: Any) -> st.SearchStrategy[Any]:
    """Values of a field: small ones that may work, and some that cannot be meant."""
    if name == "kind" and hint is str:
        return st.sampled_from((*VAE_KINDS, "nonsense"))
    if name in CHOICES:
        return st.sampled_from((*CHOICES[name], "nonsense"))
    if get_origin(hint) is Literal:
        return st.sampled_from((*get_args(hint), "nonsense"))
    if get_origin(hint) is types.UnionType:
        return st.one_of(*(st.none() if one is type(None) else values_of(name, one) for one in get_args(hint)))
    if get_origin(hint) is tuple:
        return st.lists(values_of(name, get_args(hint)[0]), max_size=2).map(tuple)
    simple = {bool: st.booleans(), int: st.sampled_from(WHOLE), float: st.sampled_from(REAL), str: st.just("nonsense")}
    return simple[hint]


def fields_of(settings: Any, prefix: str = "") -> dict[str, Any]:
    """Type of every field of a dataclass of settings and of its groups, by its path such as ``gan.loss``."""
    hints = typing.get_type_hints(type(settings))
    found: dict[str, Any] = {}
    for field in fields(settings):
        value, path = getattr(settings, field.name), f"{prefix}{field.name}"
        if is_dataclass(value):
            found |= fields_of(value, f"{path}.")
        elif field.name != "penalties":  # names that a program has registered
            found[path] = hints[field.name]
    return found


def changed(settings: Any, changes: Mapping[str, Any]) -> Any:
    """``settings`` with new values by path; groups are made anew once with all of theirs.

    Raises:
      ConfigError: values that cannot work.
    """
    groups: dict[str, dict[str, Any]] = {}
    for path, value in changes.items():
        first, _, rest = path.partition(".")
        groups.setdefault(first, {})[rest] = value
    made = {
        name: inner[""] if "" in inner else changed(getattr(settings, name), inner) for name, inner in groups.items()
    }
    return dataclasses.replace(settings, **made)


def settings_of(system: str) -> st.SearchStrategy[dict[str, Any]]:
    """Changes to the base of ``system``: of up to six fields."""
    hints = fields_of(BASES[system])
    names = st.lists(st.sampled_from(sorted(hints)), max_size=6, unique=True)
    return names.flatmap(
        lambda chosen: st.fixed_dictionaries({n: values_of(n.rpartition(".")[2], hints[n]) for n in chosen})
    )


def ours(error: BaseException) -> bool:
    """Whether an error is a ValueError that a ``raise`` of this package has raised, and no ``int("x")`` in it."""
    *_, last = traceback.extract_tb(error.__traceback__)
    raised = last.filename.startswith(PACKAGE) and (last.line or "").startswith("raise ")
    return isinstance(error, ConfigError) or (isinstance(error, ValueError) and raised)


BATCHES = {"saegan": "gan", "energy": "gan", "cyclegan": "cyclegan"}
"""Group of the settings that has the batch size, where that is not the settings themselves."""


def batch_size_of(system: str, settings: Any) -> int:
    """Examples of one step."""
    owner = getattr(settings, BATCHES[system]) if system in BATCHES else settings
    return int(owner.batch_size)


def batch_of(system: str, settings: Any) -> Any:
    """A batch of digits as the system's step reads it."""
    n, train = batch_size_of(system, settings), load("digits").train
    image = jnp.asarray(train.image[: 2 * n], jnp.float32) / 255
    if system == "cyclegan":
        return TwoDomains(image[:n], image[n:])
    return Batch(image[:n], jnp.asarray(train.label[:n]))


def pretrained_of(system: str, settings: Any) -> Any:
    """What ``init`` is given beside the key: an untrained autoencoder, and what is fitted to its codes."""
    if pretrained_shapes(settings, image_shape=SHAPE) is None:
        return None
    params = sae(settings.sae, image_shape=SHAPE).init(jax.random.key(1)).params
    if system != "saegan":
        return params
    images = jnp.asarray(load("digits").train.image[:64])
    return jax.jit(lambda p, x: fit_pretrained(settings, p, x, jax.random.key(2)))(params, images)


def judge(system: str, changes: Mapping[str, Any], *, execute: bool) -> Drawn:
    """Make the settings, trace init and step, and where ``execute`` take two steps."""
    outcome = "refused"
    try:
        settings = changed(BASES[system], changes)
        algorithm, state = abstract_system(settings, image_shape=SHAPE, n_seeds=1, n_classes=CLASSES)
        batch = batch_of(system, settings)
        after, _ = jax.eval_shape(algorithm.step, state, batch)
        outcome = "traced"
        fault = "" if _alike(state, after) else "a step changes the types of the state"
        if execute and not fault:
            outcome, fault = "run", _run(system, settings, algorithm, batch)
    except Exception as error:  # whatever comes: it is a finding unless it is an answer to the settings
        answered = outcome == "refused" and ours(error)
        fault = "" if answered else f"{type(error).__name__}: {str(error)[:300]}"
    return Drawn(system=system, changes=changes, outcome=outcome, fault=fault)


def _alike(before: Any, after: Any) -> bool:
    def parts(tree: Any) -> tuple[Any, list[Any]]:
        leaves, structure = jax.tree.flatten(tree)
        return structure, [(x.shape, x.dtype) for x in leaves]

    return parts(before) == parts(after)


def _run(system: str, settings: Any, algorithm: Algorithm, batch: Any) -> str:
    pretrained = pretrained_of(system, settings)
    given = () if pretrained is None else (pretrained,)
    state = jax.jit(algorithm.init)(jax.random.key(0), *given)
    step = jax.jit(algorithm.step)
    for _ in range(STEPS):
        state, info = step(state, batch)
    numbers = [x for x in jax.tree.leaves((state, info)) if jnp.issubdtype(x.dtype, jnp.floating)]
    finite = all(np.isfinite(np.asarray(x)).all() for x in numbers)
    return "" if finite else "not finite after two steps"


def examples(strategy: st.SearchStrategy[Any], n: int, seed: int) -> list[Any]:
    """``n`` values that Hypothesis draws, always the same ones for a seed."""
    found: list[Any] = []

    def keep(value: Any) -> None:
        found.append(value)

    test = hypothesis.settings(
        max_examples=n, database=None, deadline=None, phases=[hypothesis.Phase.generate],
        suppress_health_check=list(hypothesis.HealthCheck),
    )(hypothesis.seed(seed)(hypothesis.given(strategy)(keep)))  # fmt: skip
    test()
    return found


def draw_settings(systems: Sequence[str] = tuple(BASES), *, each: int, executed: int, seed: int) -> Iterator[Drawn]:
    """``each`` settings of every system, the systems by turns; every so many of those accepted take two steps.

    Args:
      systems: keys of :data:`BASES`.
      each: settings of each.
      executed: of each, the most that are compiled and run.
      seed: of the draws.
    """
    drawn = {system: examples(settings_of(system), each, seed) for system in systems}
    ran = dict.fromkeys(systems, 0)
    for i in range(each):
        for system in systems:
            if i < len(drawn[system]):
                one = judge(system, drawn[system][i], execute=ran[system] < executed * (i + 1) / each)
                ran[system] += one.outcome == "run"
                yield one
