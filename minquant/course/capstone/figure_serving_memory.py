"""What a model takes while it answers, a bar for each width, beside a card's memory.

    16 bits      ▇▇▇▇▇▇▇▇▇▇▇▇▇▇▇▇▇▇▇░░▒│▒▒       17.1 GB   does not fit
    8.125 bits   ▇▇▇▇▇▇▇▇▇▇░░▒▒▒       │         10.3 GB   51,400 tokens fit
    4.125 bits   ▇▇▇▇▇░░▒▒▒            │          6.8 GB   78,000 tokens fit
                                     card

Parts: the matrices in codes, what stays at 16 bits, and the cache of the tokens that
are held. The column on the right says how many tokens would fit in all. `update` moves
the bars; the axis ends beyond the card, and a longer bar is cut off there (→).
Notebook 12 reads it.
"""

from __future__ import annotations

from collections.abc import Mapping

from matplotlib.patches import Patch

from minquant.course.drawing import artists, palette
from minquant.course.drawing.figures import WIDTH, Picture
from minquant.course.drawing.numbers import UNITS, readable_bytes
from minquant.course.drawing.stacked_bars import Part, add_legend, add_parts, stack
from minquant.planning.serving_memory import Need

PARTS = {  # by the fields of a Need
    "matrices": Part("matrices, in codes", palette.BLUE),
    "rest": Part("not quantized", palette.SKY, "///"),
    "cache": Part("KV cache", palette.HAIRLINE, "..."),
}
LEFT, RIGHT, TOP, ROW = 100, 290, 66, 44  # CSS pixels
GB = UNITS["GB"]
REACH = 1.4  # of the card's memory: where the axis ends


class ServingPicture:
    """The bars. rows: name to bytes; fits: name to the tokens that fit in all.

    memory: of the card, in bytes. Raises ValueError if there is no row, or fits lacks
    one.
    """

    @palette.style()
    def __init__(
        self,
        rows: Mapping[str, Need],
        fits: Mapping[str, int],
        memory: int,
        *,
        card: str = "the card",
        chosen: str | None = None,
    ) -> None:
        if not rows or set(rows) != set(fits):
            raise ValueError(
                f"rows are {list(rows)}, fits {list(fits)}; give at least one, the same"
            )
        fig = self.fig = Picture(WIDTH, TOP + ROW * len(rows) + 52)
        self.ax = fig.axes_at(LEFT, TOP, WIDTH - LEFT - RIGHT, ROW * len(rows))
        self.ax.set(ylim=(len(rows) - 0.5, -0.5), yticks=[])
        self.ax.spines["left"].set_visible(False)
        self.behind = artists.boxes(self.ax, palette.HIGHLIGHT)
        self.bars = add_parts(self.ax, PARTS)
        self.card = artists.lines(self.ax, palette.VERMILION, 2)
        self.names = artists.words(self.ax, len(rows), -0.015, ha="right")
        self.sums = artists.words(self.ax, len(rows), 1.2, ha="right", weight="bold")
        self.fits = artists.words(self.ax, len(rows), 1.22, ha="left")
        fig.write(LEFT, 14, "What a model takes while it answers", weight="bold")
        card_patch = Patch(fc=palette.VERMILION, label="the card's memory")
        add_legend(fig, LEFT, [*(part.patch for part in PARTS.values()), card_patch])
        fig.move(self.behind, *self.bars.values(), self.card, *self.names)
        fig.move(*self.sums, *self.fits)
        self.update(rows, fits, memory, card=card, chosen=chosen)

    @palette.style()
    def update(
        self,
        rows: Mapping[str, Need],
        fits: Mapping[str, int],
        memory: int,
        *,
        card: str = "the card",
        chosen: str | None = None,
    ) -> None:
        """Move the bars to other numbers; chosen: the row to mark."""
        end = REACH * memory / GB
        if self.ax.get_xlim() != (0, end):
            self.ax.set(xlim=(0, end), xlabel="memory, GB")
            self.fig.forget_background()
        stack(self.bars, rows.values(), GB, end / (WIDTH - LEFT - RIGHT), end)
        marked = [i for i, name in enumerate(rows) if name == chosen]
        bottoms, tops = [i + 0.45 for i in marked], [i - 0.45 for i in marked]
        artists.fill(self.behind, [0] * len(marked), [end] * len(marked), bottoms, tops)
        self.card.set_segments(
            artists.segments(memory / GB, -0.5, memory / GB, len(rows) - 0.5)
        )
        sums = [
            ("→ " if row.total / GB > end else "") + readable_bytes(row.total)
            for row in rows.values()
        ]
        places = range(len(rows))
        artists.write(self.names, places, rows)
        artists.write(self.sums, places, sums)
        artists.write(self.fits, places, [_in_words(fits[name]) for name in rows])
        self.fig.alt = describe(rows, fits, memory, card)
        self.fig.alt += f" Marked: {chosen}." if marked else ""


def _in_words(tokens: int) -> str:
    return f"{tokens:,} tokens fit" if tokens else "does not fit"


def describe(
    rows: Mapping[str, Need], fits: Mapping[str, int], memory: int, card: str
) -> str:
    """The bars in words: each sum, its parts, and what fits."""
    bars = []
    for name, row in rows.items():
        parts = ", ".join(
            f"{part.label} {readable_bytes(size)}"
            for part, size in zip(PARTS.values(), row, strict=True)
            if size
        )
        total = readable_bytes(row.total)
        bars.append(f"{name} {total} ({parts}), {_in_words(fits[name])}")
    return f"On {card} with {readable_bytes(memory)}: {'; '.join(bars)}."
