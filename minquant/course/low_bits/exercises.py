"""Exercises of lesson 11: three ways down to few bits.

    ternary        codes −1, 0, 1 of each row, and its mean |w|
    latent_step    one step of gradient descent, straight through the rounding
    assign_bits    a width for each layer: the most nats saved per byte first

In every case the weights stay away from the border between two codes, and the best
purchase is clearly better than the next, so the order of sums does not matter.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from math import inf
from typing import NamedTuple

import torch
from jaxtyping import Float, Int, Integer
from torch import Tensor

from minquant.course.exercises import Exercise, normal
from minquant.methods import rtn
from minquant.numerics.grids import TERNARY
from minquant.planning import mixed_precision
from minquant.planning.mixed_precision import Cost, Costs, assign_greedy
from minquant.training.qat import straight_through

HAND = torch.tensor([[0.9, -0.2, 0.4, -2.5], [0.05, 0.25, -0.33, -0.22]])
SPREAD = normal(4, 64, seed=0) * torch.tensor([[0.02], [0.2], [0.02], [0.04]])


# --- ternary ---


def ternary(
    W: Float[Tensor, "out in"],
) -> tuple[Integer[Tensor, "out in"], Float[Tensor, "out 1"]]:
    """Codes −1, 0, 1 and a scale for each row, kept in float32."""
    quantized = rtn.quantize_rtn(W, TERNARY, scale_dtype=torch.float32)
    return quantized.codes, quantized.scales


def _absmean(W: Tensor) -> Tensor:
    return W.abs().mean(1, keepdim=True)


def _rounded(W: Tensor, scale: Tensor) -> tuple[Tensor, Tensor]:
    """Codes on a scale that may be the wrong one, and the scale."""
    return (W / scale).round().clamp(-1, 1), scale


def _beyond(W: Tensor, border: float) -> tuple[Tensor, Tensor]:
    """The signs of all |w| above a share of the mean, 0 elsewhere, and the mean."""
    return W.sign() * (W.abs() > border * _absmean(W)), _absmean(W)


check_ternary = Exercise(
    name="ternary",
    task="ternary(W) gives codes (out, in), the integers −1, 0 and 1, and scales "
    "(out, 1), the mean |w| of each row",
    answer=ternary,
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
    solution="""\
def ternary(W):
    scales = W.abs().mean(dim=1, keepdim=True)  # one for each row
    codes = (W / scales).round().clamp(-1, 1).int()
    return codes, scales
""",
    inside="minquant.quantize_rtn",
)


# --- latent_step ---


def latent_step(
    W: Float[Tensor, "out in"], G: Float[Tensor, "out in"], rate: float
) -> tuple[Float[Tensor, "out in"], Integer[Tensor, "out in"]]:
    """The latent W after a step, where G is dL/dW_hat, and the codes it then has."""
    latent = W.clone().requires_grad_()
    straight_through(latent, TERNARY).backward(G)  # latent.grad is now G
    latent = latent.detach() - rate * latent.grad
    return latent, ternary(latent)[0]


def _codes(W: Tensor) -> Tensor:
    return _rounded(W, _absmean(W))[0]


def _on_grid(W: Tensor) -> Tensor:
    return _codes(W) * _absmean(W)


def _with_codes(W: Tensor) -> tuple[Tensor, Tensor]:
    return W, _codes(W)


SLOPES = normal(4, 64, seed=1)
HAND_G = torch.tensor([[1.0, -2.0, 0.5, 1.0], [0.5, -1.0, 2.0, 1.0]])

check_latent_step = Exercise(
    name="latent_step",
    task="latent_step(W, G, rate) gives the latent W after one step, and its codes, "
    "both (out, in); G is dL/dW_hat",
    answer=latent_step,
    cases={
        "two rows by hand": (HAND, HAND_G, 0.1),
        "a small step, after which no code has changed": (HAND, HAND_G, 1e-3),
        "4 × 64 weights, a large step": (SPREAD, SLOPES, 0.05),
    },
    mistakes={
        "the step starts from W_hat; it starts from the latent W": (
            lambda W, G, rate: _with_codes(_on_grid(W) - rate * G)
        ),
        "the codes are those of the old W": lambda W, G, r: (W - r * G, _codes(W)),
        "the new codes are on the old W's scale; take the mean of the new |w|": (
            lambda W, G, rate: (W - rate * G, _rounded(W - rate * G, _absmean(W))[0])
        ),
        "the step goes uphill; subtract rate · G": (
            lambda W, G, rate: _with_codes(W + rate * G)
        ),
        "the rate is forgotten": lambda W, G, rate: _with_codes(W - G),
        "G is multiplied by the scale; it goes straight through, as it is": (
            lambda W, G, rate: _with_codes(W - rate * G * _absmean(W))
        ),
        "G is blocked where the code is 0; it goes straight through, to all weights": (
            lambda W, G, rate: _with_codes(W - rate * G * _codes(W).abs())
        ),
        "G is blocked where |w| is beyond the scale; here it goes to all weights": (
            lambda W, G, rate: _with_codes(W - rate * G * (W.abs() <= _absmean(W)))
        ),
        "W has not moved: the slope of round() is 0; let G straight through": (
            lambda W, G, rate: _with_codes(W)
        ),
        "the new latent is rounded; keep it in full precision": (
            lambda W, G, rate: (_on_grid(W - rate * G), _codes(W - rate * G))
        ),
        "the second output is the new W_hat; give its codes": (
            lambda W, G, rate: (W - rate * G, _on_grid(W - rate * G))
        ),
    },
    outputs=("the new W", "codes"),
    solution="""\
