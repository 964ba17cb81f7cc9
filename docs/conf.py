"""The documentation as a static site: `sphinx-build -c docs -W . docs/_build/site` from the root of the repository.

The root is Sphinx's source folder, so that pages link to results, examples and one another as they do in the repository.
"""

import json
import os
from importlib.metadata import version as version_of
from pathlib import Path
from typing import Any

# Notebooks run in processes of their own; without this JAX says that it looks for an accelerator in vain.
os.environ.setdefault("JAX_PLATFORMS", "cpu")

ROOT = Path(__file__).parents[1]

project = "saegan_jax"
author = "the saegan_jax authors"
version = release = version_of("saegan_jax")

extensions = [
    "myst_nb",
    "sphinx.ext.autodoc",
    "sphinx.ext.autosummary",
    "sphinx.ext.napoleon",
    "sphinx.ext.viewcode",
]
root_doc = "docs/site"
include_patterns = ["docs/**", "experiments/results/**", "benchmarks/results/**", "CONTRIBUTING.md", "CHANGELOG.md"]
exclude_patterns = ["docs/_build/**"]

myst_enable_extensions = ["dollarmath", "fieldlist"]
myst_heading_anchors = 4

autodoc_default_options = {"members": True, "show-inheritance": False}
autodoc_member_order = "bysource"
# Shapes and dtypes are in the text; ArrayLike would be spelt out, in ten words for every argument.
autodoc_typehints = "none"
autodoc_preserve_defaults = True
napoleon_google_docstring = True
napoleon_numpy_docstring = False
napoleon_use_ivar = True
napoleon_custom_sections = ["Source"]
# Docstrings write shapes and formulas between double backquotes, and names of other functions between single ones.
default_role = "code"

# Result tables are parts of pages, and begin with a line of their origin or with a heading of the second level.
suppress_warnings = ["myst.header"]

# Notebooks are Markdown without outputs, and run whenever the site is built; one that fails, or warns, fails the build.
nb_execution_mode = "force"
nb_execution_raise_on_error = True
nb_execution_timeout = 300
nb_output_stderr = "remove-warn"
nb_render_markdown_format = "myst"

html_theme = "furo"
html_title = "saegan_jax"
html_copy_source = False
html_show_copyright = False


def skip_member(app: Any, what: str, name: str, item: Any, skip: bool, options: Any) -> bool | None:
    """Fields of records are described by their class; what Python says of them is noise."""
    return True if str(getattr(item, "__doc__", "")).startswith("Alias for field number") else None


def add_title(app: Any, page: str, source: list[str]) -> None:
    """Tables of results have none of their own: it is the name in their record."""
    if "/results/" in page and not source[0].lstrip().startswith("# "):
        record = (ROOT / page.removesuffix("-all")).with_suffix(".json")
        title = f"{json.loads(record.read_text())['name']}: {Path(page).name}" if record.exists() else Path(page).name
        source[0] = f"# {title}\n\n{source[0]}"


def setup(app: Any) -> None:
    """Hooks of the build."""
    app.connect("autodoc-skip-member", skip_member)
    app.connect("source-read", add_title)
