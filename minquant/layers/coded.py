"""What layers that keep codes have in common: honest bytes, and no cast.

    Y = X W_hatᵀ + bias      W_hat from codes, a few rows at a time, then dropped

Codes and scales are buffers: `state_dict` saves and loads them, and `.to(device)` moves
them. `.to(dtype)` does not cast them, because a scale that is cast is another scale.
A `state_dict` also says what the codes mean, the layer's `form` as JSON in a tensor of
bytes. `load_state_dict` refuses codes of another grid, layout or dtype: their tensors
may well have the same shapes.

The weights are frozen. A gradient passes through to X, and no floats of the size of W
are kept for it: `kernels.frozen_product` shows how.

Each kind of layer adds three things: `product`, `parts`, which gives W_hat, and `form`.
Lessons 09 and 10.
"""

import json
from collections.abc import Callable
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from minquant.kernels.frozen_product import Parts, frozen_product


class FormChecked(nn.Module):
    """A module whose state_dict says what its tensors mean, and that loads no other."""

    def form(self) -> dict[str, Any]:
        """What the layer's tensors mean, as JSON can hold it."""
        raise NotImplementedError

    def get_extra_state(self) -> Tensor:
        """The form, as bytes: safetensors stores tensors alone."""
        return torch.frombuffer(
            bytearray(self._form_json(), "utf-8"), dtype=torch.uint8
        )

    def set_extra_state(self, state: Tensor) -> None:
        """Does nothing: `_load_from_state_dict` has compared it."""

    def _form_json(self) -> str:
        return json.dumps(self.form(), sort_keys=True)

    def _load_from_state_dict(
        self,
        state_dict: dict[str, Any],
        prefix: str,
        local_metadata: dict,
        strict: bool,
        missing_keys: list[str],
        unexpected_keys: list[str],
        error_msgs: list[str],
    ) -> None:
        """As torch does, if the form, and each buffer's shape and dtype, are ours.

        torch would cast a scale to another dtype, and take codes of another grid.
        """
        wrong = []
        stored = state_dict.get(f"{prefix}_extra_state")
        if stored is not None:
            theirs = bytes(stored.cpu().numpy()).decode("utf-8")
            if theirs != self._form_json():
                place = prefix[:-1] or "the layer"
                wrong.append(f"{place} is stored in another form, {theirs}")
        for name, buffer in self.named_buffers(recurse=False):
            tensor = state_dict.get(f"{prefix}{name}")
            if tensor is not None and tensor.dtype != buffer.dtype:
                wrong.append(f"{prefix}{name} is {tensor.dtype}, not {buffer.dtype}")
        if wrong:
            mine = f"this layer is {self._form_json()}; give one made alike"
            error_msgs.extend([*wrong, mine])
            return
        super()._load_from_state_dict(
            state_dict,
            prefix,
            local_metadata,
            strict,
            missing_keys,
            unexpected_keys,
            error_msgs,
        )


class CodedLinear(FormChecked):
    """A linear layer (out, in) of codes: `linear.QuantLinear` and `linear.Int8Linear`.

    bias: (out,) or None. The layer shares its memory and freezes it.

    Raises ValueError if bias has another shape.
    """

    def __init__(self, shape: tuple[int, int], bias: Tensor | None) -> None:
        super().__init__()
        self.out_features, self.in_features = shape
        if bias is not None and tuple(bias.shape) != (self.out_features,):
            raise ValueError(
                f"bias has shape {tuple(bias.shape)}; give one number for each of "
                f"{self.out_features} outputs, or None"
            )
        if bias is not None:
            bias = nn.Parameter(bias.detach(), requires_grad=False)
        self.register_parameter("bias", bias)

    @property
    def nbytes(self) -> int:
        """Bytes of the buffers in memory. The bias is not counted."""
        return sum(buffer.nbytes for buffer in self.buffers(recurse=False))

    @property
    def bits_per_weight(self) -> float:
        """8 · nbytes / weights, with scales, zeros and padding."""
        return 8 * self.nbytes / (self.out_features * self.in_features)

    def product(self, X: Float[Tensor, "n in"]) -> Float[Tensor, "n out"]:
        """X W_hatᵀ in X's dtype, without bias and without a gradient."""
        raise NotImplementedError

    def parts(self, dtype: torch.dtype = torch.float32) -> Parts:
        """W_hat in `dtype`, a few rows at a time: which rows, and their values."""
        raise NotImplementedError

    def dequantize(self, dtype: torch.dtype = torch.float32) -> Float[Tensor, "out in"]:
        """The whole W_hat."""
        return torch.cat([W_hat for _, W_hat in self.parts(dtype)])

    def forward(self, X: Float[Tensor, "*batch cols"]) -> Float[Tensor, "*batch out"]:
        """X W_hatᵀ + bias in X's dtype, or in autocast's. Only X gets a gradient.

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
        Y = frozen_product(flat, self.product, self.parts)
        Y = Y.view(*X.shape[:-1], self.out_features)
        return Y if self.bias is None else Y + self.bias.to(Y.dtype)

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Any:
        """Moves the buffers and never casts them.

        `fn` sees them as bytes, which have no dtype that it could change. The bias is a
        parameter and follows the model's dtype.
        """
        buffers, self._buffers = self._buffers, {}
        try:
            super()._apply(fn, recurse)
        finally:
            self._buffers = buffers
        for name, buffer in buffers.items():
            if buffer is not None:
                as_bytes = buffer.reshape(-1).view(torch.uint8)
                moved = fn(as_bytes)
                if moved.dtype != as_bytes.dtype:  # Module.type casts bytes, too
                    moved = as_bytes.to(moved.device)
                buffers[name] = moved.view(buffer.dtype).view(buffer.shape)
        return self

    def extra_repr(self) -> str:
        """The shape, and the bits per weight."""
        return (
            f"in_features={self.in_features}, out_features={self.out_features}, "
            f"bias={self.bias is not None}, {self.bits_per_weight:.2f} bits per weight"
        )
