"""Command lines that cannot be read are one sentence with the option, its value and the fix."""

import contextlib
import dataclasses
import io
import re
from pathlib import Path
from typing import Literal

import pytest
import tyro
from runs.test_options import KINDS, made

from saegan_jax.errors import ConfigError, closest
from saegan_jax.runs.arguments import flags_of, peek, read_options, turned_off
from saegan_jax.runs.options import TrainGAN, TrainSAEGAN
from saegan_jax.runs.parse import parse
from saegan_jax.runs.presets import PRESETS


@dataclasses.dataclass(frozen=True)
class Part:
    rate: float = 0.001
    """Step size."""
    steps: int = 10
    """Number of steps."""
    hidden: tuple[int, ...] = (8, 8)
    """Units."""
    loss: Literal["hinge", "least_squares"] = "hinge"
    """Loss."""
    channels: Literal[1, 3, 4] | None = None
    """Channels."""

    def __post_init__(self) -> None:
        if self.rate <= 0:
            raise ConfigError("rate", self.rate, "it must be above zero.")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Whole:
    """Words."""

    run: Path
    """Run folder."""
    seed: int = 0
    """Seed."""
    resume: bool = False
    """Go on."""
    evaluate: bool = True
    """Score."""
    part: Part = dataclasses.field(default_factory=Part)

    def __post_init__(self) -> None:
        if self.seed < 0:
            raise ConfigError("seed", self.seed, "it must be zero or above.")


MORE = "saegan x --help-all lists every option."
CASES = [
    ("--seed one", "--seed = 'one' cannot be used: give a whole number, written without commas, as in --seed 0."),
    ("--seed 1.5", "--seed = '1.5' cannot be used: give a whole number"),
    ("--seed=", "--seed = '' cannot be used: give a whole number"),
    ("--part.steps 1,000", "--part.steps = '1,000' cannot be used: give a whole number, written without commas"),
    ("--part.rate 0,001", "--part.rate = '0,001' cannot be used: give a number, written with a dot and without commas"),
    ("--part.hidden 8,8", "--part.hidden = '8,8' cannot be used: give a whole number, .* as in --part.hidden 8 8"),
    ("--part.hidden 8 x --seed 1", r"--part.hidden = \('8', 'x'\) cannot be used"),
    ("--part.loss Hinge", "--part.loss = 'Hinge' cannot be used: did you mean hinge"),
    ("--part.loss zzz", "--part.loss = 'zzz' cannot be used: choose one of hinge, least_squares."),
    ("--part.channels 2", "--part.channels = '2' cannot be used: choose one of 1, 3, 4."),
    ("--seed", f"--seed = '' cannot be used: it needs a value, as in --seed 0. {MORE}"),
    ("--part.rate 0", "part.rate = 0.0 cannot be used: it must be above zero."),
    ("--seed -1", "seed = -1 cannot be used: it must be zero or above."),
    ("--sead 1", f"option = '--sead' cannot be used: there is none of this name; did you mean --seed. {MORE}"),
    ("--Seed=1", "option = '--Seed' .* did you mean --seed"),
    ("--steps 1", "option = '--steps' .* did you mean --part.steps"),
    ("--lr 1", f"option = '--lr' cannot be used: there is none of this name; {MORE}"),
    ("--part.stpes 1", "option = '--part.stpes' .* did you mean --part.steps"),
    ("-seed 1", "option = '-seed' .* did you mean --seed"),
    ("—seed 1", "option = '—seed' .* did you mean --seed"),
    ("--zzz", f"option = '--zzz' cannot be used: there is none of this name; {MORE}"),
    ("--hlep", "option = '--hlep' .* did you mean --help"),
    ("--resume true", "argument = 'true' .* --resume takes no value; leave it out, or write --no-resume."),
    ("--no-evaluate false", "argument = 'false' .* --no-evaluate takes no value; leave it out."),
    ("seed 1", "argument = 'seed' .* did you mean --seed. Options begin with two dashes."),
    ("--seed 1 2", f"argument = '2' cannot be used: no option takes it. {MORE}"),
]


@pytest.mark.parametrize(("line", "message"), CASES, ids=[line for line, _ in CASES])
def test_what_cannot_be_read_is_a_sentence(line, message, capsys):
    with pytest.raises(ConfigError) as refused:
        read_options(Whole, ["--run", "r", *line.split()], program="saegan x")
    assert re.match(message, str(refused.value)), refused.value
    assert "\n" not in str(refused.value)
    assert len(str(refused.value)) < 400
    assert capsys.readouterr() == ("", "")


def test_what_must_be_given_is_named_after_what_is_misspelt():
    with pytest.raises(ConfigError, match=r"--run = '' cannot be used: it must be given: run folder\."):
        read_options(Whole, [])
    with pytest.raises(ConfigError, match=r"option = '--rnu' .* did you mean --run"):
        read_options(Whole, ["--rnu", "r"])
    with pytest.raises(ConfigError, match=r"argument = 'r' cannot be used: did you mean --run r\?"):
        read_options(Whole, ["r"])


