"""Exercises of lesson 11: three values, a latent weight, and a width for each layer.

Each mistake is a function that is wrong in one way; `exercises` says how it is used.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from math import inf

import torch
from torch import Tensor

from minquant.course import answers_low_bits
from minquant.course.exercises import Exercise
from minquant.methods import rtn
from minquant.planning import mixed_precision
from minquant.training.qat import straight_through

HAND = torch.tensor([[0.9, -0.2, 0.4, -2.5], [0.05, 0.25, -0.33, -0.22]])
SPREAD = torch.randn(4, 64, generator=torch.Generator().manual_seed(0))
SPREAD *= torch.tensor([[0.02], [0.2], [0.02], [0.04]])


def _absmean(W: Tensor) -> Tensor:
    return W.abs().mean(1, keepdim=True)


def _rounded(W: Tensor, scale: Tensor) -> tuple[Tensor, Tensor]:
    """Codes on a ruler that may be the wrong one, and the ruler."""
    return (W / scale).round().clamp(-1, 1), scale


def _beyond(W: Tensor, border: float) -> tuple[Tensor, Tensor]:
    """The signs of all |w| above a share of the mean, 0 elsewhere, and the mean."""
    return W.sign() * (W.abs() > border * _absmean(W)), _absmean(W)


ternary = Exercise(
    name="ternary",
    task="ternary(W) gives codes (out, in), the integers −1, 0 and 1, and scales "
    "(out, 1), the mean |w| of each row",
    answer=answers_low_bits.ternary,
    cases={
        "two rows by hand": (HAND,),
        "4 × 64 weights, one row ten times as large": (SPREAD,),
    },
    mistakes={
        "the scale is the largest |w|; take the mean": (
            lambda W: _rounded(W, W.abs().amax(1, keepdim=True))
        ),
        "the mean is that of the whole matrix; each row has its own": (
            lambda W: _rounded(W, W.abs().mean().expand(len(W), 1))
        ),
        "there is one scale for the whole matrix; each row has its own": (
            lambda W: _rounded(W, W.abs().mean())
        ),
        "the mean is taken down each column; take it along each row, dim 1": (
            lambda W: _rounded(W, W.abs().mean(0, keepdim=True))
        ),
        "the mean is that of w, in which signs cancel; take |w|": (
            lambda W: _rounded(W, W.mean(1, keepdim=True))
        ),
        "the scale is the median; take the mean": (
            lambda W: _rounded(W, W.abs().median(1, keepdim=True).values)
        ),
        "large weights get codes beyond −1 and 1; clamp them": (
            lambda W: ((W / _absmean(W)).round(), _absmean(W))
        ),
        "no code is 0: these are signs; round w / scale": lambda W: _beyond(W, 0.0),
        "it cuts the fraction of w / scale off; round it": lambda W: _beyond(W, 1.0),
        "codes are 0 below half the scale, not below 0.7 of it (TWN's rule)": (
            lambda W: _beyond(W, 0.7)
        ),
        "the first output is W_hat; give the codes": (
            lambda W: (_beyond(W, 0.5)[0] * _absmean(W), _absmean(W))
        ),
    },
    outputs=("codes", "scales"),
    shows=(answers_low_bits.ternary, rtn.quantize_rtn),
)


SLOPES = torch.randn(4, 64, generator=torch.Generator().manual_seed(1))
HAND_G = torch.tensor([[1.0, -2.0, 0.5, 1.0], [0.5, -1.0, 2.0, 1.0]])


def _codes(W: Tensor) -> Tensor:
    return _rounded(W, _absmean(W))[0]


def _on_grid(W: Tensor) -> Tensor:
    return _codes(W) * _absmean(W)


def _moved(W: Tensor) -> tuple[Tensor, Tensor]:
    return W, _codes(W)


latent_step = Exercise(
    name="latent_step",
    task="latent_step(W, G, rate) gives the latent W after one step, and its codes, "
    "both (out, in); G is dL/dW_hat",
    answer=answers_low_bits.latent_step,
    cases={
        "two rows by hand": (HAND, HAND_G, 0.1),
        "a small step, after which no code has changed": (HAND, HAND_G, 1e-3),
        "4 × 64 weights, a large step": (SPREAD, SLOPES, 0.05),
    },
    mistakes={
        "the step starts from W_hat; it starts from the latent W": (
            lambda W, G, rate: _moved(_on_grid(W) - rate * G)
        ),
        "the codes are those of the old W": lambda W, G, r: (W - r * G, _codes(W)),
        "the new codes are on the old W's scale; take the mean |w| anew": (
            lambda W, G, rate: (W - rate * G, _rounded(W - rate * G, _absmean(W))[0])
        ),
        "the step goes uphill; subtract rate · G": lambda W, G, r: _moved(W + r * G),
        "the rate is forgotten": lambda W, G, r: _moved(W - G),
        "G is multiplied by the scale; it goes straight through, as it is": (
            lambda W, G, rate: _moved(W - rate * G * _absmean(W))
        ),
        "G is blocked where the code is 0; it goes straight through, to all weights": (
            lambda W, G, rate: _moved(W - rate * G * _codes(W).abs())
        ),
        "G is blocked where |w| is beyond the scale; here it goes to all weights": (
            lambda W, G, rate: _moved(W - rate * G * (W.abs() <= _absmean(W)))
        ),
        "W has not moved; take the staircase for a line": lambda W, G, r: _moved(W),
        "the new latent is rounded; keep it in full precision": (
            lambda W, G, rate: (_on_grid(W - rate * G), _codes(W - rate * G))
        ),
        "the second output is the new W_hat; give its codes": (
            lambda W, G, rate: (W - rate * G, _on_grid(W - rate * G))
        ),
    },
    outputs=("the new W", "codes"),
    shows=(answers_low_bits.latent_step, answers_low_bits.ternary, straight_through),
)


def _tables(sizes: list, nats: list, budget: int) -> tuple[Tensor, Tensor, int]:
    """Layers of so many bytes per bit, at 2, 3, 4 and perhaps 8 bits."""
    widths = torch.tensor([2, 3, 4, 8][: len(nats[0])])
    return torch.outer(torch.tensor(sizes), widths), torch.tensor(nats), budget


def _bought(
    nbytes: Tensor,
    nats: Tensor,
    budget: int,
    *,
    gain: Callable[[float, int, int], float] = lambda saved, more, whole: saved / more,
    farthest: float = inf,
    purchases: float = inf,
    again: bool = True,
    beyond: str = "",
    since_first: bool = False,
    least: float = 0.0,
) -> Tensor:
    """The purchases with one part to be made wrong. farthest: columns of one step.
    beyond: "stop" or "buy" if the best offer does not fit. least: nats to be saved."""
    size, harm = nbytes.tolist(), nats.tolist()
    chosen, left = [0] * len(size), budget - sum(row[0] for row in size)
    while purchases > 0 and left > 0:
        offers = []
        for layer, now in enumerate(chosen):
            start = 0 if since_first else now
            for to in range(now + 1, len(size[layer])):
                saved = harm[layer][start] - harm[layer][to]
                more = size[layer][to] - size[layer][start]
                price = size[layer][to] - size[layer][now]
                offered = to - now <= farthest and (again or now == 0)
                if offered and saved > least and (beyond or price <= left):
                    worth = gain(saved, more, size[layer][to])
                    offers.append((worth, price, layer, to))
        _, price, layer, to = max(offers, default=(0, inf, 0, 0))
        if price > left and (not offers or beyond == "stop"):
            break
        chosen[layer], left, purchases = to, left - price, purchases - 1
    return torch.tensor(chosen)


def _all_alike(nbytes: Tensor, nats: Tensor, budget: int) -> Tensor:
    return torch.full((len(nbytes),), int((nbytes.sum(0) <= budget).sum()) - 1)


def _in_order(nbytes: Tensor, nats: Tensor, budget: int) -> Tensor:
    """Each layer in its turn takes the widest that leaves the others their first."""
    left, chosen = budget - int(nbytes[:, 0].sum()), []
    for row in nbytes:
        chosen.append(int((row - row[0] <= left).sum()) - 1)
        left -= int(row[chosen[-1]] - row[0])
    return torch.tensor(chosen)


def _best_of_all(nbytes: Tensor, nats: Tensor, budget: int) -> Tensor:
    costs = answers_low_bits.costs_of(nbytes, nats)
    return torch.tensor([*mixed_precision.assign_exact(costs, budget).values()])


FOUR = [[0.88, 0.13, 0.03, 0.002], [0.61, 0.14, 0.02, 0.001]]
FOUR += [[1.9, 0.31, 0.044, 0.003], [0.24, 0.05, 0.011, 0.004]]
TWO = [[12.0, 7.0, 1.6], [5.0, 2.0, 1.6]]
THREE = [[4.0, 1.0, 0.3], [20.0, 4.0, 1.0], [3.0, 1.2, 0.4]]
UNEVEN = [[9.0, 8.7, 1.0, 0.9], [6.0, 2.4, 1.5, 0.2]]
NOISY = [[9.0, 4.0, 0.5, 0.6], [6.0, 2.0, 1.5, 0.2]]

assign_bits = Exercise(
    name="assign_bits",
    task="assign_bits(nbytes, nats, budget) gives a column for each layer: from column "
    "0 on, buy the change that saves the most nats per byte, of those that fit",
    answer=answers_low_bits.assign_bits,
    cases={
        "two layers, one twice as large": _tables([4, 2], TWO, 20),
        "the best change no longer fits, another does": _tables([1, 4, 2], THREE, 20),
        "3 bits are hardly better than 2, and skipped": _tables([1, 1], UNEVEN, 7),
        "bytes to spare, but 8 bits are not always better": _tables([1, 2], NOISY, 30),
        "four layers at 2, 3, 4 or 8 bits": _tables([8, 8, 24, 16], FOUR, 200),
    },
    mistakes={
        "it buys what saves the most nats; divide by the bytes that it adds": (
            partial(_bought, gain=lambda saved, more, whole: saved)
        ),
        "it divides by all bytes of the new width; divide by those that it adds": (
            partial(_bought, gain=lambda saved, more, whole: saved / whole)
        ),
        "it stops at the first change that does not fit; look for the next best": (
            partial(_bought, beyond="stop")
        ),
        "the last change goes over the budget": partial(_bought, beyond="buy"),
        "the budget is for all bytes, those of column 0 too": (
            lambda b, n, budget: _bought(b, n, budget + int(b[:, 0].sum()))
        ),
        "every layer has the same width": _all_alike,
        "the layers are served in their order; let nats per byte decide": _in_order,
        "it buys once; go on while something fits": partial(_bought, purchases=1),
        "each layer is changed once; change it again": partial(_bought, again=False),
        "it goes column by column; one may be skipped": partial(_bought, farthest=1),
        "what is saved is counted from column 0; count from where the layer stands": (
            partial(_bought, since_first=True)
        ),
        "it buys what saves nothing, or costs nats": partial(_bought, least=-inf),
        "this is the best of all, better than asked: buy step by step": _best_of_all,
    },
    outputs=("the columns",),
    shows=(answers_low_bits.assign_bits, mixed_precision.assign_greedy),
)

EXERCISES = (ternary, latent_step, assign_bits)
