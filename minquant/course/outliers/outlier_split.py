"""LLM.int8() at work on one layer: what a threshold takes out, and what that gains.

    OutlierSplit   one threshold: which columns of X are taken out, the error, and one
                   token on the ruler of what is left
    Sweep          the same X and W at many thresholds: the curves

All numbers are made by `llm_int8`; these only keep what a picture needs, and describe
it in words. Lesson 05; `figure_outlier_split` draws them.
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

THRESHOLDS = 33  # of a sweep


@dataclass(frozen=True, eq=False)
class OutlierSplit:
    """X and W at one threshold.

    measured: shares and error, from `llm_int8.sweep`. largest: the largest |x| of each
    column. outliers: True for each column that is taken out. row, x, scale, codes: one
    token, its values, its ruler's step, its codes. window: nine in ten values of X lie
    well between −window and window.
    """

    measured: Split
    largest: Float[np.ndarray, " in"]
    outliers: Bool[np.ndarray, " in"]
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
    ) -> OutlierSplit:
        """Split X at the threshold, and look at one of its rows (a token).

        Raises ValueError if there is no such row, or as `llm_int8.llm_int8` does.
        """
        if not 0 <= row < len(X):
            raise ValueError(f"row is {row}; choose a token from 0 to {len(X) - 1}")
        (measured,) = llm_int8.sweep(X, W, [threshold], outlier_weights=outlier_weights)
        outliers = llm_int8.outlier_columns(X, threshold)
        rest = X[row : row + 1].float().masked_fill(outliers, 0)
        quantized = llm_int8.quantize_rows(rest)
        return cls(
            measured=measured,
            largest=X.abs().amax(0).numpy(),
            outliers=outliers.numpy(),
            row=row,
            x=X[row].numpy(),
            scale=scale_values(quantized.scales).item(),
            codes=quantized.codes[0].numpy(),
            window=1.5 * float(np.quantile(X.abs().numpy(), 0.9)) or 1.0,
        )

    @property
    def step(self) -> float:
        """The step of the token's ruler; 0 if no value is left for it."""
        return self.scale if self.codes.any() else 0.0

    @property
    def used(self) -> int:
        """How many of the ruler's 255 ticks have one of the values that stay."""
        return len(np.unique(self.codes[~self.outliers]))

    def describe(self) -> str:
        """In words: what is taken out, the error, the token's ruler."""
        measured, columns = self.measured, int(self.outliers.sum())
        threshold = f"{measured.threshold:g}".replace("inf", "∞")
        text = (
            f"At a threshold of {threshold}, {columns} of {len(self.outliers)} "
            f"columns are multiplied in floats ({measured.columns:.1%}); "
            f"{measured.values:.2%} of all values reach it. The error is "
            f"{measured.error:.2%} of Y. "
        )
        if not self.step:
            return text + f"Token {self.row} has nothing left for a ruler."
        reach, step = number(127 * self.step, digits=3), number(self.step, digits=2)
        return text + (
            f"The ruler of token {self.row} reaches ±{reach}, a tick every {step}; "
            f"the {len(self.outliers) - columns} values that stay use {self.used} of "
            "its 255."
        )


@dataclass(frozen=True, eq=False)
class Sweep:
    """One X and W at many thresholds (splits), and with nothing taken out.

    without: the error with nothing taken out.
    """

    splits: tuple[Split, ...]
    without: float

    @classmethod
    def of(
        cls,
        X: Float[Tensor, "n in"],
        W: Float[Tensor, "out cols"],
        *,
        outlier_weights: OutlierWeights = torch.float16,
    ) -> Sweep:
        """Thresholds from one that takes out nearly all columns to one that takes none.

        Raises ValueError as `llm_int8.llm_int8` does.
        """
        largest = X.abs().amax(0)
        low = max(largest.median().item() / 4, 1e-3 * largest.max().item(), 1e-6)
        high = max(1.3 * largest.max().item(), 12.0, 2 * low)
        thresholds = [*np.geomspace(low, high, THRESHOLDS).tolist(), torch.inf]
        *splits, nothing_out = llm_int8.sweep(
            X, W, thresholds, outlier_weights=outlier_weights
        )
        return cls(tuple(splits), nothing_out.error)
