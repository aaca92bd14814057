"""Mixed precision: more bits for the layers that need them, fewer for the others.

In all methods before this one, every matrix has the same width. Here there are three
steps:

    1  measure    quantize one matrix alone, at one width; how far do predictions move?
                  nats[layer, width] = KL(model ‖ model with this layer rounded)
    2  assign     a width to each layer, so that the sum of nats is as small as possible
                  and the sum of bytes stays within a budget
    3  quantize   each layer at its width

Step 2 assumes that the harms of layers add up. They do not quite. So step 1 can also
measure each layer while all others are quantized at one width, `around`. (Every option
then includes the harm of the others, which is always the same and changes no choice.)
What is measured on a few documents is partly chance, and the best assignment takes
chance for sensitivity: give it two dozen documents or more. In the end only the whole
model counts, on test text, against a model of equal size with one width everywhere:
`uniform_bytes` is the budget for that comparison.

Step 2 is a knapsack problem with one choice per layer. Two ways to solve it:

    greedy    begin with the fewest bytes. Again and again, among the changes that still
              fit, buy the one that saves the most nats per byte. Fast, and nearly the
              best: it can only be wrong about the last bytes of the budget
    exact     go layer by layer, and keep every pair (bytes, nats) of the layers so far
              that no other pair beats in both. At the end the best assignment is among
              those that are left; they are few, as bytes come in few sizes

What is left out: harms of several layers together, beyond `around`; and speed, as real
kernels want few different widths. In papers: HAWQ (Dong et al. 2019) measures
curvature, and many others make the same greedy choice. Lesson 11.
"""

import copy
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from math import isfinite
from typing import Any

from jaxtyping import Float, Int
from torch import Tensor, nn
from tqdm.auto import tqdm

from minquant.measure import windows
from minquant.measure.evaluate import kl_divergence
from minquant.models.linear_layers import (
    Report,
    distinct,
    left_in_floats,
    linear_layers,
    weight_of,
)
from minquant.models.quantize import quantize_
from minquant.models.text import HasText, check_split

Methods = Mapping[float, Callable]  # a method for each width in bits
Costs = Mapping[str, Mapping[float, "Cost"]]
Assignment = dict[str, float]
Partial = tuple[int, float, tuple[float, ...]]  # bytes, nats, widths of some layers


@dataclass(frozen=True)
class Cost:
    """The bytes of one layer at one width, and the KL in nats of rounding it alone."""

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
    """The cost of each layer at each width: its bytes, and the KL in nats per token.

    documents: calibration text, not test text, as the assignment is chosen on it.
    methods: by width, such as {2: method, 4: method}, each as `mq.quantize_` takes it.
    calibration: batches for methods that need X or H. around: the width of all other
    layers meanwhile; None leaves them as they are. The documents are read once for each
    layer and width, and the model's own predictions, tokens × vocabulary floats, stay
    in memory.

    Raises ValueError for test text, if there is no method, if `around` is not a width
    in methods, and as `mq.quantize_` does.
    """
    if not methods or around not in {None, *methods}:
        raise ValueError(
            f"methods has {sorted(methods)}, around is {around}; give a method for "
            "each width, such as {4: ...}"
        )
    check_split(documents, test=False)
    reading = windows.plan(model, tokenizer, documents, held_out=False)
    predictions: list[Tensor] = []  # the model's own log-probabilities
    windows.sums(reading, (model,), _store_in(predictions), progress=False)
    options = {"calibration": calibration, "progress": False}
    twin = copy.deepcopy(model)
    if around is not None:
        quantize_(twin, methods[around], **options)
    originals, _ = distinct(model, linear_layers(model))
    layers = linear_layers(twin)
    costs: dict[str, dict[float, Cost]] = {name: {} for name in originals}
    for name in tqdm(originals, "measuring", delay=1, disable=not progress):
        W = weight_of(layers[name])
        meanwhile = W.clone()  # what it is while other layers are measured
        for bits in sorted(methods):
            W.copy_(weight_of(originals[name]))
            report = quantize_(twin, methods[bits], only=[name], **options)
            (kl,) = windows.sums(reading, (twin,), _kl_to(predictions), progress=False)
            nats = (kl.sum() / reading.tokens.sum()).item()
            costs[name][bits] = Cost(report[name].nbytes, nats)
        W.copy_(meanwhile)
    return costs


