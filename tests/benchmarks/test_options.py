"""Options that cannot be used end a command with code 2 and one paragraph, before anything is timed."""

import json
import shutil

import pytest

from benchmarks import bounds, feeding, forms, run, scaling
from benchmarks.harness import session
from benchmarks.harness.results import RESULTS
from benchmarks.harness.session import command

MODULES = {"run": run, "bounds": bounds, "scaling": scaling, "feeding": feeding, "forms": forms}


@pytest.fixture(autouse=True)
def nothing_is_timed(monkeypatch, tmp_path):
    for module in MODULES.values():
        for name in ("survey", "work_through"):
            if hasattr(module, name):
                monkeypatch.setattr(module, name, lambda *a, **k: pytest.fail("timed in spite of a bad option"))
    monkeypatch.chdir(tmp_path)


def refused(capsys, name, *arguments):
    """What a command says of options that it refuses."""
    module = MODULES[name]
    with pytest.raises(SystemExit) as ended:
        command(lambda: module.run(module.parse_options([str(a) for a in arguments])))
    captured = capsys.readouterr()
    assert ended.value.code == 2
    assert captured.err.startswith("error: --")
    assert captured.err.count("\n") == 1
    assert "Traceback" not in captured.err + captured.out
    return captured.err


@pytest.mark.parametrize("name", MODULES)
@pytest.mark.parametrize("value", ["inf", "nan", "0", "-1"])
def test_turns_have_a_finite_length(capsys, name, value):
    message = refused(capsys, name, "--seconds", value)
    assert "--seconds" in message
    assert "a finite number above zero" in message


@pytest.mark.parametrize(
    ("name", "option"),
    [
        *((name, "--repeats") for name in MODULES),
        ("run", "--seeds"),
        *(("bounds", option) for option in ("--seeds", "--steps", "--images", "--top")),
    ],
)
def test_counts_start_at_one(capsys, name, option):
    assert f"{option} 0 cannot be used: it must be 1 or more." in refused(capsys, name, option, 0)


@pytest.mark.parametrize("option", ["--budget", "--memory"])
@pytest.mark.parametrize("value", ["0", "nan", "inf"])
def test_limits_of_growth_are_finite(capsys, option, value):
    assert f"{option} {float(value)} cannot be used" in refused(capsys, "scaling", option, value)


def test_some_axis_has_to_be_named(capsys):
    assert "name one or more of batch, width, d_sae, seeds" in refused(capsys, "scaling", "--axes")


@pytest.mark.parametrize(
    ("name", "option"), [("run", "--only"), ("feeding", "--only"), ("forms", "--only"), ("bounds", "--work")]
)
def test_a_pattern_has_to_match(capsys, name, option):
    assert f"{option} 'nothing*' cannot be used: it matches nothing; there are" in refused(
        capsys, name, option, "nothing*"
    )


@pytest.mark.parametrize("option", ["--compare", "--table"])
@pytest.mark.parametrize(
    ("content", "says"),
    [
        ("folder", "it is a folder"),
        (None, "there is no such file"),
        (b"not json", "it is no JSON"),
        (b"\xff\xfe\x00", "it is no JSON"),
        (b"[1, 2]", "it holds no object"),
        (b"{}", "it lacks name, command"),
        ("foreign", "it lacks settings"),
        ("kind", "names no kind of result"),
        ("row", "a row lacks unit"),
        ("rows", "its table cannot be made"),
    ],
)
def test_old_results_have_to_be_results(capsys, tmp_path, option, content, says):
    path = tmp_path / "old.json"
    good = json.loads((RESULTS / "steps_64_cpu.json").read_text())
    first = {key: value for key, value in good["rows"][0].items() if key != "unit"}
    changed = {
        "foreign": {key: value for key, value in good.items() if key != "settings"},
        "kind": {**good, "report": "energies"},
        "row": {**good, "rows": [first, *good["rows"]]},
        "rows": {**good, "rows": [{**good["rows"][0], "values": 3}]},
    }
    if content == "folder":
        path.mkdir()
    elif content is not None:
        path.write_bytes(content if isinstance(content, bytes) else json.dumps(changed[content]).encode())
    message = refused(capsys, "run", option, path)
    assert says in message
    assert f"{option} {path}" in message


@pytest.mark.parametrize("name", MODULES)
def test_a_result_goes_into_a_json_file(capsys, tmp_path, name):
    (tmp_path / "folder.json").mkdir()
    (tmp_path / "file").write_text("")
    assert "ends in .json" in refused(capsys, name, "--out", tmp_path / "table.md")
    assert "it is a folder" in refused(capsys, name, "--out", tmp_path / "folder.json")
    assert f"{tmp_path / 'file'} is a file" in refused(capsys, name, "--out", tmp_path / "file" / "new" / "x.json")


def test_good_options_are_parsed_and_none_is_touched(tmp_path, capsys):
    options = run.parse_options(["--repeats", "3", "--seconds", "0.5", "--out", str(tmp_path / "new" / "x.json")])
    assert (options.repeats, options.seconds, options.seeds, options.only) == (3, 0.5, 8, "*")
    assert (run.parse_options(["--quick"]).repeats, run.parse_options(["--quick"]).seconds) == (2, 0.05)
    assert scaling.parse_options(["--axes", "width", "seeds"]).axes == ("width", "seeds")
    assert not list(tmp_path.iterdir())
    path = shutil.copy(RESULTS / "steps_64_cpu.json", tmp_path / "old.json")
    run.run(run.parse_options(["--table", str(path)]))
    assert "## gan_dcgan_64x64x3" in capsys.readouterr().out


def test_other_errors_keep_their_codes(capsys):
    def disagree():
        raise session.DisagreementError("they differ")

    def stopped():
        raise session.Stopped(15)

    with pytest.raises(SystemExit, match="they differ"):
        command(disagree)
    with pytest.raises(SystemExit) as ended:
        command(stopped)
    assert ended.value.code == 143
    assert capsys.readouterr().err == "Stopped by SIGTERM.\n"
    with pytest.raises(ZeroDivisionError):
        command(lambda: 1 / 0)
