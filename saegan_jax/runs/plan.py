"""`saegan train ... --plan v5e:2x4`: what a training would take on TPUs that are not there; nothing is trained or written."""

from collections.abc import Callable, Mapping
from typing import Any

from rich.console import Console

from saegan_jax.runs.options import TrainOptions
from saegan_jax.runs.registry import TRAININGS
from saegan_jax.training.aot import ESTIMATES, Forecast, compiler_versions, forecast_system, stay_on_host, topology
from saegan_jax.training.busy import busy
from saegan_jax.training.estimate import CHIPS
from saegan_jax.training.sharding import open_mesh

ONE = "data=1"


def show_plan(options: TrainOptions, data: Callable[[], Any], *, model: Any, phases: Mapping[str, Any]) -> None:
    """Compile a step of every phase for the slice that ``options.plan`` names, and print what the compiler says.

    Args:
      options: of the training.
      data: loads its data, a :class:`saegan_jax.runs.session.RunData`.
      model: settings of what is trained.
      phases: settings of each training phase.

    Raises:
      ConfigError: a slice that there is not, a mesh that does not fit it, or no compiler for TPUs.
    """
    assert options.plan is not None
    stay_on_host()
    devices, chip = topology("plan", options.plan), options.plan.partition(":")[0]
    sizes = {name: settings.batch_size for name, settings in phases.items()}
    text = ONE if options.mesh == "none" else options.mesh
    mesh = open_mesh(text, n_seeds=options.seeds, batch_sizes=sizes, devices=devices)
    assert mesh is not None
    found = data()
    result = next((one.phase for one in TRAININGS.values() if isinstance(options, one.options)), "")
    console, axes = Console(), ", ".join(f"{name}={size}" for name, size in mesh.shape.items())
    versions = ", ".join(f"{name} {number}" for name, number in compiler_versions().items())
    say(console, f"{options.plan}, mesh {axes}; {versions}. {ESTIMATES} Nothing is trained or written.")
    for name, settings in phases.items():
        found.check_phase(name, settings)
        with busy(console, f"compiling {name}, which may take minutes"):
            told = forecast_system(
                model if name == result else settings,
                image_shape=found.image_shape,
                batch_size=settings.batch_size,
                chip=chip,
                mesh=mesh,
                n_seeds=options.seeds,
                n_classes=found.n_classes or 0,
            )
        say(console, f"{name}: {described(told)}")


def described(told: Forecast) -> str:
    """A forecast in one paragraph."""
    if told.too_large:
        fix = "use a smaller batch, fewer units or more chips along data or model."
        return f"does not fit: the compiler counts {told.too_large}; {fix}"
    memory = f"{size(told.arguments)} of state and batch and {size(told.temporaries)} of temporaries"
    sent = ", ".join(f"{count:g} {kind}" for kind, count in told.estimate.collectives.items())
    wire = f"{sent}, {size(told.estimate.sent)} sent by each chip" if sent else "nothing sent between chips"
    left_out = f" Left out of the time: {'; '.join(told.caveats)}." if told.caveats else ""
    return (
        f"fits: each chip holds {memory}, of {size(CHIPS[told.chip].memory)}. An estimated {told.ms:,.3g} ms a step, "
        f"sending not counted: {told.share:.1%} of the peak in bfloat16; {wire}.{left_out}"
    )


def size(n: float) -> str:
    """Bytes as text."""
    return f"{n / 2**30:,.1f} GiB" if n >= 2**30 else f"{n / 2**20:,.3g} MiB"


def say(console: Console, text: str) -> None:
    """Print a paragraph as one line, as it is."""
    console.print(text, markup=False, highlight=False, soft_wrap=True)
