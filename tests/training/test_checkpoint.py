"""Whole states to disk and back to the bit, whatever happens to the process or to the files in between."""

import shutil
import threading
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from command_line import tree
from helpers import assert_same, numpy_leaves
from orbax.checkpoint import v1 as ocp

from saegan_jax.algorithms.gan import GANConfig
from saegan_jax.algorithms.sae import SAEConfig
from saegan_jax.algorithms.saegan import SAEGANConfig
from saegan_jax.errors import ConfigError
from saegan_jax.training import checkpoint
from saegan_jax.training.checkpoint import Checkpoints, checksum, layout, layout_difference
from saegan_jax.training.systems import abstract_system

# Wide enough for Orbax to give the arrays a file of their own.
SAE, GAN = SAEConfig(d_sae=5), GANConfig(hidden=(64,), d_noise=3)
SYSTEMS: dict[str, tuple[Any, int]] = {
    "sae": (SAE, 1),
    "gan": (GAN, 1),
    "saegan": (SAEGANConfig(sae=SAE, gan=GAN, code_hidden=(4,)), 1),
    "saegan of 2 seeds": (SAEGANConfig(sae=SAE, gan=GAN, code_hidden=(4,)), 2),
}
CONFIG = {"script": "gan", "options": {"seed": 3, "gan": {"hidden": [6], "loss": "hinge", "ema": 0.5, "on": True}}}


def shapes(name: str) -> Any:
    settings, n_seeds = SYSTEMS[name]
    return abstract_system(settings, image_shape=(4, 4, 1), n_seeds=n_seeds)[1]