def latent_step(W, G, rate):
    W = W - rate * G  # the gradient passes through the rounding
    scales = W.abs().mean(dim=1, keepdim=True)
    return W, (W / scales).round().clamp(-1, 1).int()
""",
    inside="minquant.training.qat",
)


# --- assign_bits ---


def assign_bits(
    nbytes: Integer[Tensor, "layers widths"],
    nats: Float[Tensor, "layers widths"],
    budget: int,
) -> Int[Tensor, " layers"]:
    """The column of each layer's width, by greedy purchases."""
    chosen = assign_greedy(_costs(nbytes, nats), budget)
    return torch.tensor(list(chosen.values()))


def _costs(
    nbytes: Integer[Tensor, "layers widths"], nats: Float[Tensor, "layers widths"]
) -> Costs:
    """Two tables as `mixed_precision` takes them: layers by row, widths by column."""
    costs: dict[str, dict[float, Cost]] = {}
    for layer, (sizes, harms) in enumerate(zip(nbytes, nats, strict=True)):
        pairs = zip(sizes.tolist(), harms.tolist(), strict=True)
        costs[str(layer)] = {column: Cost(*pair) for column, pair in enumerate(pairs)}
    return costs


class _Offer(NamedTuple):
    """A wider column for one layer.

    saved, added: the nats that it saves and the bytes that it adds. price: the bytes
    that it takes from what is left; it differs from added only where that is counted
    from column 0. nbytes: all bytes of the new column.
    """

    layer: int
    now: int
    column: int
    saved: float
    added: int
    price: int
    nbytes: int


def _offers(
    nbytes: list[list[int]],
    nats: list[list[float]],
    chosen: list[int],
    from_first: bool = False,
) -> list[_Offer]:
    """All wider columns of all layers, which are in the chosen ones now.

    from_first: whether saved and added are counted from column 0.
    """
    offers = []
    for layer, now in enumerate(chosen):
        sizes, harms = nbytes[layer], nats[layer]
        start = 0 if from_first else now
        for column in range(now + 1, len(sizes)):
            saved = harms[start] - harms[column]
            added = sizes[column] - sizes[start]
            price = sizes[column] - sizes[now]
            offers.append(
                _Offer(layer, now, column, saved, added, price, sizes[column])
            )
    return offers


def _bought(
    nbytes: Tensor,
    nats: Tensor,
    budget: int,
    *,
    offered: Callable[[_Offer], bool] = lambda offer: offer.saved > 0,
    worth: Callable[[_Offer], float] = lambda offer: offer.saved / offer.added,
    from_first: bool = False,
    purchases: float = inf,
    too_large: str = "skip",
) -> Tensor:
    """The purchases, in which one part can be made wrong.

    offered: which offers are looked at; of these the one of most worth is bought.
    purchases: at most so many. too_large: what to do about an offer that does not fit:
    "skip" it, "stop" when it is the best, or "buy" it all the same.
    """
    sizes, harms = nbytes.tolist(), nats.tolist()
    chosen = [0] * len(sizes)
    left = budget - sum(row[0] for row in sizes)
    bought = 0
    while bought < purchases and left > 0:
        offers = [o for o in _offers(sizes, harms, chosen, from_first) if offered(o)]
        if too_large == "skip":
            offers = [offer for offer in offers if offer.price <= left]
        if not offers:
            break
        best = max(offers, key=worth)
        if best.price > left and too_large == "stop":
            break
        chosen[best.layer] = best.column
        left -= best.price
        bought += 1
    return torch.tensor(chosen)


def _first_change(offer: _Offer) -> bool:
    return offer.saved > 0 and offer.now == 0


def _next_column(offer: _Offer) -> bool:
    return offer.saved > 0 and offer.column == offer.now + 1


