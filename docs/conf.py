"""How Sphinx makes the site out of this folder: `make docs`."""

import inspect
import os
import re
import sys
from pathlib import Path
from typing import Any

from sphinx.application import Sphinx

import pgmpf_tf

sys.path.insert(0, str(Path(__file__).parent))
import support

os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"  # of the kernels that run the guides

project = "pgmpf_tf"
release = version = pgmpf_tf.__version__
copyright = "the authors of pgmpf_tf; Apache License 2.0"
html_theme = "furo"
html_title = f"pgmpf_tf {release}"
extensions = ["myst_nb", "sphinx.ext.autodoc", "sphinx.ext.napoleon"]
exclude_patterns = ["conf.py", "picture.py", "support.py"]

myst_enable_extensions = ["dollarmath", "substitution"]
myst_heading_anchors = 3
myst_substitutions = {
    "architectures": support.table(),
    "keras_hub": support.networks("keras_hub"),
    "written": support.networks("written"),
    "features": support.features(),
}

# The guides are programs in the percent format; each build runs them.
nb_custom_formats = {".py": ["jupytext.reads", {"fmt": "py:percent"}]}
nb_execution_mode = "force"
nb_execution_in_temp = True
nb_execution_raise_on_error = True
nb_execution_timeout = 300
nb_merge_streams = True
nb_output_stderr = "remove"

autodoc_member_order = "bysource"
autodoc_preserve_defaults = True
napoleon_numpy_docstring = False
napoleon_use_ivar = True
napoleon_use_rtype = False
python_maximum_signature_line_length = 88

# Users type `pgmpf_tf.criteria.L1`, wherever the file is.
for name, module in vars(pgmpf_tf).copy().items():
    if name in pgmpf_tf.__all__ and inspect.ismodule(module):
        sys.modules[f"pgmpf_tf.{name}"] = module
        for entry in vars(module).values():
            if getattr(entry, "__module__", None) == module.__name__:
                entry.__module__ = f"pgmpf_tf.{name}"


def _offer_notebook(app: Sphinx, page: str, source: list[str]) -> None:
    """Puts a link to the executed notebook below the title of a guide."""
    if page.startswith("guides/"):
        link = f"# {{nb-download}}`As a notebook <{Path(page).name}.ipynb>`"
        source[0] = re.sub(r"(?m)^(# # .*)$", rf"\1\n#\n{link}", source[0], count=1)


def _from_markdown(
    app: Sphinx, what: str, name: str, value: Any, options: Any, lines: list[str]
) -> None:
    """Docstrings write code as Markdown does; Sphinx reads reStructuredText."""
    text = "\n".join(lines)
    text = re.sub(
        r"(?m)^```python\n((?:.*\n)*?)```$",
        lambda found: (
            ".. code-block:: python\n\n" + re.sub("(?m)^", "    ", found.group(1))
        ),
        text,
    )
    text = re.sub(r"(?<![`:])`([^`]+)`(?!`)", r"``\1``\\ ", text)
    lines[:] = text.split("\n")


def setup(app: Sphinx) -> None:
    """Connects the two functions above."""
    app.connect("source-read", _offer_notebook)
    # Before napoleon, which passes on what it does not know.
    app.connect("autodoc-process-docstring", _from_markdown, priority=400)
