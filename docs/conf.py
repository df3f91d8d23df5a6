"""Configuration of the site: Sphinx reads the notebooks and pages where they are.

The root of the repository is the source, so links between files work here as they do in JupyterLab.
`tools/make_site.py` runs Sphinx and adds MathJax.
"""

import json
from pathlib import Path

from docutils import nodes
from pygments.lexers.special import TextLexer
from sphinx import addnodes
from sphinx.application import Sphinx

ROOT = Path(__file__).resolve().parents[1]

project = "SS4Rec Lab"
author = project_copyright = "SS4Rec Lab authors"
extensions = ["myst_nb", "sphinx.ext.autodoc", "sphinx.ext.napoleon", "sphinx.ext.viewcode"]
root_doc = "docs/index"
include_patterns = ["docs/**", "notebooks/**", "workshop/**"]
include_patterns += [f"{folder}/README.md" for folder in ("results", "workflow", "data")]
exclude_patterns = [".*", "build", "dist", "runs", "work", "data/*/**", "**/.ipynb_checkpoints"]

# Pages. The lessons were executed when they were committed.
nb_execution_mode = "off"
nb_ipywidgets_js = {}  # no widget is stored; by default two scripts of a CDN are loaded
myst_enable_extensions = ["dollarmath", "amsmath"]
myst_heading_anchors = 4
myst_heading_slug_func = "tools.make_site.jupyter_anchor"
suppress_warnings = [
    "mystnb.unknown_mime_type",  # a record is shown by its text
    "myst.header",  # the title of an exercise is a small heading below that of the notebook
]

# The reference: docstrings say `name` for code. Types stand in the signatures.
default_role = "code"
autodoc_default_options = {"members": True, "imported-members": True, "undoc-members": True}
autodoc_member_order = "bysource"

html_theme = "sphinx_book_theme"
html_title = project
html_theme_options = {
    "navbar_persistent": [],
    "home_page_in_toc": True,
}  # search is in the side bar
html_context = {"default_mode": "auto"}
html_extra_path = ["index.html"]
html_static_path = ["static"]
html_css_files = ["site.css"]
html_search_scorer = str(ROOT / "docs" / "static" / "scorer.js")
html_show_copyright = False
html_use_index = html_domain_indices = False  # the search finds names of the library
mathjax_path = "mathjax/tex-chtml.js"
mathjax3_config = {"options": {"enableMenu": False}}


def prepare_notebook(app: Sphinx, name: str, source: list[str]) -> None:
    """Give figures their alternative text, and solutions a title of their own."""
    if not name.startswith("notebooks/"):
        return
    notebook = json.loads(source[0])
    for cell in notebook["cells"]:
        for output in cell.get("outputs", []):
            if alt := output.get("metadata", {}).get("image/png", {}).get("alt"):
                cell["metadata"]["mystnb"] = {"image": {"alt": alt}}
    if name.startswith("notebooks/solutions/"):
        lines = notebook["cells"][0]["source"]
        lines[0] = lines[0].replace("Exercises", "Solutions").replace("exercises", "solutions")
    source[0] = json.dumps(notebook)


def resolve_repository(app: Sphinx, document: nodes.document) -> None:
    """Offer files that are no pages as downloads, and lead links to a folder to its README."""
    env = app.env
    for link in list(document.findall(addnodes.pending_xref)):
        if link["reftype"] != "myst":
            continue
        target = link["reftarget"]
        folder = env.doc2path(env.docname).parent / target
        if link["refdomain"] == "doc" and target not in env.found_docs:
            options = {"reftarget": f"/{target}.md", "refdoc": env.docname}
            link.replace_self(addnodes.download_reference("", "", *link.children, **options))
        elif link["refdomain"] is None and folder.is_dir():
            page = f"{folder.resolve().relative_to(ROOT)}/README"
            if page in env.found_docs:
                link.attributes.update({"refdomain": "doc", "reftarget": page, "reftargetid": None})
            else:
                link.replace_self(link.children)


def setup(app: Sphinx) -> None:
    """Connect the functions above."""
    app.add_lexer("csv", TextLexer)  # Pygments knows no CSV
    app.connect("source-read", prepare_notebook)
    app.connect("doctree-read", resolve_repository, priority=400)  # before downloads are collected
