"""Which device holds what: meshes that a command line asks for, and rules over a state's leaves; on one device."""

import jax
import jax.numpy as jnp
import pytest
from jax.sharding import AbstractMesh
from jax.sharding import PartitionSpec as P

from saegan_jax.algorithms.gan import GANConfig, gan
from saegan_jax.algorithms.sae import SAEConfig, sae
from saegan_jax.errors import ConfigError
from saegan_jax.training.sharding import automatic_sizes, open_mesh, parse_sizes, placement
from saegan_jax.training.systems import init_members

SHAPE = (4, 4, 1)


def opened(text, *, n_seeds=1, batch_size=8):
    return open_mesh(text, n_seeds=n_seeds, batch_sizes={"sae": batch_size})


def test_no_mesh_and_all_of_one_device():
    assert opened("none") is None
    assert opened("auto").shape == {"data": 1}
    assert opened("data=1, model=1").shape == {"data": 1, "model": 1}


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("data=2", "takes 2 devices, and JAX sees 1"),
        ("dat=1", "did you mean data"),
        ("", "give each axis once with its number of devices"),
        ("data", "as in data=4,model=2"),
        ("data=0", "as in data=4,model=2"),
        ("data=1,data=1", "each axis once"),
    ],
)
def test_meshes_that_cannot_be(text, words):
    with pytest.raises(ConfigError, match=words):
        opened(text)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"text": "seed=2", "n_seeds": 3}, "3 seeds cannot be shared equally by seed=2"),
        ({"text": "data=4", "batch_size": 6}, "a batch of 6 cannot be shared equally by data=4"),
    ],
)
def test_what_devices_cannot_share(monkeypatch, arguments, words):
    monkeypatch.setattr(jax, "device_count", lambda: 4)
    with pytest.raises(ConfigError, match=words):
        opened(**arguments)


@pytest.mark.parametrize(
    ("n_devices", "n_seeds", "sizes"),
    [
        (8, 1, {"data": 8}),
        (8, 8, {"seed": 8}),
        (8, 6, {"data": 4, "seed": 2}),
        (1, 4, {"data": 1}),
    ],
)
def test_auto_takes_every_device(n_devices, n_seeds, sizes):
    assert automatic_sizes(n_devices, n_seeds) == sizes


def placed(config, text, *, n_seeds=1):
    sizes = parse_sizes(text)
    algorithm = sae(config, image_shape=SHAPE) if isinstance(config, SAEConfig) else gan(config, image_shape=SHAPE)
    shapes = jax.eval_shape(lambda: init_members(algorithm, seed=0, n_seeds=n_seeds))
    return placement(AbstractMesh(tuple(sizes.values()), tuple(sizes)), shapes, n_seeds=n_seeds)


def test_units_of_a_dictionary_are_shared_with_their_moments_and_statistics():
    found = placed(SAEConfig(variant="batch_topk", d_sae=8, k=2), "data=2,model=4")
    params = {"W_enc": P(None, "model"), "b_enc": P("model"), "W_dec": P("model", None), "b_dec": P(None)}
    params = {"params": params | {"threshold": P("model")}}
    state = found.state_spec
    assert state.params == state.opt_state[0].mu == state.opt_state[0].nu == params
    assert state.density == state.mean_activation == state.steps_since_active == P("model")
    assert state.step == state.key == state.hyper.rho == P()
    assert found.batch_spec == P("data")


def test_members_come_first():
    state = placed(SAEConfig(d_sae=8), "seed=2,model=2", n_seeds=4).state_spec
    assert state.params["params"]["W_dec"] == P("seed", "model", None)
    assert state.params["params"]["b_dec"] == P("seed", None)
    assert state.step == state.key == P("seed")


def test_a_gan_has_no_dictionary():
    config = GANConfig(hidden=(8,))
    assert set(jax.tree.leaves(placed(config, "data=4").state_spec, is_leaf=lambda x: isinstance(x, P))) <= {
        P(*[None] * n) for n in range(4)
    }
    with pytest.raises(ConfigError, match="nothing here is a dictionary"):
        placed(config, "model=2")


def test_units_that_cannot_be_shared():
    with pytest.raises(ConfigError, match=r"d_sae = 6 .* model=4"):
        placed(SAEConfig(d_sae=6, k=2), "model=4")


def test_shapes_are_all_it_reads():
    spec = placement(AbstractMesh((2,), ("model",)), {"W_enc": jnp.zeros((3, 4)), "density": jnp.zeros(())}, n_seeds=1)
    assert spec.state_spec == {"W_enc": P(None, "model"), "density": P()}
