"""`saegan export` as a script."""

from saegan_jax.runs.export import parse_options, run
from saegan_jax.runs.program import main

__all__ = ["parse_options", "run"]

if __name__ == "__main__":
    main(lambda: run(parse_options()))
