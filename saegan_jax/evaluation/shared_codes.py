"""Whether codes of two domains agree where labels do: the nearest image of the other domain, and its label."""

import numpy as np


def neighbour_agreement(
    codes: np.ndarray, label: np.ndarray, other_codes: np.ndarray, other_label: np.ndarray
) -> float:
    """The share of images whose nearest image of the other domain, by the cosine of their codes, has the same label.

    A translation that keeps codes, and nothing else, can keep labels no better than codes tell them across the domains.

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
    nearest = (_unit(codes) @ _unit(other_codes).T).argmax(axis=1)
    return float(np.mean(other_label[nearest] == label))


def _unit(codes: np.ndarray) -> np.ndarray:
    norms = np.linalg.norm(codes, axis=1, keepdims=True)
    return codes / np.where(norms == 0, 1.0, norms)
