"""The k largest against a stable sort, and steps whose gradients are estimated against their formulas and a smooth limit."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax
from scipy import stats

from saegan_jax.activations import SEARCHES, heaviside, jumprelu, topk, topk_mask

WIDTH = 9
COUNTS = (0, 1, 3, WIDTH - 1, WIDTH, WIDTH + 5)


def rows():
    """Every kind of row in one array, so that one program sees them all."""
    rng = np.random.default_rng(0)
    inf = np.inf
    special = [
        [0.0] * 9,
        [-0.0, 0.0, -0.0, 0.0, -1.0, 0.0, -0.0, -2.0, 0.0],
        [2.5] * 9,
        [-2.5] * 9,
        [inf, 1, -inf, inf, 0, -1, inf, 2, -inf],
        [-inf] * 9,
        [inf] * 9,
        [3.4e38, -3.4e38, 1e-30, -1e-30, 1e30, -1e30, 0, 1, -1],
        [1, 1 + 2**-23, 1 - 2**-24, 1, 1 + 2**-23, 1, 1 + 2**-22, 1, 1],
        list(range(9)),
        list(range(0, -9, -1)),
    ]
    blocks = [
        special,
        rng.normal(size=(12, WIDTH)),
        -rng.random((3, WIDTH)),
        rng.integers(-1, 2, (12, WIDTH)),
        10.0 ** rng.uniform(-35, 35, (6, WIDTH)) * rng.choice([-1, 1], (6, WIDTH)),
    ]
    return np.concatenate([np.asarray(b, np.float32) for b in blocks])


def largest(x, k, where=None):
    """Mask of the first k of a stable descending sort along the last axis, candidates alone."""
    mask = np.zeros(x.shape, bool)
    for row in np.ndindex(x.shape[:-1]):
        order = np.argsort(-x[row], kind="stable")
        order = order if where is None else order[where[row][order]]
        mask[row][order[:k]] = True
    return mask


@pytest.mark.parametrize("search", SEARCHES)
def test_mask_is_that_of_a_stable_sort(search):
    """k = 0, 1, some, all but one, all, and more than there are; traced and vmapped."""
    x = rows()
    got = jax.jit(jax.vmap(partial(topk_mask, search=search), in_axes=(None, 0)))(
        jnp.asarray(x), jnp.asarray(COUNTS, jnp.int32)
    )
    assert got.dtype == jnp.bool_
    for mask, k in zip(np.asarray(got), COUNTS, strict=True):
        np.testing.assert_array_equal(mask, largest(x, k), err_msg=f"k={k}")
        np.testing.assert_array_equal(mask.sum(axis=1), min(k, WIDTH))


def test_mask_is_that_of_top_k():
    """But for signed zeros, which ``lax.top_k`` ranks and which are equal here."""
    x = rows()
    x = x[~(np.signbit(x) & (x == 0)).any(axis=1)]
    assert len(x) > 30
    order = np.asarray(jax.jit(lax.top_k, static_argnums=1)(jnp.asarray(x), WIDTH)[1])
    many = jax.jit(jax.vmap(topk_mask, in_axes=(None, 0)))(jnp.asarray(x), jnp.arange(WIDTH + 1, dtype=jnp.int32))
    for k, mask in enumerate(np.asarray(many)):
        want = np.zeros(x.shape, bool)
        np.put_along_axis(want, order[:, :k], True, axis=1)
        np.testing.assert_array_equal(mask, want, err_msg=f"k={k}")


def test_a_number_for_k_and_no_jit_give_the_same():
    x = rows()
    np.testing.assert_array_equal(topk_mask(jnp.asarray(x), 3), largest(x, 3))


@pytest.mark.parametrize("search", SEARCHES)
def test_rows_with_too_few_candidates_mark_all_of_them(search):
    x = rows()
    where = np.random.default_rng(1).random(x.shape) < 0.5
    where[0], where[1], where[2, 1:], where[2, 0] = False, True, False, True
    program = jax.jit(
        jax.vmap(lambda x, k, where: topk_mask(x, k, where=where, search=search), in_axes=(None, 0, None))
    )
    got = program(jnp.asarray(x), jnp.asarray(COUNTS, jnp.int32), jnp.asarray(where))
    for mask, k in zip(np.asarray(got), COUNTS, strict=True):
        np.testing.assert_array_equal(mask, largest(x, k, where), err_msg=f"k={k}")
        np.testing.assert_array_equal(mask.sum(axis=1), np.minimum(k, where.sum(axis=1)))


@pytest.mark.parametrize("axis", [0, 1, -1, (0, 1), (1, 2), (0, 2), (-1, 0), (0, 1, 2)])
def test_axes_are_compared_as_one(axis):
    """In their order in the array, whatever order they are named in."""
    x = np.random.default_rng(2).integers(-3, 4, (4, 3, 5)).astype(np.float32)
    axes = sorted(a % 3 for a in (axis if isinstance(axis, tuple) else (axis,)))
    rest = [a for a in range(3) if a not in axes]
    flat = x.transpose(*rest, *axes).reshape(*(x.shape[a] for a in rest), -1)
    want = largest(flat, 5).reshape([x.shape[a] for a in (*rest, *axes)]).transpose(np.argsort([*rest, *axes]))
    np.testing.assert_array_equal(jax.jit(lambda x: topk_mask(x, 5, axis=axis))(jnp.asarray(x)), want)


@pytest.mark.parametrize("search", SEARCHES)
def test_members_of_a_mapped_axis_compete_with_one_another(search):
    """Shares of one batch, with ties across them, for several k at once."""
    x = np.random.default_rng(3).integers(-4, 5, (4, 3, 5)).astype(np.float32)
    counts = jnp.asarray([0, 2, 7, 30, 60, 99], jnp.int32)

    @jax.jit
    def shares(x, k):
        whole = topk_mask(x, k, axis=(0, 1), axis_name="data", search=search)
        per_unit = topk_mask(x, k // 10 + 1, axis=0, where=x > -3, axis_name="data", search=search)
        return whole, per_unit

    mapped = jax.vmap(jax.vmap(shares, in_axes=(0, None), axis_name="data"), in_axes=(None, 0))
    whole, per_unit = mapped(jnp.asarray(x), counts)
    for i, k in enumerate(np.asarray(counts)):
        np.testing.assert_array_equal(np.asarray(whole[i]).reshape(-1), largest(x.reshape(-1), k))
        columns = x.reshape(12, 5).T
        np.testing.assert_array_equal(
            np.asarray(per_unit[i]).reshape(12, 5).T, largest(columns, k // 10 + 1, columns > -3)
        )


@pytest.mark.parametrize("dtype", [jnp.float16, jnp.bfloat16, jnp.int32])
def test_other_dtypes_are_refused(dtype):
    with pytest.raises(ValueError, match=r"x has dtype .* convert it first"):
        topk_mask(jnp.zeros((2, 3), dtype), 1)


def test_the_platform_of_a_program_decides_the_search():
    """Counts are added as bytes where the range is halved."""
    traced = jax.jit(lambda x: topk_mask(x, 3)).trace(jax.ShapeDtypeStruct((2, 256), jnp.float32))
    bytewise = {name: "xi8>" in traced.lower(lowering_platforms=(name,)).as_text() for name in ("cpu", "cuda", "tpu")}
    assert bytewise == {"cpu": True, "cuda": True, "tpu": False}


def test_another_search_is_refused():
    with pytest.raises(ValueError, match="auto, halving, digits, got 'sort'"):
        topk_mask(jnp.zeros((2, 3)), 1, search="sort")


@pytest.mark.parametrize("shape", [(3,), (1, 3), (2, 1), (3, 2)])
def test_where_of_another_shape_is_refused(shape):
    with pytest.raises(ValueError, match=r"where has shape .* must match x, \(2, 3\)"):
        topk_mask(jnp.zeros((2, 3)), 1, where=jnp.ones(shape, bool))


def test_topk_keeps_the_largest_of_the_positive_and_its_gradient_is_the_mask():
    x = rows()[11:]  # without the infinite ones, whose products with the weights below say little
    weights = np.random.default_rng(4).normal(size=x.shape).astype(np.float32)

    @jax.jit
    def program(x, k):
        codes, pull = jax.vjp(lambda x: topk(x, k), x)
        return codes, pull(jnp.asarray(weights))[0]

    for k in (0, 1, 4, WIDTH, WIDTH + 3):
        codes, gradient = program(jnp.asarray(x), jnp.int32(k))
        kept = largest(x, k, x > 0)
        np.testing.assert_array_equal(codes, np.where(kept, x, 0))
        np.testing.assert_array_equal(gradient, np.where(kept, weights, 0))
    np.testing.assert_array_equal(codes, np.maximum(x, 0))  # k = width: the plain ReLU
    assert (np.asarray(codes) > 0).sum(axis=1).min() == 0


@pytest.mark.parametrize("sign", [1, -1])
def test_nan_ends_and_shows(sign):
    """Of either sign: on x86, infinity minus infinity is a NaN with its sign bit set."""
    x = np.array([[5, 1, np.nan, 3, 4], [1, 2, 3, 4, 5], [np.nan] * 5, [-1, np.nan, -2, -3, np.nan]], np.float32)
    x = np.where(np.isnan(x), np.copysign(np.float32(np.nan), np.float32(sign)), x)
    for axis in (-1, (0, 1)):
        codes = np.asarray(jax.jit(topk, static_argnames="axis")(jnp.asarray(x), jnp.int32(2), axis=axis))
        assert np.isnan(codes).sum() == (5 if axis == -1 else 2)
    codes = np.asarray(topk(jnp.asarray(x), 2))
    np.testing.assert_array_equal(codes[0], [5, 0, np.nan, 0, 0])
    np.testing.assert_array_equal(codes[1], [0, 0, 0, 4, 5])


# Steps, at a bandwidth and thresholds whose window edges are exact in float32.

BANDWIDTH = 0.5
STEP_X = np.array([-1, 0, 0.5, 0.75, 0.75 + 2**-10, 0.9, 1, 1 + 2**-10, 1.1, 1.25 - 2**-10, 1.25, 2], np.float32)
INSIDE = np.array([0, 0, 0, 0, 1, 1, 1, 1, 1, 1, 0, 0], np.float32)
ABOVE = np.array([0, 0, 0, 0, 0, 0, 0, 1, 1, 1, 1, 1], np.float32)


@pytest.mark.parametrize("bandwidth", [BANDWIDTH, jnp.float32(BANDWIDTH)], ids=["number", "array"])
@pytest.mark.parametrize(
    ("function", "value", "in_x", "in_threshold"),
    [
        (heaviside, ABOVE, 0 * ABOVE, -INSIDE / BANDWIDTH),
        (jumprelu, STEP_X * ABOVE, ABOVE, -1.0 / BANDWIDTH * INSIDE),
        (
            lambda x, t, b: jumprelu(x + 2, t + 2, b),
            (STEP_X + 2) * ABOVE,
            ABOVE,
            -3.0 / BANDWIDTH * INSIDE,
        ),
    ],
    ids=["heaviside", "jumprelu", "jumprelu at 3"],
)
def test_steps_and_their_gradients_inside_outside_and_at_the_edges_of_the_window(
    function, value, in_x, in_threshold, bandwidth
):
    weights = np.linspace(1, 3, STEP_X.size, dtype=np.float32)
    got, pull = jax.vjp(lambda x, t: function(x, t, bandwidth), jnp.asarray(STEP_X), jnp.ones(STEP_X.size))
    np.testing.assert_array_equal(got, value)
    assert got.dtype == jnp.float32
    gradient_x, gradient_threshold = pull(jnp.asarray(weights))
    np.testing.assert_array_equal(gradient_x, weights * in_x)
    np.testing.assert_allclose(gradient_threshold, weights * in_threshold, rtol=1e-6)


def test_bandwidth_itself_has_no_gradient():
    for function in (heaviside, jumprelu):
        gradient = jax.grad(lambda b, f=function: f(jnp.asarray(STEP_X), jnp.ones(STEP_X.size), b).sum())
        assert gradient(jnp.float32(BANDWIDTH)) == 0


@pytest.mark.parametrize("threshold", [0.3, 1.1, 1.5])
def test_estimated_gradient_is_that_of_the_expectation_in_the_limit(threshold):
    """E over x ~ N(0, 1) of 1/2 (x - jumprelu)^2 + 0.3 H: its derivative is (threshold^2 / 2 - 0.3) times the density.

    400,000 quantiles stand for the expectation; a bandwidth of 0.02 leaves a bias of the order 0.02 of the first term.
    """
    x = stats.norm.ppf((np.arange(400_000) + 0.5) / 400_000)

    def expected(t):
        above = x > t
        return (0.5 * np.where(above, 0, x) ** 2).mean() + 0.3 * above.mean()

    numeric = (expected(threshold + 0.01) - expected(threshold - 0.01)) / 0.02
    exact = (threshold**2 / 2 - 0.3) * stats.norm.pdf(threshold)
    np.testing.assert_allclose(numeric, exact, rtol=0.01, atol=1e-3)

    def loss(t, x):
        t = jnp.broadcast_to(t.reshape(1), x.shape)
        return (0.5 * (x - jumprelu(x, t, 0.02)) ** 2 + 0.3 * heaviside(x, t, 0.02)).mean()

    estimate = jax.jit(jax.grad(loss))(jnp.float32(threshold), jnp.asarray(x, jnp.float32))
    np.testing.assert_allclose(estimate, numeric, atol=0.02 * (threshold**2 / 2 + 0.3) * stats.norm.pdf(threshold))
    assert abs(numeric) > 0.02
