"""How `make docs` builds the site: the pages as they lie in the repository, and an API reference of public names."""

project = "mestream"
author = "the mestream authors"
copyright = author

extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon"]
root_doc = "docs/index"
include_patterns = ["README.md", "CONTRIBUTING.md", "CHANGELOG.md", "docs/*.md", "engine/weights/README.md"]
exclude_patterns = ["build", ".venv*"]

myst_heading_anchors = 3  # a link may name a heading, as on GitHub; one that names none fails the build
myst_enable_extensions = ["attrs_inline", "tasklist"]
suppress_warnings = ["misc.highlighting_failure"]  # an example may leave parts out with "..."

autodoc_member_order = "bysource"
autodoc_typehints = "description"
autodoc_typehints_description_target = "documented"
default_role = "code"  # docstrings quote code as Markdown does

html_theme = "furo"
html_title = "mestream"
html_extra_path = ["site"]  # index.html, which leads to the first page
html_show_sphinx = False
html_copy_source = False
