"""`python -m saegan_jax` is the command `saegan`."""

from saegan_jax.cli import main

if __name__ == "__main__":
    main()
