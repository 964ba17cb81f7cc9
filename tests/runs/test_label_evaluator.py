"""Labels kept while a CycleGAN trains: of validation images, by the target domain's classifier, for every member."""

import numpy as np
import pytest
from two_domains import ALGORITHM, DOMAINS, bright, dark, members

from saegan_jax.runs.label_evaluator import label_evaluator
from saegan_jax.runs.translations import Labellers


@pytest.mark.parametrize("inverts", [(True,), (True, False)])
def test_each_direction_is_read_by_the_classifier_of_its_target(inverts: tuple[bool, ...]) -> None:
    score = label_evaluator(DOMAINS, ALGORITHM, Labellers({"a": bright, "b": dark}, ""), n_seeds=len(inverts))
    found = score(5, members(*inverts))
    # One label in ten of A's validation images is false: one is kept by mistake where nothing else is.
    assert found.values["label_kept_ab"] == [0.9, 0.1][: len(inverts)]
    assert found.values["label_kept_ba"] == [1.0] * len(inverts)
    assert found.floors == {}


def test_a_member_that_failed_is_nan() -> None:
    score = label_evaluator(DOMAINS, ALGORITHM, Labellers({"a": bright, "b": dark}, ""), n_seeds=2)
    values = score(1, members(True, True, failed=True)).values
    for name, kept in (("label_kept_ab", 0.9), ("label_kept_ba", 1.0)):
        assert values[name][0] == kept
        assert np.isnan(values[name][1])
