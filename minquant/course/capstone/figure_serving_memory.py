"""What a model takes while it answers, a bar for each width, beside a card's memory.

    16 bits      ▇▇▇▇▇▇▇▇▇▇▇▇▇▇▇▇▇▇▇░░▒│▒▒       17.1 GB   does not fit
    8.125 bits   ▇▇▇▇▇▇▇▇▇▇░░▒▒▒       │         10.3 GB   51,400 tokens fit
    4.125 bits   ▇▇▇▇▇░░▒▒▒            │          6.8 GB   78,000 tokens fit
                                     card

Parts: the matrices in codes, what stays at 16 bits, and the cache of the tokens that
are held. The column on the right says how many tokens would fit in all. `update` moves
the bars; the axis ends beyond the card, and a longer bar is cut off there (→). A part
that is too thin for a rim gets none, or the rim would hide it.
Notebook 12 reads it.
"""

from __future__ import annotations

from collections.abc import Mapping

from matplotlib.patches import Patch

from minquant.course.drawing import artists, palette
from minquant.course.drawing.figures import WIDTH, Picture
from minquant.course.qlora.figure_step_memory import amount, stack
from minquant.planning.serving_memory import Need

PARTS = {  # name, what it is called, colour, hatch
    "matrices": ("matrices, in codes", palette.BLUE, ""),
    "rest": ("not quantized", palette.SKY, "///"),
    "cache": ("KV cache", palette.HAIRLINE, "..."),
}
LEFT, RIGHT, TOP, ROW = 100, 290, 66, 44  # CSS pixels
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
        fig = Picture(WIDTH, TOP + ROW * len(rows) + 52)
        self.fig, height = fig, ROW * len(rows)
        self.ax = fig.axes_at(LEFT, TOP, WIDTH - LEFT - RIGHT, height)
        self.ax.set(ylim=(len(rows) - 0.5, -0.5), yticks=[])
        self.ax.spines["left"].set_visible(False)
        self.behind = artists.boxes(self.ax, palette.HIGHLIGHT)
        self.bars = {}
        for name, (_, colour, hatch) in PARTS.items():
            self.bars[name] = artists.boxes(self.ax, colour)
            self.bars[name].set(hatch=hatch, edgecolor=palette.PAPER)
        self.card = artists.lines(self.ax, palette.VERMILION, 2)
        self.names = artists.words(self.ax, len(rows), -0.015, ha="right")
        self.sums = artists.words(self.ax, len(rows), 1.2, ha="right", weight="bold")
        self.said = artists.words(self.ax, len(rows), 1.22, ha="left")
        fig.write(LEFT, 14, "What a model takes while it answers", weight="bold")
        keys = [
            Patch(fc=c, hatch=h, ec=palette.PAPER, label=said)
            for said, c, h in PARTS.values()
        ]
        keys.append(Patch(fc=palette.VERMILION, label="the card's memory"))
        fig.legend(
            handles=keys, ncols=4, loc="upper left", borderaxespad=0,
            bbox_to_anchor=(LEFT / WIDTH, 1 - 24 / fig.size[1]),
            handlelength=1.6, columnspacing=1.6,
        )  # fmt: skip
        fig.move(self.behind, *self.bars.values(), self.card, *self.names)
        fig.move(*self.sums, *self.said)
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
        end, at = REACH * memory / 1e9, range(len(rows))
        if self.ax.get_xlim() != (0, end):
            self.ax.set(xlim=(0, end), xlabel="memory, GB")
            self.fig.settle()
        pixel = end / (WIDTH - LEFT - RIGHT)
        stack(self.bars, rows.values(), 1e9, pixel, end)
        marked = [i for i, name in enumerate(rows) if name == chosen]
        artists.fill(
            self.behind, [0] * len(marked), [end] * len(marked),
            [i + 0.45 for i in marked], [i - 0.45 for i in marked],
        )  # fmt: skip
        self.card.set_segments(
            [[(memory / 1e9, -0.5), (memory / 1e9, len(rows) - 0.5)]]
        )
        cut = ["→ " if row.total / 1e9 > end else "" for row in rows.values()]
        sums = [amount(row.total) for row in rows.values()]
        artists.write(self.names, at, rows)
        artists.write(self.sums, at, [a + b for a, b in zip(cut, sums, strict=True)])
        artists.write(self.said, at, [_said(fits[name]) for name in rows])
        self.fig.alt = describe(rows, fits, memory, card)
        self.fig.alt += f" Marked: {chosen}." if marked else ""


def _said(tokens: int) -> str:
    return f"{tokens:,} tokens fit" if tokens else "does not fit"


def describe(
    rows: Mapping[str, Need], fits: Mapping[str, int], memory: int, card: str
) -> str:
    """The bars in words: each sum, its parts, and what fits."""
    told = []
    for name, row in rows.items():
        parts = zip(PARTS.values(), row, strict=True)
        some = ", ".join(f"{said} {amount(size)}" for (said, *_), size in parts if size)
        told.append(f"{name} {amount(row.total)} ({some}), {_said(fits[name])}")
    return f"On {card} with {amount(memory)}: {'; '.join(told)}."
