"""The answers to the exercises of lesson 11, made of the package's own functions.

Three ways down to few bits: a grid of three values, a latent weight that learns to live
on it, and a width for each layer. `answers` has them by name.

    ternary        codes −1, 0, 1 of each row, and its mean |w|
    latent_step    one step of gradient descent, straight through the rounding
    assign_bits    the most nats saved per byte first, while bytes last
"""

from __future__ import annotations

import torch
from jaxtyping import Float, Int, Integer
from torch import Tensor

from minquant.methods import rtn
from minquant.numerics.grids import TERNARY
from minquant.planning.mixed_precision import Cost, Costs, assign_greedy
from minquant.training.qat import straight_through


def ternary(
    W: Float[Tensor, "out in"],
) -> tuple[Integer[Tensor, "out in"], Float[Tensor, "out 1"]]:
    """Codes −1, 0, 1 and a scale for each row, kept in float32."""
    made = rtn.quantize_rtn(W, TERNARY, scale_dtype=torch.float32)
    return made.codes, made.scales


def latent_step(
    W: Float[Tensor, "out in"], G: Float[Tensor, "out in"], rate: float
) -> tuple[Float[Tensor, "out in"], Integer[Tensor, "out in"]]:
    """The latent W after a step, where G is dL/dW_hat, and the codes it then has."""
    latent = W.clone().requires_grad_()
    straight_through(latent, TERNARY).backward(G)  # latent.grad is now G
    latent = latent.detach() - rate * latent.grad
    return latent, ternary(latent)[0]


def assign_bits(
    nbytes: Integer[Tensor, "layers widths"],
    nats: Float[Tensor, "layers widths"],
    budget: int,
) -> Int[Tensor, " layers"]:
    """The column of each layer's width, by greedy purchases."""
    chosen = assign_greedy(costs_of(nbytes, nats), budget)
    return torch.tensor(list(chosen.values()))


def costs_of(
    nbytes: Integer[Tensor, "layers widths"], nats: Float[Tensor, "layers widths"]
) -> Costs:
    """Two tables as `mixed_precision` takes them: layers by row, widths by column."""
    costs: dict[str, dict[float, Cost]] = {}
    for layer, row in enumerate(zip(nbytes.tolist(), nats.tolist(), strict=True)):
        options = zip(*row, strict=True)
        costs[str(layer)] = {column: Cost(*both) for column, both in enumerate(options)}
    return costs
