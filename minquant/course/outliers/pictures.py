"""The pictures of lesson 05, each named by what it shows.

product_in_codes    a product of two small matrices in 8-bit codes, number by number
inputs_of           what flows into some layers while a model reads a text
large_numbers       where in X they are, by token and column
tokens_on_rulers    the values of a token, each joined to its tick
live_threshold      the threshold of LLM.int8() that moves
live_smoothing      the α of SmoothQuant that moves
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from minquant.course.drawing.figures import Picture
from minquant.course.outliers import figure_product, figure_where
from minquant.course.outliers.figure_token_ruler import tokens_over_rulers
from minquant.course.outliers.live_smoothing import SmoothingPicture
from minquant.course.outliers.live_threshold import Layer, ThresholdPicture
from minquant.course.outliers.outlier_split import OutlierSplit
from minquant.models.calibrate import watching
from minquant.models.text import encode


def product_in_codes(X: Float[Tensor, "n in"], W: Float[Tensor, "out in"]) -> Picture:
    """X Wᵀ in 8-bit codes with a scale for each row, number by number."""
    return figure_product.product_in_codes(X, W)


@torch.no_grad()
def inputs_of(
    model: nn.Module, layers: Sequence[str], tokenizer: Any, text: str
) -> list[Float[Tensor, "n _"]]:
    """What flows into these layers while the model reads a text, a row per token."""
    seen = {}
    watched = {name: model.get_submodule(name) for name in layers}
    with watching(watched, lambda name, states: seen.update({name: states})):
        model(input_ids=encode(tokenizer, [text])[0][None])
    return [seen[name].flatten(0, -2).float() for name in layers]


def large_numbers(inputs: Mapping[str, Float[Tensor, "_ _"]]) -> Picture:
    """A dot for each number of X that is 6 or more in size."""
    return figure_where.large_numbers(inputs, 6.0)


def tokens_on_rulers(X: Float[Tensor, "n in"], row: int, threshold: float) -> Picture:
    """One token on its ruler, whole, and without the columns that reach a threshold."""
    return tokens_over_rulers(
        {
            "All columns": OutlierSplit.of(X, torch.inf, row),
            f"Without the columns that reach {threshold:g}": OutlierSplit.of(
                X, threshold, row
            ),
        }
    )


def live_threshold(layers: Mapping[str, Layer]) -> ThresholdPicture:
    """The threshold that moves, over X and W of each of these layers."""
    return ThresholdPicture(layers)


def live_smoothing(
    X: Float[Tensor, "n in"], W: Float[Tensor, "out in"]
) -> SmoothingPicture:
    """The α that moves, over the columns of X and W."""
    return SmoothingPicture(X, W)
