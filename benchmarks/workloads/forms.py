"""Forms of the same work that are timed by turns, for the choices that a device decides: which is faster there, by how much.

Claims: native convolutions are faster on accelerators and the matrix form on CPUs; members of an ensemble cost less than one
each where a step leaves the device idle; bfloat16 pays for large networks alone.
"""

from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from typing import NamedTuple

from benchmarks.workloads.planned import COLOUR, LARGE, R1_R2, VECTORS, WIDE, K, Planned, of_gan, selection, system
from benchmarks.workloads.planned import WORKS as PLANNED
from benchmarks.workloads.selection import by_approximation

WORKS: Mapping[str, Callable[[], Planned]] = {
    **PLANNED,
    "select_approximate": lambda: selection(partial(by_approximation, k=K)),
    "gan_rpgan_native": lambda: of_gan(replace(R1_R2, conv_form="native")),
    "gan_rpgan_8_seeds_native": lambda: of_gan(replace(R1_R2, conv_form="native"), n_seeds=8),
    "gan_64x64_native": lambda: of_gan(replace(WIDE, conv_form="native"), image_shape=COLOUR),
    "sae_topk_large_sparse": lambda: system(replace(LARGE, sparse_decoder=True), batch_size=4096, image_shape=VECTORS),
}


class Contrast(NamedTuple):
    """Works that are compared.

    Attributes:
      works: of :data:`WORKS`; the others are compared with the first.
      steps: in one program on an accelerator.
      large: whether a CPU cannot do it in a useful time.
      unit: of the rates.
    """

    works: tuple[str, ...]
    steps: int = 50
    large: bool = False
    unit: str = "steps/s"


CONTRASTS: Mapping[str, Contrast] = {
    "convolutions_28": Contrast(("gan_rpgan_matrix", "gan_rpgan_native")),
    "convolutions_28_8_seeds": Contrast(("gan_rpgan_8_seeds_matrix", "gan_rpgan_8_seeds_native"), 20),
    "convolutions_64": Contrast(("gan_64x64_matrix", "gan_64x64_native"), 10),
    "precision_28": Contrast(("gan_rpgan", "gan_rpgan_bfloat16")),
    "precision_64": Contrast(("gan_64x64", "gan_64x64_bfloat16"), 10),
    "seeds_sae": Contrast(("sae_b256", "sae_b256_8_seeds"), 200),
    "seeds_gan": Contrast(("gan_rpgan", "gan_rpgan_8_seeds")),
    "topk": Contrast(("select_sort", "select_halving", "select_digits", "select_approximate"), 1, unit="choices/s"),
    "dictionary": Contrast(("sae_topk_large", "sae_topk_large_without_auxk", "sae_topk_large_sparse"), 4, large=True),
}
