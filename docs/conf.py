"""Settings of Sphinx, which builds the documentation: ``make docs``."""

from __future__ import annotations

import re
from typing import Any

from docutils import nodes
from docutils.utils.math.latex2mathml import tex2mathml
from sphinx.application import Sphinx
from sphinx.writers.html5 import HTML5Translator

import somvae_ext

project = "somvae_ext"
author = "the somvae_ext authors"
version = release = somvae_ext.__version__
copyright = "2026, the somvae_ext authors"

extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon", "sphinx_copybutton"]
exclude_patterns = ["results", "notebooks"]  # pictures and JSON of results.md; notebooks of the tutorials
myst_enable_extensions = ["dollarmath"]
myst_heading_anchors = 3
suppress_warnings = ["myst.header"]  # generated pages may skip a level of headings

# Annotations are in the signatures; docstrings give shapes, dtypes and errors.
autodoc_typehints = "signature"
autodoc_typehints_format = "short"
autodoc_type_aliases = {"ArrayLike": "ArrayLike"}  # which numpy spells out in several lines
autodoc_member_order = "bysource"
autodoc_default_options = {
    "members": True,
    "imported-members": True,
    "show-inheritance": True,
    # These are scikit-learn's.
    "exclude-members": "set_fit_request, set_partial_fit_request, set_predict_request, set_score_request",
}
napoleon_use_ivar = True  # otherwise the underscore at the end of an estimator's attribute begins a link
python_display_short_literal_types = True
python_maximum_signature_line_length = 100  # characters; a longer signature has a line for each argument

html_theme = "furo"
html_title = f"somvae_ext {version}"
html_static_path = ["page.css"]
html_css_files = ["page.css"]
html_math_renderer = "mathml"


def is_skipped(_app: Sphinx, _what: str, _name: str, member: Any, skip: bool, _options: Any) -> bool | None:
    """Leaves out members without a docstring, and the fields of named tuples, which their tuple describes."""
    documented = isinstance(member.__doc__, str) and not member.__doc__.startswith("Alias for field number")
    return None if documented else True


def name_aliases(
    _app: Sphinx, _what: str, _name: str, _member: Any, _options: Any, signature: str | None, result: str | None
) -> tuple[str | None, str | None]:
    """Writes ``ArrayLike``, where Sphinx has the representation of its own stand-in."""

    def shorten(text: str | None) -> str | None:
        return text and re.sub(r"TypeAliasForwardRef\('(\w+)'\)", r"\1", text)

    return shorten(signature), shorten(result)


def write_inline_formula(page: HTML5Translator, node: nodes.math) -> None:
    page.body.append(tex2mathml(node.astext()))
    raise nodes.SkipNode


def write_formula(page: HTML5Translator, node: nodes.math_block) -> None:
    page.body.append(f'<div class="math">{tex2mathml(node.astext(), as_block=True)}</div>')
    raise nodes.SkipNode


def setup(app: Sphinx) -> None:
    # Browsers render MathML themselves. Sphinx's own renderers need LaTeX, or load a script from elsewhere.
    app.add_html_math_renderer("mathml", (write_inline_formula, None), (write_formula, None))
    app.connect("autodoc-skip-member", is_skipped)
    app.connect("autodoc-process-signature", name_aliases)
