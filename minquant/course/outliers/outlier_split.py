"""LLM.int8() at work on one layer: what a threshold takes out, and what that wins.

    Parted   one threshold: which columns of X are taken out, the error, and one token
             on the ruler that is left to it
    Sweep    the same X and W at many thresholds: the curves

All numbers are made by `llm_int8`; these only keep what a picture needs of them, and
say it in words. Lesson 05; `figure_outlier_split` draws them.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Float, Int8
from torch import Tensor

from minquant.course.drawing.numbers import number
from minquant.methods import llm_int8
from minquant.methods.llm_int8 import OutlierWeights, Split
from minquant.numerics.scales import scale_values

PLACES = 33  # thresholds of a sweep


@dataclass(frozen=True, eq=False)
class Parted:
    """X and W at one threshold. tops: the largest |x| of each column. taken: whether it
    is taken out. x, scale, codes: one token, its ruler's step, its codes. window: nine
    of ten values of X lie well within ± this.
    """

    split: Split
    tops: Float[np.ndarray, " in"]
    taken: Bool[np.ndarray, " in"]
    row: int
    x: Float[np.ndarray, " in"]
    scale: float
    codes: Int8[np.ndarray, " in"]
    window: float

    @classmethod
    def of(
        cls,
        X: Float[Tensor, "n in"],
        W: Float[Tensor, "out cols"],
        threshold: float = 6.0,
        row: int = 0,
        *,
        outlier_weights: OutlierWeights = torch.float16,
    ) -> Parted:
        """Split X at the threshold, and look at one of its rows (a token).

        Raises ValueError if there is no such row, or as `llm_int8.llm_int8` does.
        """
        if not 0 <= row < len(X):
            raise ValueError(f"row is {row}; choose a token from 0 to {len(X) - 1}")
        kept = {"outlier_weights": outlier_weights}
        (split,) = llm_int8.sweep(X, W, [threshold], **kept)
        taken = llm_int8.outlier_columns(X, threshold)
        rest = llm_int8.quantize_rows(X[row : row + 1].float().masked_fill(taken, 0))
        return cls(
            split, X.abs().amax(0).numpy(), taken.numpy(), row, X[row].numpy(),
            scale_values(rest.scales).item(), rest.codes[0].numpy(),
            1.5 * float(np.quantile(X.abs().numpy(), 0.9)) or 1.0,
        )  # fmt: skip

    @property
    def step(self) -> float:
        """The step of the token's ruler; 0 if no value is left for it."""
        return self.scale if self.codes.any() else 0.0

    @property
    def used(self) -> int:
        """How many of the ruler's 255 ticks the values that stay fall on."""
        return len(np.unique(self.codes[~self.taken]))

    def describe(self) -> str:
        """In words: what is taken out, the error, the token's ruler."""
        split, out = self.split, int(self.taken.sum())
        limit = f"{split.threshold:g}".replace("inf", "∞")
        text = (
            f"At a threshold of {limit}, {out} of {len(self.taken)} "
            f"columns are multiplied in floats ({split.columns:.1%}); "
            f"{split.values:.2%} of all values reach it. The error is "
            f"{split.error:.2%} of Y. "
        )
        if not self.step:
            return text + f"Token {self.row} has nothing left for a ruler."
        reach, step = number(127 * self.step, digits=3), number(self.step, digits=2)
        return text + (
            f"The ruler of token {self.row} reaches ±{reach}, a tick every {step}; the "
            f"{len(self.taken) - out} values that stay use {self.used} of its 255."
        )


@dataclass(frozen=True, eq=False)
class Sweep:
    """What a threshold does to one X and W, at PLACES thresholds and at infinity."""

    splits: tuple[Split, ...]
    whole: float

    @classmethod
    def of(
        cls,
        X: Float[Tensor, "n in"],
        W: Float[Tensor, "out cols"],
        *,
        outlier_weights: OutlierWeights = torch.float16,
    ) -> Sweep:
        """Thresholds from a small one, which takes out nearly all, to one too large."""
        tops = X.abs().amax(0)
        low = max(tops.median().item() / 4, 1e-3 * tops.max().item(), 1e-6)
        high = max(1.3 * tops.max().item(), 12.0, 2 * low)
        places = [*np.geomspace(low, high, PLACES).tolist(), torch.inf]
        kept = {"outlier_weights": outlier_weights}
        *splits, whole = llm_int8.sweep(X, W, places, **kept)
        return cls(tuple(splits), whole.error)
