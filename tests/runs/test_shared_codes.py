"""Autoencoders of two domains and what their codes tell: members, arms, rows and their table."""

from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from two_domains import DOMAINS, bright, dark

from experiments.shared_codes import SharedCodes
from saegan_jax.algorithms.sae import SAEConfig
from saegan_jax.data.domains import load_domains
from saegan_jax.errors import ConfigError
from saegan_jax.report.labels import code_tables
from saegan_jax.report.table import Result
from saegan_jax.runs import shared_codes
from saegan_jax.runs.shared_codes import UNITS, agreement, code_rows, encoders, pixel_rows, trained_members

CONFIG = SAEConfig(variant="topk", d_sae=16, k=4, sigmoid_output=True, batch_size=32, steps=3)


def test_arms_are_sparse_and_dense_trained_and_not() -> None:
    found = list(encoders(CONFIG).values())
    assert [(config.k, train) for config, train in found] == [(4, True), (4, False), (16, True), (16, False)]


def test_rows_of_trained_members() -> None:
    domains = load_domains("digits_inverted_rotated")
    members = trained_members(CONFIG, domains, train=True, seed=0, seeds=2)
    (first,) = trained_members(CONFIG, domains, train=False, seed=0, seeds=1)
    weights = [m["params"]["W_enc"] for m in (*members, first)]
    assert not np.allclose(weights[0], weights[1], atol=1e-2)
    assert 0 < np.abs(weights[0] - weights[2]).max() < 0.1  # three steps from its start
    rows = code_rows("sparse", CONFIG, members, domains)
    assert [(row.metric, len(row.values)) for row in rows] == [("agreement_ab", 2), ("agreement_ba", 2)]
    table = code_tables(Result.here("codes", "command", rows, note="note"))
    assert "| sparse |" in table


def test_the_true_map_as_a_code_tells_labels_across_domains() -> None:
    """Pixels of B mapped back agree with labels as far as nearest digits do, and unmapped ones do not."""
    domains = load_domains("digits_inverted_rotated")
    to_a: Any = domains.to_a

    def flat(x: Any) -> np.ndarray:
        return np.asarray(x).reshape(len(x), -1)

    mapped = agreement(domains, lambda name, x: flat(to_a(np.asarray(x)) if name == "b" else x))
    assert min(mapped.values()) > 0.9
    assert max(agreement(domains, lambda name, x: flat(x)).values()) < 0.5


def test_rows_of_pixels_and_of_the_classifiers_beside_them(monkeypatch: pytest.MonkeyPatch) -> None:
    """Labels of the two domains are inverted: pixels tell none but a false one, and these classifiers read all others."""
    networks = {"a": SimpleNamespace(predict_labels=dark), "b": SimpleNamespace(predict_labels=bright)}
    monkeypatch.setattr(shared_codes, "scorers", lambda domains: networks)
    read, pixels = "left untranslated, by the classifier of the other domain", "pixels"
    found = {(row.arm, row.metric): row for row in pixel_rows(DOMAINS)}
    assert {name: row.mean for name, row in found.items()} == {
        (read, "agreement_ab"): 0.9, (read, "agreement_ba"): 1.0,
        (pixels, "agreement_ab"): 0.1, (pixels, "agreement_ba"): 0.0,
    }  # fmt: skip
    for metric in UNITS:
        assert "nearest" not in found[read, metric].unit
        assert found[pixels, metric].unit == UNITS[metric]
    # The legend of the table is that of the codes.
    assert UNITS["agreement_ab"] in code_tables(Result.here("codes", "command", found.values(), note="note"))


@pytest.mark.parametrize(
    ("changes", "field"), [({"batch_size": 31}, "sae.batch_size"), ({"patch_size": 2}, "sae.patch_size")]
)
def test_bad_options(changes: dict[str, Any], field: str) -> None:
    with pytest.raises(ConfigError) as error:
        SharedCodes(sae=replace(CONFIG, **changes))
    assert error.value.field == field
