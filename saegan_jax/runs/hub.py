"""A model hub, by the package huggingface_hub, which is imported only where it is used and has the user's login."""

import importlib
import re
from pathlib import Path
from typing import Any

from saegan_jax.errors import ConfigError, require
from saegan_jax.training.generators import GENERATOR_CONFIG, GENERATOR_WEIGHTS
from saegan_jax.training.interchange import CONFIG_FILE, WEIGHTS_FILE

CARD = "README.md"
SHARED = (GENERATOR_CONFIG, GENERATOR_WEIGHTS, CONFIG_FILE, WEIGHTS_FILE, CARD)
"""Files that are shared; whatever else lies in a folder stays there."""
NAME = re.compile(r"[A-Za-z0-9][\w.-]*(/[A-Za-z0-9][\w.-]*)?")


def check_name(field: str, name: str) -> None:
    """Raise :class:`ConfigError` for what cannot be the name of a repository."""
    fix = "it is no name of a repository; give OWNER/NAME, of letters, digits, '-', '_' and '.'."
    require(NAME.fullmatch(name) is not None, field, name, fix)


def hub(field: str, name: str) -> Any:
    """The package.

    Raises:
      ConfigError: it is not installed.
    """
    try:
        return importlib.import_module("huggingface_hub")
    except ImportError:
        fix = "it needs the package huggingface_hub: pip install 'saegan_jax[hub]'."
        raise ConfigError(field, name, fix) from None


def upload(folder: Path, name: str, *, private: bool) -> None:
    """Make the repository, unless it is there, and upload the shared files of ``folder``.

    Raises:
      ConfigError: the package is missing.
      OSError: what the hub refuses.
    """
    api = hub("repo", name).HfApi()
    api.create_repo(repo_id=name, private=private, exist_ok=True)
    api.upload_folder(repo_id=name, folder_path=str(folder), allow_patterns=list(SHARED))


def download(name: str, folder: Path) -> None:
    """Download the shared files of a repository into ``folder``.

    Raises:
      ConfigError: the package is missing.
      OSError: what the hub refuses.
    """
    hub("name", name).snapshot_download(repo_id=name, local_dir=str(folder), allow_patterns=list(SHARED))
