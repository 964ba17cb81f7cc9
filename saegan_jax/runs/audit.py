"""Audit a generator: which concepts its samples leave out, invent or have too often, and which samples are copies."""

import shlex
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import tyro
from rich.console import Console
from rich.markdown import Markdown
from rich.text import Text

from saegan_jax.errors import ConfigError, require
from saegan_jax.evaluation.audit import Audit, AuditSettings, Trained, audit
from saegan_jax.report.audit import page, rows_of
from saegan_jax.report.audit_picture import audit_picture
from saegan_jax.report.table import Result
from saegan_jax.runs.checks import check_options
from saegan_jax.runs.image_sets import ImageSet, read_images
from saegan_jax.runs.program import program_name
from saegan_jax.runs.restore import autoencoder_of, restore_run
from saegan_jax.training.busy import busy
from saegan_jax.training.interchange import CONFIG_FILE, import_sae
from saegan_jax.training.members import members_of
from saegan_jax.training.run_folder import to_json

FILES = ("audit.json", "audit.md", "audit.png")


@dataclass(frozen=True, kw_only=True)
class AuditOptions:
    """Compare samples of any generator with real images, concept by concept, by the features of a sparse autoencoder.

    Half of the real images train the autoencoder; the others are held out and compared with the fakes. Reported are features
    that fakes have more or less often, or more or less strongly, fakes that no feature describes, and copies of training
    images, at a chosen false discovery rate. Writes audit.md, audit.json and audit.png.
    """

    real: str
    """Real images: folder:PATH, an .npz with the array `images`, or a data set such as mnist, whose training images are taken.
    Give the images that the generator learned from, or copies cannot be found."""
    fake: str
    """Samples of the generator, in the same forms."""
    out: Path
    """Folder to write; made if it does not exist."""
    sae: Path | None = None
    """Trained autoencoder: a run of train_sae or train_saegan, or a folder of `saegan export`; by default one is trained."""
    seed: int = 0
    """Of the split of the real images and of the autoencoder's training."""
    image_size: int | None = None
    """Pixels: images of folders are resized and cropped to squares of this side. Unset, all must have one size."""
    overwrite: bool = False
    """Replace an audit that is there."""
    settings: tyro.conf.OmitArgPrefixes[AuditSettings] = field(default_factory=AuditSettings)
    manual_dir: Path | None = None
    """Folder that holds the four official MNIST gz files, to prepare the data set without the network."""
    data_dir: Path | None = None
    """Folder of prepared data sets; by default TFDS's own, ~/tensorflow_datasets."""

    def __post_init__(self) -> None:
        check_options(self)
        for name in ("real", "fake"):
            require(bool(getattr(self, name)), name, getattr(self, name), "it is empty; name images.")
        if self.image_size is not None:
            require(self.image_size >= 1, "image_size", self.image_size, "it is a number of pixels, at least 1.")


def read_sae(path: Path) -> Trained:
    """The autoencoder of a run, of its first member, or of an exported folder.

    Raises:
      ConfigError: neither, or a run without an autoencoder of its own.
    """
    if (path / CONFIG_FILE).exists():
        return Trained(*import_sae(path))
    restored = restore_run(path)
    found = autoencoder_of(restored, members_of(restored.state, restored.n_seeds)[0])
    if found is None:
        fix = "it has no sparse autoencoder of its own; give a run of train_sae or train_saegan, or leave it out."
        raise ConfigError("sae", str(path), fix)
    return Trained(*found, restored.image_shape)


def note_of(options: AuditOptions, found: Audit) -> str:
    """What was compared, and how."""
    comparison, config, split = found.comparison, found.config, found.split
    tests = len(comparison.differences) + len(comparison.questions)
    where = (
        f"of {options.sae}, whose training images should not be among these reals"
        if options.sae is not None
        else f"trained on {len(split.train):,} other reals"
    )
    return (
        f"{comparison.n_fake:,} fakes ({options.fake}) against {comparison.n_real:,} held-out reals ({options.real}), by a "
        f"{config.variant} autoencoder of {config.d_sae} units {where}. {tests} tests, false discovery rate "
        f"{comparison.fdr:g}; intervals of level {comparison.level:.4g}. Copies are "
        f"looked for among {len(split.train):,} reals."
    )


def run(options: AuditOptions) -> None:
    """Read, check, audit, write and show."""
    console = Console()
    there = [name for name in FILES if (options.out / name).exists()]
    fix = f"it has {' and '.join(there)} already; name another folder, or add --overwrite."
    require(options.overwrite or not there, "out", str(options.out), fix)
    folders = {"manual_dir": options.manual_dir, "data_dir": options.data_dir}
    with busy(console, "reading images") as say:
        sets: dict[str, ImageSet] = {
            name: read_images(getattr(options, name), name, image_size=options.image_size, **folders)
            for name in ("real", "fake")
        }
        found = audit(
            sets["real"].images,
            sets["fake"].images,
            settings=options.settings,
            sae=None if options.sae is None else read_sae(options.sae),
            labels=sets["real"].labels,
            seed=options.seed,
            say=say,
        )
    result = Result.here(
        f"audit of {options.fake}",
        f"{program_name()} {shlex.join(sys.argv[1:])}".strip(),
        rows_of(found),
        note=note_of(options, found),
        config={"sae": to_json(found.config), "audit": to_json(options.settings), "seed": options.seed},
    )
    drawn = audit_picture(found, options.out / FILES[2], names=sets["real"].classes)
    text = page(result, found, names=sets["real"].classes, picture=FILES[2] if drawn else "")
    result.write(options.out / FILES[0], text)
    if not drawn:
        (options.out / FILES[2]).unlink(missing_ok=True)  # of an earlier audit
    console.print(Markdown(text))
    console.print(Text(f"{options.out}: {', '.join(FILES if drawn else FILES[:2])}"), soft_wrap=True)


def parse_options(arguments: Sequence[str] | None = None) -> AuditOptions:
    """The command line as options."""
    return tyro.cli(AuditOptions, args=arguments)
