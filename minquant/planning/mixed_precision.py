"""Mixed precision: more bits for the layers that need them, fewer for the others.

Unlike all before: not every matrix gets the same width. Three steps:

    1  measure    quantize one matrix alone, at one width; how far do predictions move?
                  nats[layer, width] = KL(model ‖ model with this layer rounded)
    2  assign     a width to each layer, so that the sum of nats is least and the sum of
                  bytes stays within a budget
    3  quantize   each layer at its width

The sum in 2 takes for granted that layers do their harm independently. They do not
quite, as KL is no sum; so 1 can also be done in company, `around` the model with all
other layers at one width. (Then each option counts the harm of the others too, always
the same, which changes no choice.) And what is measured on a few documents is partly
chance, which the best assignment takes for sensitivity: give it two dozen or more. What
counts in the end is the whole model, on test text, beside one of equal size with the
same width everywhere: `uniform_bytes` is the budget for that.

Step 2 is a knapsack with one choice per layer. Two ways to solve it:

    greedy    begin with the fewest bytes, and buy, again and again, the change that
              saves the most nats per byte, of those that still fit. Fast, and nearly
              the best: it can be wrong only where the budget's last bytes go
    exact     layer by layer, keep every (bytes, nats) of the layers so far that no
              other beats in both. What is left at the end holds the best of all
              assignments; there are few, as bytes come in few sizes

What is left out: cross terms beyond `around`, and speed, as real kernels want few
different widths. In papers: HAWQ (Dong et al. 2019) takes curvature
for the measure, and the same greedy choice serves in many. Lesson 11.
"""

import copy
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from math import isfinite
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from tqdm.auto import tqdm

from minquant.measure import windows
from minquant.models import quantize as whole
from minquant.models.linear_layers import Report, distinct, linear_layers, weight_of
from minquant.models.text import HasText, check_split

Methods = Mapping[
    float, Callable
]  # a method by its width in bits, any label that sorts
Costs = Mapping[str, Mapping[float, "Cost"]]
Assignment = dict[str, float]


@dataclass(frozen=True)
class Cost:
    """What one layer takes at one width, and what rounding it alone costs."""

    nbytes: int
    nats: float


def sensitivities(
    model: nn.Module,
    tokenizer: Any,
    documents: Sequence[str | HasText],
    methods: Methods,
    *,
    calibration: Sequence[Int[Tensor, "_ _"]] | None = None,
    around: float | None = None,
    progress: bool = True,
) -> dict[str, dict[float, Cost]]:
    """The KL in nats per token when one layer is rounded by each method, and its bytes.

    documents: calibration text, not test text: an assignment is chosen on it. methods:
    by width, such as {2: method, 4: method}, each as `mq.quantize_` takes them;
    calibration: for those that need X or H. around: a width that all other layers have
    meanwhile; None leaves them as they are. The documents are read once for each layer
    and width; the model's own predictions, tokens × vocabulary floats, are held.

    Raises ValueError for test text, no method, an `around` without one, and as
    `mq.quantize_` does.
    """
    if not methods or around not in {None, *methods}:
        raise ValueError(
            f"methods has {sorted(methods)}, around is {around}; give a method for "
            "each width, such as {4: ...}"
        )
    check_split(documents, test=False)
    read = windows.plan(model, tokenizer, documents, held_out=False)
    right: list[Tensor] = []
    windows.sums(read, (model,), _keeping(right), progress=False)
    how = {"calibration": calibration, "progress": False}
    twin = copy.deepcopy(model)
    if around is not None:
        whole.quantize_(twin, methods[around], **how)
    origins, _ = distinct(model, linear_layers(model))
    layers = linear_layers(twin)
    found: dict[str, dict[float, Cost]] = {name: {} for name in origins}
    for name in tqdm(origins, "measuring", delay=1, disable=not progress):
        W = weight_of(layers[name])
        meanwhile = W.clone()
        for bits in sorted(methods):
            W.copy_(weight_of(origins[name]))
            report = whole.quantize_(twin, methods[bits], only=[name], **how)
            (kl,) = windows.sums(read, (twin,), _kl_from(right), progress=False)
            nats = (kl.sum() / read.tokens.sum()).item()
            found[name][bits] = Cost(report[name].nbytes, nats)
        W.copy_(meanwhile)
    return found


def _keeping(kept: list[Tensor]) -> windows.Measure:
    """A measure that measures nothing, and keeps the log-probabilities it is given."""

    def keep(logits: Float[Tensor, "n vocab"], ids: Int[Tensor, " n"]) -> Tensor:
        """Zeros (1, n)."""
        kept.append(logits.float().log_softmax(-1))
        return torch.zeros(1, len(ids))

    return keep


