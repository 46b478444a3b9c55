"""Settings of Sphinx, which builds the documentation: ``make docs``."""

from __future__ import annotations

import somvae_ext

project = "somvae_ext"
author = "the somvae_ext authors"
version = release = somvae_ext.__version__
copyright = "2026, the somvae_ext authors"

extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.mathjax", "sphinx.ext.napoleon", "sphinx_copybutton"]
exclude_patterns = ["results"]  # pictures and JSON of docs/results.md
myst_enable_extensions = ["dollarmath"]
myst_heading_anchors = 3
suppress_warnings = ["myst.header"]  # generated pages may skip a level of headings

# Annotations are in the signatures; docstrings give shapes, dtypes and errors.
autodoc_typehints = "signature"
autodoc_typehints_format = "short"
autodoc_member_order = "bysource"
autodoc_default_options = {"members": True, "imported-members": True, "show-inheritance": True}
napoleon_numpy_docstring = False
python_display_short_literal_types = True

html_theme = "furo"
html_title = f"somvae_ext {version}"
html_static_path: list[str] = []
