"""Where the bits go: the damage of each matrix, and the width that it gets.

                 nats, alone at 3 bits            bits that it gets
                 q  k  v  o  gate up down         q  k  v  o  gate up down
    layer 0     ░░ ▓▓ ░░ …                        2  4  3  3   3   3  4
    layer 1     ░░ ░░ …                           2  2  3 …

A row for each decoder layer, a column for each of its matrices. On the left darker is
worse, on a logarithmic scale; on the right darker is wider. In lesson 11
`mixed_precision` chooses the widths.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import LogNorm, Normalize

from minquant.course.drawing import palette
from minquant.course.drawing.figures import Picture

CELL, LEFT, TOP, GAP = (52, 40), 84, 74, 60  # CSS pixels
SHADES = "Blues"
DARK = 0.55  # of the scale: from here on numbers are white
LEAST = 1e-9  # nats: a layer that costs nothing has no place on a logarithmic scale


@palette.style()
def widths(
    nats: Mapping[str, float], bits: Mapping[str, float], *, at: float, title: str = ""
) -> Picture:
    """The two tables. nats: what each layer costs alone at the width `at`, by its name,
    such as "model.layers.0.mlp.up_proj". bits: by the same names, the width it gets.

    Raises ValueError if there is no layer, if the names differ, or if a name does not
    have the number of its decoder layer.
    """
    if not nats or set(nats) != set(bits):
        raise ValueError(
            f"nats has {len(nats)} layers and bits {len(bits)}; give both the same, at "
            "least one"
        )
    places = {name: _place(name) for name in nats}
    rows = sorted({row for row, _ in places.values()})
    columns = list(dict.fromkeys(column for _, column in places.values()))
    width, height = CELL[0] * len(columns), CELL[1] * len(rows)
    fig = Picture(LEFT + 2 * width + GAP + 20, TOP + height + 16)
    fig.write(12, 16, title or "Where the bits go", weight="bold")
    costs = {name: max(x, LEAST) for name, x in nats.items()}
    ends = min(costs.values()), max(costs.values())
    shades = Normalize(min(bits.values()) - 1, max(bits.values()) + 1)
    tables = (
        (costs, LogNorm(*ends), f"nats, alone at {at:g} bits", ".4f"),
        (bits, shades, "bits that it gets", "g"),
    )
    for i, (values, norm, name, form) in enumerate(tables):
        ax = fig.axes_at(LEFT + i * (width + GAP), TOP, width, height)
        table = np.full((len(rows), len(columns)), np.nan)
        for layer, (row, column) in places.items():
            table[rows.index(row), columns.index(column)] = values[layer]
        ax.imshow(table, cmap=SHADES, norm=norm, aspect="auto")
        _name(ax, columns, [f"layer {row}" for row in rows] if i == 0 else [])
        _fill(ax, table, norm, form)
        fig.write(LEFT + i * (width + GAP), TOP - 34, name, color=palette.MUTED)
    listed = "; ".join(f"{n}: {nats[n]:.4f} nats, {bits[n]:g} bits" for n in nats)
    fig.alt = (
        f"What each matrix costs alone at {at:g} bits, and what it gets. {listed}."
    )
    return fig


def _place(name: str) -> tuple[int, str]:
    """The layer's number, and the matrix in it: (0, 'up') for layers.0.mlp.up_proj."""
    match = re.search(r"\.(\d+)\..*?(\w+)$", name)
    if not match:
        raise ValueError(f"nats has {name!r}, a name without a number of its layer")
    return int(match[1]), match[2].removesuffix("_proj")


def _name(ax: Axes, columns: list[str], rows: list[str]) -> None:
    """Matrices above, layers on the left, no lines."""
    ax.set_xticks(range(len(columns)), columns)
    ax.set_yticks(range(len(rows)), rows)
    ax.tick_params(length=0, labeltop=True, labelbottom=False)
    for spine in ax.spines.values():
        spine.set_visible(False)


def _fill(ax: Axes, table: np.ndarray, norm: Normalize, form: str) -> None:
    """Each number in its cell, white on the dark ones."""
    for (i, j), value in np.ndenumerate(table):
        if not np.isnan(value):
            text = f"{value:{form}}"
            text = text if form == "g" else text.removeprefix("0")
            color = palette.PAPER if norm(value) > DARK else palette.INK
            ax.text(j, i, text, ha="center", va="center", color=color)
