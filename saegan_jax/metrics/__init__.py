"""How good a sparse autoencoder or a generator is: pure functions of arrays."""

from saegan_jax.metrics.atlas import (
    ClassPurity,
    NearestUnits,
    UnitStatistics,
    class_purity,
    nearest_units,
    unit_statistics,
)
from saegan_jax.metrics.codes import (
    CoActivationError,
    L0Error,
    TwoSample,
    co_activation_error,
    l0_error,
    two_sample_accuracy,
)
from saegan_jax.metrics.dictionary import Coherence, DictionaryMatch, coherence, dictionary_match
from saegan_jax.metrics.disentanglement import DCI, dci, mutual_information, mutual_information_gap
from saegan_jax.metrics.frechet import class_balance_kl, frechet_distance
from saegan_jax.metrics.kernel import kernel_distance
from saegan_jax.metrics.modes import (
    MixtureQuality,
    ReverseKLFloor,
    mixture_quality,
    mode_count,
    reverse_kl,
    reverse_kl_floor,
)
from saegan_jax.metrics.neighbours import Memorisation, NeighbourMetrics, memorisation, neighbour_metrics
from saegan_jax.metrics.recovery import Activity, Detection, Matched, activity, detection, match_features
from saegan_jax.metrics.sae import (
    SAEMetrics,
    SAEStats,
    init_sae_stats,
    merge_sae_stats,
    sae_metrics,
    summarise,
    update_sae_stats,
)
from saegan_jax.metrics.vae import active_units, importance_bound

__all__ = [
    "DCI",
    "Activity",
    "ClassPurity",
    "CoActivationError",
    "Coherence",
    "Detection",
    "DictionaryMatch",
    "L0Error",
    "Matched",
    "Memorisation",
    "MixtureQuality",
    "NearestUnits",
    "NeighbourMetrics",
    "ReverseKLFloor",
    "SAEMetrics",
    "SAEStats",
    "TwoSample",
    "UnitStatistics",
    "active_units",
    "activity",
    "class_balance_kl",
    "class_purity",
    "co_activation_error",
    "coherence",
    "dci",
    "detection",
    "dictionary_match",
    "frechet_distance",
    "importance_bound",
    "init_sae_stats",
    "kernel_distance",
    "l0_error",
    "match_features",
    "memorisation",
    "merge_sae_stats",
    "mixture_quality",
    "mode_count",
    "mutual_information",
    "mutual_information_gap",
    "nearest_units",
    "neighbour_metrics",
    "reverse_kl",
    "reverse_kl_floor",
    "sae_metrics",
    "summarise",
    "two_sample_accuracy",
    "unit_statistics",
    "update_sae_stats",
]
