"""Artists that move: lines, boxes, marks and words whose numbers change.

Making artists anew for every frame takes three times as long as moving them. Each
function here adds one empty artist (or a few words) to axes; `fill`, `write` and the
artists' own setters move it. Give them to `Picture.move` in the order of drawing.

    bars = boxes(ax, palette.VERMILION)
    fig.move(bars)
    fill(bars, x - 0.3, x + 0.3, 0, errors)      # as often as you like
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import SupportsFloat

import numpy as np
from jaxtyping import Num
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection, PolyCollection
from matplotlib.lines import Line2D
from matplotlib.text import Text

Numbers = SupportsFloat | Sequence[SupportsFloat] | np.ndarray


def lines(ax: Axes, color: str, width: float, **looks: object) -> LineCollection:
    """An artist with no segments yet; `set_segments` takes (count, 2, 2) points."""
    return ax.add_collection(
        LineCollection([], colors=color, linewidths=width, **looks)
    )


def segments(
    x0: Numbers, y0: Numbers, x1: Numbers, y1: Numbers
) -> Num[np.ndarray, "count 2 2"]:
    """Segments from (x0, y0) to (x1, y1), for `set_segments`; scalars are repeated.

    >>> segments(0, [1, 2], 5, [1, 2]).shape
    (2, 2, 2)
    """
    x0, y0, x1, y1 = np.broadcast_arrays(*np.atleast_1d(x0, y0, x1, y1))
    return np.stack([np.stack([x0, y0], -1), np.stack([x1, y1], -1)], axis=1)


def boxes(ax: Axes, color: str) -> PolyCollection:
    """An artist with no boxes yet; `fill` sets their four sides."""
    return ax.add_collection(PolyCollection([], facecolor=color, edgecolor="none"))


def fill(
    collection: PolyCollection,
    left: Numbers,
    right: Numbers,
    bottom: Numbers,
    top: Numbers,
) -> None:
    """Set upright boxes from their four sides; scalars are repeated."""
    sides = np.atleast_1d(left, right, bottom, top)
    left, right, bottom, top = np.broadcast_arrays(*sides)
    corners = [(left, bottom), (right, bottom), (right, top), (left, top)]
    collection.set_verts(np.stack([np.stack(c, axis=-1) for c in corners], axis=1))


def marks(ax: Axes, marker: str, size: float, **looks: object) -> Line2D:
    """An artist with no marks yet; `set_data` takes their x and y.

    A mark at the edge of the axes is drawn whole.
    """
    looks = {"mew": 0, "clip_on": False, **looks}
    return ax.plot([], [], ls="", marker=marker, ms=size, **looks)[0]


def words(ax: Axes, count: int, x: float, **looks: object) -> list[Text]:
    """Hidden texts in a column, at a share x of the axes' width; `write` sets them."""
    looks = {"va": "center", "transform": ax.get_yaxis_transform(), **looks}
    return [ax.text(x, 0, "", **looks) for _ in range(count)]


def write(
    texts: list[Text], heights: Iterable[SupportsFloat], words: Iterable[str]
) -> None:
    """Put words at heights on the y axis; texts that are left over are hidden."""
    for text in texts:
        text.set_visible(False)
    for text, y, word in zip(texts, heights, words, strict=False):
        text.set(y=y, text=word, visible=True)
