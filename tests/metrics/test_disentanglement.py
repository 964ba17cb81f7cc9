"""DCI and MIG where the answer is known."""

import numpy as np
import pytest

from saegan_jax.metrics import dci, mutual_information, mutual_information_gap

RNG = np.random.default_rng(0)
FACTORS = RNG.integers(0, 4, (4000, 3))


def test_one_code_for_each_factor():
    found = dci(np.array([[2.0, 0, 0], [0, 0, 5], [0, 1, 0]]))
    assert (found.disentanglement, found.completeness) == (1, 1)
    assert found.by_code.tolist() == [1, 1, 1]


def test_codes_that_all_matter_alike():
    found = dci(np.ones((5, 3)))
    assert found.disentanglement == pytest.approx(0, abs=1e-12)
    assert found.completeness == pytest.approx(0, abs=1e-12)


def test_a_factor_split_over_two_codes_is_disentangled_and_not_complete():
    found = dci(np.array([[1.0, 0], [1.0, 0], [0, 1.0]]))
    assert found.disentanglement == 1
    np.testing.assert_allclose(found.by_factor, [1 - np.log(2) / np.log(3), 1])
    assert found.completeness == pytest.approx(1 - np.log(2) / np.log(3) / 2)


def test_a_code_of_two_factors_is_complete_and_not_disentangled():
    found = dci(np.array([[3.0, 3.0, 0], [0, 0, 2.0]]))
    assert found.completeness == 1
    np.testing.assert_allclose(found.by_code, [1 - np.log(2) / np.log(3), 1])
    assert found.disentanglement == pytest.approx(6 / 8 * found.by_code[0] + 2 / 8)  # weighed by importance


def test_codes_and_factors_without_importance_count_as_none():
    found = dci(np.array([[1.0, 0, 0], [0, 0, 0], [0, 1.0, 0]]))
    assert found.by_code.tolist() == [1, 0, 1]
    assert found.by_factor.tolist() == [1, 1, 0]
    assert found.disentanglement == 1


def test_codes_that_are_the_factors():
    assert mutual_information_gap(FACTORS, FACTORS) > 0.99
    found = mutual_information(FACTORS, FACTORS)
    np.testing.assert_allclose(np.diag(found), np.log(4), rtol=1e-3)
    assert np.abs(found - np.diag(np.diag(found))).max() < 0.01  # the bias, about 9 / 8000


def test_a_second_code_of_the_same_factor_closes_the_gap():
    assert mutual_information_gap(np.hstack([FACTORS, FACTORS]), FACTORS) == pytest.approx(0, abs=1e-12)
    two_of_three = mutual_information_gap(np.hstack([FACTORS, FACTORS[:, :1]]), FACTORS)
    assert two_of_three == pytest.approx(2 / 3, abs=0.01)


def test_noise_tells_nothing():
    assert mutual_information_gap(RNG.normal(size=(4000, 5)), FACTORS) < 0.02


def test_a_turn_mixes_factors():
    # Rotating two factors by 45 degrees leaves the information in the pair and takes it from each.
    pair = FACTORS[:, :2] - 1.5
    turned = pair @ np.array([[1, 1], [1, -1]]) / np.sqrt(2)
    assert mutual_information_gap(turned, FACTORS[:, :2]) < 0.05


def test_two_bins_are_enough_for_a_factor_of_two_levels():
    factors = np.array([[0], [1], [0], [1]])
    assert mutual_information(factors * 2.5, factors, bins=2)[0, 0] == pytest.approx(np.log(2))
    with pytest.raises(ValueError, match="bins = 1"):
        mutual_information(factors * 2.5, factors, bins=1)


def test_a_constant_code_tells_nothing():
    codes = np.column_stack([FACTORS, np.ones(4000)])
    assert not mutual_information(codes, FACTORS)[3].any()


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: dci(np.ones((3, 1))), "two or more of each"),
        (lambda: dci(np.zeros((3, 2))), "above zero somewhere"),
        (lambda: dci(np.array([[1, -1], [1, 1]])), "zero or above"),
        (lambda: dci(np.array([[1, np.nan], [1, 1]])), "finite"),
        (lambda: mutual_information(FACTORS, FACTORS[:-1]), "of one n"),
        (lambda: mutual_information(FACTORS, FACTORS * 1.0), "integers from 0"),
        (lambda: mutual_information(FACTORS, FACTORS - 1), "integers from 0"),
        (lambda: mutual_information(FACTORS * np.nan, FACTORS), "not finite"),
        (lambda: mutual_information(FACTORS, FACTORS, bins=1), "bins = 1"),
        (lambda: mutual_information_gap(FACTORS[:, :1], FACTORS), "two or more columns"),
        (lambda: mutual_information_gap(FACTORS, FACTORS * 0), "factor 0 is constant"),
    ],
)
def test_what_is_refused(call, message):
    with pytest.raises(ValueError, match=message):
        call()
