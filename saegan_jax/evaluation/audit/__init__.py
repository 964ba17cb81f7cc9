"""What a generator leaves out, invents or copies: tests on features of a sparse autoencoder, for samples of any framework."""

from saegan_jax.evaluation.audit.compare import Comparison, Difference, SetTest, compare
from saegan_jax.evaluation.audit.evidence import Evidence, Trained, gather_evidence, train_sae
from saegan_jax.evaluation.audit.run import Audit, ClassOfFeature, RealSplit, audit, classes_of
from saegan_jax.evaluation.audit.settings import AuditSettings, default_sae

__all__ = [
    "Audit",
    "AuditSettings",
    "ClassOfFeature",
    "Comparison",
    "Difference",
    "Evidence",
    "RealSplit",
    "SetTest",
    "Trained",
    "audit",
    "classes_of",
    "compare",
    "default_sae",
    "gather_evidence",
    "train_sae",
]
