"""Settings of an audit, and the autoencoder that it trains by default."""

from dataclasses import dataclass

from saegan_jax.algorithms.sae import SAEConfig
from saegan_jax.errors import require, require_integer, require_positive

FEWEST_FAKE = 100
"""With fewer, only large differences could be told from chance."""
FEWEST_REAL = 2 * FEWEST_FAKE
"""One half is compared, the other half trains the autoencoder."""


@dataclass(frozen=True, kw_only=True)
class AuditSettings:
    """How real and fake images are compared."""

    fdr: float = 0.05
    """False discovery rate: the share of reported differences that may be chance, on average. If nothing differs, it is the
    probability of reporting anything."""
    tail: float = 0.01
    """Share of the held-out reals that sets the bound beyond which a fake counts as badly described, or as near to a training
    image."""
    neighbours: int = 50
    """Training images to whose mean distance the nearest one's is compared."""
    fewest_active: int = 10
    """A feature that is active in fewer images of both sets together is not tested."""
    compared: int | None = None
    """Real images that are held out from the autoencoder and compared; by default half of them, at most 10,000."""

    def __post_init__(self) -> None:
        require(0 < self.fdr < 1, "fdr", self.fdr, "it is a share, above 0 and below 1; 0.05 is usual.")
        require(0 < self.tail < 0.5, "tail", self.tail, "it is a share of the reals, above 0 and below 0.5; try 0.01.")
        require_integer(neighbours=self.neighbours, fewest_active=self.fewest_active)
        require_positive(fewest_active=self.fewest_active)
        require(self.neighbours >= 2, "neighbours", self.neighbours, "a mean distance needs at least 2.")
        if self.compared is not None:
            require_integer(compared=self.compared)
            fix = f"hold out at least {FEWEST_FAKE}: with fewer, only large differences could be told from chance."
            require(self.compared >= FEWEST_FAKE, "compared", self.compared, fix)


def default_sae(image_shape: tuple[int, int, int], n_train: int) -> SAEConfig:
    """The autoencoder of an audit: TopK, few units of which few are active, so that a unit stands for much of an image.

    Args:
      image_shape: ``(height, width, channels)``.
      n_train: images to train on; the batch is no larger.
    """
    small = max(image_shape[:2]) <= 16
    return SAEConfig(
        variant="topk",
        d_sae=32 if small else 64,
        k=3 if small else 4,
        auxk=1 / 32,
        pre_bias="mean",
        learning_rate=3e-3,
        batch_size=min(256, n_train),
        steps=1500,
    )
