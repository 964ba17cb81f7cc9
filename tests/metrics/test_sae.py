"""SAE metrics against float64 formulas over the whole set, at any batch split."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from saegan_jax.metrics import init_sae_stats, merge_sae_stats, sae_metrics, summarise, update_sae_stats

N, D_IN, D_SAE, THRESHOLD = 257, 7, 11, 0.25


def make_set(offset: float = 0.0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    x = (rng.normal(size=(N, D_IN)) * np.arange(1, D_IN + 1) + offset).astype(np.float32)
    x_hat = (x + 0.5 * rng.normal(size=x.shape)).astype(np.float32)
    codes = np.maximum(rng.normal(size=(N, D_SAE)), 0).astype(np.float32)
    codes[:, 3] = np.minimum(codes[:, 3], THRESHOLD)  # at the threshold, never above it
    codes[:, 8] = 0
    codes[5] = 0
    return x, x_hat, codes


def direct(x: np.ndarray, x_hat: np.ndarray, codes: np.ndarray) -> dict[str, np.ndarray]:
    x, x_hat, codes = (a.astype(np.float64) for a in (x, x_hat, codes))
    fvu = ((x - x_hat) ** 2).sum() / ((x - x.mean(0)) ** 2).sum()
    hoyer = []
    for h in codes:
        norm = np.sqrt((h**2).sum())
        hoyer.append((np.sqrt(D_SAE) - h.sum() / norm) / (np.sqrt(D_SAE) - 1) if norm else 1.0)
    active = codes > THRESHOLD
    return {
        "fvu": fvu,
        "explained_variance": 1 - fvu,
        "l0": active.sum(1).mean(),
        "dead_fraction": (~active.any(0)).mean(),
        "feature_density": active.mean(0),
        "hoyer": np.mean(hoyer),
        "mse": ((x - x_hat) ** 2).mean(),
    }


@pytest.mark.parametrize("split", [[N], [1] * N, [100, 57, 100], [256, 1], [0, 128, 0, 129]])
@pytest.mark.parametrize("offset", [0.0, 300.0])
def test_any_batch_split_gives_the_metrics_of_the_whole_set(split: list[int], offset: float) -> None:
    data = make_set(offset)
    update = jax.jit(update_sae_stats)
    stats = init_sae_stats(D_IN, D_SAE)
    for start, stop in zip(np.cumsum([0, *split]), np.cumsum(split), strict=False):
        stats = update(stats, *(jnp.asarray(a[start:stop]) for a in data), threshold=THRESHOLD)
    result = summarise(stats)
    for name, expected in direct(*data).items():
        np.testing.assert_allclose(getattr(result, name), expected, rtol=3e-5, err_msg=name)
    assert result.dead_fraction == np.float32(2 / D_SAE)


def test_merged_parts_equal_the_whole_and_the_one_call_form() -> None:
    data = make_set()
    whole = sae_metrics(*map(jnp.asarray, data), threshold=THRESHOLD)
    parts = [
        update_sae_stats(init_sae_stats(D_IN, D_SAE), *(jnp.asarray(a[s]) for a in data), threshold=THRESHOLD)
        for s in (slice(0, 40), slice(40, N))
    ]
    for a, b in zip(summarise(merge_sae_stats(*parts)), whole, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-5)
    for a, b in zip(
        summarise(merge_sae_stats(parts[0], init_sae_stats(D_IN, D_SAE))), summarise(parts[0]), strict=True
    ):
        np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("batch", [1, 64, N])
def test_explained_variance_is_zero_for_the_mean_and_one_for_perfect(batch: int) -> None:
    x, _, codes = make_set(offset=50.0)
    for x_hat, expected in ((np.broadcast_to(x.mean(0), x.shape), 0.0), (x, 1.0)):
        stats = init_sae_stats(D_IN, D_SAE)
        for s in range(0, N, batch):
            part = (jnp.asarray(a[s : s + batch]) for a in (x, x_hat, codes))
            stats = update_sae_stats(stats, *part, threshold=0.0)
        assert abs(float(summarise(stats).explained_variance) - expected) < 1e-5


def test_scan_over_batches_and_vmap_over_seeds() -> None:
    x, x_hat, codes = (jnp.asarray(a[:256]) for a in make_set())
    x_hats = jnp.stack([x_hat, x, jnp.zeros_like(x)])

    def one(x_hat: jax.Array) -> object:
        batches = jax.tree.map(lambda a: a.reshape(8, 32, -1), (x, x_hat, codes))
        add = lambda stats, batch: (update_sae_stats(stats, *batch, threshold=THRESHOLD), None)  # noqa: E731
        return summarise(jax.lax.scan(add, init_sae_stats(D_IN, D_SAE), batches)[0])

    many = jax.jit(jax.vmap(one))(x_hats)
    for seed in range(3):
        expected = sae_metrics(x, x_hats[seed], codes, threshold=THRESHOLD)
        for a, b in zip(many, expected, strict=True):
            np.testing.assert_allclose(a[seed], b, rtol=1e-5, atol=1e-6)


def test_constant_code_shows_as_dense() -> None:
    # The degenerate optimum of the KL penalty: every unit at rho on every example.
    x = jnp.asarray(make_set()[0])
    dense = sae_metrics(x, x, jnp.full((N, D_SAE), 0.05), threshold=0.01)
    assert dense.l0 == D_SAE
    assert abs(float(dense.hoyer)) < 1e-6
    assert dense.dead_fraction == 0
    sparse = sae_metrics(x, x, jnp.tile(jnp.eye(D_SAE)[:1] * 1e-30, (N, 1)), threshold=0.0)
    assert (sparse.l0, sparse.dead_fraction) == (1, np.float32((D_SAE - 1) / D_SAE))
    assert abs(float(sparse.hoyer) - 1) < 1e-6


def test_dead_and_density_by_hand() -> None:
    codes = jnp.array([[0.0, 0.6, 0.0], [0.5, 0.7, 0.0]])
    x = jnp.ones((2, 4))
    result = sae_metrics(x, x, codes, threshold=0.5)
    np.testing.assert_array_equal(result.feature_density, [0, 1, 0])
    assert (result.l0, result.dead_fraction) == (1, np.float32(2 / 3))
    assert np.isnan(result.fvu)  # a set without variance has none to explain
    assert all(np.isnan(v).all() for v in summarise(init_sae_stats(4, 3)))


@pytest.mark.parametrize("split", [[24], [1] * 24, [5, 18, 1], [0, 16, 0, 8]])
def test_codes_with_positions_count_over_all_of_them(split: list[int]) -> None:
    """L0 adds up an image's positions, densities and Hoyer are over positions, a unit is dead where it is so at all."""
    rng = np.random.default_rng(1)
    x, x_hat = (rng.normal(size=(24, D_IN)).astype(np.float32) for _ in range(2))
    codes = np.maximum(rng.normal(size=(24, 3, 2, D_SAE)), 0).astype(np.float32)
    codes[..., 4] = 0
    codes[..., 7] = 0
    codes[23, 2, 1, 7] = 1.0  # active once, at one position of one image
    stats = init_sae_stats(D_IN, D_SAE)
    update = jax.jit(update_sae_stats)
    for start, stop in zip(np.cumsum([0, *split]), np.cumsum(split), strict=False):
        stats = update(stats, *(jnp.asarray(a[start:stop]) for a in (x, x_hat, codes)), threshold=THRESHOLD)
    result = summarise(stats)
    assert (stats.count, stats.rows) == (24, 24 * 6)
    active = codes > THRESHOLD
    np.testing.assert_allclose(result.l0, active.sum(axis=(1, 2, 3)).mean(), rtol=1e-6)
    np.testing.assert_allclose(result.feature_density, active.mean(axis=(0, 1, 2)), rtol=1e-6)
    assert result.feature_density[7] == np.float32(1 / 144)
    assert result.dead_fraction == np.float32(1 / D_SAE)
    flat = direct(np.repeat(x, 6, axis=0), np.repeat(x_hat, 6, axis=0), codes.reshape(-1, D_SAE))
    for name in ("fvu", "explained_variance", "mse", "hoyer", "feature_density", "dead_fraction"):
        np.testing.assert_allclose(getattr(result, name), flat[name], rtol=3e-5, err_msg=name)
    np.testing.assert_allclose(result.l0, 6 * flat["l0"], rtol=1e-6)


