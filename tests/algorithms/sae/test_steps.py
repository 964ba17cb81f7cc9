"""Steps of every variant: resampling, warm-up, thresholds, devices, members of a sweep, where training starts."""

import functools
from dataclasses import replace

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers import SHAPE, assert_close, assert_finite, assert_same, digits, numpy_leaves, unit_batch
from sae_formulas import (
    D_SAE,
    OFF,
    STEPS,
    N,
    cut64,
    dense,
    pre_activations64,
    quick,
    start,
)

from saegan_jax.algorithms.sae import (
    SAEConfig,
    Start,
    autoencoder,
    hyper,
    project_params,
    remove_parallel_gradient,
    sae,
)
from saegan_jax.training.systems import init_members
from saegan_jax.training.transforms import many_steps


@functools.cache
def step_program(config):
    return quick(sae(config, image_shape=SHAPE).step)


@functools.cache
def initial(config):
    return quick(sae(config, image_shape=SHAPE).init)(jax.random.key(42))


@pytest.mark.parametrize("name", STEPS)
def test_a_batch_spread_over_devices_makes_the_same_step(name):
    """With the resampling of two units: selections, means, gradients and draws are those of the whole batch."""
    config, batch = STEPS[name], unit_batch(N, seed=2)
    state = start(config, step=201)
    want = step_program(config)(state, batch)
    assert_finite(want)
    assert want[0].steps_since_active[0] == 0
    step = jax.vmap(sae(config, image_shape=SHAPE, axis_name="data").step, in_axes=(None, 0), axis_name="data")
    got = quick(step)(state, jax.tree.map(lambda x: x.reshape(2, N // 2, *x.shape[1:]), batch))
    for i in range(2):
        assert_close(jax.tree.map(lambda x, i=i: x[i], got), want, rtol=1e-5, atol=1e-5)


def by_unit(name, array):
    """With the units first."""
    return np.moveaxis(np.asarray(array), 0 if name == "W_dec" else -1, 0)


@pytest.mark.parametrize("name", STEPS)
def test_resampling_by_hand(name):
    """Against the same step one number earlier, at which none is due."""
    config, batch = STEPS[name], unit_batch(N, seed=2)
    plain, _ = step_program(config)(start(config, step=200), batch)
    state, _ = step_program(config)(start(config, step=201), batch)
    np.testing.assert_array_equal(plain.steps_since_active, [10, 10, 0, 0, 0, 0])
    np.testing.assert_array_equal(state.steps_since_active, 0)
    old, new = plain.params["params"], state.params["params"]
    per_unit = [n for n in old if n != "b_dec" and not (n == "threshold" and config.variant == "batch_topk")]
    for tree, before in (
        (new, old),
        *((getattr(state.opt_state[0], m)["params"], getattr(plain.opt_state[0], m)["params"]) for m in ("mu", "nu")),
    ):
        for n in tree:
            if n in per_unit:
                np.testing.assert_array_equal(by_unit(n, tree[n])[~OFF], by_unit(n, before[n])[~OFF], err_msg=n)
                assert (by_unit(n, tree[n])[OFF] != by_unit(n, before[n])[OFF]).any(), n
            else:
                np.testing.assert_array_equal(tree[n], before[n], err_msg=n)
    for moments in (state.opt_state[0].mu["params"], state.opt_state[0].nu["params"]):
        for n in per_unit:
            np.testing.assert_array_equal(by_unit(n, moments[n])[OFF], 0, err_msg=n)
    np.testing.assert_array_equal(state.mean_activation[~OFF], plain.mean_activation[~OFF])
    np.testing.assert_array_equal(state.density[~OFF], plain.density[~OFF])
    np.testing.assert_array_equal(np.asarray([state.mean_activation[OFF], state.density[OFF]]), np.float32(0.3))

    seen = cut64(config, np.asarray(batch.image, np.float64)).reshape(-1, old["b_dec"].size)
    seen = seen - (np.asarray(old["b_dec"]) if config.pre_bias != "none" else 0)
    directions = seen / np.linalg.norm(seen, axis=1, keepdims=True)
    living = np.linalg.norm(old["W_enc"], axis=0)[~OFF].mean()
    for unit in np.flatnonzero(OFF):
        column = np.asarray(new["W_enc"])[:, unit]
        assert np.abs(column / (0.2 * living) - directions).max(axis=1).min() < 1e-5
        if not config.tied:
            np.testing.assert_allclose(new["W_dec"][unit], config.decoder_norm * column / (0.2 * living), atol=1e-5)
        fresh_bias = np.log(0.3 / 0.7) if config.variant == "kl" else 0.0
        np.testing.assert_allclose(new["b_enc"][unit], fresh_bias, rtol=1e-6)
        if config.variant == "jumprelu":
            np.testing.assert_allclose(new["threshold"][unit], config.initial_threshold)
        if config.variant == "gated":
            assert (new["r_mag"][unit], new["b_mag"][unit]) == (0, 0)


def test_resampling_comes_at_its_steps_and_only_with_dead_units():
    config, batch = STEPS["topk"], unit_batch(N)
    step = step_program(config)
    state = start(config, step=0)
    state = replace(state, steps_since_active=jnp.zeros(D_SAE, jnp.int32))
    # Off for 1, 2, 3 steps, then 4: dead from 3 on, but due only at even steps.
    for t, want in ((1, 1), (2, 2), (3, 3), (4, 0)):
        state, _ = step(state, batch)
        assert state.step == t
        np.testing.assert_array_equal(state.steps_since_active[:2], want)
    # With none dead, an even step is as an odd one.
    alive = replace(start(config), steps_since_active=jnp.zeros(D_SAE, jnp.int32))
    even, _ = step(replace(alive, step=jnp.int32(201)), batch)
    odd, _ = step(replace(alive, step=jnp.int32(200)), batch)
    assert_same(replace(even, step=odd.step), odd)


def test_resampling_prefers_what_is_badly_explained():
    """Drawn in proportion to the square of the squared error, and never an example without error."""
    config = STEPS["topk"]
    state = start(config, step=201)
    rng = np.random.default_rng(0)
    base = rng.random(16)
    image = base + np.linspace(0, 1, N)[:, None] * rng.normal(size=(N, 16))
    image = image.astype(np.float32)
    off = {"W_enc": np.zeros((16, D_SAE)), "b_enc": np.full(D_SAE, -1.0), "b_dec": image[0]}
    off["W_enc"][:, 5] = 1e-3  # the one that lives, and does not speak: the example that is b_dec has no error at all
    params = {"params": {**state.params["params"], **{n: jnp.asarray(v, jnp.float32) for n, v in off.items()}}}
    since = jnp.asarray(np.where(np.arange(D_SAE) < 5, 9, -9), jnp.int32)
    state = replace(state, params=params, steps_since_active=since)
    batch = unit_batch(N)._replace(image=jnp.asarray(image.reshape(N, *SHAPE)))
    error = ((image - image[0]).astype(np.float64) ** 2).sum(axis=1)
    directions = image / np.linalg.norm(image, axis=1, keepdims=True)
    counts = np.zeros(N)
    for seed in range(150):
        new, _ = step_program(config)(replace(state, key=jax.random.key(seed)), batch)
        rows = np.asarray(new.params["params"]["W_dec"])[:5]
        distance = np.abs(rows[:, None] - directions[None]).max(axis=2)
        assert distance.min(axis=1).max() < 1e-5
        np.add.at(counts, distance.argmin(axis=1), 1)
    assert error[0] == counts[0] == 0
    share = error**2 / (error**2).sum()
    np.testing.assert_allclose(counts / counts.sum(), share, atol=4 * np.sqrt(share.max() * (1 - share.max()) / 750))
    assert np.abs(share - error / error.sum()).max() > 0.1  # so that the other rule would not pass


@pytest.mark.parametrize("name", ["kl", "jumprelu"])
def test_sparsity_warms_up(name):
    config = STEPS[name]
    assert config.sparsity_warmup == 4
    for t, share in ((0, 0.25), (1, 0.5), (3, 1.0), (4, 1.0), (50, 1.0)):
        _, info = step_program(config)(start(config, step=t), unit_batch(N))
        np.testing.assert_allclose(info.loss, info.reconstruction + share * 0.7 * info.sparsity, rtol=1e-6)
    assert info.sparsity > 0.1


def test_jumprelu_thresholds_stay_nonnegative():
    config = STEPS["jumprelu"]
    state = start(config)
    adam, *rest = state.opt_state
    mu = {**adam.mu["params"], "threshold": jnp.asarray(np.where(np.arange(D_SAE) % 2, 9.0, -9.0), jnp.float32)}
    params = {"params": {**state.params["params"], "threshold": jnp.full(D_SAE, 0.01)}}
    state = replace(state, params=params, opt_state=(adam._replace(mu={"params": mu}), *rest))
    new, _ = step_program(config)(state, unit_batch(N))
    threshold = np.asarray(new.params["params"]["threshold"])
    np.testing.assert_array_equal(threshold[1::2], 0)
    assert (threshold[::2] > 0.01).all()


def test_batch_topk_threshold_is_the_mean_of_the_least_kept():
    """By hand over four steps, then along the running mean; Adam does not see it."""
    config = STEPS["batch_topk"]
    state = start(config)
    p = state.params["params"]
    state = replace(
        state, params={"params": {**p, "threshold": jnp.zeros(D_SAE)}}, steps_since_active=jnp.zeros(D_SAE, jnp.int32)
    )
    adam = state.opt_state[0]
    still = [
        adam._replace(
            **{m: {"params": {**getattr(adam, m)["params"], "threshold": jnp.zeros(D_SAE)}} for m in ("mu", "nu")}
        )
    ]
    state = replace(state, opt_state=(*still, *state.opt_state[1:]))

    def least(state, batch):
        p = {n: np.asarray(v, np.float64) for n, v in state.params["params"].items()}
        a = pre_activations64(config, p, np.asarray(batch.image, np.float64))
        return np.sort(a[a > 0])[::-1][: config.k * N].min()

    seen = []
    for t in range(4):
        batch = unit_batch(N, seed=t)
        seen.append(least(state, batch))
        state, _ = step_program(config)(state, batch)
        np.testing.assert_allclose(state.params["params"]["threshold"], np.mean(seen), rtol=1e-5)
        for moments in (state.opt_state[0].mu, state.opt_state[0].nu):
            np.testing.assert_array_equal(moments["params"]["threshold"], 0)
    assert np.ptp(seen) > 0.01
    later = replace(state, step=jnp.int32(500))
    new, _ = step_program(config)(later, batch)
    np.testing.assert_allclose(
        new.params["params"]["threshold"], 0.99 * np.mean(seen) + 0.01 * least(later, batch), rtol=1e-5
    )
    # A batch that leaves every unit off says nothing about it.
    off = {**state.params["params"], "b_enc": jnp.full(D_SAE, -30.0)}
    silent, info = step_program(config)(replace(state, params={"params": off}), batch)
    assert info.l0 == 0
    np.testing.assert_array_equal(silent.params["params"]["threshold"], state.params["params"]["threshold"])


def test_matryoshka_of_one_level_is_batch_topk():
    config = STEPS["batch_topk"]
    nested = replace(config, variant="matryoshka", levels=(D_SAE,))
    runs = []
    for c in (config, nested):
        state = start(config)
        for i in range(3):
            state, info = step_program(c)(state, unit_batch(N, seed=i))
        runs.append((state, info))
    assert_same(*runs)


@pytest.mark.parametrize("variant", ["topk", "kl"])
def test_a_member_with_the_configurations_settings_is_the_configuration(variant):
    config = dense(variant)
    alone = quick(sae(config, image_shape=SHAPE).init)(jax.random.key(3))
    member = quick(lambda m: sae(config, image_shape=SHAPE, member=m).init(jax.random.key(3)))(hyper(config))
    if variant == "kl":
        assert_close(member, alone, rtol=1e-6, atol=1e-6)
    else:
        assert_same(member, alone)


@pytest.mark.parametrize(
    ("config", "others"),
    [
        (dense("topk"), {"k": 4, "learning_rate": 0.02}),
        (dense("batch_topk"), {"k": 1, "learning_rate": 0.1}),
        (dense("kl"), {"rho": 0.15, "beta": 0.2, "learning_rate": 0.02}),
    ],
    ids=["topk", "batch_topk", "kl"],
)
def test_members_of_a_sweep_are_the_runs_of_their_configurations(config, others):
    configs = [config, replace(config, **others)]
    batches = jax.tree.map(lambda *x: jnp.stack(x), *(unit_batch(N, seed=i) for i in range(3)))

    def run(config, member=None):
        algorithm = sae(config, image_shape=SHAPE, member=member)
        return jax.lax.scan(algorithm.step, algorithm.init(jax.random.key(0)), batches)

    members = jax.tree.map(lambda *x: jnp.stack(x), *map(hyper, configs))
    swept = quick(jax.vmap(lambda m: run(config, m)))(members)
    # The other's own run: the sweep was made from the first's configuration.
    alone = quick(lambda: run(configs[1]))()
    assert_close(jax.tree.map(lambda x: x[1], swept), alone, rtol=1e-4, atol=1e-5)
    first, second = np.asarray(swept[0].params["params"]["W_enc"])
    assert np.abs(first - second).max() > 1e-3


@pytest.mark.parametrize("name", STEPS)
def test_a_resumed_state_goes_on_as_if_it_had_not_stopped(name):
    """Every leaf is an array, and what is not a leaf does not matter."""
    step = step_program(STEPS[name])
    batches = [unit_batch(N, seed=i) for i in range(4)]
    state = start(STEPS[name], step=198)
    for batch in batches:
        state, _ = step(state, batch)
    resumed = start(STEPS[name], step=198)
    for i, batch in enumerate(batches):
        if i == 2:
            leaves, structure = jax.tree.flatten(resumed)
            assert all(isinstance(leaf, jax.Array) for leaf in leaves)
            stored = list(numpy_leaves(resumed).values())
            assert len(stored) == len(leaves)
            restored = [
                jax.random.wrap_key_data(jnp.asarray(s))
                if jnp.issubdtype(x.dtype, jax.dtypes.prng_key)
                else jnp.asarray(s)
                for s, x in zip(stored, leaves, strict=True)
            ]
            resumed = jax.tree.unflatten(structure, restored)
        resumed, _ = step(resumed, batch)
    assert_same(resumed, state)


def test_batch_topk_after_training_has_k_active_units():
    """Its threshold, learned on digits, gives images one by one the sparsity that batches were trained at."""
    data = digits()
    config = SAEConfig(variant="batch_topk", d_sae=32, k=5, batch_size=128, steps=300, learning_rate=5e-3)
    algorithm = sae(config, image_shape=(8, 8, 1))
    state, infos = jax.jit(many_steps(algorithm.step, length=300, batch_size=128))(
        jax.jit(algorithm.init)(jax.random.key(0)), data
    )
    assert_finite((state, infos))
    np.testing.assert_allclose(infos.l0[-20:], 5.0, rtol=1e-6)
    encode = quick(autoencoder(config, image_shape=(8, 8, 1)).encode)
    codes = np.asarray(encode(state.params, data.image.astype(jnp.float32) / 255))
    np.testing.assert_allclose((codes > 0).sum(axis=1).mean(), 5.0, rtol=0.1)
    assert infos.reconstruction[-20:].mean() < 0.4 * infos.reconstruction[0]


GOLDEN = {
    "topk": [1.746494, 1.746494, 0, 0, 2, 0, 19.66024, 0, 19.48978, 0.699995, 0],
    "batch_topk": [2.91597, 2.91597, 0, 0, 2, 0, 19.394459, -0.199999, 38.94412, 0.799995, 2.817195],
    "jumprelu": [2.093035, 1.67741, 2.375, 0, 2.375, 0, 19.321226, -0.05, 19.426179, 0.599996, 2.099998],
    "gated": [4.717429, 1.647501, 2.032039, 1.647501, 4.125, 0, 19.744458, -0.299998, 19.41345, 0.699995, -0.199999],
}


@pytest.mark.parametrize("name", GOLDEN)
def test_golden_step(name):
    """Numbers of one step from fixed key and data.

    Update them only for a deliberate change of the mathematics, of the initial values or of the key schedule, and say so
    in the change; never to make a refactoring pass.
    """
    state, info = step_program(STEPS[name])(initial(STEPS[name]), unit_batch(N, seed=5))
    p = {n: np.asarray(v, np.float64) for n, v in state.params["params"].items()}
    rest = sum(p[n].sum() for n in ("threshold", "r_mag", "b_mag") if n in p)
    got = [*info, np.abs(p["W_enc"]).sum(), p["b_enc"].sum(), np.abs(p["W_dec"]).sum(), p["b_dec"].sum(), rest]
    np.testing.assert_allclose(got, GOLDEN[name], rtol=1e-5, atol=1e-6)


def test_resampling_at_a_black_example_leaves_no_row_of_zeros():
    """It has no direction: the decoder's norm could not be kept, and the next step would divide 0 by 0."""
    config = STEPS["topk"]
    batch = unit_batch(N)._replace(image=jnp.zeros((N, *SHAPE)))
    state = start(config, step=201)
    for _ in range(2):
        state, info = step_program(config)(state, batch)
        assert_finite((state, info))
        np.testing.assert_allclose(np.linalg.norm(state.params["params"]["W_dec"], axis=1), 1, rtol=1e-5)


def test_resampling_revives_an_autoencoder_without_a_living_unit():
    """There is no living norm to take a fifth of, and columns of zeros would stay zeros."""
    config = STEPS["topk"]
    state = start(config, step=201)
    off = {**state.params["params"], "b_enc": jnp.full(D_SAE, -30.0)}
    state = replace(state, params={"params": off}, steps_since_active=jnp.full(D_SAE, 9, jnp.int32))
    state, _ = step_program(config)(state, unit_batch(N))
    assert np.linalg.norm(state.params["params"]["W_enc"], axis=0).min() > 0.01
    _, info = step_program(config)(state, unit_batch(N))
    assert info.l0 > 0


def test_a_sparse_decoder_trains_as_the_whole_one():
    """Also where fewer than k units are positive, and for several seeds at once."""
    batch = unit_batch(N)

    def trained(config):
        algorithm = sae(config, image_shape=SHAPE)
        step = quick(jax.vmap(algorithm.step, in_axes=(0, None)))
        state = jax.vmap(algorithm.init)(jax.random.split(jax.random.key(0), 2))
        low = state.params["params"]["b_enc"].at[0].set(-0.5)
        state = state.replace(params={"params": {**state.params["params"], "b_enc": low}})
        for _ in range(3):
            state, info = step(state, batch)
        return state, info

    (state, info), (wanted, wanted_info) = (
        trained(dense("topk", k=4, sparse_decoder=sparse)) for sparse in (True, False)
    )
    assert float(wanted_info.l0[0]) < 4 - 1e-3
    chex.assert_trees_all_close(state.params, wanted.params, rtol=1e-4, atol=1e-6)
    assert_close(info.reconstruction, wanted_info.reconstruction, rtol=1e-5, atol=0.0)


def test_center_is_where_the_decoders_bias_starts():
    for config, d_in in ((dense("topk", pre_bias="mean"), 16), (dense("topk", pre_bias="median", patch_size=2), 4)):
        center = np.linspace(0, 1, d_in, dtype=np.float32)
        init = sae(config, image_shape=SHAPE).init
        for wrong in (center[1:], center[None], np.concatenate([center, center])):
            with pytest.raises(ValueError, match=rf"center has shape .* must be \({d_in},\)"):
                init(jax.random.key(0), Start(center=jnp.asarray(wrong)))
        state = quick(init)(jax.random.key(0), Start(center=jnp.asarray(center)))
        np.testing.assert_array_equal(state.params["params"]["b_dec"], center)
    state = quick(sae(dense("topk"), image_shape=SHAPE).init)(jax.random.key(0), Start(center=jnp.ones(16)))
    np.testing.assert_array_equal(state.params["params"]["b_dec"], 0)


def test_training_starts_from_given_weights_and_leaves_them_to_the_caller():
    config = STEPS["jumprelu"]
    given = start(config).params
    algorithm = sae(config, image_shape=SHAPE)
    state = algorithm.init(jax.random.key(42), Start(params=given, center=jnp.ones(16)))
    chex.assert_trees_all_equal(state.params, given)
    random = initial(config)
    assert_same(state.replace(params=()), random.replace(params=()))  # the moments are zeros in both
    jax.jit(algorithm.step, donate_argnums=0)(state, unit_batch(N))
    chex.assert_tree_all_finite(given)  # a deleted buffer would raise
    wrong = {n: w for n, w in given["params"].items() if n != "threshold"} | {"r_mag": jnp.zeros(6)}
    with pytest.raises(ValueError, match=r"of another autoencoder: r_mag \(6,\), expected none; threshold missing, ex"):
        algorithm.init(jax.random.key(0), Start(params={"params": wrong}))


def test_members_start_from_one_or_from_their_own_weights():
    config = STEPS["topk"]
    algorithm = sae(config, image_shape=SHAPE)
    first, second = start(config).params, jax.tree.map(lambda w: w + 1, start(config).params)
    both = jax.tree.map(lambda *w: jnp.stack(w), first, second)
    members = {"seed": 3, "n_seeds": 2}
    shared = init_members(algorithm, pretrained=Start(params=first), shared=True, **members)
    apart = init_members(algorithm, pretrained=Start(params=both), shared=False, **members)
    chex.assert_trees_all_equal(shared.params, jax.tree.map(lambda w: jnp.stack([w, w]), first))
    chex.assert_trees_all_equal(apart.params, both)
    alone = init_members(algorithm, pretrained=Start(params=second), seed=4, n_seeds=1)
    assert_same(jax.tree.map(lambda x: x[1], apart), alone)
    untouched = init_members(algorithm, **members)
    assert_same(jax.tree.map(lambda x: x[1], untouched), algorithm.init(jax.random.key(4)))


def test_projection_is_what_a_step_keeps():
    config = dense("jumprelu", decoder_norm=2.0)
    params = start(config).params["params"]
    params = {"params": {**params, "W_dec": 5 * params["W_dec"], "threshold": params["threshold"] - 0.4}}
    got = project_params(config, params)["params"]
    np.testing.assert_allclose(np.linalg.norm(got["W_dec"], axis=1), 2, rtol=1e-6)
    np.testing.assert_array_equal(got["threshold"], np.maximum(params["params"]["threshold"], 0))
    assert (np.asarray(params["params"]["threshold"]) < 0).any()
    free = dense("topk", tied=True, decoder_norm=0.0)
    assert project_params(free, params) is params
    gradients = {"params": {"W_dec": jnp.ones((D_SAE, 16))}}
    left = remove_parallel_gradient(config, gradients, {"params": got})["params"]["W_dec"]
    np.testing.assert_allclose(jnp.sum(left * got["W_dec"], axis=1), 0, atol=1e-5)
    assert remove_parallel_gradient(free, gradients, params) is gradients
