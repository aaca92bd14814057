"""A product of two small matrices by way of 8-bit codes, number by number.

    X ÷ its scales = codes of X
                                   codes · codes = whole numbers × both scales = Y
    W ÷ its scales = codes of W

Every row of X and every row of W has a scale of its own, absmax / 127. Lesson 05.
"""

from __future__ import annotations

from collections.abc import Sequence

from jaxtyping import Float
from torch import Tensor

from minquant.course.drawing import palette
from minquant.course.drawing.figures import WIDTH, Picture
from minquant.methods import llm_int8
from minquant.numerics.scales import scale_values

CELL, ROW = 62, 30  # CSS pixels
XS = {"floats": 6, "scales": 198, "codes": 266, "sums": 498, "Y": 742}
YS = {"X": 44, "W": 164, "sums": 104}


@palette.style()
def product_in_codes(X: Float[Tensor, "n in"], W: Float[Tensor, "out in"]) -> Picture:
    """X Wᵀ in 8-bit codes with a scale for each row, beside the exact one.

    Made for two rows of three: more do not fit the sheet.
    """
    X_q, W_q = llm_int8.quantize_rows(X), llm_int8.quantize_rows(W)
    sums = llm_int8.integer_product(X_q.codes, W_q.codes)
    Y, Y_hat = X @ W.T, llm_int8.vector_wise(X_q, W_q)
    fig = Picture(WIDTH, 264)
    for name, A, q in (("X", X, X_q), ("W", W, W_q)):
        scales = [[f"÷ {s:g}"] for s in _plain(scale_values(q.scales)[:, 0])]
        y = YS[name]
        _matrix(fig, XS["floats"], y, _texts(A, ".3f"), palette.BLUE, name)
        _matrix(fig, XS["scales"], y, scales, palette.MUTED, boxed=False)
        codes = [[f"{code}" for code in row] for row in q.codes.tolist()]
        _matrix(fig, XS["codes"], y, codes, palette.INK, f"codes of {name}")
    x, y = XS["sums"], YS["sums"]
    whole = [[f"{total:,}" for total in row] for row in sums.tolist()]
    _matrix(fig, x, y, whole, palette.INK, cell=76)
    fig.write(x, 54, "sums of products of codes", weight="bold")
    for j, s in enumerate(_plain(scale_values(W_q.scales)[:, 0])):
        fig.write(x + 76 * (j + 0.5), 78, f"× {s:g}", ha="center", color=palette.MUTED)
    for i, s in enumerate(_plain(scale_values(X_q.scales)[:, 0])):
        place = x + 2 * 76 + 8, y + ROW * (i + 0.5)
        fig.write(*place, f"× {s:g}", color=palette.MUTED)
    fig.write(XS["codes"] + 3 * CELL + 23, y + ROW, "→", ha="center", size=16)
    fig.write(XS["Y"] - 18, y + ROW, "→", ha="center", size=16)
    _matrix(
        fig, XS["Y"], y, _texts(Y_hat, ".4f"), palette.VERMILION, "Y from codes", 76
    )
    _matrix(fig, XS["Y"], y + 96, _texts(Y, ".4f"), palette.BLUE, "Y exactly", 76)
    fig.alt = (
        f"X {_texts(X, '.3f')} and W {_texts(W, '.3f')} are divided by a scale for "
        f"each row, which gives codes {X_q.codes.tolist()} and {W_q.codes.tolist()}. "
        f"Their product in whole numbers is {sums.tolist()}; times both scales it is "
        f"{_texts(Y_hat, '.4f')}, and exactly it would be {_texts(Y, '.4f')}."
    )
    return fig


def _plain(numbers: Tensor) -> list[float]:
    return [round(x, 6) for x in numbers.tolist()]


def _texts(A: Tensor, form: str) -> list[list[str]]:
    return [[format(x, form).replace("-", "−") for x in row] for row in A.tolist()]


def _matrix(
    fig: Picture,
    x: float,
    y: float,
    texts: Sequence[Sequence[str]],
    color: str,
    name: str = "",
    cell: float = CELL,
    *,
    boxed: bool = True,
) -> None:
    """Texts in rows and columns, from a corner on; in a box, with a name above."""
    wide, tall = cell * len(texts[0]), ROW * len(texts)
    if boxed:
        box = fig.axes_at(x, y, wide, tall, xticks=[], yticks=[])
        box.set_facecolor(palette.WASH)
        box.spines[:].set_visible(True)
        box.spines[:].set_color(palette.HAIRLINE)
    fig.write(x, y - 18, name, weight="bold")
    for i, row in enumerate(texts):
        for j, text in enumerate(row):
            right = x + cell * (j + 1) - 7
            place = y + ROW * (i + 0.5)
            fig.write(right, place, text.replace("-", "−"), ha="right", color=color)
