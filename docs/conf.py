"""Sphinx's settings for the site. docs/build.py writes the pages and calls Sphinx."""

project = "minquant"
author = "the minquant authors"
copyright = "the minquant authors, MIT"
html_title = "minquant"

extensions = ["myst_nb", "sphinx_design"]
nb_execution_mode = "off"  # the notebooks are executed already
myst_enable_extensions = ["colon_fence", "dollarmath"]
myst_heading_anchors = 3
suppress_warnings = ["mystnb.unknown_mime_type"]

html_theme = "sphinx_book_theme"
html_static_path = ["_static"]
html_css_files = ["live.css", "course.css"]
html_js_files = ["course.js"]
html_favicon = "_static/favicon.svg"
html_copy_source = False
html_show_sourcelink = False
html_show_copyright = False
html_last_updated_fmt = None
mathjax_path = "mathjax.js"  # one file, from a package: no request leaves the site
html_context = {"default_mode": "auto"}
html_theme_options = {
    "navbar_persistent": [],  # the sidebar has a search box already
    "use_download_button": False,
    "use_fullscreen_button": False,
    "home_page_in_toc": True,
    "show_toc_level": 2,
}
