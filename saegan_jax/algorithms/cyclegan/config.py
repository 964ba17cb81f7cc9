"""Settings of a CycleGAN in groups, each of which checks itself; :class:`CycleGANConfig` is all of them together."""

from dataclasses import dataclass, field
from typing import Literal, get_args

from saegan_jax.algorithms.sae import SAEConfig
from saegan_jax.errors import require, require_choice, require_integer, require_non_negative, require_positive

Kind = Literal["plain", "sparse"]
Encoder = Literal["frozen", "trained"]
Decoder = Literal["frozen", "refined"]
ConceptDistance = Literal["cosine", "squared", "activity"]
ConceptEncoder = Literal["trained", "random"]
SemanticLabels = Literal["source", "both"]
Direction = Literal["ab", "ba"]
DIRECTIONS: tuple[Direction, ...] = get_args(Direction)
"""The first letter is the domain of the source, the second that of the translation."""


def other(direction: Direction) -> Direction:
    """The way back."""
    return "ba" if direction == "ab" else "ab"


@dataclass(frozen=True, kw_only=True)
class NetworkConfig:
    """The translators and the discriminators."""

    kind: Kind = "plain"
    """plain: residual networks; sparse: Dec_B(TopK(E(x) + Delta(E(x)))), the codes of one autoencoder for both domains."""
    width: int = 32
    """Channels next to the image; inner layers have a multiple of it (plain)."""
    stages: int = 2
    """Times the generator halves the image, so that its sides must be divisible by 2^stages (plain)."""
    blocks: int = 6
    """Residual blocks at the smallest size (plain)."""
    mixing: bool = False
    """Dense layers over positions between the blocks, which can move things far (plain)."""
    shift_hidden: tuple[int, ...] = (256,)
    """Units of each hidden layer of Delta, the change of the codes (sparse); empty for a linear one."""
    encoder: Encoder = "frozen"
    """The autoencoder's encoder stays as it was pre-trained, or trains on with the generators (sparse)."""
    decoder: Decoder = "refined"
    """refined: a copy of the autoencoder's decoder for each domain, trained on; frozen: the pre-trained one (sparse)."""
    d_width: int = 32
    """Channels of the discriminators' first layer."""
    d_stages: int = 2
    """Times a discriminator halves the image: more make its patches larger."""

    def __post_init__(self) -> None:
        require_choice("kind", self.kind, get_args(Kind))
        require_choice("encoder", self.encoder, get_args(Encoder))
        require_choice("decoder", self.decoder, get_args(Decoder))
        counts = {
            "width": self.width, "stages": self.stages, "blocks": self.blocks, "d_width": self.d_width,
            "d_stages": self.d_stages,
        }  # fmt: skip
        require_integer(**counts)
        require_positive(**counts)
        hidden = self.shift_hidden
        for units in hidden:
            require_integer(shift_hidden=units)
        require(
            all(units > 0 for units in hidden), "shift_hidden", hidden, "every hidden layer needs at least one unit."
        )


@dataclass(frozen=True, kw_only=True)
class ObjectiveConfig:
    """The weights of the losses, and what the discriminators are shown."""

    cycle: float = 10.0
    """Weight of the L1 error of the cycle; pixels in [-1, 1]."""
    identity: float = 5.0
    """Weight of the L1 change of images that are in the target domain already; 0 skips their pass."""
    history: int = 50
    """Generated images kept of each domain, which discriminators see half of the time; 0 for none."""

    def __post_init__(self) -> None:
        require_integer(history=self.history)
        require_non_negative(cycle=self.cycle, identity=self.identity, history=self.history)


