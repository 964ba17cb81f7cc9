"""What the page of an audit says."""

import numpy as np
import pytest

from saegan_jax.evaluation.audit import AuditSettings, Evidence, compare
from saegan_jax.report.audit import question_text


@pytest.mark.parametrize(
    ("copied_reals", "said"),
    [
        (0, "Some fakes are copies of training images: 100 % ["),
        (2, "Copies cannot be looked for: 1 % or more of the held-out reals are copies of training images, and"),
    ],
)
def test_copies_are_not_denied_where_no_fake_could_be_nearer_than_a_real(copied_reals, said):
    codes, error, nearest = np.zeros((200, 2), np.float32), np.ones(200), np.zeros(200, int)
    real = Evidence(codes, error, np.where(np.arange(200) < copied_reals, 0, 0.9), nearest)
    asked = compare(real, real._replace(nearness=np.zeros(200)), AuditSettings()).questions["copies"]
    assert question_text(asked, 0.05).startswith(said)