def _kl_from(right: Sequence[Float[Tensor, "_ vocab"]]) -> windows.Measure:
    """The KL of each token from log-probabilities that come in the same order."""
    rows = iter(right)

    def measure(logits: Float[Tensor, "n vocab"], ids: Int[Tensor, " n"]) -> Tensor:
        """(1, n)."""
        p, q = next(rows), logits.float().log_softmax(-1)
        return (p.exp() * (p - q)).sum(-1)[None]

    return measure


def uniform_bytes(costs: Costs, bits: float) -> int:
    """The bytes of all layers at one width: the budget for a fair comparison.

    Raises ValueError if a layer was not measured at it.
    """
    if any(bits not in options for options in costs.values()):
        known = sorted(set().union(*costs.values()))
        raise ValueError(f"bits is {bits}, but what was measured is {known}")
    return sum(options[bits].nbytes for options in costs.values())


def total(costs: Costs, assignment: Mapping[str, float]) -> Cost:
    """The bytes of an assignment, and the sum of its nats."""
    chosen = [costs[name][bits] for name, bits in assignment.items()]
    return Cost(sum(c.nbytes for c in chosen), sum(c.nats for c in chosen))


def assign_greedy(costs: Costs, budget: int) -> Assignment:
    """A width for each layer: the most nats saved per byte first, while bytes last.

    Raises ValueError if not even the smallest widths fit the budget, or nats are not
    finite.

    >>> costs = {"a": {2: Cost(2, 9.0), 4: Cost(4, 1.0)},
    ...          "b": {2: Cost(2, 3.0), 4: Cost(4, 0.0)}}
    >>> assign_greedy(costs, 6)
    {'a': 4, 'b': 2}
    """
    chosen = _smallest(costs, budget)
    left = budget - total(costs, chosen).nbytes
    while True:
        best, gain = None, 0.0
        for name, options in costs.items():
            now = options[chosen[name]]
            for bits, then in options.items():
                more, saved = then.nbytes - now.nbytes, now.nats - then.nats
                if 0 < more <= left and saved / more > gain:
                    best, gain = (name, bits, more), saved / more
        if best is None:
            return chosen
        name, chosen[name], more = best
        left -= more


def assign_exact(costs: Costs, budget: int) -> Assignment:
    """The width for each layer with the least sum of nats, of all that fit the budget.

    Raises ValueError if not even the smallest widths fit, or nats are not finite.
    """
    _smallest(costs, budget)
    ends: list[tuple[int, float, tuple[float, ...]]] = [(0, 0.0, ())]
    least = [min(c.nbytes for c in options.values()) for options in costs.values()]
    for place, options in enumerate(costs.values()):
        room = budget - sum(least[place + 1 :])
        grown = [
            (nbytes + cost.nbytes, nats + cost.nats, (*path, bits))
            for nbytes, nats, path in ends
            for bits, cost in options.items()
            if nbytes + cost.nbytes <= room
        ]
        ends = _unbeaten(grown)
    return dict(zip(costs, ends[-1][2], strict=True))


def _unbeaten(ends: list[tuple]) -> list[tuple]:
    """Those that no other beats in both bytes and nats, by bytes; nats fall."""
    kept: list[tuple] = []
    for end in sorted(ends, key=lambda end: end[:2]):
        if not kept or end[1] < kept[-1][1]:
            kept.append(end)
    return kept


def _smallest(costs: Costs, budget: int) -> Assignment:
    """Each layer's width of the fewest bytes, and of these of the fewest nats."""
    for name, options in costs.items():
        for bits, cost in options.items():
            if not isfinite(cost.nats):  # it could not be compared, nor summed
                raise ValueError(
                    f"costs has {cost.nats} nats for {name} at {bits} bits; leave that "
                    "width out for this layer, or measure it again"
                )
    chosen = {
        name: min(options, key=lambda b: (options[b].nbytes, options[b].nats))
        for name, options in costs.items()
    }
    if (needed := total(costs, chosen).nbytes) > budget:
        raise ValueError(
            f"budget is {budget} bytes, but the smallest widths take {needed}; give "
            "more, or measure smaller widths"
        )
    return chosen


def quantize(
    model: nn.Module, assignment: Mapping[str, float], methods: Methods, **options: Any
) -> tuple[nn.Module, Report]:
    """A copy of a model with each layer quantized at its width, and its report.

    Widest first, as each `mq.quantize_` with `only=` does; options are its own. With
    calibration, a layer so meets the errors of wider ones alone. Raises as it does, and
    ValueError if a width has no method.
    """
    if missing := sorted(set(assignment.values()) - set(methods)):
        raise ValueError(f"methods has none for {missing}; give one for each width")
    twin, report = copy.deepcopy(model), {}
    for bits in sorted(set(assignment.values()), reverse=True):
        names = [name for name, width in assignment.items() if width == bits]
        report |= whole.quantize_(twin, methods[bits], only=names, **options)
    return twin, {name: report[name] for name in linear_layers(twin) if name in report}