def filled(like: Any, seed: int = 0) -> Any:
    """A state of these shapes in which no leaf is what ``init`` would make of it."""
    rng = np.random.default_rng(seed)

    def leaf(x: Any) -> jax.Array:
        if jnp.issubdtype(x.dtype, jax.dtypes.prng_key):
            return jax.random.wrap_key_data(jnp.asarray(rng.integers(1, 2**32, (*x.shape, 2), dtype=np.uint32)))
        if jnp.issubdtype(x.dtype, jnp.integer):
            return jnp.asarray(rng.integers(1, 1000, x.shape), x.dtype)
        return jnp.asarray(rng.normal(size=x.shape), x.dtype)

    return jax.tree.map(leaf, like)


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Checkpoints of the GAN at steps 5 and 10; tests copy it."""
    folder = tmp_path_factory.mktemp("saved") / "gan"
    with Checkpoints(folder) as checkpoints:
        for step in (5, 10):
            checkpoints.save(step, filled(shapes("gan"), step), CONFIG)
    return folder


@pytest.fixture
def copy(saved: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(saved, tmp_path / "checkpoints" / "gan"))


@pytest.mark.parametrize("name", SYSTEMS)
def test_a_whole_state_comes_back_to_the_bit(name: str, tmp_path: Path) -> None:
    like = shapes(name)
    state = filled(like)
    with Checkpoints(tmp_path) as checkpoints:
        checkpoints.save(10, state, CONFIG)
    with Checkpoints(tmp_path) as checkpoints:
        restored = checkpoints.restore(like)
    assert restored is not None
    step, after = restored
    assert step == 10
    # The structure holds the types of the dataclasses and NamedTuples, optax's states among them.
    assert jax.tree.structure(after) == jax.tree.structure(state) == jax.tree.structure(like)
    assert [x.dtype for x in jax.tree.leaves(after)] == [x.dtype for x in jax.tree.leaves(like)]
    assert all(isinstance(x, jax.Array) for x in jax.tree.leaves(after))
    assert_same(after, state)
    assert jax.random.key_impl(after.key) == jax.random.key_impl(state.key)


def test_a_background_save_survives_a_donated_step_and_a_close(tmp_path: Path) -> None:
    state = filled(shapes("gan"))
    expected = {path: leaf.copy() for path, leaf in numpy_leaves(state).items()}
    advance = jax.jit(
        lambda s: jax.tree.map(
            lambda x: (
                jax.random.fold_in(x, 1) if jnp.issubdtype(x.dtype, jax.dtypes.prng_key) else x + jnp.ones_like(x)
            ),
            s,
        ),
        donate_argnums=0,
    )
    with Checkpoints(tmp_path) as checkpoints:
        checkpoints.save(10, state, CONFIG)
        later = advance(state)
        assert all(x.is_deleted() for x in jax.tree.leaves(state.params))
        for _ in range(3):  # write over the old buffers while the save may still be running
            later = advance(later)
    with Checkpoints(tmp_path) as checkpoints:
        restored = checkpoints.restore(later)
    assert restored is not None
    assert_same(numpy_leaves(restored[1]), expected)


def test_the_newest_two_are_kept(tmp_path: Path) -> None:
    like = shapes("sae")
    with Checkpoints(tmp_path) as checkpoints:
        for step in (5, 10, 15, 20):
            checkpoints.save(step, filled(like, step), CONFIG)
    with Checkpoints(tmp_path) as checkpoints:
        assert checkpoints.steps == [15, 20]
        newest, older = checkpoints.restore(like), checkpoints.restore(like, step=15)
    assert newest is not None
    assert older is not None
    assert (newest[0], older[0]) == (20, 15)
    assert_same(newest[1], filled(like, 20))
    assert_same(older[1], filled(like, 15))


def test_a_save_cut_short_is_ignored_and_its_step_saved_again(copy: Path) -> None:
    (copy / "10").rename(copy / "10.orbax-checkpoint-tmp")  # what a kill in the middle of a save leaves
    shutil.rmtree(copy / "10.orbax-checkpoint-tmp" / "config")
    like = shapes("gan")
    with Checkpoints(copy) as checkpoints:
        assert checkpoints.steps == [5]
        restored = checkpoints.restore(like)
        assert restored is not None
        assert restored[0] == 5
        assert checkpoints.damaged == []
        checkpoints.save(10, filled(like, 99), CONFIG)
    with Checkpoints(copy) as checkpoints:
        restored = checkpoints.restore(like)
    assert restored is not None
    assert restored[0] == 10
    assert_same(restored[1], filled(like, 99))


def data_file(step: Path) -> Path:
    """The file that holds the arrays."""
    return max(
        (p for p in step.rglob("*") if p.is_file()), key=lambda p: p.stat().st_size if p.parent.name == "d" else 0
    )


def truncate(step: Path) -> None:
    file = data_file(step)
    file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])


def flip_a_bit(step: Path) -> None:
    file = data_file(step)
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 0x10
    file.write_bytes(content)


DAMAGE = {
    "data file truncated": truncate,
    "data file deleted": lambda step: data_file(step).unlink(),
    # Orbax loads this one without a word.
    "one bit flipped": flip_a_bit,
    "manifest deleted": lambda step: (step / "state" / "manifest.ocdbt").unlink(),
    "configuration deleted": lambda step: shutil.rmtree(step / "config"),
    "emptied": lambda step: [p.write_bytes(b"") for p in step.rglob("*") if p.is_file()],
}


@pytest.mark.parametrize("kind", DAMAGE)
def test_a_damaged_checkpoint_is_named_skipped_and_kept(
    kind: str, copy: Path, capfd: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    DAMAGE[kind](copy / "10")
    like, before = shapes("gan"), tree(copy / "10")
    with Checkpoints(copy) as checkpoints:
        restored = checkpoints.restore(like)
        assert restored is not None
        assert restored[0] == 5
        assert_same(restored[1], filled(like, 5))
        ((step, reason),) = checkpoints.damaged
        assert step == 10
        assert reason
        assert "\n" not in reason
        assert tree(copy / "10") == before

        # The run sets it aside and passes the same step again.
        checkpoints.set_aside_damaged()
        aside = copy.parent / "gan-damaged-10"
        assert tree(aside) == before
        assert checkpoints.steps == [5]
        checkpoints.save(10, filled(like, 11), CONFIG)
    with Checkpoints(copy) as checkpoints:
        restored = checkpoints.restore(like)
        assert checkpoints.damaged == []
    assert restored is not None
    assert restored[0] == 10
    assert_same(restored[1], filled(like, 11))
    assert tree(aside) == before
    assert "Traceback" not in capfd.readouterr().err + caplog.text


def test_two_damaged_checkpoints_of_one_step_are_both_kept(copy: Path) -> None:
    for number in (1, 2):
        truncate(copy / "10")
        with Checkpoints(copy) as checkpoints:
            checkpoints.restore(shapes("gan"))
            checkpoints.set_aside_damaged()
            checkpoints.save(10, filled(shapes("gan"), number), CONFIG)
    assert sorted(p.name for p in copy.parent.iterdir()) == ["gan", "gan-damaged-10", "gan-damaged-10-2"]


def test_where_none_can_be_read_the_folder_and_every_reason_are_named(copy: Path, tmp_path: Path) -> None:
    for step in ("5", "10"):
        truncate(copy / step)
    before = tree(copy)
    with Checkpoints(copy) as checkpoints:
        with pytest.raises(
            ConfigError, match=r"none of its checkpoints can be read \(step 10: .*; step 5: .*\)"
        ) as caught:
            checkpoints.restore(shapes("gan"))
        assert str(copy) in str(caught.value)
        assert [step for step, _ in checkpoints.damaged] == [10, 5]
        with pytest.raises(ConfigError, match=r"this checkpoint cannot be read \(step 5: [^;]*\)"):
            checkpoints.restore(shapes("gan"), step=5)
    assert tree(copy) == before
    with Checkpoints(tmp_path / "empty") as checkpoints:
        assert checkpoints.restore(shapes("gan")) is None
        assert checkpoints.damaged == []


def test_a_checkpoint_copied_over_another_step_is_damaged(copy: Path) -> None:
    shutil.copytree(copy / "5", copy / "15")
    with Checkpoints(copy) as checkpoints:
        restored = checkpoints.restore(shapes("gan"))
        assert restored is not None
        assert restored[0] == 10
        assert checkpoints.damaged == [(15, "ValueError: it is the checkpoint of step 5, in the folder of step 15")]


def test_a_checkpoint_without_a_format_is_of_an_older_version(tmp_path: Path) -> None:
    state = filled(shapes("gan"))
    record = {"run": CONFIG, "layout": layout(state), "crc32": checksum(state)}
    with ocp.training.Checkpointer(tmp_path) as old:
        old.save_checkpointables(5, {"state": state, "config": record}, force=True)
    message = (
        r"checkpoint = '.*/5' cannot be used: written by an older version \(format 0, this is format 1\); train again or use "
        r"the version in its config\.json\."
    )
    with Checkpoints(tmp_path) as checkpoints:
        with pytest.raises(ConfigError, match=message):
            checkpoints.restore(shapes("gan"))
        assert checkpoints.damaged == []


def test_a_checkpoint_of_a_newer_format_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with Checkpoints(tmp_path) as checkpoints, monkeypatch.context() as patch:
        patch.setattr(checkpoint, "FORMAT", 2)
        checkpoints.save(5, filled(shapes("gan")), CONFIG)
    with (
        Checkpoints(tmp_path) as checkpoints,
        pytest.raises(ConfigError, match=r"written by a newer version \(format 2, this is format 1\)"),
    ):
        checkpoints.restore(shapes("gan"))


def test_thirty_saves_leave_no_descriptor_and_no_thread_behind(tmp_path: Path) -> None:
    tiny = {"w": jnp.arange(3.0), "key": jax.random.key(0)}

    def in_use() -> tuple[int, int]:
        return len(list(Path("/proc/self/fd").iterdir())), threading.active_count()

    with Checkpoints(tmp_path) as checkpoints:
        for step in range(1, 31):
            checkpoints.save(step, tiny, CONFIG)
            if step == 3:  # Orbax's lasting threads are there by now
                checkpoints._finish_save()
                early = in_use()
        checkpoints._finish_save()
        late = in_use()
    assert late[0] <= early[0] + 1
    assert late[1] <= early[1] + 1


@pytest.mark.parametrize(
    ("name", "held"), [("run[1]", r"\["), ("run*", r"\*"), ("a?", r"\?"), ("a\\b", r"\\"), ("[a]*", r"\* and \[")]
)
def test_paths_that_orbax_takes_for_patterns_are_refused(name: str, held: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=rf"its path holds {held}, and checkpoints there could not be read again"):
        Checkpoints(tmp_path / name / "gan")
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_is_taken_for_a_bucket_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="a folder named gs: is taken for a bucket"):
        Checkpoints(tmp_path / "gs:" / "gan")


def test_the_first_checkpoint_is_read_back_and_no_other(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    loaded: list[int] = []
    load = Checkpoints._load

    def spy(self: Checkpoints, step: int, like: Any, **rest: Any) -> Any:
        loaded.append(step)
        return load(self, step, like, **rest)

    monkeypatch.setattr(Checkpoints, "_load", spy)
    tiny = {"w": jnp.arange(3.0)}
    with Checkpoints(tmp_path) as checkpoints:
        checkpoints.save(5, tiny, CONFIG)
        checkpoints.save(10, tiny, CONFIG)
    assert loaded == [5]
    with Checkpoints(tmp_path) as checkpoints:  # a resumed training has read one already
        checkpoints.restore(tiny)
        checkpoints.save(15, tiny, CONFIG)
    assert loaded == [5, 10]


def test_a_first_checkpoint_that_cannot_be_read_back_stops_the_training(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(checkpoint, "require_literal_path", lambda folder: None)
    message = r"run\[1\]' cannot be used: its first checkpoint, of step 5, cannot be read back \(ValueError: .*\); name another"
    with Checkpoints(tmp_path / "run[1]") as checkpoints, pytest.raises(ConfigError, match=message):
        checkpoints.save(5, {"w": jnp.arange(3.0)}, CONFIG)


def test_another_architecture_is_refused_with_the_differences(copy: Path) -> None:
    wider = abstract_system(GANConfig(hidden=(65,), d_noise=3), image_shape=(4, 4, 1), n_seeds=1)[1]
    before = tree(copy)
    with Checkpoints(copy) as checkpoints:
        with pytest.raises(ConfigError, match="another architecture") as caught:
            checkpoints.restore(wider)
        assert checkpoints.damaged == []
    assert "float32[3, 64], this configuration needs float32[3, 65]" in str(caught.value)
    assert "more" in str(caught.value)
    assert str(copy / "10") in str(caught.value)
    assert tree(copy) == before


@pytest.mark.parametrize(("old", "new"), [(b"float32", b"fl\x7fat32"), (b'"format"', b'"formau"')])
def test_a_record_that_alone_does_not_fit_is_damaged(copy: Path, old: bytes, new: bytes) -> None:
    # One flipped bit in the newest record: the older checkpoint is of this architecture.
    record = copy / "10" / "config" / "_strings.json"
    files = [path for path in (copy / "10" / "config").rglob("*") if path.is_file() and old in path.read_bytes()]
    for path in files or [record]:
        path.write_bytes(path.read_bytes().replace(old, new, 1))
    assert files
    before = tree(copy)
    with Checkpoints(copy) as checkpoints:
        found = checkpoints.restore(shapes("gan"))
        assert found is not None
        assert found[0] == 5
        assert [step for step, _ in checkpoints.damaged] == [10]
    assert tree(copy) == before


def test_an_unknown_step_is_refused_with_those_there_are(copy: Path) -> None:
    with Checkpoints(copy) as checkpoints:
        with pytest.raises(ConfigError, match=r"step = 7 .* holds steps 5, 10"):
            checkpoints.restore(shapes("gan"), step=7)
        # Step 0 is a step, not "none given".
        with pytest.raises(ConfigError, match="step = 0 "):
            checkpoints.restore(shapes("gan"), step=0)


def test_reading_only_changes_nothing(copy: Path, tmp_path: Path) -> None:
    shutil.copytree(copy / "10", copy / "15.orbax-checkpoint-tmp")  # being written by a training right now
    truncate(copy / "10")
    before = tree(copy)
    with Checkpoints(copy, read_only=True) as checkpoints:
        restored = checkpoints.restore(shapes("gan"))
        assert restored is not None
        assert restored[0] == 5
    assert tree(copy) == before
    with pytest.raises(ConfigError, match="nothing has been saved"):
        Checkpoints(tmp_path / "nowhere", read_only=True)
    assert not (tmp_path / "nowhere").exists()


def test_the_checksum_covers_every_leaf() -> None:
    state = filled(shapes("saegan"))
    leaves, structure = jax.tree.flatten(state)
    whole = checksum(state)
    assert whole == checksum(filled(shapes("saegan")))
    for i, leaf in enumerate(leaves):
        is_key = jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key)
        changed = jax.random.fold_in(leaf, 1) if is_key else leaf.at[(-1,) * leaf.ndim].add(jnp.ones((), leaf.dtype))
        assert checksum(jax.tree.unflatten(structure, [*leaves[:i], changed, *leaves[i + 1 :]])) != whole


def test_layouts_name_the_leaves_that_differ() -> None:
    a = {"w": jnp.zeros((2, 3)), "n": jnp.zeros((), jnp.int32), "k": jax.random.key(0)}
    b = {"w": jnp.zeros((2, 4)), "n": jnp.zeros((), jnp.int32), "m": jnp.zeros(1)}
    assert layout_difference(layout(a), layout(a)) == []
    assert layout_difference(layout(a), layout(b)) == [
        "['k']: the checkpoint has key<fry>[], this configuration needs nothing",
        "['m']: the checkpoint has nothing, this configuration needs float32[1]",
        "['w']: the checkpoint has float32[2, 3], this configuration needs float32[2, 4]",
    ]
    assert layout(a) == layout(jax.eval_shape(lambda: a))
