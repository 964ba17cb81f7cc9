"""`saegan train energy` as a script."""

from saegan_jax.runs.program import main
from saegan_jax.runs.train.energy import parse_options, run

__all__ = ["parse_options", "run"]

if __name__ == "__main__":
    main(lambda: run(parse_options()))
