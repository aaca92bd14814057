"""The widget of AWQ: turn the strength up, and see which columns gain or lose error.

    protected_columns(layers)      # name to (W, X): the last line of a cell

The reader moves the strength α of the scales, the bits and the groups, and chooses a
layer. Each column's scale, its own error before and after, and the error of the whole
layer for all strengths are read from what `awq` returns (`salience`). Each state is
computed when it is first asked for, and remembered. Lesson 07 shows it.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache

from jaxtyping import Float
from torch import Tensor

from minquant.course.awq.figure_salience import ERRORS, INPUTS, SEEN, SaliencePicture
from minquant.course.awq.salience import Protected, Salience
from minquant.course.drawing.numbers import number
from minquant.course.live.controls import choice, decimal, integer
from minquant.course.live.dashboard import Dashboard, Frame, Spot
from minquant.course.live.markup import paragraph
from minquant.methods.awq import RATIOS
from minquant.numerics import groups
from minquant.numerics.grids import zero_point

ROW = "whole rows"
GROUPS = (128, 64, 32, 16)

Layers = Mapping[str, tuple[Float[Tensor, "_ _"], Float[Tensor, "_ _"]]]


def protected_columns(
    layers: Layers, *, alpha: float = 0.0, bits: int = 3, group: str = ROW
) -> Dashboard:
    """The widget. layers: name to W (out, in) and its inputs X (n, in); a few thousand
    rows of X are enough, and more are slower.

    Zero-point rulers. The other arguments are first values; group is "whole rows" or a
    size such as "64". Sizes that do not divide all rows are not offered.

    Raises ValueError if there is no layer.
    """
    if not layers:
        raise ValueError("layers is empty; give at least one (W, X), by its name")
    study = Study(layers)
    controls = {
        "alpha": decimal("strength α", alpha, 0.0, RATIOS[-1], step=0.05),
        "bits": integer("bits", bits, 2, 8),
        "group": choice("groups", group, study.groups),
        "layer": choice("layer", next(iter(layers)), list(layers)),
    }
    return Dashboard(study.draw, controls)


class Study:
    """Layers under many scales: quantizes them when asked, remembers and draws them."""

    def __init__(self, layers: Layers) -> None:
        self.layers = {
            name: tuple(part.detach().float().cpu() for part in pair)
            for name, pair in layers.items()
        }
        widths = [W.shape[1] for W, _ in self.layers.values()]
        self.groups = [ROW] + [
            f"{g}" for g in GROUPS if all(w % g == 0 and w > g for w in widths)
        ]
        self.salience = lru_cache(maxsize=64)(self._salience)
        self.protected = lru_cache(maxsize=512)(self._protected)
        self.picture: SaliencePicture | None = None

    def _salience(self, layer: str, bits: int, group: str) -> Salience:
        """A layer and how it is to be rounded."""
        W, X = self.layers[layer]
        granularity = groups.PER_CHANNEL
        if group != ROW:
            granularity = groups.per_group(int(group))
        return Salience(W, X, zero_point(bits), granularity)

    def _protected(self, layer: str, bits: int, group: str, ratio: float) -> Protected:
        """That layer under the scales of one strength."""
        return self.salience(layer, bits, group).at(ratio)

    def draw(self, *, alpha: float, bits: int, group: str, layer: str) -> Frame:
        """The picture, the words, the texts under the pointer."""
        chosen = self.salience(layer, bits, group)
        now = self.protected(layer, bits, group, round(alpha, 2))
        if self.picture is None:
            self.picture = SaliencePicture(chosen, now)
        else:
            self.picture.update(chosen, now)
        words = paragraph(chosen.describe(now))
        return Frame(self.picture.fig, words, spots=_spots(chosen, now))


def _spots(layer: Salience, now: Protected) -> list[Spot]:
    """Texts under the pointer, a strip for each column."""
    count = min(SEEN, len(layer.inputs))
    left, top, wide, _ = INPUTS
    each, tall = wide / (count + 1), ERRORS[1] + ERRORS[3] - top
    rows = zip(
        layer.order.tolist(),
        layer.inputs.tolist(),
        now.scales.tolist(),
        layer.before.tolist(),
        now.after.tolist(),
        strict=True,
    )
    return [
        Spot(
            left + each * (place + 0.5),
            top,
            each,
            tall,
            f"column {column}: input {number(x, digits=3)} of the middle one, scale "
            f"{number(s, digits=3)}; own error {before:.3%} of RTN's, now {after:.3%}",
        )
        for place, (column, x, s, before, after) in zip(
            range(count), rows, strict=False
        )
    ]
