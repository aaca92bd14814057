"""A method, and what it asks for: one matrix or all that share an input? X? H?

A method is a function that quantizes, such as `quantize_rtn` with its grid filled in.
The names of its parameters without a default say what it needs from a model:

    W, or Ws     the first: one matrix (out, in); or the list of all that share an input
    X            the inputs of the layer (n, in), a row per token
    H            XᵀX (in, in)

Two parameters with a default are seen as well, by these names:

    granularity  its value (the default, or what functools.partial filled in) says how
                 many weights of a row share a scale. `misfit` says why these groups do
                 not divide a row; then `apply` passes PER_CHANNEL, a scale per row
    tied         if it is None: gets `feeders.tied_inputs` of layers that have any

So a new method touches no file but its own. Its signature is read here before any work
is done, and its result is checked before any weight is written: a wrong method leaves
the model as it was. Its error is measured here too, as a share of the outputs' power:

    ‖X (W_hat − W)ᵀ‖² / ‖X Wᵀ‖²          with H: tr(D H Dᵀ) / tr(W H Wᵀ), D = W_hat − W

Without X or H it is the error of the weights, ‖W_hat − W‖² / ‖W‖²: as if all inputs
were equally large and independent of each other. Lesson 04.
"""

import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from math import inf
from typing import Any

from jaxtyping import Float
from torch import Tensor

from minquant.numerics.groups import PER_CHANNEL, Granularity
from minquant.numerics.tensor import QuantizedTensor

_VARIADIC = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
_TOKENS = 1024  # rows of X on which an error is measured


@dataclass(frozen=True)
class Method:
    """A function that quantizes; whether it takes all matrices that share an input;
    which of X and H it needs; whether it ties inputs; and its granularity, if it has
    such a parameter."""

    function: Callable
    takes_all: bool
    needs: tuple[str, ...]
    ties: bool
    granularity: Granularity | None

    @staticmethod
    def from_function(
        function: Callable, calibration: Sequence[Tensor] | None
    ) -> "Method":
        """Read a function's signature.

        Raises TypeError if the function has no parameter, and ValueError if it needs
        what `quantize_` cannot give, or X or H without calibration.
        """
        parameters = inspect.signature(function).parameters
        required = [
            parameter.name
            for parameter in parameters.values()
            if parameter.default is parameter.empty and parameter.kind not in _VARIADIC
        ]
        if not required:
            raise TypeError("method takes no matrix; its first parameter should be W")
        first, *needs = required
        unknown = [name for name in needs if name not in ("X", "H")]
        if unknown:
            raise ValueError(
                f"method also needs {', '.join(unknown)}, which no model gives; fill "
                f"it in first: functools.partial(method, {unknown[0]}=...)"
            )
        takes_all = first == "Ws"
        if (needs or takes_all) and not calibration:
            needed = " and ".join(needs) or "to know which layers share an input"
            raise ValueError(
                f"method needs {needed}, but calibration is {calibration}; pass "
                "calibration_batches(tokenizer, almanac.documents('calibration', 64))"
            )
        ties = "tied" in parameters and parameters["tied"].default is None
        given = parameters.get("granularity")
        granularity = given and given.default
        if not isinstance(granularity, Granularity):
            granularity = None
        return Method(function, takes_all, tuple(needs), ties, granularity)

    def misfit(self, width: int) -> str:
        """Why rows of this width get one scale each; empty if the groups fit."""
        g = self.granularity and self.granularity.group_size
        return f"groups of {g} do not divide rows of {width}" if g and width % g else ""

    def apply(
        self, Ws: Mapping[str, Tensor], inputs: Mapping[str, Tensor]
    ) -> dict[str, tuple[QuantizedTensor, Tensor]]:
        """The QuantizedTensor and W_hat of each matrix, by name. Nothing is written.

        Ws: matrices by name, all of one input; inputs: their "X" or "H", as `needs`
        says, and "tied".

        Raises TypeError if the method returns no QuantizedTensor or a matrix has 8 bits
        already; ValueError if W_hat has another shape than W or is not finite in the
        dtype of W; and what the method raises, with the layer's name.
        """
        for name, W in Ws.items():
            if W.dtype.itemsize == 1:
                raise TypeError(
                    f"{name} has dtype {W.dtype}, which would round W_hat once more; "
                    "give the model wider floats first, such as model.bfloat16()"
                )
        options = dict(inputs)
        if self.misfit(next(iter(Ws.values())).shape[1]):
            options["granularity"] = PER_CHANNEL
        if self.takes_all:
            results = _naming(", ".join(Ws), self.function, [*Ws.values()], **options)
        else:
            results = [_naming(n, self.function, W, **options) for n, W in Ws.items()]
        checked = {}
        for (name, W), quantized in zip(Ws.items(), results, strict=True):
            if not isinstance(quantized, QuantizedTensor):
                raise TypeError(
                    f"method returned a {type(quantized).__name__} for {name}; it "
                    "should return a QuantizedTensor, as `quantize_rtn` does"
                )
            W_hat = quantized.dequantize().to(W)
            if W_hat.shape != W.shape or not W_hat.isfinite().all():
                raise ValueError(
                    f"method turned {name} {tuple(W.shape)} into a matrix "
                    f"{tuple(W_hat.shape)} that does not fit or is not finite in "
                    f"{W.dtype}; check the scales"
                )
            checked[name] = quantized, W_hat
        return checked


def _naming(name: str, function: Callable, *args: Any, **inputs: Any) -> Any:
    """function(...). If it refuses a matrix, the error begins with the layer's name."""
    try:
        return function(*args, **inputs)
    except (TypeError, ValueError) as error:
        kind = TypeError if isinstance(error, TypeError) else ValueError
        raise kind(f"{name}: {error}") from error


def relative_error(
    W: Float[Tensor, "out in"],
    W_hat: Float[Tensor, "out in"],
    inputs: Mapping[str, Tensor],
) -> float:
    """The equation above, by the "H" or "X" in `inputs`; of X, the first 1024 rows.

    >>> import torch
    >>> W, W_hat = torch.tensor([[3.0, 1.0]]), torch.tensor([[3.0, 0.0]])
    >>> relative_error(W, W_hat, {})
    0.1
    >>> relative_error(W, W_hat, {"X": torch.tensor([[1.0, 0.0], [0.0, 3.0]])})
    0.5
    """
    W = W.float()
    D = W_hat.float() - W
    if "H" in inputs:
        H = inputs["H"].float()
        parts = [((A @ H) * A).sum() for A in (D, W)]
    elif "X" in inputs:
        X = inputs["X"][:_TOKENS].float()
        parts = [(X @ A.T).square().sum() for A in (D, W)]
    else:
        parts = [A.square().sum() for A in (D, W)]
    error, power = (part.item() for part in parts)
    return error / power if power else (inf if error else 0.0)
