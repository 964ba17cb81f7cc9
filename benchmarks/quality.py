"""How long until samples are good: ``python -m benchmarks.quality --help``.

Every arm trains seed after seed until the Frechet distance of its samples is so many times the floor (real images against real
images), by turns, so that a slow minute of the machine hits all arms. Everything that an arm needs is charged to it.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal, NamedTuple

import jax
from rich.console import Console

from benchmarks.harness import results
from benchmarks.harness.crossing import Course, Evaluation, Trainee, follow, rows_of
from benchmarks.harness.errors import OptionError, UnavailableError
from benchmarks.harness.options import matching, parse
from benchmarks.harness.session import Outcome, Part, command, say_line, work_through
from benchmarks.harness.timing import Say
from benchmarks.peers.quality import NAMES, Theirs, agreed, not_here
from benchmarks.peers.registry import PEERS, prepare
from benchmarks.workloads.quality import OURS, Ours, Recipe, flops_of, peer_work, plain_arm, recipe, scorer
from benchmarks.workloads.scan import examples
from saegan_jax.data import DataError, Dataset, load
from saegan_jax.errors import ConfigError
from saegan_jax.evaluation.features import FeatureNetwork, load_feature_network

Start = Callable[[int], Trainee]


@dataclass(frozen=True, kw_only=True)
class Options:
    """Train until samples reach a quality, here and in PyTorch, and say after how many seconds and steps they do."""

    dataset: Literal["mnist", "digits"] = "mnist"
    """The data set; the settings are those of its preset."""
    only: str = "*"
    """Shell pattern of the arms, for instance 'plain*'."""
    seeds: int = 3
    """Trainings of every arm."""
    marks: tuple[float, ...] = (10.0, 6.0, 4.0)
    """Frechet distances to reach, as multiples of the floor."""
    every: int = 100
    """Steps between evaluations: the resolution of the result."""
    most_steps: int | None = None
    """After so many steps what is not reached counts as needing more; a multiple of --every; by default those of the preset."""
    peers: bool = True
    """Train PyTorch's arms, where it is installed."""
    quick: bool = False
    """A smoke run: one seed, two evaluations 20 steps apart."""
    out: Path | None = None
    """JSON to write, table and plot beside it; a complete run of MNIST has benchmarks/results/quality_<device>.json."""


def parse_options(arguments: Sequence[str] | None = None) -> Options:
    """The command line as options.

    Raises:
      OptionError: a value that cannot be used.
    """
    quick = {"seeds": 1, "every": 20, "most_steps": 40}
    options = parse(Options, arguments, counts=("seeds", "every", "most_steps"), numbers=(), quick=quick)
    if not options.marks:
        raise OptionError("--marks", "()", "name one or more multiples of the floor.")
    for mark in options.marks:
        if not 0 < mark < math.inf:
            raise OptionError("--marks", mark, "each must be a finite number above zero.")
    steps = most_steps(options)
    if steps % options.every:
        fix = f"evaluations are --every {options.every} steps; use a multiple of it."
        raise OptionError("--most-steps", steps, fix)
    matching("--only", options.only, arms_of(options))
    return options


def most_steps(options: Options) -> int:
    """Steps after which an arm is stopped."""
    return options.most_steps or recipe(options.dataset).plain.steps


def arms_of(options: Options) -> dict[str, str]:
    """Names of the arms that there are, ours first."""
    return {name: name for name in (*OURS, *(NAMES if options.peers else ()))}


class Setting(NamedTuple):
    """What all trainings of a run share.

    Attributes:
      options, recipe: of the run.
      dataset, network: the images, and the classifier in whose features samples are scored.
      score: of samples.
      made: by arm, what makes its trainings, kept for its later seeds.
    """

    options: Options
    recipe: Recipe
    dataset: Dataset
    network: FeatureNetwork
    score: Callable[[Any], float]
    made: dict[str, Any]

    @property
    def samples(self) -> int:
        """Of an evaluation: as many as there are validation images, and no more than training images."""
        return min(len(self.dataset.validation.label), len(self.dataset.train.label))


class Made(NamedTuple):
    """What makes an arm's trainings, its operations, and how well it agrees with ours."""

    start: Start
    flops: tuple[float, float] | None
    agreement: list[dict[str, Any]]


def _make_ours(arm: str, setting: Setting) -> Made:
    entry = OURS[arm]
    images = examples(setting.dataset.train.image)
    programs = entry.programs(entry.settings(setting.recipe), images, every=setting.options.every)
    return Made(lambda seed: Ours(programs, seed=seed), flops_of(entry.arm(setting.recipe), setting.dataset), [])


