"""``python -m benchmarks.quality``: when a mark is reached, what is charged, what is kept, and what is refused."""

import json
import math
import os
import signal
import time
from dataclasses import replace
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from tiny_works import check_form

from benchmarks import quality
from benchmarks.harness.crossing import Course, Evaluation, crossing, follow, rows_of
from benchmarks.harness.errors import OptionError
from benchmarks.harness.reports import markdown
from benchmarks.harness.reports.quality import cell
from benchmarks.harness.rows import row
from benchmarks.harness.session import Stopped
from benchmarks.peers.registry import EAGER, PEERS
from benchmarks.workloads import quality as works
from benchmarks.workloads.package import Examples, GANConfig, SAEConfig, SAEGANConfig, compile_chunk, gan, many_steps


class Fake:
    """A training whose distances are given, one an evaluation; advancing takes no time, and sampling does."""

    compile_s = 7.0

    def __init__(self, *ratios, before=None, wait=0.0, at_end=lambda: None):
        self.ratios, self.before, self.wait, self.at_end = iter(ratios), before or {}, wait, at_end
        self.advanced, self.closed = [], False

    def advance(self, steps):
        self.advanced.append(steps)

    def sample(self, n):
        time.sleep(self.wait)
        self.at_end()
        return np.full((n, 1, 1, 1), next(self.ratios))

    def close(self):
        self.closed = True


def score(images):
    assert images.shape == (5, 1, 1, 1)
    return float(images[0, 0, 0, 0])


def followed(trainee, **changes):
    given = {"marks": (10, 4), "every": 20, "most_steps": 100, "n": 5, "tell": lambda e: None}
    return follow(trainee, score, **{**given, **changes})[0]


COURSE = [Evaluation(10, 1.0, 30.0), Evaluation(20, 2.0, 9.0), Evaluation(30, 3.0, 11.0), Evaluation(40, 4.0, 4.0)]


@pytest.mark.parametrize(
    ("mark", "step", "reached"),
    [(30.0, 10, True), (29.9, 20, True), (9.0, 20, True), (8.9, 40, True), (4.0, 40, True), (3.9, 40, False)],
)
def test_a_mark_is_reached_at_the_first_evaluation_at_or_below_it(mark, step, reached):
    found, is_reached = crossing(COURSE, mark)
    assert (found.step, is_reached) == (step, reached)


def test_a_distance_that_is_no_number_reaches_no_mark():
    assert crossing([Evaluation(10, 1.0, math.nan), Evaluation(20, 2.0, math.inf)], 1e9) == ((20, 2.0, math.inf), False)


def test_a_training_stops_at_the_lowest_mark_or_at_the_last_step():
    fake = Fake(30.0, 9.0, 4.0, 1.0)
    assert [e.step for e in followed(fake)] == [20, 40, 60]
    assert fake.advanced == [20, 20, 20]
    assert [e.step for e in followed(Fake(*[30.0] * 9))] == [20, 40, 60, 80, 100]


def test_drawing_and_scoring_are_not_on_the_clock():
    assert followed(Fake(30.0, 3.0, wait=0.3))[-1].seconds < 0.3


def course(arm, seed, *evaluations, before=None, flops=None):
    return Course("tiny", arm, seed, before or {}, 7.0, [Evaluation(*e) for e in evaluations], 0.0, flops)


def test_everything_that_an_arm_needs_is_charged():
    before = {"training the autoencoder": 3.0, "encoding and fitting the prior": 2.0}
    fast = course("pairs", 0, (20, 1.0, 12.0), (40, 2.0, 4.0), before=before, flops=(5e12, 1e12))
    slow = course("pairs", 1, (20, 1.5, 12.0), (40, 3.0, 11.0), before=before, flops=(5e12, 1e12))
    found = {
        r["metric"]: r for r in rows_of([fast, slow, course("plain", 0, (20, 1.0, 3.0))], [10.0]) if r["arm"] == "pairs"
    }
    assert found["steps_10"]["values"] == [40, 40]
    assert found["seconds_10"]["values"] == [3 + 2 + 2.0, 3 + 2 + 3.0]
    assert found["total_10"]["values"] == [14.0, 15.0]
    assert found["operations_10"]["values"] == [45.0, 45.0]
    assert all(found[f"{m}_10"]["censored"] == [False, True] for m in ("steps", "seconds", "total", "operations"))
    assert found["before: training the autoencoder"]["values"] == [3.0, 3.0]
    assert found["lowest"]["values"] == [4.0, 11.0]
    assert found["rate"]["values"] == [20.0, 40 / 3]
    plain = {r["metric"] for r in rows_of([course("plain", 0, (20, 1.0, 3.0))], [10.0])}
    assert "operations_10" not in plain  # not counted, so not shown as none


