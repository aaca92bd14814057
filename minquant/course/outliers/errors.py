"""The error of a layer whose inputs are rounded too. Lesson 05."""

from __future__ import annotations

from jaxtyping import Float
from torch import Tensor


def layer_error(Y_hat: Float[Tensor, "n out"], Y: Float[Tensor, "n out"]) -> float:
    """The mean squared error as a share of the mean of Y squared: the `relative` of
    `mq.layer_error`, from the outputs. 0 if Y is 0 and stays so, else infinite."""
    wrong = (Y_hat - Y).double().square().mean().item()
    power = Y.double().square().mean().item()
    return wrong / power if power else (float("inf") if wrong else 0.0)
