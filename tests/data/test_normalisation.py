"""One scale for activations: what it makes of them, back again, and statistics that are refused."""

import json

import numpy as np
import pytest

from saegan_jax.data import DataError
from saegan_jax.data.normalisation import fit_normalisation, from_json

X = np.random.default_rng(0).normal(3.0, 40.0, (500, 16)).astype(np.float32)


@pytest.mark.parametrize(("kind", "centred"), [("scale", False), ("centre", True)])
def test_the_mean_norm_is_the_root_of_the_width(kind, centred):
    found = fit_normalisation(X, kind)
    z = found.apply(X)
    assert z.dtype == np.float32
    assert np.linalg.norm(z, axis=1).mean() == pytest.approx(4.0, rel=1e-5)
    assert (np.abs(z.mean(axis=0)).max() < 1e-6) == centred
    np.testing.assert_allclose(found.undo(z), X, rtol=1e-5, atol=1e-4)


def test_none_leaves_vectors_as_they_are():
    found = fit_normalisation(X, "none")
    assert found.apply(X) is X
    assert found.undo(X) is X


def test_it_is_the_same_after_json():
    found = fit_normalisation(X, "centre")
    again = from_json(json.loads(json.dumps(found.to_json())), 16)
    np.testing.assert_array_equal(again.mean, found.mean, strict=True)
    assert (again.kind, again.scale) == (found.kind, found.scale)


@pytest.mark.parametrize(
    "values",
    [
        {},
        None,
        {"kind": "odd", "scale": 1.0, "mean": [0.0, 0.0]},
        {"kind": "scale", "scale": 0.0, "mean": [0.0, 0.0]},
        {"kind": "scale", "scale": 1.0, "mean": [0.0]},
    ],
)
def test_other_values_are_refused(values):
    with pytest.raises(DataError, match="normalisation"):
        from_json(values, 2)


def test_vectors_without_a_scale():
    with pytest.raises(DataError, match="all vectors are zero"):
        fit_normalisation(0 * X, "scale")
    with pytest.raises(DataError, match="all vectors are equal"):
        fit_normalisation(0 * X + 2, "centre")
