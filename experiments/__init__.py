"""Scripts that train, sample and show; run each with ``python -m experiments.<name> --help``."""

import sys

from saegan_jax.signals import listen_while_importing

if sys.argv[:1] == ["-m"]:  # `python -m experiments.NAME` is looking for its module, and imports JAX next
    listen_while_importing()
