"""The command `saegan`, also as `python -m saegan_jax`: it listens to signals before anything slow is imported."""

from saegan_jax.signals import listen_while_importing


def main() -> None:
    """The entry point."""
    listen_while_importing()
    from saegan_jax.cli import main as command

    command()


if __name__ == "__main__":
    main()