def _store_in(predictions: list[Tensor]) -> windows.Measure:
    """Not a real measure: it stores the log-probabilities, and returns zeros."""

    def store(logits: Float[Tensor, "n vocab"], ids: Int[Tensor, " n"]) -> Tensor:
        """Zeros (1, n)."""
        predictions.append(logits.float().log_softmax(-1))
        return logits.new_zeros(1, len(ids))

    return store


def _kl_to(predictions: Sequence[Float[Tensor, "_ vocab"]]) -> windows.Measure:
    """The KL of each token from stored log-probabilities, which come in this order."""
    stored = iter(predictions)

    def measure(logits: Float[Tensor, "n vocab"], ids: Int[Tensor, " n"]) -> Tensor:
        """KL in nats, (1, n)."""
        p, q = next(stored), logits.float().log_softmax(-1)
        return kl_divergence(p, q)[None]

    return measure


def uniform_bytes(costs: Costs, bits: float) -> int:
    """The bytes of all layers at one width: the budget for a fair comparison.

    Raises ValueError if a layer was not measured at this width.
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
    """A width for each layer: what saves the most nats per byte is bought first.

    budget: bytes of all layers. Raises ValueError if not even the smallest widths fit
    the budget, or if nats are not finite.

    >>> costs = {"a": {2: Cost(2, 9.0), 4: Cost(4, 1.0)},
    ...          "b": {2: Cost(2, 3.0), 4: Cost(4, 0.0)}}
    >>> assign_greedy(costs, 6)
    {'a': 4, 'b': 2}
    """
    chosen = _smallest(costs, budget)
    left = budget - total(costs, chosen).nbytes
    while True:
        best, best_gain = None, 0.0  # gain: nats saved per byte
        for name, options in costs.items():
            now = options[chosen[name]]
            for bits, then in options.items():
                price = then.nbytes - now.nbytes
                if not 0 < price <= left:
                    continue
                gain = (now.nats - then.nats) / price
                if gain > best_gain:
                    best, best_gain = (name, bits, price), gain
        if best is None:
            return chosen
        name, bits, price = best
        chosen[name] = bits
        left -= price


def assign_exact(costs: Costs, budget: int) -> Assignment:
    """The width for each layer with the smallest sum of nats that fits the budget.

    budget: bytes of all layers. Raises ValueError if not even the smallest widths fit
    the budget, or if nats are not finite.
    """
    _smallest(costs, budget)
    partial: list[Partial] = [(0, 0.0, ())]
    least = [min(c.nbytes for c in options.values()) for options in costs.values()]
    for place, options in enumerate(costs.values()):
        room = budget - sum(least[place + 1 :])  # the layers behind need at least that
        grown = []
        for nbytes, nats, widths in partial:
            for bits, cost in options.items():
                if nbytes + cost.nbytes <= room:
                    grown.append(
                        (nbytes + cost.nbytes, nats + cost.nats, (*widths, bits))
                    )
        partial = _unbeaten(grown)
    _, _, widths = partial[-1]  # the most bytes, so the fewest nats
    return dict(zip(costs, widths, strict=True))


def _unbeaten(partial: list[Partial]) -> list[Partial]:
    """Those that no other beats in both bytes and nats: bytes rise and nats fall."""
    kept: list[Partial] = []
    for candidate in sorted(partial, key=lambda one: one[:2]):
        if not kept or candidate[1] < kept[-1][1]:
            kept.append(candidate)
    return kept


def _smallest(costs: Costs, budget: int) -> Assignment:
    """The width of the fewest bytes for each layer; if two are equal, of fewer nats.

    Raises ValueError if they do not fit the budget, or nats are not finite.
    """
    for name, options in costs.items():
        for bits, cost in options.items():
            if not isfinite(cost.nats):
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

    The widest layers are quantized first, so with calibration a layer sees only the
    errors of wider ones. options: as for `mq.quantize_`.

    Raises ValueError if a width has no method, and as `mq.quantize_` does.
    """
    if missing := sorted(set(assignment.values()) - set(methods)):
        raise ValueError(f"methods has none for {missing}; give one for each width")
    twin, report = copy.deepcopy(model), Report()
    for bits in sorted(set(assignment.values()), reverse=True):
        names = [name for name, width in assignment.items() if width == bits]
        part = quantize_(twin, methods[bits], only=names, **options)
        report.update(part)
        report.rounded_to_nearest |= part.rounded_to_nearest
    return twin, Report(
        {name: report[name] for name in linear_layers(twin) if name in report},
        left=left_in_floats(twin, report),
        rounded_to_nearest=report.rounded_to_nearest,
    )
