"""Where PyTorch computes and how it is set up, and its matrix products."""

import warnings

import jax
import torch

from benchmarks.harness.errors import UnavailableError
from benchmarks.harness.results import cores
from benchmarks.harness.system import reduced_products
from benchmarks.harness.timing import Arm


def computes_here() -> bool:
    """Whether PyTorch computes where JAX does."""
    platform = jax.default_backend()
    return platform == "cpu" or (platform in ("gpu", "cuda") and torch.cuda.is_available())


def device() -> torch.device:
    """Where JAX computes.

    Raises:
      UnavailableError: PyTorch cannot compute there.
    """
    platform = jax.default_backend()
    if not computes_here():
        raise UnavailableError(
            f"ours runs on {platform}, which this PyTorch does not find; set JAX_PLATFORMS=cpu to compare on the CPU."
        )
    return torch.device("cpu" if platform == "cpu" else "cuda")


def configure() -> None:
    """As many threads as XLA has, float32 products as exact as XLA's, and no kernels compiled by an earlier run."""
    import torch._inductor.config

    warnings.filterwarnings("ignore", message="dynamo_pgo force disabled")  # says that caches are off
    torch.set_num_threads(cores())
    torch.set_float32_matmul_precision("high" if reduced_products() else "highest")
    torch.backends.cudnn.allow_tf32 = reduced_products()
    torch._inductor.config.force_disable_caches = True
    torch.manual_seed(0)


def product(shape: tuple[int, int, int], *, bf16: bool = False) -> Arm:
    """The product ``(m, k) x (k, n)`` in PyTorch, float32 or bf16: 2 m k n operations a call."""
    m, k, n = shape
    dtype = torch.bfloat16 if bf16 else torch.float32
    a, b, out = (torch.randn(size, device=device()).to(dtype) for size in ((m, k), (k, n), (m, n)))

    def run(calls: int) -> None:
        for _ in range(calls):
            torch.mm(a, b, out=out)
        finish()

    name, flops = f"PyTorch {'bf16 ' if bf16 else ''}{m}x{k}x{n}", 2.0 * m * k * n
    return Arm(name, run, 1, flops, dtype="bfloat16" if bf16 else "float32")


def finish() -> None:
    """Wait for the GPU, if there is one."""
    if torch.cuda.is_available():
        torch.cuda.synchronize()
