"""The MNIST family: small fake files with their own table of sums, and the official ones where they are at hand."""

import contextlib
import dataclasses
import functools
import gzip
import hashlib
import http.server
import os
import socket
import struct
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest

from saegan_jax import data
from saegan_jax.data import idx

OFFICIAL = os.environ.get(idx.MANUAL_DIR_VARIABLE)
N = {"train": 120, "test": 40}


def idx_gz(array: np.ndarray) -> bytes:
    return gzip.compress(struct.pack(f">BBBB{array.ndim}I", 0, 0, 8, array.ndim, *array.shape) + array.tobytes())


def fake_arrays() -> dict[str, tuple[np.ndarray, np.ndarray]]:
    rng = np.random.default_rng(0)
    arrays = {}
    for split, n in N.items():
        image = rng.integers(0, 256, (n, 28, 28), np.uint8)
        image[:, -2:] = 0  # trailing zeros, as in the real ones: a reader that strips them must fail
        arrays[split] = image, (np.arange(n) * 7 % 10).astype(np.uint8)
    return arrays


@pytest.fixture
def fake(tmp_path, monkeypatch) -> Path:
    """A folder with four small files; `mnist` is patched to their sums, with no mirror that answers."""
    monkeypatch.delenv(idx.MANUAL_DIR_VARIABLE, raising=False)
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    folder = tmp_path / "files"
    folder.mkdir()
    for split, pair in fake_arrays().items():
        for file, array in zip(idx.SPLIT_FILES[split], pair, strict=True):
            (folder / file).write_bytes(idx_gz(array))
    patch_source(monkeypatch, folder, mirrors=())
    return folder


def patch_source(monkeypatch, folder: Path, mirrors: tuple[str, ...]) -> None:
    sums = {f: hashlib.sha256((folder / f).read_bytes()).hexdigest() for f in idx.SOURCES["mnist"].sha256}
    monkeypatch.setitem(idx.SOURCES, "mnist", idx.IdxSource(mirrors, sums))


def check_fake(dataset: data.Dataset) -> None:
    arrays = fake_arrays()
    np.testing.assert_array_equal(dataset.test.image, arrays["test"][0][..., None])
    np.testing.assert_array_equal(dataset.test.label, arrays["test"][1])
    whole = data.Split(arrays["train"][0][..., None], arrays["train"][1].astype(np.int32))
    expected = data.hold_out(whole, 10)
    for found, wanted in zip((dataset.train, dataset.validation), expected, strict=True):
        np.testing.assert_array_equal(found.image, wanted.image)
        np.testing.assert_array_equal(found.label, wanted.label)
    assert (dataset.name, dataset.num_classes, dataset.image_shape) == ("mnist", 10, (28, 28, 1))


def leftovers(root: Path) -> list[str]:
    return sorted(p.name for p in root.iterdir() if p.name not in ("downloads", "saegan_mnist"))


@pytest.fixture
def no_network(monkeypatch) -> None:
    def refuse(*args, **kwargs):
        raise AssertionError(f"network tried: {args}")

    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    monkeypatch.setattr(socket.socket, "connect", refuse)


@contextlib.contextmanager
def serve(folder: Path):
    class Quiet(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *args):
            requests.append(args)

    requests: list = []
    handler = functools.partial(Quiet, directory=str(folder))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}/", requests
        finally:
            server.shutdown()
            thread.join()


def dead_url() -> str:
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return f"http://127.0.0.1:{s.getsockname()[1]}/"


# -- reading ---------------------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("no_network")
def test_from_a_read_only_folder_then_from_what_was_prepared(fake, tmp_path, capsys):
    before = sorted(p.name for p in fake.iterdir())
    fake.chmod(0o555)
    root = tmp_path / "prepared"
    check_fake(data.load("mnist", manual_dir=fake, data_dir=root))
    assert sorted(p.name for p in fake.iterdir()) == before
    assert leftovers(root) == []
    assert capsys.readouterr().out == ""  # stdout is for results
    fake.chmod(0o755)
    for file in fake.iterdir():
        file.unlink()
    check_fake(data.load("mnist", data_dir=root, size=28))
    check_fake(data.load("mnist", data_dir=str(root), manual_dir=fake))