def test_censored_values_are_shown_as_more():
    def shown(values, censored):
        return cell(row("w", "a", "steps_4", "steps", values, mark=4, censored=censored))

    assert shown([40.0], [True]) == "> 40"
    assert shown([40.0, 20.0, 30.0], [False] * 3) == "30 (40, 20, 30)"
    assert shown([40.0, 20.0, 30.0], [True, False, False]) == "30 (> 40, 20, 30)"
    assert shown([40.0, 20.0, 40.0], [True, False, True]) == "> 40 (> 40, 20, > 40)"
    assert shown([40.0, 20.0], [True, False]) == "> 30 (> 40, 20)"  # a crossing at 41 would give 30.5


def setting(options):
    dataset = SimpleNamespace(validation=SimpleNamespace(label=np.zeros(5)), train=SimpleNamespace(label=np.zeros(9)))
    network = SimpleNamespace(hash="0123456789")
    return quality.Setting(options, works.recipe("digits"), dataset, network, score, {})


def run(tmp_path, make, *arguments):
    given = [
        "--dataset",
        "digits",
        "--no-peers",
        "--every",
        "20",
        "--most-steps",
        "60",
        "--out",
        str(tmp_path / "q.json"),
    ]
    quality.run(quality.parse_options([*given, *arguments]), setting=setting, make=make)
    return json.loads((tmp_path / "q.json").read_text())


def test_a_run_takes_the_arms_by_turns_and_says_every_evaluation(tmp_path, capsys):
    made, ratios = [], {"plain GAN": [30.0, 9.0, 3.0], "pairs of image and code": [8.0, math.nan, 5.0]}

    def make(arm, setting):
        made.append(arm)
        return quality.Made(lambda seed: Fake(*ratios[arm], before={"s": 1.0}), (1e12, 1e12), [])

    result = run(tmp_path, make, "--seeds", "2")
    check_form(result)
    assert made == list(ratios)  # once, for all seeds
    assert [(c["arm"], c["seed"]) for c in result["courses"]] == [(arm, s) for s in (0, 1) for arm in ratios]
    assert [e[2] for e in result["courses"][1]["evaluations"]] == [8.0, None, 5.0]
    found = {(r["arm"], r["metric"]): r for r in result["rows"]}
    assert found["plain GAN", "steps_4"]["values"] == [60, 60]
    assert found["pairs of image and code", "steps_10"]["values"] == [20, 20]
    assert found["pairs of image and code", "steps_4"]["censored"] == [True, True]
    out = capsys.readouterr().out
    assert "  plain GAN, seed 1: 40 steps, 0.0 s, 9 floors" in out
    assert out.count(" floors\n") == 12
    assert "| pairs of image and code | > 60 (> 60, > 60) |" in out
    assert (tmp_path / "q.md").read_text() == markdown(result)
    assert (tmp_path / "q.png").read_bytes().startswith(b"\x89PNG")


def test_seconds_of_a_busy_machine_are_not_shown(tmp_path):
    make = lambda arm, setting: quality.Made(lambda seed: Fake(3.0), None, [])  # noqa: E731
    result = run(tmp_path, make, "--seeds", "1")
    loads = [r for r in result["rows"] if r["metric"] == "other load"]
    for one in loads:
        one["median"] = 0.0
    assert "| | steps | s | s, compiling included |" in markdown(result)
    for one in loads:
        one["median"] = 0.9
    assert loads
    assert "| | steps |\n" in markdown(result)
    assert "Seconds are left out" in markdown(result)


def test_an_interrupted_run_keeps_what_is_finished(tmp_path):
    fakes = {0: Fake(3.0), 1: Fake(30.0, 3.0, at_end=lambda: os.kill(os.getpid(), signal.SIGTERM))}
    make = lambda arm, setting: quality.Made(fakes.__getitem__, None, [])  # noqa: E731
    with pytest.raises(Stopped):
        run(tmp_path, make, "--seeds", "2", "--only", "plain*")
    result = json.loads((tmp_path / "q.json").read_text())
    assert [c["seed"] for c in result["courses"]] == [0]
    assert result["incomplete"]["not_finished"] == ["plain GAN, seed 1"]
    assert fakes[1].closed


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--seeds", "0"], "--seeds 0 cannot be used: it must be 1 or more"),
        (["--every", "0"], "--every 0"),
        (["--most-steps", "0"], "--most-steps 0"),
        (["--every", "300", "--most-steps", "500"], "--most-steps 500 cannot be used: evaluations are --every 300"),
        (["--marks"], "--marks .* name one or more"),
        (["--marks", "4", "-1"], "--marks -1.0 cannot be used: each must be a finite number"),
        (["--marks", "nan"], "--marks nan"),
        (["--only", "nothing*"], "--only 'nothing\\*' cannot be used: it matches nothing; there are plain GAN"),
        (["--out", "x.md"], "--out x.md"),
    ],
)
def test_bad_options_are_refused(arguments, says):
    with pytest.raises(OptionError, match=says):
        quality.parse_options(arguments)


