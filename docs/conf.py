"""Sphinx: the pages of this folder, and the API page from the docstrings."""

import relo_edge

project = "relo-edge"
author = "the relo-edge authors"
version = release = relo_edge.__version__

extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon"]
exclude_patterns = ["_build"]
source_suffix = {".md": "markdown"}

# Links to a heading are checked as links to a page are.
myst_heading_anchors = 3
myst_enable_extensions = ["colon_fence"]

# The adapters' page needs no adapters' packages.
autodoc_mock_imports = ["got10k"]
autodoc_typehints = "none"
autodoc_member_order = "bysource"
autodoc_default_options = {"members": True}
autodoc_preserve_defaults = True
napoleon_google_docstring = True
napoleon_numpy_docstring = False
napoleon_use_rtype = False

html_theme = "furo"
html_title = f"relo-edge {version}"
html_show_copyright = False
# Pages ask no other machine for anything.
html_theme_options = {"navigation_with_keys": True}
highlight_language = "none"
