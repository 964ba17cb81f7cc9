"""Trainings on meshes of 2, 4 and 8 devices, beside one device: prints the differences as JSON.

Run by test_spmd.py in a process of its own, which has several virtual devices.
"""

import json
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from helpers import SHAPE, uint8_data
from sae_formulas import dense
from spmd_steps import AUTOENCODERS, EVERY, N, algorithms
from spmd_steps import difference as exact_difference

from saegan_jax.algorithms.base import Examples
from saegan_jax.algorithms.cyclegan import TwoDomains
from saegan_jax.algorithms.sae import sae
from saegan_jax.data.sources import InMemory
from saegan_jax.data.stream import Stream
from saegan_jax.runs.train.cyclegan import two_batches
from saegan_jax.training.checkpoint import Checkpoints
from saegan_jax.training.chunks import open_chunks
from saegan_jax.training.phase import Phase
from saegan_jax.training.sharding import open_mesh, place_data, placed_shapes, placement, state_shardings
from saegan_jax.training.systems import init_members

jax.config.update("jax_disable_most_optimizations", True)  # tiny programs run once
STEPS = 2
DATA = uint8_data(30, seed=2)  # a number that the devices do not divide
DATA = DATA._replace(label=DATA.label % N)
ALGORITHMS = algorithms()


def meshes(two: str, four: str, eight: str) -> tuple[str, ...]:
    """Of two, four and eight devices; or that of four alone."""
    return (two, four, eight) if EVERY else (four,)


def difference(got: Any, want: Any) -> float:
    """Thresholds too are equal up to rounding alone where products are split over the devices of ``model``."""
    return exact_difference(got, want, exact=False)


def phase_of(algorithm: Any, given: Any = None, *, n_seeds: int = 1, mesh: str = "none", **extra: Any) -> Phase:
    def init() -> Any:
        return init_members(algorithm, seed=0, n_seeds=n_seeds, pretrained=given, shared=True)

    opened = open_mesh(mesh, n_seeds=n_seeds, batch_sizes={"test": N})
    times = dict.fromkeys(("steps", "log_every", "save_every", "picture_every"), STEPS)
    return Phase(
        name="test", init=init, step=algorithm.step, n_seeds=n_seeds, batch_size=N, shown=(), mesh=opened, **times, **extra
    )  # fmt: skip


def placed_on(mesh: Any, shapes: Any, n_seeds: int) -> Any:
    return None if mesh is None else placement(mesh, shapes, n_seeds=n_seeds)


def trained(phase: Phase, data: Any) -> Any:
    placed = placed_on(phase.mesh, jax.eval_shape(phase.init), phase.n_seeds)
    state = jax.jit(phase.init, out_shardings=None if placed is None else state_shardings(placed))()
    with open_chunks(phase, data, state, 0, placed=placed) as chunks:
        state, begun = chunks.advance(state)
        infos = chunks.collect(begun).infos
    if placed is not None:
        assert jax.tree.map(lambda x: x.sharding, state) == state_shardings(placed)
    return state, infos


def bytes_of(state: Any, device: Any) -> int:
    """Of the arrays of a state, those on one device."""
    shards = (shard for x in jax.tree.leaves(state) for shard in raw(x).addressable_shards)
    return sum(s.data.nbytes for s in shards if s.device == device)


def raw(x: jax.Array) -> jax.Array:
    return jax.random.key_data(x) if jnp.issubdtype(x.dtype, jax.dtypes.prng_key) else x


def autoencoders(found: dict[str, float], names: Any) -> None:
    for name in names:
        algorithm = sae(replace(AUTOENCODERS[name], auxk=1 / 32), image_shape=SHAPE)
        want = trained(phase_of(algorithm), DATA)
        for mesh in meshes("data=2", "data=2,model=2", "data=4,model=2"):
            found[f"{name}, {mesh}"] = difference(trained(phase_of(algorithm, mesh=mesh), DATA), want)


