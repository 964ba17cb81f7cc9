"""The command line as options: the preset first, then what a recipe and a variant want, then what the user set."""

import dataclasses
import sys
from collections.abc import Sequence
from typing import Any

from saegan_jax.algorithms.energy import EnergyConfig
from saegan_jax.algorithms.sae import VARIANTS
from saegan_jax.algorithms.saegan import SAEGANConfig
from saegan_jax.errors import require_choice
from saegan_jax.runs.arguments import peek, read_options
from saegan_jax.runs.help import short_help
from saegan_jax.runs.options import Options
from saegan_jax.runs.presets import ENERGY, PRESETS, Preset, energy_settings, preset_name
from saegan_jax.runs.program import program_name
from saegan_jax.runs.recipes import RECIPES
from saegan_jax.training.saved_weights import read_saved

PLACES = ("generator_input", "discriminator", "generator_output")  # where the autoencoder enters


def _energy(preset: str, model: SAEGANConfig, arguments: Sequence[str]) -> EnergyConfig:
    """The energy-based GAN of a preset, with what its ``--kind`` wants."""
    chosen = peek(arguments, kind="ebgan").kind
    return energy_settings(preset, model, chosen if chosen in ENERGY["other"] else "ebgan")  # tyro refuses unknown ones


def _model(kind: type[Options], preset: Preset, arguments: Sequence[str]) -> SAEGANConfig:
    """The preset's pairs of image and code, where a kind has placements and the command line names no others."""
    if preset.pairs is None or "model" not in kind.__dataclass_fields__:
        return preset.model
    own = {name: getattr(preset.pairs, name) for name in PLACES}
    return preset.pairs if vars(peek(arguments, **own)) == own else preset.model


def defaults(kind: type[Options], arguments: Sequence[str]) -> Options:
    """The options before the user's: the preset that they name, with what the SAE's variant and the recipe want.

    Raises:
      ConfigError: an unknown preset, variant or recipe.
    """
    chosen = peek(
        arguments, **{"dataset": None, "preset": "auto", "recipe": "preset", "sae.variant": None, "from": None}
    )
    variant = getattr(chosen, "sae.variant")
    start_from = getattr(chosen, "from") if "start_from" in kind.__dataclass_fields__ else None
    recipe = chosen.recipe if "recipe" in kind.__dataclass_fields__ else "preset"
    name = preset_name(chosen.dataset, chosen.preset)
    preset = PRESETS[name]
    shared: dict[str, Any] = {
        "dataset": chosen.dataset or preset.dataset,
        "preset": name,
        "log_every": preset.log_every,
        "save_every": preset.save_every,
        "picture_every": preset.picture_every,
    }
    model = _model(kind, preset, arguments)
    if start_from is not None:
        model = dataclasses.replace(model, sae=read_saved(start_from).config)
    elif variant is not None:
        require_choice("sae.variant", variant, tuple(VARIANTS))
        if variant != model.sae.variant:  # else the preset's are those of this variant
            wanted = {"variant": variant, **VARIANTS[variant].defaults}
            model = dataclasses.replace(model, sae=dataclasses.replace(preset.model.sae, **wanted))
    require_choice("recipe", recipe, tuple(RECIPES))
    model = dataclasses.replace(model, gan=dataclasses.replace(model.gan, **RECIPES[recipe]))
    parts: dict[str, Any] = {"model": model, "sae": model.sae, "gan": model.gan, "vae": preset.vae}
    if "energy" in kind.__dataclass_fields__:
        parts["energy"] = _energy(name, model, arguments)
    parts["recipe"] = recipe
    own = {f.name: parts[f.name] for f in dataclasses.fields(kind) if f.name in parts}
    return kind(**shared, **own)


def parse(kind: type[Options], arguments: Sequence[str] | None = None, *, first: tuple[str, ...] = ()) -> Options:
    """The command line as options: :func:`defaults`, then whatever the user set.

    ``--help`` prints the options that people meet first, ``first`` among them, ``--help-all`` every one; both end the program.

    Raises:
      ConfigError: a setting that cannot work.
    """
    arguments = sys.argv[1:] if arguments is None else list(arguments)
    start = defaults(kind, arguments)
    if {"-h", "--help"} & set(arguments):
        short_help(program_name(), start, first)
        sys.exit(0)
    presets = "\n".join(f"  {key}: {value.purpose}" for key, value in PRESETS.items())
    return read_options(
        kind,
        arguments,
        default=start,
        description=f"{kind.__doc__}\n\nPresets (--preset); defaults shown are those of {start.preset}:\n{presets}",
    )
