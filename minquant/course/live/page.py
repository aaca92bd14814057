"""A live picture on a page without Python: no kernel, no other file.

    page(state)                the picture alone, as a whole page
    embedded(state, place)     the same, to stand in a page that has more

state: the traits of a picture, as `get_state()` gives or a notebook saves them. The
module and the data stand in the page itself, so it works from a disk as well. This file
imports nothing of the course: the site is built without torch.
"""

from __future__ import annotations

import json
from collections.abc import Mapping

_EMBEDDED = """\
<div id="{place}"></div>
<script type="module">
const code = {code};
const url = URL.createObjectURL(new Blob([code], {{ type: "text/javascript" }}));
const picture = await import(url);
const model = picture.pageModel({data});
picture.default.render({{ model, el: document.getElementById("{place}") }});
Object.assign({shared}, {{ picture, model }});
</script>
"""

_PAGE = """<!doctype html>
<html lang="en"><meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<style>body {{ margin: 12px; background: light-dark(#fff, #111418) }}
html {{ color-scheme: light dark }}
{css}</style>
<body>
<script>window.onerror = window.onunhandledrejection = () => {{ window.failed = true }};
</script>
{picture}"""


def page(state: Mapping[str, object]) -> str:
    """A picture as a web page of its own; scripts find it as `picture` and `model`."""
    return _PAGE.format(css=state["_css"], picture=_html(state, "picture", "window"))


def embedded(state: Mapping[str, object], place: str) -> str:
    """A picture as HTML without its CSS. place: the id of its element in the page, on
    which scripts find `picture` and `model`."""
    return _html(state, place, f'document.getElementById("{place}")')


def _html(state: Mapping[str, object], place: str, shared: str) -> str:
    data = {
        key: value
        for key, value in state.items()
        if not key.startswith("_") and key not in _NOT_DATA
    }
    code = _script(state["_esm"])
    return _EMBEDDED.format(place=place, code=code, data=_script(data), shared=shared)


_NOT_DATA = ("layout", "tabbable", "tooltip")  # what ipywidgets gives every widget


def _script(value: object) -> str:
    """JSON that may stand in a <script>: it cannot end it."""
    return json.dumps(value).replace("</", "<\\/")