def test_wrong_shapes_are_named() -> None:
    stats = init_sae_stats(4, 3)
    x, codes = jnp.ones((2, 4)), jnp.ones((2, 3))
    narrow = x[:, :3]
    for bad in ((x, x[:1], codes), (x, x, codes[:1]), (x, x, codes[:, :2]), (narrow, narrow, codes), (x[0], x, codes)):
        with pytest.raises(ValueError, match="flatten"):
            update_sae_stats(stats, *bad, threshold=0.0)
    with pytest.raises(ValueError, match="two axes"):
        sae_metrics(jnp.ones((2, 2, 2)), x, codes, threshold=0.0)
    for sizes in ((4, 1), (0, 2)):
        with pytest.raises(ValueError, match="d_sae"):
            init_sae_stats(*sizes)
    assert init_sae_stats(1, 2).mean.shape == (1,)


@pytest.mark.parametrize("batch", [1000, 96])
def test_data_without_variance_have_no_share_of_it(batch):
    x = np.full((1000, 16), 0.1, np.float32)
    for error, fvu in ((0.01, np.inf), (0.0, np.nan)):
        stats = init_sae_stats(16, 4)
        for part in np.split(x, range(batch, len(x), batch)):
            part = jnp.asarray(part)
            stats = update_sae_stats(stats, part, part + error, jnp.ones((len(part), 4)), threshold=0.0)
        np.testing.assert_array_equal(summarise(stats).fvu, fvu)
        assert float(stats.total) == 0
