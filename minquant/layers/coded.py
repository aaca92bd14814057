"""What layers that keep codes have in common: a gradient without floats, honest bytes.

Weights of such a layer are frozen, but a gradient passes through to X, and so to all
that was before:

    forward     Y  = X W_hatᵀ      W_hat from codes, some rows at a time, then dropped
    backward    dX = G W_hat       G = dL/dY; W_hat from codes once more

Nothing of the size of W is kept in floats between the two. That is what lets QLoRA
(Dettmers et al. 2023) train on top of a model it could not hold in 16 bits, and its
price is to dequantize twice. `nn.Linear` would keep W, which it has anyway; a layer
that dequantized in the usual way would keep W_hat, and be worse than no quantization.

Codes and scales are buffers: `state_dict` saves and loads them, `.to(device)` moves
them, and no `.to(dtype)` casts them, for a scale that is cast is another scale. What
each kind of layer adds is `product` and `rows`. Lessons 09 and 10.
"""

from collections.abc import Callable, Iterator
from typing import Any, TypeAlias

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

Rows: TypeAlias = Iterator[tuple[slice, Float[Tensor, "rows in"]]]


def work_dtype(X: Tensor) -> torch.dtype:
    """What products with X are summed in: its own dtype on a GPU, whose sums of 16-bit
    numbers are 32 bits long; on a CPU at least fp32, as there they may not be."""
    return X.dtype if X.is_cuda or X.dtype == torch.float64 else torch.float32


class _Product(torch.autograd.Function):
    """X → X W_hatᵀ. Between forward and backward it holds the layer, and no floats."""

    @staticmethod
    def forward(ctx: Any, X: Tensor, layer: "CodedLinear") -> Tensor:
        """The layer's own product, whatever computes it."""
        ctx.layer = layer
        return layer.product(X)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, G: Tensor) -> tuple[Tensor, None]:
        """dX = G W_hat: rows of W_hat are columns of G, and the parts add up, in fp32
        at least: there may be hundreds."""
        work, width = work_dtype(G), ctx.layer.in_features
        total = G.new_zeros(len(G), width, dtype=torch.promote_types(work, torch.float))
        for rows, W_hat in ctx.layer.rows(work):
            total += G[:, rows].to(work) @ W_hat  # (n, in)
        return total.to(G.dtype), None


class CodedLinear(nn.Module):
    """A linear layer (out, in) of codes: `linear.QuantLinear`, `linear.Int8Linear`.

    bias: (out,) or None; its memory is shared, and it is frozen. ValueError for another
    shape.
    """

    def __init__(self, shape: tuple[int, int], bias: Tensor | None) -> None:
        super().__init__()
        self.out_features, self.in_features = shape
        if bias is not None and tuple(bias.shape) != (self.out_features,):
            raise ValueError(
                f"bias has shape {tuple(bias.shape)}; give one number for each of "
                f"{self.out_features} outputs, or None"
            )
        frozen = None if bias is None else nn.Parameter(bias.detach(), False)
        self.register_parameter("bias", frozen)

    @property
    def nbytes(self) -> int:
        """Bytes of the buffers, as they lie in memory; the bias is not among them."""
        return sum(buffer.nbytes for buffer in self.buffers(recurse=False))

    @property
    def bits_per_weight(self) -> float:
        """8 · nbytes / weights: scales, zeros and padding counted."""
        return 8 * self.nbytes / (self.out_features * self.in_features)

    def product(self, X: Float[Tensor, "n in"]) -> Float[Tensor, "n out"]:
        """X W_hatᵀ in X's dtype, without bias and without a gradient."""
        raise NotImplementedError

    def rows(self, dtype: torch.dtype = torch.float32) -> Rows:
        """W_hat, some rows at a time: which rows, and their values."""
        raise NotImplementedError

    def dequantize(self, dtype: torch.dtype = torch.float32) -> Float[Tensor, "out in"]:
        """W_hat, all of it at once."""
        return torch.cat([W_hat for _, W_hat in self.rows(dtype)])

    def forward(self, X: Float[Tensor, "*batch cols"]) -> Float[Tensor, "*batch out"]:
        """X W_hatᵀ + bias, in X's dtype, or under autocast in its. A gradient passes to
        X, and to nothing else.

        Raises ValueError if X has another width, TypeError if it holds no floats.
        """
        if X.shape[-1:] != (self.in_features,):
            raise ValueError(
                f"X has shape {tuple(X.shape)}, but the layer reads "
                f"{self.in_features} numbers; give X (..., {self.in_features})"
            )
        if not X.is_floating_point():
            raise TypeError(f"X has dtype {X.dtype}; give floats, such as X.float()")
        if torch.is_autocast_enabled(X.device.type):
            X = X.to(torch.get_autocast_dtype(X.device.type))
        flat = X.reshape(-1, self.in_features)
        learns = X.requires_grad and torch.is_grad_enabled()
        Y = _Product.apply(flat, self) if learns else self.product(flat)
        Y = Y.view(*X.shape[:-1], self.out_features)
        return Y if self.bias is None else Y + self.bias.to(Y.dtype)

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Any:
        """Move, and never cast: `fn` gets buffers as bytes, where there is no dtype to
        change. The bias is a parameter and follows the model's dtype."""
        buffers, self._buffers = self._buffers, {}
        try:
            super()._apply(fn, recurse)
        finally:
            self._buffers = buffers
        for name, buffer in buffers.items():
            if buffer is not None:
                held = buffer.reshape(-1).view(torch.uint8)
                moved = fn(held)
                if moved.dtype != held.dtype:  # Module.type casts bytes as well
                    moved = held.to(moved.device)
                buffers[name] = moved.view(buffer.dtype).view(buffer.shape)
        return self

    def extra_repr(self) -> str:
        """Shapes, and the bits of a weight."""
        return (
            f"in_features={self.in_features}, out_features={self.out_features}, "
            f"bias={self.bias is not None}, {self.bits_per_weight:.2f} bits per weight"
        )