@pytest.mark.usefixtures("no_network")
def test_from_the_variable_and_from_a_folder_by_name(fake, tmp_path, monkeypatch):
    monkeypatch.setenv(idx.MANUAL_DIR_VARIABLE, str(fake.parent))
    fake.rename(fake.parent / "mnist")  # FOLDER/mnist, beside which fashion_mnist may have files of the same names
    check_fake(data.load("mnist", data_dir=tmp_path / "prepared"))


def test_from_the_network_by_the_second_mirror(fake, tmp_path, monkeypatch):
    root = tmp_path / "prepared"
    with serve(fake) as (url, requests):
        patch_source(monkeypatch, fake, mirrors=(dead_url(), url))
        check_fake(data.load("mnist", data_dir=root))
        assert len(requests) == 4
        check_fake(data.load("mnist", data_dir=root))
        assert len(requests) == 4
    assert sorted(p.name for p in (root / "downloads" / "saegan_mnist").iterdir()) == sorted(
        idx.SOURCES["mnist"].sha256
    )


def test_an_interrupted_download_goes_on_where_it_stopped(fake, tmp_path, monkeypatch):
    root, late = tmp_path / "prepared", fake / "t10k-labels-idx1-ubyte.gz"
    with serve(fake) as (url, requests):
        patch_source(monkeypatch, fake, mirrors=(url,))
        good = late.read_bytes()
        late.write_bytes(good[:-1])
        with pytest.raises(data.DataError, match=r"could not download t10k-labels.*SHA-256 is [0-9a-f]{64}, expected "):
            data.load("mnist", data_dir=root)
        assert len(list((root / "downloads" / "saegan_mnist").iterdir())) == 3
        late.write_bytes(good)
        requests.clear()
        check_fake(data.load("mnist", data_dir=root))
        assert len(requests) == 1


# -- what goes wrong -------------------------------------------------------------------------------------------------


def test_no_files_and_no_network(fake, tmp_path, monkeypatch):
    patch_source(monkeypatch, fake, mirrors=(dead_url(), dead_url()))
    with pytest.raises(data.DataError) as error:
        data.load("mnist", data_dir=tmp_path / "prepared")
    text = str(error.value)
    assert "\n" not in text
    source = idx.SOURCES["mnist"]
    for part in (*source.sha256, *source.mirrors, "--manual-dir", idx.MANUAL_DIR_VARIABLE, "dataset='mnist'"):
        assert part in text
    assert not (tmp_path / "prepared" / "saegan_mnist").exists()


@pytest.mark.parametrize("by_variable", [False, True])
@pytest.mark.usefixtures("no_network")
def test_a_bad_manual_dir(fake, tmp_path, monkeypatch, by_variable):
    def load(folder):
        if by_variable:
            monkeypatch.setenv(idx.MANUAL_DIR_VARIABLE, str(folder))
        return data.load("mnist", data_dir=tmp_path / "prepared", manual_dir=None if by_variable else folder)

    field = idx.MANUAL_DIR_VARIABLE if by_variable else "manual_dir"
    with pytest.raises(data.DataError, match=f"{field}='.*nowhere' is not a folder.*To use files"):
        load(tmp_path / "nowhere")
    file = fake / "t10k-images-idx3-ubyte.gz"
    content = bytearray(file.read_bytes())
    content[100] ^= 1
    file.write_bytes(content)
    found, expected = hashlib.sha256(content).hexdigest(), idx.SOURCES["mnist"].sha256[file.name]
    with pytest.raises(data.DataError, match=f"{file}.* SHA-256 is {found}, expected {expected}"):
        load(fake)
    file.unlink()
    with pytest.raises(data.DataError, match=f"cannot read {file} .*No such file.*To use files"):
        load(fake)
    assert not (tmp_path / "prepared").exists()  # refused before anything is written


