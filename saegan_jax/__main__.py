"""`python -m saegan_jax` is the command `saegan`."""

from saegan_jax.cli import main

main()
