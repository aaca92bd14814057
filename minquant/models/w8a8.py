"""W8A8: a whole model that multiplies matrices in 8-bit integers.

    with w8a8(model, "llm_int8", threshold=6.0) as counts:
        loss = evaluate.perplexity(model, tokenizer, documents)
    counts["model.layers.0.mlp.up_proj"].values    # the share of outliers in X

Weights (W) and what flows into them (*activations*, A) are both rounded to 8 bits, in
each forward pass again. Inside the `with` block each linear layer of the decoder layers
multiplies in this way, and afterwards as before. No weight is written. This measures
what integers do to a model's predictions, and is no faster than floats. Copies and
files that are made inside are those of the plain model (`temporary.py`).

    "absmax"        one scale for all of X, one for all of W
    "vector_wise"   a scale per token, and one per row of W
    "llm_int8"      the same, without the columns of X that reach `threshold`: those
                    are multiplied in floats (see `methods/llm_int8.py`)
    "smooth"        codes of W · s from a report, X / s with a scale per token (see
                    `methods/smoothquant.py`); once s is folded, "vector_wise" does
                    the same

With outlier_weights=torch.float16 the outlier columns of W are 16-bit floats, as in the
paper; "int8" takes them from the codes, as bitsandbytes does. A bias is added in
floats. All tokens of a forward pass are one X: an outlier in any token moves its column
to floats for all tokens, and "absmax" has one scale for all of them.

What is left out: integers inside attention, in the products of queries, keys and
values, which have no weights; lm_head; and layers that keep their codes, for running a
model rather than measuring it. Lesson 05.
"""

from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal, TypeAlias

import torch
from jaxtyping import Float
from torch import Tensor, nn

from minquant.methods.llm_int8 import INT8, OutlierWeights, llm_int8, outlier_columns
from minquant.methods.rtn import fake_quantize, floats
from minquant.methods.smoothquant import smooth_product
from minquant.models.linear_layers import linear_layers, weight_of
from minquant.models.temporary import by_name, changed
from minquant.numerics.groups import PER_CHANNEL, PER_TENSOR
from minquant.numerics.tensor import QuantizedTensor

Product: TypeAlias = Callable[[Tensor, Tensor], Tensor]  # X (n, in), W -> X Wᵀ (n, out)
Kind: TypeAlias = Literal["absmax", "vector_wise", "llm_int8", "smooth"]
KINDS = ("absmax", "vector_wise", "llm_int8", "smooth")


@dataclass
class OutlierCounts:
    """How much of one layer's inputs a threshold finds, over all forward passes."""

    inputs: int = 0  # values of X
    large: int = 0  # of these: values that reach the threshold
    split: int = 0  # of these: values in a column that holds a large one

    @property
    def values(self) -> float:
        """The share of values that reach the threshold, 0 to 1: the outliers."""
        return self.large / self.inputs if self.inputs else 0.0

    @property
    def columns(self) -> float:
        """The share of values that LLM.int8() multiplies in floats, 0 to 1: those of
        columns with an outlier, averaged over tokens."""
        return self.split / self.inputs if self.inputs else 0.0

    def count(self, X: Float[Tensor, "n in"], threshold: float) -> None:
        """Add one forward pass."""
        self.inputs += X.numel()
        self.large += int((X.abs() >= threshold).sum())
        self.split += X.shape[0] * int(outlier_columns(X, threshold).sum())


@contextmanager
def w8a8(
    model: nn.Module,
    kind: Kind = "llm_int8",
    *,
    threshold: float = 6.0,
    outlier_weights: OutlierWeights = torch.float16,
    report: Mapping[str, QuantizedTensor] | None = None,
) -> Iterator[dict[str, OutlierCounts]]:
    """While this lasts, the model's linear layers multiply in 8-bit integers.

    kind: one of the four above.
    threshold, outlier_weights: for "llm_int8"; what reaches the threshold is counted
    for every kind.
    report: for "smooth", what `quantize_` with `quantize_smooth_shared` returned.
    Layers that are not in it are rounded as in "vector_wise".

    Yields the counts so far, by layer. Raises ValueError if kind is unknown, if a
    report is missing or of another model, if an option does not fit, or inside another
    w8a8 of the same model.
    """
    layers = linear_layers(model)
    _check(kind, layers, report)
    counts = {name: OutlierCounts() for name in layers}
    with ExitStack() as stack:
        for name, layer in layers.items():
            if report and name in report:
                product = partial(_smooth, report[name])
            elif kind == "absmax":
                product = absmax_product
            else:
                product = partial(
                    llm_int8,
                    threshold=threshold if kind == "llm_int8" else torch.inf,
                    outlier_weights=outlier_weights,
                )
            forward = partial(_forward, product, counts[name], threshold)
            stack.enter_context(changed(layer, forward=forward))
        yield counts


def absmax_product(
    X: Float[Tensor, "n in"], W: Float[Tensor, "out in"]
) -> Float[Tensor, "n out"]:
    """X Wᵀ in 8 bits with one scale for X, and one for W: absmax / 127, in fp32.

    >>> X, W = torch.tensor([[127.0, 0.4], [0.0, 0.6]]), torch.tensor([[0.0, 1.0]])
    >>> absmax_product(X, W)
    tensor([[0.],
            [1.]])
    """
    options = {"granularity": PER_TENSOR, "scale_dtype": torch.float32}
    X_hat = fake_quantize(floats(X), INT8, **options)
    W_hat = fake_quantize(floats(W), INT8, **options)
    return X_hat @ W_hat.to(X_hat).T


def _smooth(
    quantized: QuantizedTensor, X: Float[Tensor, "n in"], W: Float[Tensor, "out in"]
) -> Float[Tensor, "n out"]:
    """X Wᵀ from the codes of W · s in a report, not from W."""
    return smooth_product(X, quantized, X_granularity=PER_CHANNEL)


def _forward(
    product: Product,
    counts: OutlierCounts,
    threshold: float,
    layer: nn.Module,
    plain: Callable[..., Tensor],
    *args: Any,
    **kwargs: Any,
) -> Tensor:
    """This replaces `plain`, the forward of a linear layer."""
    (states,) = by_name(plain, args, kwargs).values()
    X = states.flatten(0, -2)  # (batch, time, in) -> (n, in)
    counts.count(X, threshold)
    Y = product(X, weight_of(layer)).to(X)  # (n, out)
    Y = Y if layer.bias is None else Y + layer.bias
    return Y.unflatten(0, states.shape[:-1])


def _check(
    kind: str,
    layers: Mapping[str, nn.Module],
    report: Mapping[str, QuantizedTensor] | None,
) -> None:
    """Raise ValueError for an unknown kind, and for a report that does not fit."""
    if kind not in KINDS:
        raise ValueError(f"kind is {kind!r}; choose from {', '.join(KINDS)}")
    if (kind == "smooth") != bool(report):
        raise ValueError(
            f"report is {'given' if report else 'missing'}, and kind is {kind!r}; "
            '"smooth" needs what quantize_ returned, and the others take none'
        )
    for name, quantized in (report or {}).items():
        if name not in layers or weight_of(layers[name]).shape != quantized.codes.shape:
            raise ValueError(f"report names {name!r}, but model has no such layer")