def _make_theirs(arm: str, setting: Setting) -> Made:
    """The same training as the plain GAN's, so its operations are those too."""
    config, images = setting.recipe.plain, setting.dataset.train.image
    work, record = peer_work(setting.dataset, config), PEERS[arm]
    agreement = agreed(work, record, images)
    return Made(
        lambda seed: Theirs(work, record, images, seed=seed),
        flops_of(plain_arm(setting.recipe), setting.dataset),
        agreement,
    )


def make(arm: str, setting: Setting) -> Made:
    """Compile or check an arm."""
    return _make_ours(arm, setting) if arm in OURS else _make_theirs(arm, setting)


def train(
    arm: str, seed: int, setting: Setting, tell: Callable[[str], None], make: Callable[[str, Setting], Made], say: Say
) -> Part:
    """One training's part of the result."""
    options, agreement = setting.options, []
    if arm not in setting.made:
        say("compiling")
        try:
            setting.made[arm] = make(arm, setting)
        except UnavailableError as error:  # nor can it be for another seed
            setting.made[arm] = error
            return {"skipped": [{"work": options.dataset, "arm": arm, "reason": str(error)}]}
        agreement = setting.made[arm].agreement
    if isinstance(setting.made[arm], UnavailableError):
        return {}
    say("what comes before the first step")
    trainee = setting.made[arm].start(seed)

    def told(evaluation: Evaluation) -> None:
        say(f"{evaluation.step:,} steps")
        tell(
            f"  {arm}, seed {seed}: {evaluation.step:,} steps, {evaluation.seconds:.1f} s, {evaluation.ratio:.3g} floors"
        )

    try:
        evaluations, other = follow(
            trainee,
            setting.score,
            marks=options.marks,
            every=options.every,
            most_steps=most_steps(options),
            n=setting.samples,
            tell=told,
        )
    finally:
        trainee.close()
    flops = setting.made[arm].flops
    course = Course(options.dataset, arm, seed, trainee.before, trainee.compile_s, evaluations, other, flops)
    return {"rows": rows_of([course], options.marks), "courses": [course], "agreement": agreement}


def open_setting(options: Options) -> Setting:
    """Load the data, and train or load the classifier in whose features samples are scored.

    Raises:
      OptionError: the data set is not to be had.
    """
    try:
        dataset = load(options.dataset)
        network = load_feature_network(dataset)
    except (DataError, ConfigError) as error:
        raise OptionError("--dataset", options.dataset, str(error)) from error
    return Setting(options, recipe(options.dataset), dataset, network, scorer(network, dataset), {})


def _settings(setting: Setting) -> dict[str, Any]:
    options = setting.options
    config: Any = jax.config  # whose options JAX defines as it goes
    return {
        "dataset": options.dataset,
        "seeds": options.seeds,
        "marks": sorted(set(options.marks), reverse=True),
        "every": options.every,
        "most_steps": most_steps(options),
        "samples": setting.samples,
        "feature_hash": setting.network.hash,
        "programs_kept": bool(config.jax_compilation_cache_dir and config.jax_enable_compilation_cache),
        "quick": options.quick,
    }


def _together(outcome: Outcome, marks: Sequence[float]) -> Outcome:
    """The outcome with the rows of all seeds, in the order of the arms, and courses as a result keeps them."""
    courses: list[Course] = outcome.parts.get("courses", [])
    rows, kept = rows_of(courses, marks), [course.as_json() for course in courses]
    return outcome._replace(parts={**outcome.parts, "rows": rows, "courses": kept})


def run(
    options: Options,
    *,
    setting: Callable[[Options], Setting] = open_setting,
    make: Callable[[str, Setting], Made] = make,
) -> None:
    """Train every arm that the options ask for, and write what was found."""
    console, chosen = Console(), matching("--only", options.only, arms_of(options))
    absent: Mapping[str, str] = {
        arm: why for arm in chosen if arm in PEERS and (why := not_here(arm, quick=options.quick))
    }
    for arm, reason in absent.items():
        say_line(console, f"{arm} left out: {reason}")
    if options.peers:
        prepare()
    opened, tell = setting(options), partial(say_line, console)
    jobs = {
        f"{arm}, seed {seed}": partial(train, arm, seed, opened, tell, make)
        for seed in range(options.seeds)
        for arm in chosen
        if arm not in absent
    }
    outcome = _together(work_through(jobs, console), options.marks)
    head = results.heading(
        f"Time to a quality on {options.dataset}",
        "benchmarks.quality",
        report="quality",
        settings=_settings(opened),
        packages=(*results.PACKAGES, *(("torch",) if options.peers else ())),
    )
    result = results.assemble(head, outcome, ("courses", "agreement", "skipped"))
    result["skipped"] = [{"work": "all", "arm": arm, "reason": why} for arm, why in absent.items()] + result["skipped"]
    whole = options == Options(out=options.out)
    results.deliver(result, outcome, console, out=options.out, name=results.default_name("quality"), whole=whole)


if __name__ == "__main__":
    command(lambda: run(parse_options()))
