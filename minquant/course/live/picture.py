"""Live pictures: drawn in the browser, from data that Python hands over.

    traits (bits, weights, …)  ──▶  base.js + the picture's own module  ──▶  SVG

A picture is an `anywidget`: a class with the traits that its module reads, and one file
of JavaScript beside it. Five decisions:

1. The module draws, and computes what changes with a control, in the browser: 60 frames
   a second, and nothing is sent to the kernel while a slider moves. What it computes is
   tested equal to the package, code by code. All else arrives as data.
2. No build step. anywidget takes one string of JavaScript, so `LivePicture` puts
   `base.js` in front of the picture's file. The same two files run on a page without
   Python: `page.py` writes one.
3. Controls are native and labelled. A sentence below the picture says what is seen.
4. A reader without a kernel sees a photograph of the first state, which the build of
   the notebooks takes (notebooks/photograph.py).
5. ipywidgets 7.7 with anywidget 0.9 (Colab) and 8 with 0.11 alike; only modules named
   `live_*` import it.
"""

from __future__ import annotations

import html
import re
import warnings
from pathlib import Path
from typing import ClassVar

import anywidget

HERE = Path(__file__).parent
_FROM_BASE = re.compile(r'^import \{[^}]*\} from "\.\./live/base\.js";\n', re.MULTILINE)


def module(file: Path) -> str:
    """A picture's JavaScript as one string: base.js, and the file without its import.

    Raises ValueError if the file does not import from base.js exactly once.
    """
    own, found = _FROM_BASE.subn("", file.read_text(encoding="utf-8"))
    if found != 1:
        raise ValueError(
            f"{file.name} has {found} imports from ../live/base.js; write one"
        )
    return (HERE / "base.js").read_text(encoding="utf-8") + own


class LivePicture(anywidget.AnyWidget):
    """A picture that moves. As the last line of a cell it shows itself.

    A subclass names its file of JavaScript, `script`, and has a synced trait for each
    value that the file reads. Traits that the reader moves are
    set here when the focus leaves the picture; setting one from Python moves it.
    `words` says what the picture shows, for readers who have only the text.
    """

    script: ClassVar[Path]
    words = ""
    _ipython_display_ = None  # ipywidgets 7 has one, which would hide the photograph

    def __init_subclass__(cls, **options: object) -> None:
        if "script" in vars(cls):  # not in the classes that traitlets derives from it
            cls._esm = module(cls.script)
            cls._css = (HERE / "base.css").read_text(encoding="utf-8")
        super().__init_subclass__(**options)

    def add_traits(self, **traits: object) -> None:
        """As every widget does. ipywidgets 7 calls what traitlets warns of."""
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "Deprecated in traitlets 4.1")
            super().add_traits(**traits)

    def _repr_mimebundle_(self, **options: object) -> dict[str, object]:
        """With a kernel the widget; without one the words, until there is a photo."""
        view = {"version_major": 2, "version_minor": 0, "model_id": self.model_id}
        return {
            "application/vnd.jupyter.widget-view+json": view,
            "text/html": f"<p>{html.escape(self.words)} Run this cell to see it.</p>",
            "text/plain": self.words,
        }
