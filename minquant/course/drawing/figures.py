"""Pictures: one style, one size of type, and words for those who cannot see.

    numbers ──figure function──▶ Picture (a matplotlib Figure that carries its alt text)
                                   │ last line of a cell, or show(fig)
                                   ▼
                        <img alt="…" src="data:image/png;base64,…">

A figure function takes numbers and returns a `Picture`. Three rules keep all pictures
of the course alike, wherever they are drawn:

1. Lengths are CSS pixels. A picture is 900 wide, the width of a notebook, and rendered
   at `SHARPNESS` device pixels per CSS pixel. Axes are placed once, by pixel, so
   nothing moves when a number gains a digit, and no layout engine runs (100 ms).
2. Every drawing function is decorated with `@palette.style()`, so a learner's
   `plt.style.use` cannot change a picture.
3. Alt text says what the picture shows, with its numbers. It travels as HTML:
   JupyterLab ignores the alt text in the metadata of an image/png output.

Left out: pyplot. A `Picture` belongs to no global list, so nothing is shown twice.
"""

from __future__ import annotations

import base64
import html

import numpy as np
from jaxtyping import UInt8
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.text import Text

from minquant.course.drawing.palette import style
from minquant.course.drawing.png import encode_png

WIDTH = 900  # CSS pixels: the text column of JupyterLab in a 1280 pixel window
SHARPNESS = 2  # device pixels per CSS pixel


class Picture(Figure):
    """A matplotlib Figure measured in CSS pixels that carries its own alt text.

    width, height: CSS pixels. alt: one or two sentences that say what is seen.
    As the last line of a cell it shows itself as an `<img>` with that alt text.

    >>> fig = Picture(900, 300, alt="An empty sheet.")
    >>> ax = fig.axes_at(60, 20, 820, 230)  # left, top, width, height
    >>> fig.size
    (900, 300)
    """

    @style()
    def __init__(self, width: int = WIDTH, height: int = 300, alt: str = "") -> None:
        dpi = 100 * SHARPNESS
        super().__init__(figsize=(width / 100, height / 100), dpi=dpi)
        FigureCanvasAgg(self)
        self.alt = alt
        self.moving: list[Artist] = []
        self._still = None  # pixels of all that does not move

    @property
    def size(self) -> tuple[int, int]:
        """Width and height in CSS pixels."""
        width, height = self.get_size_inches()
        return round(width * 100), round(height * 100)

    @style()
    def axes_at(
        self, left: float, top: float, width: float, height: float, **axes: object
    ) -> Axes:
        """Axes of a fixed place, in CSS pixels from the top left corner."""
        full_width, full_height = self.size
        box = (
            left / full_width,
            1 - (top + height) / full_height,
            width / full_width,
            height / full_height,
        )
        return self.add_axes(box, **axes)

    @style()
    def write(self, x: float, y: float, text: str, **looks: object) -> Text:
        """Text on the sheet, y being its middle, in CSS pixels from the top left."""
        width, height = self.size
        return self.text(x / width, 1 - y / height, text, va="center", **looks)

    def move(self, *artists: Artist) -> None:
        """Declare artists that change between drawings.

        They are drawn last, in the order given here, over a background that is drawn
        once. This halves the time of a redraw. Call `forget_background` after changing
        anything else.
        """
        for artist in artists:
            artist.set_animated(True)
        self.moving.extend(artists)
        self.forget_background()

    def forget_background(self) -> None:
        """Let the background be drawn anew: something in it has changed."""
        self._still = None

    def render(self) -> None:
        """Draw into the canvas: the background once, then what moves."""
        if self._still is None:
            self.canvas.draw()
            self._still = self.canvas.copy_from_bbox(self.bbox)
        self.canvas.restore_region(self._still)
        for artist in self.moving:
            artist.draw(self.canvas.get_renderer())

    def _ipython_display_(self) -> None:
        show(self)


def plot(
    xlabel: str,
    ylabel: str,
    *,
    title: str = "",
    alt: str = "",
    height: int = 320,
    left: int = 70,
    right: int = 20,
    bottom: int = 52,
) -> tuple[Picture, Axes]:
    """A picture with one pair of axes; the labels name the quantity and its unit.

    Margins are CSS pixels. Give `alt` here, or set `fig.alt` when the numbers are
    known.

    >>> fig, ax = plot("bits per weight", "RMSE", title="Each bit halves the error")
    >>> ax.get_xlabel()
    'bits per weight'
    """
    fig = Picture(WIDTH, height, alt)
    top = 34 if title else 12
    ax = fig.axes_at(left, top, WIDTH - left - right, height - top - bottom)
    with style():
        ax.set_title(title)
        ax.set_xlabel(xlabel)
        ax.set_ylabel(ylabel)
    return fig, ax


@style()
def to_pixels(fig: Figure) -> UInt8[np.ndarray, "height width rgba"]:
    """Draw the figure: red, green, blue and opacity of every device pixel."""
    canvas = fig.canvas
    if getattr(fig, "moving", None):
        fig.render()
    else:
        if not isinstance(canvas, FigureCanvasAgg):
            canvas = FigureCanvasAgg(fig)
        canvas.draw()
    return np.asarray(canvas.buffer_rgba())


def to_png(fig: Figure, *, small: bool = True) -> bytes:
    """The figure as a PNG file.

    small: take about 100 ms longer for a third of the bytes, which is right for a
    notebook on disk; a widget that moves takes small=False.
    """
    return encode_png(to_pixels(fig), small=small)


def to_img(fig: Figure, *, alt: str | None = None, small: bool = True) -> str:
    """The figure as an HTML `<img>` with alt text, sized in CSS pixels.

    alt: defaults to `fig.alt`. A picture without words is an error.
    """
    alt = getattr(fig, "alt", "") if alt is None else alt
    if not alt.strip():
        raise ValueError(
            "alt is empty; say in a sentence what the picture shows, with its numbers"
        )
    width, height = (round(100 * inches) for inches in fig.get_size_inches())
    data = base64.b64encode(to_png(fig, small=small)).decode()
    return (
        f'<img alt="{html.escape(alt)}" width="{width}" height="{height}" '
        'style="max-width:100%;height:auto" decoding="sync" '
        f'src="data:image/png;base64,{data}">'
    )


def show(fig: Figure, *, alt: str | None = None) -> None:
    """Display the figure under the cell, with its alt text."""
    from IPython.display import display  # optional: a script needs no IPython

    text = getattr(fig, "alt", "") if alt is None else alt
    display({"text/html": to_img(fig, alt=alt), "text/plain": text}, raw=True)