@pytest.mark.usefixtures("no_network")
def test_a_data_dir_that_cannot_be_used(fake, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(
        data.DataError, match=r"dataset='mnist' could not be prepared in data_dir='.*file/x'.*TFDS_DATA"
    ):
        data.load("mnist", manual_dir=fake, data_dir=tmp_path / "file" / "x")
    with pytest.raises(data.DataError, match="data_dir='gs://bucket' is not on this machine"):
        data.load("mnist", manual_dir=fake, data_dir="gs://bucket")


@pytest.mark.usefixtures("no_network")
def test_damaged_prepared_files_are_named(fake, tmp_path):
    root = tmp_path / "prepared"
    data.load("mnist", manual_dir=fake, data_dir=root)
    folder = root / "saegan_mnist" / "1.0.0"
    os.truncate(next(folder.glob("*train*")), 1000)
    with pytest.raises(data.DataError, match=f"split 'train' in {folder} cannot be read .*delete that folder"):
        data.load("mnist", manual_dir=fake, data_dir=root)
    (folder / "dataset_info.json").unlink()
    with pytest.raises(data.DataError, match=f"{folder}.*delete that folder"):
        data.load("mnist", manual_dir=fake, data_dir=root)


@pytest.mark.parametrize("interrupt", [KeyboardInterrupt, RuntimeError])
@pytest.mark.usefixtures("no_network")
def test_an_interrupted_preparation_leaves_nothing(fake, tmp_path, monkeypatch, interrupt):
    from saegan_jax.data.mnist_builder import SaeganMnist

    def generate(self, image, label):
        yield 0, {"image": image[0], "label": int(label[0])}
        raise interrupt("stopped")

    root = tmp_path / "prepared"
    with monkeypatch.context() as patch:
        patch.setattr(SaeganMnist, "_generate_examples", generate)
        with pytest.raises((KeyboardInterrupt, data.DataError), match="stopped"):
            data.load("mnist", manual_dir=fake, data_dir=root)
    assert leftovers(root) == []
    assert not (root / "saegan_mnist").exists()
    check_fake(data.load("mnist", manual_dir=fake, data_dir=root))


CHILD = """
import hashlib, os, random, sys
from pathlib import Path
from saegan_jax import data
from saegan_jax.data import idx
random.seed(0)  # TFDS takes its temporary names from this generator
folder, root, kill = Path(sys.argv[1]), sys.argv[2], sys.argv[3] == "kill"
sums = {f: hashlib.sha256((folder / f).read_bytes()).hexdigest() for f in idx.SOURCES["mnist"].sha256}
idx.SOURCES["mnist"] = idx.IdxSource((), sums)
if kill:
    from saegan_jax.data.mnist_builder import SaeganMnist
    whole = SaeganMnist._generate_examples
    def generate(self, image, label):
        for i, row in enumerate(whole(self, image, label)):
            if len(label) == 40 and i == 20:
                os._exit(9)  # the train split is on disk, test half written
            yield row
    SaeganMnist._generate_examples = generate
d = data.load("mnist", manual_dir=folder, data_dir=root)
print(hashlib.sha256(d.train.image.tobytes() + d.validation.image.tobytes() + d.test.image.tobytes()).hexdigest())
"""


def child(*args: object) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", CHILD, *map(str, args)],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        cwd=Path(__file__).parents[2],
    )


def test_a_killed_preparation_is_not_taken_for_a_data_set(fake, tmp_path):
    root = tmp_path / "prepared"
    killed = child(fake, root, "kill")
    assert killed.communicate(timeout=60)[0] == ""
    assert killed.returncode == 9
    assert len(leftovers(root)) == 1  # its private folder
    check_fake(data.load("mnist", manual_dir=fake, data_dir=root))


def test_processes_with_one_seed_prepare_at_once(fake, tmp_path):
    root = tmp_path / "prepared"
    children = [child(fake, root, "") for _ in range(3)]
    hashes = [c.communicate(timeout=120)[0] for c in children]
    assert [c.returncode for c in children] == [0, 0, 0]
    assert len(set(hashes)) == 1
    assert leftovers(root) == []
    check_fake(data.load("mnist", data_dir=root))


