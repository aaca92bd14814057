"""W8A8: a whole model whose matrix products are those of 8-bit integers.

    with w8a8(model, "llm_int8", threshold=6.0) as taken:
        loss = evaluate.perplexity(model, tokenizer, documents)
    taken["model.layers.0.mlp.up_proj"].values     # share of values taken out

Weights (W) and what flows into them (*activations*, A) are both rounded to 8 bits, anew
in each forward pass. While the block lasts, each linear layer of the decoder layers
multiplies so, and afterwards as before; no weight is written. This measures what
integers do to a model's predictions, and is no faster than floats.

    "absmax"        one scale for all of X, one for all of W
    "vector_wise"   a scale per token, and one per row of W
    "llm_int8"      the same, without the columns of X that reach `threshold`: those
                    are multiplied in floats (see `llm_int8.py`)
    "smooth"        codes of W · s from a report, X / s with a scale per token (see
                    `smoothquant.py`); once s is folded, "vector_wise" does the same

With outlier_weights=torch.float16 the outlier columns of W are 16-bit floats, as in the
paper; "int8" takes them from the codes, as bitsandbytes does. A bias is added in
floats. All the tokens of a forward pass count as one X: one outlier in any of them
takes its column out for all, and one scale of "absmax" spans them all.

What is left out: integers inside attention, between queries, keys and values, which
have no weights; lm_head; and layers that keep their codes, for running a model rather
than measuring it. Lesson 05.
"""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Literal, TypeAlias

import torch
from jaxtyping import Float
from torch import Tensor, nn

from minquant.methods.llm_int8 import INT8, OutlierWeights, llm_int8, outlier_columns
from minquant.methods.rtn import fake_quantize, floats
from minquant.methods.smoothquant import smooth_product
from minquant.models.linear_layers import linear_layers, weight_of
from minquant.numerics.groups import PER_CHANNEL, PER_TENSOR
from minquant.numerics.tensor import QuantizedTensor

Product: TypeAlias = Callable[[Tensor], Tensor]  # X (n, in) -> X Wᵀ (n, out)
Kind: TypeAlias = Literal["absmax", "vector_wise", "llm_int8", "smooth"]
KINDS = ("absmax", "vector_wise", "llm_int8", "smooth")


@dataclass
class Taken:
    """What a threshold has taken out of one layer's inputs, over all forward passes."""

    tokens: int = 0
    inputs: int = 0  # values of X
    large: int = 0  # of them, reach the threshold
    split: int = 0  # of them, lie in a column that is taken out

    @property
    def values(self) -> float:
        """The share of the inputs that reach the threshold: the outliers."""
        return self.large / self.inputs if self.inputs else 0.0

    @property
    def columns(self) -> float:
        """The share of the inputs multiplied in floats: columns, averaged by token."""
        return self.split / self.inputs if self.inputs else 0.0

    def count(self, X: Float[Tensor, "n in"], threshold: float) -> None:
        """Count one forward pass."""
        self.tokens += X.shape[0]
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
) -> Iterator[dict[str, Taken]]:
    """While this lasts, the model's linear layers multiply 8-bit integers.

    kind: one of the four above. threshold, outlier_weights: for "llm_int8"; counts of
    what reaches the threshold are kept for every kind. report: for "smooth", what
    `quantize_` with `quantize_smooth_shared` returned; layers without one are rounded
    as in "vector_wise".

    Yields what was taken out so far, by layer. Raises ValueError if kind is unknown, a
    report is missing or of another model, or an option does not fit.
    """
    layers = linear_layers(model)
    _check(kind, layers, report)
    taken = {name: Taken() for name in layers}
    mixed = {"threshold": threshold if kind == "llm_int8" else torch.inf}
    mixed |= {"outlier_weights": outlier_weights}
    try:
        for name, layer in layers.items():
            if kind == "absmax":
                product = partial(absmax_product, W=weight_of(layer))
            elif report and name in report:
                q = report[name]
                product = partial(
                    smooth_product, quantized=q, X_granularity=PER_CHANNEL
                )
            else:
                product = partial(llm_int8, W=weight_of(layer), **mixed)
            layer.forward = partial(_forward, layer, product, taken[name], threshold)
        yield taken
    finally:
        for layer in layers.values():
            vars(layer).pop("forward", None)  # what its class says is there again


def absmax_product(
    X: Float[Tensor, "n in"], W: Float[Tensor, "out in"]
) -> Float[Tensor, "n out"]:
    """X Wᵀ in 8 bits with one scale for X, and one for W: absmax / 127, in fp32.

    >>> X, W = torch.tensor([[127.0, 0.4], [0.0, 0.6]]), torch.tensor([[0.0, 1.0]])
    >>> absmax_product(X, W)
    tensor([[0.],
            [1.]])
    """
    how = {"granularity": PER_TENSOR, "scale_dtype": torch.float32}
    X_hat, W_hat = (fake_quantize(floats(A), INT8, **how) for A in (X, W))
    return X_hat @ W_hat.to(X_hat).T


def _forward(
    layer: nn.Module, product: Product, taken: Taken, threshold: float, states: Tensor
) -> Tensor:
    """What a linear layer does instead of its own forward."""
    X = states.flatten(0, -2)  # (batch, time, in) -> (n, in)
    taken.count(X, threshold)
    Y = product(X).to(X)  # (n, out)
    Y = Y if layer.bias is None else Y + layer.bias
    return Y.unflatten(0, states.shape[:-1])


def _check(
    kind: str,
    layers: Mapping[str, nn.Module],
    report: Mapping[str, QuantizedTensor] | None,
) -> None:
    """Raise ValueError for an unknown kind, an odd report, a block within a block."""
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
    if any("forward" in vars(layer) for layer in layers.values()):
        raise ValueError("model already multiplies so; leave the other block first")
