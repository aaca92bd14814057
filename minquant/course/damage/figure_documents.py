"""Document by document: what each one cost before, and what it costs more afterwards.

    change                 each dot is a document: its loss before, in nats per token,
      │   ●  ●             and how much it changed. A hard document lies further right,
      │ ● ●  ● ●           not higher. So the changes scatter far less than the losses,
    0 ┼──────────●─        and their mean has a narrower interval. This is what one
      └──────────────      gains by pairing.
          loss before

Each kind of document has a colour and a mark, as a mean may hide that one kind gets
much worse. Notebook 04 reads it.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from jaxtyping import Num
from matplotlib.axes import Axes

from minquant.course.drawing import palette
from minquant.course.drawing.figures import Picture, plot
from minquant.course.drawing.numbers import number
from minquant.measure.evaluate import Perplexity, compare

COLORS = palette.BLUE, palette.VERMILION, palette.INK, palette.VIOLET, palette.SKY
MARKS = "osD^v"


@palette.style()
def change_by_document(
    before: Perplexity,
    after: Perplexity,
    kinds: Sequence[str] | None = None,
    *,
    title: str = "",
) -> Picture:
    """A dot for each document, and the mean change with its interval as a band.

    before, after: of the same documents. kinds: the kind of each document, such as
    `[d.kind for d in documents]`; at most five kinds, each named with its mean change.

    Raises ValueError if the documents differ, if kinds has not one entry for each, or
    if there are more than five kinds.
    """
    mean = compare(before, after)
    tokens = before.document_tokens.numpy()
    x = before.document_nats.numpy() / tokens
    y = after.document_nats.numpy() / tokens - x
    kinds = ["documents"] * len(x) if kinds is None else list(kinds)
    names = list(dict.fromkeys(kinds))
    if len(kinds) != len(x) or len(names) > len(COLORS):
        raise ValueError(
            f"kinds holds {len(kinds)} of {len(names)} kinds; give one for each of "
            f"{len(x)} documents, of at most {len(COLORS)} kinds"
        )
    fig, ax = plot(
        "loss before, nats per token",
        "change, nats per token",
        title=title or "Each dot is a document",
        height=380,
        left=80,
        right=240,
    )
    ax.axhline(0, color=palette.MUTED, lw=1)
    ax.axhspan(mean.low, mean.high, color=palette.BAND, zorder=0)
    ax.axhline(mean.mean, color=palette.GREEN, lw=1.4)
    notes = (
        (f"mean change {number(mean.mean, digits=3, sign=True)}", palette.GREEN),
        (
            f"95 %: {number(mean.low, digits=3)} to {number(mean.high, digits=3)}",
            palette.GREEN,
        ),
        (f"scatter: before {number(x.std(), digits=2)},", palette.MUTED),
        (f"change {number(y.std(), digits=2)}", palette.MUTED),
    )
    for i, (text, color) in enumerate(notes):
        ax.text(1.03, 0.98 - 0.075 * i, text, color=color, transform=ax.transAxes)
    rows = []
    for i, name in enumerate(names):
        of_kind = np.array(kinds) == name
        change = (y * tokens)[of_kind].sum() / tokens[of_kind].sum()
        rows.append(f"{name} {number(change, digits=3, sign=True)}")
        _draw_kind(ax, x[of_kind], y[of_kind], i, rows[-1] if len(names) > 1 else "")
    fig.alt = (
        f"Change of the loss against the loss before, in nats per token, for {len(x)} "
        f"documents. Mean change {mean}. By kind: {', '.join(rows)}. Losses before "
        f"scatter by {number(x.std(), digits=2)}, "
        f"changes by {number(y.std(), digits=2)}."
    )
    return fig


def _draw_kind(
    ax: Axes, x: Num[np.ndarray, " d"], y: Num[np.ndarray, " d"], i: int, name: str
) -> None:
    """Dots of one kind; its mark, name and mean change beside the axes."""
    looks = {"color": COLORS[i], "marker": MARKS[i], "ls": "", "ms": 5}
    ax.plot(x, y, **looks, mew=0, alpha=0.6)
    if name:
        height = 0.98 - 0.075 * (6 + i)
        ax.plot(1.04, height + 0.02, **looks, transform=ax.transAxes, clip_on=False)
        ax.text(1.065, height, name, color=COLORS[i], transform=ax.transAxes)
