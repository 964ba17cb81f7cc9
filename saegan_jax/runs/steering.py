"""The generators of a run that are steered, and the files that steering leaves."""

import io
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from saegan_jax.algorithms.gan import GANConfig, image_networks
from saegan_jax.errors import ConfigError, require
from saegan_jax.evaluation.steering import Found, Programs, SteeringSettings, halves, measure
from saegan_jax.files import write_bytes
from saegan_jax.report.steering import strips
from saegan_jax.runs.program import prefixed
from saegan_jax.runs.restore import Restored, restore_run
from saegan_jax.steering import Split, default_layer, layers, split, steer
from saegan_jax.training.members import members_of


def gan_of(restored: Restored, run: Path) -> GANConfig:
    """Settings of the GAN that a run has trained.

    Raises:
      ConfigError: it has trained none.
    """
    if restored.training.gan is None:
        raise ConfigError("run", str(run), "it was not trained as a GAN; give a run of train_gan or train_saegan.")
    return restored.training.gan(restored.settings)


def require_outside(run: Path, **places: Path) -> None:
    """Raise :class:`saegan_jax.errors.ConfigError` where anything would be written into the run folder."""
    for field, place in places.items():
        inside = place.resolve().is_relative_to(run.resolve())
        require(not inside, field, str(place), "it lies in the run folder, which is left as it is; choose another.")


def member_states(restored: Restored, member: int | None) -> dict[int, Any]:
    """The states of the members to steer, by number; all of them where ``member`` is None.

    Raises:
      ConfigError: one whose weights are not finite.
    """
    states = dict(enumerate(members_of(restored.state, restored.n_seeds)))
    states = states if member is None else {member: states[member]}
    bad = [i for i, state in states.items() if not all(np.isfinite(x).all() for x in jax.tree.leaves(state.ema))]
    require(not bad, "member", bad, "its training failed, and its weights are not finite; choose another.")
    return states


def untrained_generator(restored: Restored, run: Path, state: Any) -> Callable[[jax.Array], Any]:
    """``fresh(key)``: new weights of the generator of ``state``.

    Raises:
      ConfigError: a generator that draws no images itself.
    """
    d_latent = layers(restored.algorithm.sample, state)[0].shape[-1]
    generator = image_networks(gan_of(restored, run), restored.image_shape).generator
    fresh = jax.jit(lambda key: generator.init(key, jnp.zeros((1, d_latent))))
    shapes = jax.tree.map(lambda leaf: leaf.shape, jax.eval_shape(fresh, jax.random.key(0)))
    fix = "its generator does not draw images itself, which the untrained control needs."
    require(jax.tree.map(jnp.shape, state.ema) == shapes, "run", str(run), fix)
    return fresh


class Steered(NamedTuple):
    """The generators of a run that are steered.

    Attributes:
      name: of the run folder.
      options: of its training.
      step: of the checkpoint.
      layer: number of the hidden layer.
      cut: the generator before and after it.
      states: by the number of the member.
      fresh: ``fresh(key)``, weights of an untrained generator.
    """

    name: str
    options: Any
    step: int
    layer: int
    cut: Split
    states: Mapping[int, Any]
    fresh: Callable[[jax.Array], Any]

    @property
    def shape(self) -> str:
        """The shape of the activations, as people write it."""
        return " x ".join(map(str, self.cut.layer.shape))


def read_generators(
    run: Path, *, step: int | None = None, member: int | None = None, layer: int | None = None
) -> Steered:
    """The generators of a run, cut at a hidden layer; by default of all members, at the newest checkpoint.

    Raises:
      ConfigError: a run that has no such generator, member, checkpoint or layer.
    """
    restored = restore_run(run, step=step, member=member)
    gan_of(restored, run)
    states = member_states(restored, member)
    state = next(iter(states.values()))
    sample = restored.algorithm.sample
    number = layer if layer is not None else default_layer(sample, state)
    cut, fresh = split(sample, state, layer=number), untrained_generator(restored, run, state)
    return Steered(run.resolve().name, restored.options, restored.step, number, cut, states, fresh)


def measure_members(
    settings: SteeringSettings, compiled: Programs, steered: Steered, say: Callable[[str], None]
) -> list[Found]:
    """:func:`saegan_jax.evaluation.steering.measure` of every generator."""
    found = []
    for member, state in steered.states.items():
        key = member_key(settings, member)
        untrained = replace(state, ema=steered.fresh(jax.random.fold_in(key, 1)))
        prefix = f"member {member}: " if len(steered.states) > 1 else ""
        found.append(measure(settings, compiled, (state, untrained), key, prefixed(say, prefix)))
    return found


def member_key(settings: SteeringSettings, member: int) -> jax.Array:
    """The random key of a member's measures."""
    return jax.random.fold_in(jax.random.key(settings.seed), member)


def draw_strips(settings: SteeringSettings, compiled: Programs, steered: Steered, found: Found, folder: Path) -> None:
    """For every arm of the first generator a picture: a row for each class, its first direction, a column for each dose.

    Args:
      settings, compiled, steered: those that :func:`measure_members` was given.
      found: the first that it returned.
      folder: of the pictures.
    """
    member, state = next(iter(steered.states.items()))
    key = member_key(settings, member)
    measured_on = halves(settings, compiled, state, jax.random.split(key)[0])[1]
    label = np.asarray(jnp.argmax(compiled.classify(compiled.after(state, measured_on))[0], axis=-1))
    alphas = (*(-a for a in settings.alphas[::-1]), 0.0, *settings.alphas)
    doses = found.spread * jnp.asarray(alphas)
    columns = [f"{alpha:+g}" if alpha else "0" for alpha in alphas]
    for name, arm in found.arms.items():
        shown = []
        for target in range(arm.directions.shape[1]):
            index = int(np.argmax(label != target))  # the first image of another class
            edit = jax.vmap(steer, in_axes=(None, None, 0))
            edited = edit(measured_on[index : index + 1], arm.directions[0, target, 0], doses)
            shown.append(np.asarray(compiled.after(state, edited[:, 0])))
        path = folder / f"strips-{name.lower().replace(' ', '-')}.png"
        rows = [f"to {target}" for target in range(len(shown))]
        strips(np.stack(shown), path, rows=rows, columns=columns, title=f"{name}; dose / spread of the activations")


def write_directions(path: Path, found: Found) -> None:
    """An .npz of every arm's directions, and the spread of the activations."""
    buffer = io.BytesIO()
    arrays: Mapping[str, Any] = {name.replace(" ", "_"): np.asarray(arm.directions) for name, arm in found.arms.items()}
    np.savez_compressed(buffer, **arrays, spread=np.array(found.spread))
    write_bytes(path, buffer.getvalue())


def write_arms(settings: SteeringSettings, compiled: Programs, steered: Steered, found: Found, folder: Path) -> None:
    """:func:`draw_strips` of the first generator, and its directions as ``directions.npz``."""
    draw_strips(settings, compiled, steered, found, folder)
    write_directions(folder / "directions.npz", found)