def _all_alike(nbytes: Tensor, nats: Tensor, budget: int) -> Tensor:
    """The widest column that fits, the same for every layer."""
    fitting = nbytes.sum(0) <= budget
    return torch.full((len(nbytes),), int(fitting.sum()) - 1)


def _in_order(nbytes: Tensor, nats: Tensor, budget: int) -> Tensor:
    """Each layer in its turn takes the widest that leaves the others their first."""
    left, chosen = budget - int(nbytes[:, 0].sum()), []
    for sizes in nbytes:
        fitting = sizes - sizes[0] <= left
        column = int(fitting.sum()) - 1
        left -= int(sizes[column] - sizes[0])
        chosen.append(column)
    return torch.tensor(chosen)


def _best_of_all(nbytes: Tensor, nats: Tensor, budget: int) -> Tensor:
    chosen = mixed_precision.assign_exact(_costs(nbytes, nats), budget)
    return torch.tensor(list(chosen.values()))


def _tables(
    sizes: list[int], nats: list[list[float]], budget: int
) -> tuple[Tensor, Tensor, int]:
    """Layers of so many bytes per bit, at 2, 3, 4 and perhaps 8 bits."""
    widths = torch.tensor([2, 3, 4, 8][: len(nats[0])])
    return torch.outer(torch.tensor(sizes), widths), torch.tensor(nats), budget


TWO = [[12.0, 7.0, 1.6], [5.0, 2.0, 1.6]]
THREE = [[4.0, 1.0, 0.3], [20.0, 4.0, 1.0], [3.0, 1.2, 0.4]]
UNEVEN = [[9.0, 8.7, 1.0, 0.9], [6.0, 2.4, 1.5, 0.2]]
NOISY = [[9.0, 4.0, 0.5, 0.6], [6.0, 2.0, 1.5, 0.2]]
FOUR = [
    [0.88, 0.13, 0.03, 0.002],
    [0.61, 0.14, 0.02, 0.001],
    [1.9, 0.31, 0.044, 0.003],
    [0.24, 0.05, 0.011, 0.004],
]

check_assign_bits = Exercise(
    name="assign_bits",
    task="assign_bits(nbytes, nats, budget) gives a column for each layer: from column "
    "0 on, buy the change that saves the most nats per byte, of those that fit",
    answer=assign_bits,
    cases={
        "two layers, one twice as large": _tables([4, 2], TWO, 20),
        "the best change no longer fits, another does": _tables([1, 4, 2], THREE, 20),
        "3 bits are hardly better than 2, and skipped": _tables([1, 1], UNEVEN, 7),
        "bytes to spare, but 8 bits are not always better": _tables([1, 2], NOISY, 30),
        "four layers at 2, 3, 4 or 8 bits": _tables([8, 8, 24, 16], FOUR, 200),
    },
    mistakes={
        "it buys what saves the most nats; divide by the bytes that it adds": (
            partial(_bought, worth=lambda offer: offer.saved)
        ),
        "it divides by all bytes of the new width; divide by those that it adds": (
            partial(_bought, worth=lambda offer: offer.saved / offer.nbytes)
        ),
        "it stops at the first change that does not fit; look for the next best": (
            partial(_bought, too_large="stop")
        ),
        "the last change goes over the budget": partial(_bought, too_large="buy"),
        "the budget is for all bytes, those of column 0 too": (
            lambda b, n, budget: _bought(b, n, budget + int(b[:, 0].sum()))
        ),
        "every layer has the same width": _all_alike,
        "the layers are served in their order; let nats per byte decide": _in_order,
        "it buys once; go on while something fits": partial(_bought, purchases=1),
        "each layer is changed once; change it again": (
            partial(_bought, offered=_first_change)
        ),
        "it goes column by column; one may be skipped": (
            partial(_bought, offered=_next_column)
        ),
        "what is saved is counted from column 0; count from where the layer stands": (
            partial(_bought, from_first=True)
        ),
        "it buys what saves nothing, or costs nats": (
            partial(_bought, offered=lambda offer: True)
        ),
        "this is the best of all, better than asked: buy step by step": _best_of_all,
    },
    outputs=("the columns",),
    solution="""\
def assign_bits(nbytes, nats, budget):
    rows = torch.arange(len(nbytes))
    chosen = torch.zeros(len(nbytes), dtype=torch.long)  # the smallest widths
    while True:
        price = nbytes - nbytes[rows, chosen][:, None]
        saved = nats[rows, chosen][:, None] - nats
        left = budget - nbytes[rows, chosen].sum()
        gain = torch.where((price > 0) & (price <= left), saved / price, 0.0)
        if gain.max() <= 0:
            return chosen
        layer, width = divmod(int(gain.argmax()), nbytes.shape[1])
        chosen[layer] = width
""",
    inside="minquant.planning.mixed_precision.assign_greedy",
)
