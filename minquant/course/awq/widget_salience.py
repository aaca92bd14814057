"""The widget of AWQ: turn the strength up, and watch who gains and who pays.

    protected_columns(layers)      # name to (W, X): the last line of a cell

The reader moves the strength α of the scales, the bits and the groups, and chooses a
layer. Each column's scale, its own error before and after, and the error of the whole
layer for all strengths are read from what `awq` returns (`salience`); each state is
computed when first asked for, and remembered. Lesson 07 shows it.
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
    """Layers under many scales: quantizes when asked, remembers, draws."""

    def __init__(self, layers: Layers) -> None:
        self.layers = {
            name: tuple(part.detach().float().cpu() for part in pair)
            for name, pair in layers.items()
        }
        widths = [W.shape[1] for W, _ in self.layers.values()]
        self.groups = [ROW] + [
            f"{g}" for g in GROUPS if all(w % g == 0 and w > g for w in widths)
        ]
        self.of = lru_cache(maxsize=64)(self.rounded)
        self.seen = lru_cache(maxsize=512)(self.protected)
        self.picture: SaliencePicture | None = None

    def rounded(self, layer: str, bits: int, group: str) -> Salience:
        """A layer and how it is to be rounded."""
        kind = groups.PER_CHANNEL if group == ROW else groups.per_group(int(group))
        return Salience(*self.layers[layer], zero_point(bits), kind)

    def protected(self, layer: str, bits: int, group: str, ratio: float) -> Protected:
        """That layer under the scales of one strength."""
        return self.of(layer, bits, group).at(ratio)

    def draw(self, *, alpha: float, bits: int, group: str, layer: str) -> Frame:
        """The picture, the words, the texts under the pointer."""
        ratio = round(alpha, 2)
        chosen = self.of(layer, bits, group)
        now = self.seen(layer, bits, group, ratio)
        if self.picture is None:
            self.picture = SaliencePicture(chosen, now)
        else:
            self.picture.update(chosen, now)
        words = f'<p style="margin:0 0 6px">{chosen.describe(now)}</p>'
        return Frame(self.picture.fig, words, spots=_spots(chosen, now))


def _spots(layer: Salience, now: Protected) -> list[Spot]:
    """What the pointer tells, a strip for each column."""
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
            f"{number(s, digits=3)}; own error {was:.3%} of RTN's, now {is_:.3%}",
        )
        for place, (column, x, s, was, is_) in zip(range(count), rows, strict=False)
    ]
