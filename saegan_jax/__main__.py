"""The command `saegan`, also as `python -m saegan_jax`: it listens to signals before anything slow is imported."""

import sys

OLDEST = (3, 11)


def main() -> None:
    """The entry point; also says what is missing where the package was not installed but is run from its folder."""
    if sys.version_info < OLDEST:
        _end("it needs Python {}.{} or newer, and this is {}.{}.".format(*OLDEST, *sys.version_info[:2]))
    from saegan_jax.signals import listen_while_importing

    listen_while_importing()
    try:
        from saegan_jax.cli import main as command
    except ModuleNotFoundError as error:
        if (error.name or "").split(".")[0] == "saegan_jax":
            raise
        _end(
            f"the package {error.name} is missing; `pip install .` in the folder of saegan_jax installs what it needs."
        )
    command()


def _end(text: str) -> None:
    sys.stderr.write("error: saegan_jax cannot start: " + text + "\n")
    sys.exit(2)


if __name__ == "__main__":
    main()
