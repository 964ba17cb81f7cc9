"""Two networks that are trained against each other."""

from typing import Any, NamedTuple


class Nets(NamedTuple):
    """One value for each of the two networks: parameters, optimisers, or optimiser states."""

    generator: Any
    discriminator: Any
