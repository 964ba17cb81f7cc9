"""The command `saegan`: train a system, and sample, translate with, export or look at what was trained."""

import importlib
import sys
from collections.abc import Sequence
from typing import Any

from saegan_jax import __version__
from saegan_jax.errors import ConfigError, require_choice
from saegan_jax.runs.program import main as run_program
from saegan_jax.runs.registry import TRAININGS

COMMANDS = {
    "sample": "saegan_jax.runs.sample",
    "translate": "saegan_jax.runs.translate",
    "export": "saegan_jax.runs.export",
    "report": "saegan_jax.runs.report",
    "invert": "saegan_jax.runs.invert",
    "audit": "saegan_jax.runs.audit",
    "data": "saegan_jax.runs.data",
    "runs": "saegan_jax.runs.manage",
    "push": "saegan_jax.runs.push",
    "pull": "saegan_jax.runs.pull",
}
HELP = ("-h", "--help", "help")
VERSION = ("--version", "-V", "version")
USAGE = f"""usage: saegan train SYSTEM [options]    SYSTEM: {", ".join(TRAININGS)}
       saegan sample    --run RUN [options]    images from a trained run, as PNG and .npz
       saegan translate --run RUN [options]    images translated by a CycleGAN, and back
       saegan export    --run RUN --out FOLDER the autoencoder of a run, for other tools
       saegan invert    --run RUN --image FILE the latent of which a run draws an image
       saegan report    RUN [options]          one HTML page of a run, or of a result file, for a browser
       saegan audit     --real REAL --fake FAKE --out FOLDER  what a generator leaves out, invents or copies
       saegan data list|inspect|prepare        data sets: which there are, and what --dataset NAME holds
       saegan runs [FOLDER]                    the runs below a folder; also: runs compare A B, runs prune RUN...
       saegan push RUN --out FOLDER            weights and a model card in a plain folder; --repo NAME uploads them
       saegan pull NAME --out FOLDER           weights from a model hub
       saegan --version

saegan train SYSTEM --help shows the options that people meet first, --help-all every one.
"""


def systems() -> str:
    """What `saegan train` can train, a line for each."""
    lines = [f"  {name:<9} {(training.options.__doc__ or '').splitlines()[0]}" for name, training in TRAININGS.items()]
    return "\n".join(["usage: saegan train SYSTEM [options]", "", *lines, "", USAGE.splitlines()[-1], ""])


def module_of(arguments: Sequence[str]) -> tuple[Any, list[str], str]:
    """The module that a command line names, the rest of it, and the command's words.

    Raises:
      ConfigError: a command or a system that there is not.
    """
    command = arguments[0]
    require_choice("command", command, ("train", *COMMANDS, "help", *VERSION[:1]))
    if command != "train":
        return importlib.import_module(COMMANDS[command]), list(arguments[1:]), f"saegan {command}"
    if len(arguments) < 2 or arguments[1].startswith("-"):
        raise ConfigError("system", "", f"say what to train: saegan train {{{','.join(TRAININGS)}}}.")
    system = arguments[1]
    require_choice("system", system, tuple(TRAININGS))
    return importlib.import_module(TRAININGS[system].module), list(arguments[2:]), f"saegan train {system}"


def run(arguments: Sequence[str]) -> None:
    """Parse and run one command.

    Raises:
      ConfigError: a command, system or option that cannot be used.
    """
    module, rest, words = module_of(arguments)
    sys.argv = [words, *rest]  # what usage lines and recorded commands are made from
    module.run(module.parse_options(rest))


def main() -> None:
    """The entry point."""
    arguments = sys.argv[1:]
    if not arguments or arguments[0] in HELP:
        sys.stdout.write(USAGE)
        sys.exit(0 if arguments else 2)
    if arguments[0] in VERSION:
        sys.stdout.write(f"saegan_jax {__version__}\n")
        return
    if arguments[0] == "train" and arguments[1:2] and arguments[1] in (*HELP, "--help-all"):
        sys.stdout.write(systems())
        return
    run_program(lambda: run(arguments))


if __name__ == "__main__":
    main()