def test_settings_of_a_group_without_prefix_are_named_as_they_are_written():
    with pytest.raises(ConfigError, match=r"^sae\.rho = 2\.0 cannot be used"):
        parse(TrainSAEGAN, ["--sae.rho", "2"])
    with pytest.raises(ConfigError, match=r"^alignment = -1\.0 cannot be used"):
        parse(TrainSAEGAN, ["--alignment", "-1"])


def test_what_can_be_read_is():
    words = "--run a --seed 1 --seed 2 --no-evaluate --part.hidden --part.channels 3 --part.steps=1_000"
    found = read_options(Whole, words.split(), default=Whole(run=Path("b"), resume=True))
    assert found == Whole(
        run=Path("a"), seed=2, resume=True, evaluate=False, part=Part(hidden=(), channels=3, steps=1000)
    )


def test_help_all_is_help(capsys):
    with pytest.raises(SystemExit) as ended:
        read_options(Whole, ["--help-all"], program="saegan x")
    assert ended.value.code == 0
    assert "usage: saegan x" in capsys.readouterr().out


def test_without_the_hook_of_tyro_the_refusal_is_its_own(monkeypatch, capsys):
    monkeypatch.delattr(tyro._errors, "on_parse_error")
    with pytest.raises(SystemExit) as ended:
        read_options(Whole, ["--run", "r", "--sead", "1"], program="saegan x")
    assert ended.value.code == 2
    assert "--sead" in capsys.readouterr().err


@pytest.mark.parametrize("kind", KINDS)
def test_flags_are_those_of_the_help(kind, monkeypatch):
    monkeypatch.setenv("COLUMNS", "100")  # wider ones get two columns of options
    out = io.StringIO()
    default = made(KINDS[kind])
    with contextlib.redirect_stdout(out), contextlib.suppress(SystemExit):
        tyro.cli(KINDS[kind], prog="x", args=["--help"], default=default)
    shown = set(re.findall(r"(?<![\w`])--[a-z][\w.-]*(?=[ ,]|$)", "\n".join(_first_columns(out.getvalue()))))
    names = {flag.name for flag in flags_of(KINDS[kind], default)}
    switches = {turned_off(flag.name) for flag in flags_of(KINDS[kind], default) if flag.on is not None}
    assert names <= shown
    assert shown <= names | switches | {"--help"}


def _first_columns(text: str) -> list[str]:
    """The lines of a help that begin an option, without what it says of it."""
    lines = [re.sub(r"^[│ ]+", "", line) for line in text.splitlines()]
    return [re.split(r"  +", line)[0] for line in lines if line.startswith("-")]


def test_what_others_depend_on_is_read_ahead_however_it_is_written():
    words = ["--generator_input", "gaussian", "--preset=mnist-cpu", "--dataset", "--seed", "1"]
    found = vars(peek(words, **{"generator_input": "sparse", "preset": "auto", "dataset": None, "sae.variant": "kl"}))
    assert found == {"generator_input": "gaussian", "preset": "mnist-cpu", "dataset": None, "sae.variant": "kl"}
    # With underscores too another input leaves the pairs of image and code.
    hyphens, underscores = (parse(TrainSAEGAN, [f"--generator{c}input", "gaussian"]) for c in "-_")
    assert hyphens == underscores
    assert hyphens.model.discriminator == PRESETS["digits"].model.discriminator


def test_a_missing_value_of_what_is_read_ahead_is_refused_like_others():
    for name in ("--dataset", "--preset"):
        with pytest.raises(ConfigError, match=f"{name} = '' cannot be used: it needs a value"):
            parse(TrainGAN, [name])


@pytest.mark.parametrize(
    ("value", "choices", "hint"),
    [
        ("DCGAN", ("mlp", "dcgan"), "did you mean dcgan? "),
        ("mnist", ("auto", "mnist-cpu", "mnist-gpu"), "did you mean mnist-cpu? "),
        ("zzz", ("mlp", "dcgan"), ""),
        ("a", (), ""),
    ],
)
def test_the_closest_choice(value, choices, hint):
    assert closest(value, choices) == hint


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--resume=true"], "--resume takes no value"),
        (["--out", "true", "--resume", "true"], "--resume takes no value"),
        (["--sead", ""], "did you mean --seed"),
        (["--seed=x"], "a whole number"),
    ],
)
def test_words_written_with_an_equals_sign_twice_or_empty(words, said):
    with pytest.raises(ConfigError, match=said):
        read_options(TrainGAN, words)


def test_every_command_line_is_read_here():
    root = Path(__file__).resolve().parents[2]
    files = [*(root / "saegan_jax").rglob("*.py"), *(root / "experiments").glob("*.py")]
    assert [path.name for path in files if "tyro.cli(" in path.read_text()] == ["arguments.py"]
