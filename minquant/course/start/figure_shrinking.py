"""A model that shrinks: its size, its loss, and where its answers break.

    ████████▒▒▒┆          ┆     bytes: quantized layers, then all else; the outline is
                                the model in 16 bits
    loss │●                     loss above the 16-bit model's, in nats per token, at
         │  ●   ●               every width that has been tried
         └───────────────
    fact  ✗ ✓ ✓ ✓       ✓       a question, asked at each of these widths
          2 3 4 5 …     16 bits

The picture keeps its artists, and its axes never move, so nothing jumps while the
reader tries widths. Notebook 00 shows it inside `widget_bits_and_text`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from minquant.course.drawing import artists, palette
from minquant.course.drawing.figures import WIDTH, Picture
from minquant.course.drawing.numbers import number
from minquant.models.linear_layers import Size

LEFT = 170  # CSS pixels: names stand left of it
BAR = (LEFT, 34, WIDTH - LEFT - 30, 34)  # left, top, width, height
LOSS = (LEFT, 126, WIDTH - LEFT - 30, 130)
ROW = 28
WIDTHS = range(2, 17)
LEAST, MOST = 1e-4, 100.0  # nats per token: the ends of the axis of the loss


@dataclass(frozen=True)
class Shrunk:
    """A model at one width: its size, its loss, what it writes and answers.

    size: bytes. nats: loss per token. text: how it continues a prompt.
    answers: what it answered to each question. right: whether each answer is right.
    """

    bits: int
    size: Size
    nats: float
    text: str = ""
    answers: tuple[str, ...] = ()
    right: tuple[bool, ...] = ()


class ShrinkingPicture:
    """The picture; `update` shows another width beside all that were tried.

    whole: the model in 16 bits, its matrices counted as `size.quantized`.
    questions: a short name for each.
    """

    @palette.style()
    def __init__(self, whole: Shrunk, questions: Sequence[str] = ()) -> None:
        self.whole, self.questions = whole, tuple(questions)
        tall = LOSS[1] + LOSS[3] + 10 + ROW * len(self.questions)
        self.fig = Picture(WIDTH, tall + 44)
        clear = {"facecolor": "none"}
        self.bar = self.fig.axes_at(*BAR, **clear, xticks=[], yticks=[], ylim=(0, 1))
        self.bar.set_xlim(0, 1.02 * whole.size.total / 1e6)
        widths = {"xlim": (1.5, 16.5)}
        self.loss = self.fig.axes_at(*LOSS, **clear, **widths, yscale="log")
        below = (LEFT, LOSS[1] + LOSS[3] + 10, LOSS[2], max(ROW * len(questions), 1))
        self.facts = self.fig.axes_at(*below, **clear, **widths, yticks=[])
        self._set_axes()
        self._add_artists()
        self.update(whole, {whole.bits: whole})

    def _set_axes(self) -> None:
        self.loss.set(ylim=(LEAST / 1.6, MOST), xticks=[])
        ticks = [LEAST, 1e-3, 1e-2, 0.1, 1.0, 10.0, MOST]
        self.loss.set_yticks(ticks, ["≤ 0.0001", *map("{:g}".format, ticks[1:])])
        self.loss.minorticks_off()
        self.loss.grid(axis="y", color=palette.HAIRLINE)
        self.facts.set_ylim(max(len(self.questions), 1), 0)
        self.facts.set_xticks(list(WIDTHS))
        self.facts.set_xlabel("bits of a weight's code")
        for ax in (self.bar, self.facts):
            ax.spines[:].set_visible(False)

    def _add_artists(self) -> None:
        write, total = self.fig.write, self.whole.size.total / 1e6
        write(LEFT, 14, "size", weight="bold")
        title = "loss above the 16-bit model's, nats per token"
        write(LEFT, LOSS[1] - 16, title, weight="bold")
        for i, name in enumerate(self.questions):
            write(LEFT - 14, LOSS[1] + LOSS[3] + 10 + ROW * (i + 0.5), name, ha="right")
        outline = {"color": palette.MUTED, "lw": 1, "ls": (0, (4, 3))}
        self.bar.plot([0, total, total, 0, 0], [0, 0, 1, 1, 0], **outline)
        self.columns = [
            artists.boxes(a, palette.HIGHLIGHT) for a in (self.loss, self.facts)
        ]
        self.quantized = artists.boxes(self.bar, palette.BLUE)
        self.rest = artists.boxes(self.bar, palette.MUTED)
        self.stems = artists.lines(self.loss, palette.VERMILION, 1.5)
        self.dots = artists.marks(self.loss, "o", 6, color=palette.VERMILION)
        self.ring = artists.marks(
            self.loss, "o", 11, mfc="none", mec=palette.INK, mew=1.4
        )
        self.good = artists.marks(self.facts, "$✓$", 10, color=palette.GREEN)
        self.bad = artists.marks(self.facts, "$✗$", 10, color=palette.VERMILION)
        self.size = write(LEFT, BAR[1] + BAR[3] + 16, "")
        self.cost = write(WIDTH - 30, LOSS[1] - 16, "", ha="right")
        self.fig.move(*self.columns, self.quantized, self.rest, self.stems, self.dots)
        self.fig.move(self.ring, self.good, self.bad, self.size, self.cost)

    @palette.style()
    def update(self, now: Shrunk, tried: Mapping[int, Shrunk]) -> None:
        """Show one width among all that were tried; write the alt text anew."""
        size = now.size
        quantized, elsewhere = size.quantized / 1e6, size.elsewhere / 1e6
        artists.fill(self.quantized, 0, quantized, 0.12, 0.88)
        artists.fill(self.rest, quantized, quantized + elsewhere, 0.12, 0.88)
        self.size.set_text(
            f"{size.total / 1e6:.2f} MB of {self.whole.size.total / 1e6:.2f}: "
            f"the matrices {quantized:.2f} (blue), embeddings and the rest "
            f"{elsewhere:.2f} (grey)"
        )
        bits = sorted(tried)
        costs = np.array([tried[b].nats - self.whole.nats for b in bits])
        shown = costs.clip(LEAST, MOST * 0.9)
        self.stems.set_segments(artists.segments(bits, LEAST / 1.6, bits, shown))
        self.dots.set_data(bits, shown)
        at = bits.index(now.bits)
        self.ring.set_data([now.bits], [shown[at]])
        self.cost.set_text(f"now {number(costs[at], digits=3, sign=True)}")
        left, right = now.bits - 0.45, now.bits + 0.45
        artists.fill(self.columns[0], left, right, LEAST / 1.6, MOST)
        artists.fill(self.columns[1], left, right, 0, len(self.questions))
        answers = [
            (b, i + 0.5, ok) for b in bits for i, ok in enumerate(tried[b].right)
        ]
        for marks, wanted in ((self.good, True), (self.bad, False)):
            here = [(x, y) for x, y, ok in answers if ok is wanted]
            marks.set_data([x for x, _ in here], [y for _, y in here])
        self.fig.alt = self._describe(now, costs[at])

    def _describe(self, now: Shrunk, cost: float) -> str:
        words = (
            f"The model with {now.bits} bits a weight: {now.size.total / 1e6:.2f} MB "
            f"instead of {self.whole.size.total / 1e6:.2f}; its loss is "
            f"{number(cost, digits=3, sign=True)} nats per token above that in 16."
        )
        for name, right, answer in zip(
            self.questions, now.right, now.answers, strict=False
        ):
            words += f" {name}: {'right' if right else 'wrong'}, {answer!r}."
        return words
