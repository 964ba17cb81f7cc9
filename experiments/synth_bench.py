"""Do autoencoders find features that are known? Their directions and activity in a synthetic world of trees of features."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from rich.console import Console
from rich.markdown import Markdown
from rich.text import Text

from saegan_jax.errors import require, require_choice
from saegan_jax.report.results import require_json
from saegan_jax.report.synth_bench import rows_of, tables
from saegan_jax.report.table import Result, seeds_text
from saegan_jax.runs.arguments import read_options
from saegan_jax.runs.checks import check_options
from saegan_jax.runs.parts import kept_or_made
from saegan_jax.runs.program import experiment_command, main
from saegan_jax.runs.synth_bench import ARMS, PUBLISHED, SIZES, Study, asked_of, chance, make_world, run_arm, true_l0


@dataclass(frozen=True, kw_only=True)
class SynthBench:
    """Train sparse autoencoders on activations whose features are known, and score how well they find these, after
    SynthSAEBench; a dense autoencoder and an untrained one are the controls.

    Every step draws fresh activations. Finished arms are kept in --out, so that the same command continues after a stop.
    """

    size: str = "small"
    """small: 512 features in 64 dimensions, 128 units, for a CPU. 16k: the published size, 16,384 features in 768 dimensions,
    4,096 units and 200 million examples, for an accelerator."""
    arms: tuple[str, ...] = tuple(ARMS)
    """Which to train: any of the default ones."""
    steps: int | None = None
    """Training steps, in place of the size's own; for a quick look."""
    seed: int = 0
    """First seed."""
    seeds: int = 5
    """Members of every arm, each on draws of its own from one world."""
    out: Path | None = None
    """Folder of the finished arms; by default runs/synth-<size>."""
    results: Path | None = None
    """JSON to write, its Markdown beside it; by default results.json in --out."""

    def __post_init__(self) -> None:
        check_options(self)
        require_choice("size", self.size, tuple(SIZES))
        for arm in self.arms:
            require_choice("arms", arm, tuple(ARMS))
        require(self.steps is None or self.steps >= 1, "steps", self.steps, "take at least one step.")
        require_json(self.results)

    @property
    def study(self) -> Study:
        """What all arms have in common."""
        return Study(size=self.size, steps=self.steps, seed=self.seed, seeds=self.seeds)


def note_of(study: Study, l0: tuple[float, float]) -> str:
    """What the numbers are of."""
    size = study.of
    of, same = size.world, study.size == "16k" and study.steps is None
    compared = (
        "Published: at this size and L0 25; the published world and its code are others."
        if same
        else "The published numbers of SynthSAEBench-16k are of another size and a hundred times as many examples or more: not "
        "comparable."
    )
    return (
        f"{seeds_text(study.seeds)}, each on draws of its own from one world. {of.features:,} features in {of.d} dimensions, "
        f"of which {sum(of.generations):,} in {of.roots} trees; {l0[0]:.1f} active in an example, {l0[1]:.1f} of them among "
        f"the {size.d_sae:,} commonest. {size.d_sae:,} units, {size.steps:,} steps of batch {size.batch_size:,}; "
        f"k = {size.k}, and penalties chosen for an L0 near it on validation draws, without features, with a seed of their "
        f"own; {size.scored:,} test draws. {compared}"
    )


def run(options: SynthBench) -> None:
    """Train what is missing, then write and show the table."""
    console, study = Console(), options.study
    out = options.out or Path("runs") / f"synth-{options.size}"
    made, parts = make_world(study.of), {}
    for arm in options.arms:
        path = out / f"{arm.replace(' ', '_')}.json"
        parts[arm] = kept_or_made(path, asked_of(study), partial(run_arm, arm, study, made, console), console)
    rows = rows_of(
        {arm: part["values"] for arm, part in parts.items()},
        {arm: part["settings"] for arm, part in parts.items()},
        chance=chance(study.of, made),
        published=PUBLISHED if study.size == "16k" and study.steps is None else {},
    )
    note = note_of(study, true_l0(study.of, made))
    result = Result.here(
        "features of a synthetic world, found again", experiment_command("synth_bench"), rows, note=note
    )
    path = options.results or out / "results.json"
    result.write(path, tables(result))
    console.print(Markdown(tables(result)))
    console.print(Text(f"{path} and its table are written."), soft_wrap=True)


def parse_options(arguments: Sequence[str] | None = None) -> SynthBench:
    """The command line as options."""
    return read_options(SynthBench, arguments)


if __name__ == "__main__":
    main(lambda: run(parse_options()))