@dataclass(frozen=True, kw_only=True)
class GuideConfig:
    """What a translation must keep of its source, by the judgement of frozen networks (plain)."""

    concept_weight: float = 0.0
    """Weight of the distance of a translation's codes from those of its source, in one autoencoder of both domains; 0 trains
    none (plain)."""
    concept_distance: ConceptDistance = "cosine"
    """Of codes centred in each domain: cosine, 1 - their cosine; squared, their mean squared error. activity: the
    Bernoulli cross-entropy of which units are active."""
    concept_encoder: ConceptEncoder = "trained"
    """random: the autoencoder is left at its initial values, a control."""
    semantic_weight: float = 0.0
    """Weight of the cross-entropy of a translation's class, which a classifier trained with labels must find to be that of its
    source; 0 trains none (plain)."""
    semantic_labels: SemanticLabels = "source"
    """source: a classifier of domain A judges all images, as in CyCADA, and labels of A alone are used; both: a classifier of
    each domain."""
    classes: int = 10
    """Classes of the labels, which must be those of the data."""

    def __post_init__(self) -> None:
        require_choice("concept_distance", self.concept_distance, get_args(ConceptDistance))
        require_choice("concept_encoder", self.concept_encoder, get_args(ConceptEncoder))
        require_choice("semantic_labels", self.semantic_labels, get_args(SemanticLabels))
        require_non_negative(concept_weight=self.concept_weight, semantic_weight=self.semantic_weight)
        require_integer(classes=self.classes)
        require(self.classes >= 2, "classes", self.classes, "a classifier needs at least 2 classes.")

    @property
    def guided(self) -> bool:
        """Whether a frozen network is read."""
        return self.concept_weight > 0 or self.semantic_weight > 0

    @property
    def labelled_domains(self) -> tuple[str, ...]:
        """The domains whose labels train a classifier: none, ``a``, or ``a`` and ``b``."""
        if not self.semantic_weight:
            return ()
        return ("a", "b") if self.semantic_labels == "both" else ("a",)


@dataclass(frozen=True, kw_only=True)
class OptimiserConfig:
    """Adam for all networks, its schedule and the length of the training."""

    learning_rate: float = 2e-4
    """Adam's step size for all networks."""
    constant_share: float = 0.5
    """Share of the training after which the rate falls linearly to 0; 1 keeps it."""
    beta1: float = 0.5
    """Adam's decay of the first moment."""
    beta2: float = 0.999
    """Adam's decay of the second moment."""
    batch_size: int = 8
    """Images of each domain a step."""
    steps: int = 5000
    """Number of training steps."""

    def __post_init__(self) -> None:
        require_integer(batch_size=self.batch_size, steps=self.steps)
        require_positive(learning_rate=self.learning_rate, batch_size=self.batch_size, steps=self.steps)
        for name, value in {"beta1": self.beta1, "beta2": self.beta2}.items():
            require(0 <= value < 1, name, value, "it is a decay rate and must lie in [0, 1).")
        share = self.constant_share
        require(0 <= share <= 1, "constant_share", share, "it is a share of the training, from 0 to 1.")


# A dataclass takes the fields of its last base first: these are in the order network, objective, guides, optimiser.
@dataclass(frozen=True, kw_only=True)
class CycleGANConfig(OptimiserConfig, GuideConfig, ObjectiveConfig, NetworkConfig):
    """Settings of the translators, the discriminators and their training."""

    def __post_init__(self) -> None:
        NetworkConfig.__post_init__(self)
        ObjectiveConfig.__post_init__(self)
        GuideConfig.__post_init__(self)
        OptimiserConfig.__post_init__(self)
        for name in ("concept_weight", "semantic_weight"):
            fix = f"only kind='plain' is guided by frozen networks, and this is kind={self.kind!r}; set it to 0."
            require(self.kind == "plain" or not getattr(self, name), name, getattr(self, name), fix)


@dataclass(frozen=True, kw_only=True)
class TranslationConfig:
    """A CycleGAN and the autoencoder that its sparse kind, or concept consistency, reads."""

    cyclegan: CycleGANConfig = field(default_factory=CycleGANConfig)
    """The translators, the discriminators and their training."""
    sae: SAEConfig = field(default_factory=SAEConfig)
    """The autoencoder, trained on images of both domains (sparse, or with a concept weight)."""
