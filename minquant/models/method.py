"""A method, and what it asks for: one matrix or all that share an input? X? H?

A method is a function that quantizes, such as `quantize_rtn` with its grid filled in.
What it needs of a model it says by the names of its parameters without a default:

    W, or Ws     the first: one matrix (out, in); or the list of all that share an input
    X            the inputs of the layer (n, in), a row per token
    H            XᵀX (in, in)

So a new method touches no file but its own. Here its signature is read, before any work
is done, and what it returns is looked at, before any weight is written: a wrong method
leaves the model as it was. And its error is measured, as a share of what was there:

    ‖X (W_hat − W)ᵀ‖² / ‖X Wᵀ‖²          with H: tr(D H Dᵀ) / tr(W H Wᵀ), D = W_hat − W

Without X or H it is the weights' own, ‖W_hat − W‖² / ‖W‖²: as if all inputs were alike
and had nothing to do with each other. Lesson 04.
"""

import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from jaxtyping import Float
from torch import Tensor

from minquant.numerics.tensor import QuantizedTensor

_REST = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
_TOKENS = 1024  # rows of X that an error is measured on


@dataclass(frozen=True)
class Method:
    """A function that quantizes, whether it takes all matrices that share an input, and
    which of X and H it needs."""

    function: Callable
    takes_all: bool
    needs: tuple[str, ...]

    @staticmethod
    def read(function: Callable, calibration: Sequence[Tensor] | None) -> "Method":
        """Read the signature. Raises ValueError for what `quantize_` cannot provide,
        TypeError for a function without a parameter.
        """
        given = inspect.signature(function).parameters.values()
        asked = [p.name for p in given if p.default is p.empty and p.kind not in _REST]
        if not asked:
            raise TypeError("method takes no matrix; its first parameter should be W")
        first, *needs = asked
        unknown = [name for name in needs if name not in ("X", "H")]
        if unknown:
            raise ValueError(
                f"method also needs {', '.join(unknown)}, which no model gives; fill "
                f"it in first: functools.partial(method, {unknown[0]}=...)"
            )
        if (needs or first == "Ws") and not calibration:
            asks = " and ".join(needs) or "to know which layers share an input"
            raise ValueError(
                f"method needs {asks}, but calibration is {calibration}; pass "
                "calibration_batches(tokenizer, almanac.documents('calibration', 64))"
            )
        return Method(function, first == "Ws", tuple(needs))

    def on(
        self, Ws: Mapping[str, Tensor], given: Mapping[str, Tensor]
    ) -> dict[str, tuple[QuantizedTensor, Tensor]]:
        """Each matrix' QuantizedTensor and W_hat, by name; nothing is written yet.

        Raises TypeError if the method returns something else, ValueError if W_hat is of
        another shape than W, or not finite in its dtype.
        """
        if self.takes_all:
            results = self.function(list(Ws.values()), **given)
        else:
            results = [self.function(W, **given) for W in Ws.values()]
        made = {}
        for (name, W), quantized in zip(Ws.items(), results, strict=True):
            if not isinstance(quantized, QuantizedTensor):
                raise TypeError(
                    f"method returned a {type(quantized).__name__} for {name}; it "
                    "should return a QuantizedTensor, as `quantize` functions do"
                )
            W_hat = quantized.dequantize().to(W)
            if W_hat.shape != W.shape or not W_hat.isfinite().all():
                raise ValueError(
                    f"method made of {name} {tuple(W.shape)} a matrix "
                    f"{tuple(W_hat.shape)} that does not fit or is not finite in "
                    f"{W.dtype}; check the scales"
                )
            made[name] = quantized, W_hat
        return made


def relative_error(
    W: Float[Tensor, "out in"],
    W_hat: Float[Tensor, "out in"],
    given: Mapping[str, Tensor],
) -> float:
    """The equation above, by the X or H that a method was given; X's first 1024 rows.

    >>> import torch
    >>> W, W_hat = torch.tensor([[3.0, 1.0]]), torch.tensor([[3.0, 0.0]])
    >>> relative_error(W, W_hat, {})
    0.1
    >>> relative_error(W, W_hat, {"X": torch.tensor([[1.0, 0.0], [0.0, 3.0]])})
    0.5
    """
    W = W.float()
    D = W_hat.float() - W
    if "H" in given:
        H = given["H"].float()
        parts = [((A @ H) * A).sum() for A in (D, W)]
    elif "X" in given:
        X = given["X"][:_TOKENS].float()
        parts = [(X @ A.T).square().sum() for A in (D, W)]
    else:
        parts = [A.square().sum() for A in (D, W)]
    error, power = (part.item() for part in parts)
    return error / power if power else 0.0