def systems(found: dict[str, float], names: Any) -> None:
    for name in names:
        algorithm, given, batch = ALGORITHMS[name]
        data, extra = DATA, {}
        if isinstance(batch, TwoDomains):
            data, extra = TwoDomains(DATA.image, DATA.image[::-1]), {"draw": two_batches(N)}
        want = trained(phase_of(algorithm, *given, n_seeds=2, **extra), data)
        model = ",model=2" if name in ("saegan", "energy") else ""
        for mesh in meshes("data=2", "seed=2,data=2", f"seed=2,data=2{model}" if model else "seed=2,data=4"):
            got = trained(phase_of(algorithm, *given, n_seeds=2, mesh=mesh, **extra), data)
            found[f"{name}, {mesh}"] = difference(got, want)


def products(found: dict[str, float]) -> None:
    """An ensemble on all eight devices, its memory, its data on every device, spread or streamed, and its checkpoints."""
    algorithm, n_seeds = sae(dense("topk", d_sae=64, auxk=0.25), image_shape=SHAPE), 4
    want = trained(phase_of(algorithm, n_seeds=n_seeds), DATA)
    for mesh in ("seed=2,data=2,model=2", *(("seed=4,model=2", "auto") if EVERY else ())):
        phase = phase_of(algorithm, n_seeds=n_seeds, mesh=mesh)
        got = trained(phase, DATA)
        found[f"four seeds, {mesh}"] = difference(got, want)
        shares = phase.mesh.shape.get("seed", 1) * phase.mesh.shape.get("model", 1)
        # b_dec and what is no array of units lie on every device along model.
        found[f"memory, {mesh}"] = (
            bytes_of(got[0], jax.devices()[0]) / bytes_of(want[0], jax.devices()[0]) - 1.15 / shares
        )
    streamed = Stream(source=InMemory(Examples(np.asarray(DATA.image), np.asarray(DATA.label))))
    phase = phase_of(algorithm, n_seeds=n_seeds, mesh="seed=2,data=2,model=2")
    found["streamed"] = difference(trained(phase, streamed), want)
    placed = placed_on(phase.mesh, jax.eval_shape(phase.init), n_seeds)
    spread = place_data(placed, DATA, budget=0)
    assert spread.image.addressable_shards[0].data.shape[0] == 15
    found["spread data"] = difference(trained(phase, spread), want)
    checkpoints(found, algorithm, want[0])


def checkpoints(found: dict[str, float], algorithm: Any, state: Any) -> None:
    """From one device to eight, and from there to fewer, one after the other, to the bit."""
    shapes = jax.eval_shape(phase_of(algorithm, n_seeds=4).init)
    want = jax.device_get(jax.tree.map(raw, state))
    with tempfile.TemporaryDirectory() as folder:
        for step, mesh in enumerate(
            ("none", "seed=2,data=2,model=2", "data=2,model=2", "none", "seed=2", "seed=4,data=2")
        ):
            placed = placed_on(open_mesh(mesh, n_seeds=4, batch_sizes={}), shapes, 4)
            with Checkpoints(Path(folder)) as kept:
                if step:
                    like = shapes if placed is None else placed_shapes(placed, shapes)
                    state = kept.restore(like)[1]
                    assert placed is None or jax.tree.map(lambda x: x.sharding, state) == state_shardings(placed)
                kept.save(step, state, {})
            same = jax.tree.map(np.array_equal, jax.device_get(jax.tree.map(raw, state)), want)
            found[f"checkpoint {step}, {mesh}"] = 0.0 if all(jax.tree.leaves(same)) else np.inf


def main() -> None:
    found: dict[str, float] = {}
    autoencoders(found, AUTOENCODERS if EVERY else ("batch_topk",))
    systems(found, ALGORITHMS if EVERY else ())
    products(found)
    print(json.dumps(found))  # noqa: T201


if __name__ == "__main__":
    main()
