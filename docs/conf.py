"""Settings of Sphinx, which builds the documentation: ``make docs``."""

from __future__ import annotations

from typing import Any

from sphinx.application import Sphinx

import somvae_ext

project = "somvae_ext"
author = "the somvae_ext authors"
version = release = somvae_ext.__version__
copyright = "2026, the somvae_ext authors"

extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.mathjax", "sphinx.ext.napoleon", "sphinx_copybutton"]
exclude_patterns = ["results", "notebooks"]  # pictures and JSON of results.md; notebooks of the tutorials
myst_enable_extensions = ["dollarmath"]
myst_heading_anchors = 3
suppress_warnings = ["myst.header"]  # generated pages may skip a level of headings

# Annotations are in the signatures; docstrings give shapes, dtypes and errors.
autodoc_typehints = "signature"
autodoc_typehints_format = "short"
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

html_theme = "furo"
html_title = f"somvae_ext {version}"
html_static_path: list[str] = []


def is_skipped(_app: Sphinx, _what: str, _name: str, member: Any, skip: bool, _options: Any) -> bool | None:
    """Whether a member is left out: the fields of a named tuple are described with the tuple."""
    documented = isinstance(member.__doc__, str) and not member.__doc__.startswith("Alias for field number")
    return None if documented else True


def drop_object(_app: Sphinx, _name: str, _member: Any, _options: Any, bases: list[type]) -> None:
    """Every class has the base ``object``, which need not be said."""
    bases[:] = [base for base in bases if base is not object]


def setup(app: Sphinx) -> None:
    app.connect("autodoc-skip-member", is_skipped)
    app.connect("autodoc-process-bases", drop_object)
