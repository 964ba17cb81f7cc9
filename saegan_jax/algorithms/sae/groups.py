"""Settings of a sparse autoencoder in groups that validate themselves and know no variant; config.py joins them."""

from dataclasses import dataclass
from typing import Literal, get_args

from saegan_jax.errors import require, require_choice, require_integer, require_non_negative, require_positive

PreBias = Literal["none", "mean", "median"]
RhoHat = Literal["batch", "running"]


@dataclass(frozen=True, kw_only=True)
class CodeSettings:
    """What the codes are, and how sparse."""

    variant: str = "kl"
    """kl: sigmoid codes, Bernoulli KL to rho. rate_kl: ReLU codes, Poisson KL. l1: ReLU codes, L1. topk: the k largest of each
    example. batch_topk: the k * batch largest of the batch. matryoshka: batch_topk whose first units also reconstruct alone.
    jumprelu: a learned threshold, L0 penalty. gated: gate and magnitude apart, L1 on the gate. wta: each unit's rho *
    batch largest."""
    d_sae: int = 128
    """Number of units."""
    rho: float = 0.05
    """Target mean activation of a unit (kl, rate_kl), or the share of a batch in which it may be active (wta)."""
    beta: float = 3.0
    """Weight of the sparsity term beside 1/2 squared error summed over pixels (kl, rate_kl, l1, jumprelu, gated)."""
    k: int = 25
    """Active units per example (topk; batch_topk and matryoshka on average)."""
    rho_hat: RhoHat = "batch"
    """Mean activation that the KL compares with rho: the batch's, or a running mean, for batches too small to show it."""
    levels: tuple[int, ...] = ()
    """Matryoshka: sizes of the nested dictionaries, increasing; empty for an eighth, a quarter, a half and all of d_sae."""
    bandwidth: float = 0.1
    """Width of the kernel that estimates jumprelu's gradient in its threshold, in the unit of the pre-activations."""
    initial_threshold: float = 0.1
    """Jumprelu's threshold at the start, in the same unit."""
    active_threshold: float | None = None
    """A code above this counts as active (L0, dead units, the sparse prior); by default 0.1 for sigmoid codes, which are never
    0, and 0 for all others."""

    def __post_init__(self) -> None:
        require_integer(d_sae=self.d_sae, k=self.k)
        for size in self.levels:
            require_integer(levels=size)
        require_positive(d_sae=self.d_sae, k=self.k, bandwidth=self.bandwidth)
        require(self.d_sae >= 2, "d_sae", self.d_sae, "sparsity compares units; use at least 2.")
        require_non_negative(beta=self.beta, initial_threshold=self.initial_threshold)
        if self.active_threshold is not None:
            require_non_negative(active_threshold=self.active_threshold)
        require_choice("rho_hat", self.rho_hat, get_args(RhoHat))
        fix = "it is a mean activation or a share and must lie strictly between 0 and 1; try 0.05."
        require(0 < self.rho < 1, "rho", self.rho, fix)


@dataclass(frozen=True, kw_only=True)
class NetworkSettings:
    """The encoder, the decoder, and the part of an image that they see."""

    tied: bool = False
    """Decode with the encoder's weights transposed."""
    sparse_decoder: bool = False
    """Train the decoder by the k active rows of W_dec of each example alone (topk): the same loss and gradients up to rounding,
    faster for dictionaries of many thousand units, slower for small ones."""
    decoder_norm: float = 1.0
    """Norm at which every row of W_dec is kept, so that a faint code cannot be made up for by a large weight; sigmoid codes
    reach 1 at most, so that bright images want more than 1. 0 leaves the decoder free."""
    pre_bias: PreBias = "none"
    """mean or median: the encoder sees x - b_dec, and b_dec starts at the training images' mean or geometric median."""
    sigmoid_output: bool = False
    """End the decoder in a sigmoid, as UFLDL's autoencoder does."""
    patch_size: int = 0
    """Convolutional: side of the square patch that a code describes, sparse at every position; 0 for the whole image."""
    stride: int = 2
    """Convolutional: pixels between neighbouring patches; overlapping reconstructions are averaged."""

    def __post_init__(self) -> None:
        require_integer(patch_size=self.patch_size, stride=self.stride)
        require_non_negative(decoder_norm=self.decoder_norm, patch_size=self.patch_size)
        require_positive(stride=self.stride)
        require_choice("pre_bias", self.pre_bias, get_args(PreBias))
        fix = "a tied decoder is the encoder, whose norm must stay free; set decoder_norm=0, or tied=False."
        require(not (self.tied and self.decoder_norm), "decoder_norm", self.decoder_norm, fix)
        fix = "a tied decoder has no W_dec whose rows it could read; turn one of them off."
        require(not (self.sparse_decoder and self.tied), "sparse_decoder", True, fix)
        p, s = self.patch_size, self.stride
        require(
            p == 0 or (p >= s and (p - s) % 2 == 0),
            "patch_size",
            p,
            f"it must exceed stride={s} by an even number (or equal it), so that patches lie centred on the image.",
        )


@dataclass(frozen=True, kw_only=True)
class DeadUnitSettings:
    """Remedies for units that are never active."""

    auxk: float = 0.0
    """Weight of AuxK, by which dead units learn to reconstruct the residual of the others; 1/32 is usual."""
    k_aux: int = 64
    """Dead units that AuxK uses per example."""
    resample_every: int = 0
    """Steps between two resamplings, which point dead units at badly explained examples; 0 for never."""
    dead_after: int = 200
    """Steps without activity after which a unit counts as dead."""

    def __post_init__(self) -> None:
        require_integer(k_aux=self.k_aux, resample_every=self.resample_every, dead_after=self.dead_after)
        require_non_negative(auxk=self.auxk, resample_every=self.resample_every)
        require_positive(k_aux=self.k_aux, dead_after=self.dead_after)


@dataclass(frozen=True, kw_only=True)
class TrainingSettings:
    """The optimiser and its schedules."""

    sparsity_warmup: int = 0
    """Steps over which the sparsity term's weight grows from 0 to beta."""
    weight_decay: float = 0.0
    """Coefficient of 1/2 squared Frobenius norm of the weight matrices in the loss (UFLDL's lambda)."""
    learning_rate: float = 2e-3
    """Adam's step size, decayed to a tenth along a cosine."""
    batch_size: int = 256
    """Examples a step; the KL term's minibatch bias is about 1/(2 batch_size) nats a unit."""
    steps: int = 4000
    """Number of training steps."""

    def __post_init__(self) -> None:
        require_integer(sparsity_warmup=self.sparsity_warmup, batch_size=self.batch_size, steps=self.steps)
        require_non_negative(sparsity_warmup=self.sparsity_warmup, weight_decay=self.weight_decay)
        require_positive(learning_rate=self.learning_rate, batch_size=self.batch_size, steps=self.steps)


# The last base's fields come first.
@dataclass(frozen=True, kw_only=True)
class SAESettings(TrainingSettings, DeadUnitSettings, NetworkSettings, CodeSettings):
    """All settings, as a variant's functions read them."""

    def __post_init__(self) -> None:
        for group in (CodeSettings, NetworkSettings, DeadUnitSettings, TrainingSettings):
            group.__post_init__(self)
