"""Colours and type: the one look of every picture of the course.

Each colour has one meaning, the same from the first notebook to the last, and a shape
or a word always says it too. Any two of SERIES stay apart for readers with protanopia
and deuteranopia (a test simulates both), and text on PAPER has a contrast of at least
4.5. Blue and sky are Okabe and Ito's; vermilion and green are theirs made darker,
violet is chosen to stay far from blue where red is not seen.

There is one size of type, that of the notebook's own text at a width of 900 pixels.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import matplotlib as mpl

FONT_SIZE = 10.0  # points; 13.9 CSS pixels, the size of the notebook's own text

BLUE = "#0072B2"  # a weight as it was
VERMILION = "#C24F00"  # an error: what rounding did
GREEN = "#007A58"  # a good outcome
SKY = "#56B4E9"
VIOLET = "#5B10CC"  # clipped: beyond the end of the ruler
INK = "#1F2933"  # text, and values on the grid
MUTED = "#5F6B7A"  # axes and notes
HAIRLINE = "#CBD2D9"  # grid lines
WASH = "#EEF2F6"  # quiet areas
HIGHLIGHT = "#FFE9A8"  # behind the selected thing
BAND = "#D9E8F3"  # what is allowed: half a step, an interval
PAPER = "#FFFFFF"
SIGN = INK  # the three fields of a floating-point number
EXPONENT = "#9A6700"
FRACTION = "#00687D"
SERIES = (BLUE, VERMILION, INK, SKY, VIOLET)

_STYLE = {
    "font.family": ["sans-serif"],
    "font.sans-serif": ["DejaVu Sans"],  # comes with matplotlib: alike everywhere
    "font.size": FONT_SIZE,
    **{
        f"{what}size": FONT_SIZE
        for what in (
            "axes.label",
            "axes.title",
            "xtick.label",
            "ytick.label",
            "legend.font",
            "legend.title_font",
            "figure.title",
            "figure.label",
        )
    },
    "text.color": INK,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "axes.titlepad": 8,
    "axes.titlecolor": INK,
    "axes.labelcolor": INK,
    "axes.edgecolor": MUTED,
    "axes.linewidth": 0.8,
    "axes.axisbelow": True,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.prop_cycle": mpl.cycler(color=SERIES),
    "axes.facecolor": PAPER,
    "figure.facecolor": PAPER,
    "grid.color": HAIRLINE,
    "grid.linewidth": 0.8,
    "xtick.color": MUTED,
    "ytick.color": MUTED,
    "xtick.labelcolor": INK,
    "ytick.labelcolor": INK,
    "legend.frameon": False,
    "lines.linewidth": 1.8,
    "lines.markersize": 6,
    "image.cmap": "cividis",
}
_NOT_LOOKS = ("animation", "backend", "interactive", "keymap", "toolbar", "webagg")
_SETTINGS = {
    key: value
    for key, value in {**dict(mpl.rcParamsDefault), **_STYLE}.items()
    if not key.startswith(
        (*_NOT_LOOKS, "_", "tk.", "macosx.", "docstring.", "timezone")
    )
}


@contextmanager
def style() -> Iterator[None]:
    """The course's look, independent of matplotlib's global settings.

    Use it as a decorator, `@style()`, on every function that draws. It holds for the
    duration of the call and leaves the global settings as they were.
    """
    with mpl.rc_context(_SETTINGS):
        yield
