"""One token of X on the ruler of what a threshold of LLM.int8() leaves.

All numbers are made by `llm_int8`; this only keeps what a picture needs. Lesson 05;
`figure_token_ruler` draws it.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Int8
from torch import Tensor

from minquant.methods import llm_int8
from minquant.numerics.scales import scale_values


@dataclass(frozen=True, eq=False)
class OutlierSplit:
    """A token at one threshold.

    outliers: True for each column that is taken out. row, x, scale, codes: the token,
    its values, its ruler's step, its codes. window: nine in ten values of X lie well
    between −window and window.
    """

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
        threshold: float = 6.0,
        row: int = 0,
    ) -> OutlierSplit:
        """Split X at the threshold, and look at one of its rows (a token).

        Raises ValueError if there is no such row, or threshold is negative.
        """
        if not 0 <= row < len(X):
            raise ValueError(f"row is {row}; choose a token from 0 to {len(X) - 1}")
        outliers = llm_int8.outlier_columns(X, threshold)
        rest = X[row : row + 1].float().masked_fill(outliers, 0)
        quantized = llm_int8.quantize_rows(rest)
        return cls(
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