def test_the_second_to_finish_takes_what_the_first_prepared(fake, tmp_path, monkeypatch):
    from saegan_jax.data.mnist_builder import SaeganMnist

    root, whole = tmp_path / "prepared", SaeganMnist._generate_examples

    def generate(self, image, label):
        monkeypatch.setattr(SaeganMnist, "_generate_examples", whole)
        other = child(fake, root, "")  # overtakes this preparation while it is under way
        assert other.communicate(timeout=60)[0]
        yield from whole(self, image, label)

    monkeypatch.setattr(SaeganMnist, "_generate_examples", generate)
    check_fake(data.load("mnist", manual_dir=fake, data_dir=root))
    assert leftovers(root) == []


def test_threads_prepare_at_once(fake, tmp_path):
    root, out = tmp_path / "prepared", sys.stdout
    found: list = []
    threads = [
        threading.Thread(target=lambda: found.append(data.load("mnist", manual_dir=fake, data_dir=root)))
        for _ in range(3)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 3
    for dataset in found:
        check_fake(dataset)
    assert sys.stdout is out


@pytest.mark.usefixtures("no_network")
def test_global_random_state_is_left_alone(fake, tmp_path):
    np.random.seed(3)  # noqa: NPY002 - the legacy global state is what must not move
    state = np.random.get_state()  # noqa: NPY002
    data.load("mnist", manual_dir=fake, data_dir=tmp_path / "prepared")
    np.testing.assert_array_equal(np.random.get_state()[1], state[1])  # noqa: NPY002
    assert np.random.get_state()[2] == state[2]  # noqa: NPY002


# -- the parser ------------------------------------------------------------------------------------------------------


def test_parse():
    array = np.arange(24, dtype=np.uint8).reshape(2, 3, 4)
    np.testing.assert_array_equal(idx.parse(idx_gz(array), ndim=3, file="f"), array)


RAW = struct.pack(">BBBBI", 0, 0, 8, 1, 3) + b"abc"


@pytest.mark.parametrize(
    ("gz", "match"),
    [
        (b"not gzip", "not a whole gzip"),
        (gzip.compress(RAW, mtime=0)[:-9], "not a whole gzip"),
        (gzip.compress(RAW, mtime=0)[:12] + b"\xff\xff" + gzip.compress(RAW, mtime=0)[14:], "not a whole gzip"),
        (gzip.compress(b"", mtime=0), "starts with 0x,"),
        (gzip.compress(b"\0\0\x08\x03" + RAW[4:], mtime=0), "0x00000803.*0x00000801"),
        (gzip.compress(b"\0\0\x0d\x01" + RAW[4:], mtime=0), "0x00000d01"),
        (gzip.compress(RAW[:6], mtime=0), "within its header of 8"),
        (gzip.compress(RAW[:-1], mtime=0), "3 = 3 bytes, but holds 2"),
        (gzip.compress(RAW + b"d", mtime=0), "3 = 3 bytes, but holds 4"),
    ],
)
def test_parse_refuses(gz, match):
    with pytest.raises(data.DataError, match=f"labels.gz .*{match}"):
        idx.parse(gz, ndim=1, file="labels.gz")


@pytest.mark.parametrize(
    ("image", "label"),
    [((3, 28, 28), [0, 1]), ((2, 27, 28), [0, 1]), ((2, 28, 28), [0, 10])],
    ids=["count", "size", "class"],
)
def test_parse_pair_refuses(image, label):
    names = idx.SPLIT_FILES["test"]
    files = {names[0]: idx_gz(np.zeros(image, np.uint8)), names[1]: idx_gz(np.array(label, np.uint8))}
    with pytest.raises(data.DataError, match=r"t10k-images.* and t10k-labels.*must be 28x28, as many as the labels"):
        idx.parse_pair(files, "test")


def test_sums_are_those_that_tfds_records():
    """TFDS ships the sums of the same files: ours must be the same, for each of the family and each mirror it names."""
    import tensorflow_datasets

    folder = Path(tensorflow_datasets.__file__).parent / "url_checksums"
    for name, source in idx.SOURCES.items():
        recorded = {}
        for line in (folder / f"{name}.txt").read_text().splitlines():
            url, _, digest, _ = line.split("\t")
            recorded[url] = digest
        assert recorded == {source.mirrors[0] + file: digest for file, digest in source.sha256.items()}
    assert dataclasses.asdict(idx.SOURCES["mnist"])["sha256"]["train-images-idx3-ubyte.gz"].startswith("440fcabf")


# -- the official files ----------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def mnist(tmp_path_factory) -> tuple[data.Dataset, Path]:
    if not OFFICIAL:
        pytest.skip(f"{idx.MANUAL_DIR_VARIABLE} is not set: no official MNIST files here")
    root = tmp_path_factory.mktemp("mnist")
    return data.load("mnist", manual_dir=OFFICIAL, data_dir=root), root


def test_mnist_counts(mnist):
    dataset, _ = mnist
    assert [s.image.shape for s in (dataset.train, dataset.validation, dataset.test)] == [
        (55000, 28, 28, 1),
        (5000, 28, 28, 1),
        (10000, 28, 28, 1),
    ]
    assert np.bincount(dataset.test.label).tolist() == [980, 1135, 1032, 1010, 982, 892, 958, 1028, 974, 1009]
    official = np.array([5923, 6742, 5958, 6131, 5842, 5421, 5918, 6265, 5851, 5949])
    held = np.bincount(dataset.validation.label)
    np.testing.assert_array_equal(np.bincount(dataset.train.label) + held, official)
    assert np.all(np.abs(held - official / 12) <= 1)


def test_mnist_bytes(mnist):
    dataset, _ = mnist
    folder = Path(OFFICIAL)
    files = {f: (folder / f).read_bytes() for pair in idx.SPLIT_FILES.values() for f in pair}
    image, label = idx.parse_pair(files, "test")
    np.testing.assert_array_equal(dataset.test.image, image)
    np.testing.assert_array_equal(dataset.test.label, label)
    image, label = idx.parse_pair(files, "train")
    parts = [s.image.reshape(-1, 784) for s in (dataset.train, dataset.validation)]
    train, validation = ({row.tobytes() for row in part} for part in parts)
    assert (len(train), len(validation)) == (55000, 5000)  # no two official train images are alike,
    assert not train & validation  # so this is disjointness,
    assert train | validation == {row.tobytes() for row in image.reshape(-1, 784)}  # and nothing is lost
    assert image[0, 5, 12, 0] == 3  # the famous first five, as any other reader has it
    assert label[:5].tolist() == [5, 0, 4, 1, 9]


def test_mnist_split_never_changes(mnist):
    """Every published number on MNIST depends on this split: change the hash only with a new data set name."""
    digest = hashlib.sha256()
    for split in (mnist[0].train, mnist[0].validation, mnist[0].test):
        digest.update(split.image.tobytes())
        digest.update(split.label.astype("<i4").tobytes())
    assert digest.hexdigest() == "986a864b3926dfac7a67a7ac1bed8ae096c6b971a72684c95ae68a85e2162fa9"


def test_mnist_again_needs_no_tensorflow_files_or_network(mnist):
    code = """
import socket, sys, time
def refuse(*args, **kwargs):
    raise AssertionError(f"network tried: {args}")
socket.getaddrinfo = socket.socket.connect = refuse
from saegan_jax import data
assert "tensorflow_datasets" not in sys.modules
d = data.load("mnist", data_dir=sys.argv[1])
assert len(d.train.label) == 55000
assert "tensorflow_datasets" in sys.modules
assert not {"tensorflow", "jax", "torch"} & set(sys.modules)
"""
    env = {k: v for k, v in os.environ.items() if k != idx.MANUAL_DIR_VARIABLE}
    root = Path(__file__).parents[2]
    subprocess.run([sys.executable, "-c", code, str(mnist[1])], check=True, timeout=60, env=env, cwd=root)


def test_preparing_needs_no_tensorflow(fake, tmp_path):
    code = CHILD + "\nassert 'tensorflow_datasets' in sys.modules and 'tensorflow' not in sys.modules\n"
    subprocess.run(
        [sys.executable, "-c", code, str(fake), str(tmp_path / "prepared"), ""],
        check=True,
        timeout=60,
        stdout=subprocess.DEVNULL,
        cwd=Path(__file__).parents[2],
    )
