"""Whether codes of two domains agree where labels do: the nearest image of the other domain, and its label."""

import numpy as np
from sklearn.neighbors import KNeighborsClassifier


def neighbour_agreement(
    codes: np.ndarray, label: np.ndarray, other_codes: np.ndarray, other_label: np.ndarray
) -> float:
    """The share of images whose nearest image of the other domain, by the cosine of their codes, has the same label.

    Args:
      codes: ``(n, d)`` of one domain, centred there.
      label: ``(n,)``.
      other_codes: ``(m, d)`` of the other domain, centred there.
      other_label: ``(m,)``.

    Raises:
      ValueError: other widths, or as many labels as there are no codes.
    """
    if codes.ndim != 2 or other_codes.ndim != 2 or codes.shape[1] != other_codes.shape[1]:
        raise ValueError(f"codes have shapes {codes.shape} and {other_codes.shape}; both must be (n, d) with one d.")
    for name, x, y in (("label", codes, label), ("other_label", other_codes, other_label)):
        if y.shape != x.shape[:1]:
            raise ValueError(f"{name} has shape {y.shape}, but must be ({len(x)},), one for each code.")
    nearest = KNeighborsClassifier(1, metric="cosine").fit(other_codes, other_label)
    return float(nearest.score(codes, label))