def test_the_schedule_does_not_depend_on_the_last_step():
    found = works.recipe("mnist")
    assert found.plain.schedule_steps == found.plain.steps == 5000
    assert found.pairs.code_dropout == 1
    assert found.pairs.sampler == "learned"
    assert works.fixed_schedule(replace(found.plain, schedule_steps=7)).schedule_steps == 7


GAN = GANConfig(hidden=(8,), d_noise=4, batch_size=8, final_learning_rate=0.1, schedule_steps=4, steps=9)


@pytest.fixture(scope="module")
def data():
    images = np.random.default_rng(0).integers(0, 256, (32, 8, 8, 1), np.uint8)
    return Examples(jnp.asarray(images), jnp.zeros(32, jnp.int32))


def test_ours_is_the_training_of_the_package(data):
    trainee = works.Ours(works.Plain(GAN, data, every=2), seed=3)
    trainee.advance(2)
    trainee.advance(2)
    with pytest.raises(ValueError, match="the program takes 2 at a time"):
        trainee.advance(3)
    algorithm = gan(GAN, image_shape=(8, 8, 1))
    whole = compile_chunk(many_steps(algorithm.step, length=4, batch_size=8))
    state, _ = whole(jax.jit(algorithm.init)(jax.random.key(3)), data)
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-6), trainee._state.params, state.params
    )
    images = trainee.sample(5)
    assert images.shape == (5, 8, 8, 1)
    np.testing.assert_array_equal(images, trainee.sample(5))


def test_pairs_charge_the_autoencoder_and_the_prior(data):
    autoencoder = SAEConfig(variant="topk", d_sae=8, k=2, batch_size=8, steps=3)
    model = SAEGANConfig(discriminator="joint", code_dropout=1.0, sae=autoencoder, gan=GAN)
    trainee = works.Ours(works.Pairs(model, data, every=2), seed=0)
    assert list(trainee.before) == ["training the autoencoder", "encoding and fitting the prior"]
    assert min(trainee.before.values()) > 0
    assert trainee.compile_s > 0
    assert int(trainee._state.step) == 0
    before = np.asarray(trainee._state.pretrained.sae["params"]["W_enc"])
    trainee.advance(2)
    assert int(trainee._state.step) == 2
    np.testing.assert_array_equal(before, trainee._state.pretrained.sae["params"]["W_enc"])
    assert trainee.sample(5).shape == (5, 8, 8, 1)


def test_samples_that_are_no_numbers_have_no_distance():
    assert math.isnan(works.scorer(None, None)(np.full((2, 8, 8, 1), np.nan)))


def test_pytorch_follows_the_schedule_and_samples_its_average(data):
    pytest.importorskip("torch")
    from benchmarks.peers.quality import Theirs, agreed

    dataset = SimpleNamespace(image_shape=(8, 8, 1))
    work, images = works.peer_work(dataset, GAN), np.array(data.image)
    assert "gradient of generator" in {r["quantity"] for r in agreed(work, PEERS[EAGER], images)}
    trainee = Theirs(work, PEERS[EAGER], images, seed=1)
    peer, rates = trainee._peer, []
    params = jax.jit(work.algorithm.init)(jax.random.key(1)).params
    np.testing.assert_array_equal(peer.g["b0"].detach(), params.generator["params"]["Dense_0"]["bias"])
    for _ in range(6):
        trainee.advance(1)
        rates.append(peer.adam_g.param_groups[0]["lr"] / GAN.learning_rate)
    moved = [0.5 * (1 - math.cos(math.pi * min(t / 4, 1))) for t in range(6)]
    np.testing.assert_allclose(rates, [1 - 0.9 * s for s in moved], rtol=1e-6)
    samples = trainee.sample(5)
    assert samples.shape == (5, 8, 8, 1)
    assert 0 <= samples.min() < samples.max() <= 1
    np.testing.assert_array_equal(samples, trainee.sample(5))
    peer.ema.update({name: value.detach() for name, value in peer.g.items()})
    assert not np.array_equal(samples, trainee.sample(5))
