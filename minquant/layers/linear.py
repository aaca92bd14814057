"""Linear layers that keep codes and compute with them: `QuantLinear` and `Int8Linear`.

    QuantLinear    Y = X W_hatᵀ + bias        weights of few bits, X as it comes
    Int8Linear     LLM.int8(): X in 8 bits too, outlier columns in floats

They stand where `nn.Linear` stood, with their weights frozen; what they share is in
`coded`. Y has X's dtype: fp16, bf16, fp32, and fp64 for checking. `nbytes` is what
their buffers take.

Weights of a QuantLinear lie in one of two layouts (`layouts`): words, which kernels
read, or a stream without gaps, read by a table.

Input scales (AWQ's, before they are folded) divide X on its way into words, and W_hat
out of the stream; that is the same number, rounded in another place.

Rounding X has no useful derivative (0 nearly everywhere), so `Int8Linear` passes the
gradient of the product it stands for, as bitsandbytes does. Lessons 05, 09 and 10.
"""

from collections.abc import Callable, Iterator
from operator import is_not
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from minquant.kernels.matmul import (
    Backend,
    PackedMatrix,
    check_backend,
    dequantize,
    matmul,
)
from minquant.layers.coded import CodedLinear, Rows, work_dtype
from minquant.layers.layouts import Layout, Matrix, packed, tensors_of, with_tensors
from minquant.layers.packed_stream import LookupMatrix, row_slices
from minquant.methods.llm_int8 import (
    INT8,
    OutlierWeights,
    RowScale,
    mixed_product,
    quantize_rows,
)
from minquant.numerics.groups import PER_CHANNEL
from minquant.numerics.tensor import QuantizedTensor


class QuantLinear(CodedLinear):
    """A linear layer of any method's `QuantizedTensor`, kept packed. Module's equation.

    bias: (out,) or None. layout: the module's. backend: of `matmul.matmul`, for words.

    Raises ValueError if the layout does not take the matrix, bias does not fit, or no
    backend has that name.

    >>> import minquant as mq
    >>> W = torch.randn(256, 128, generator=torch.Generator().manual_seed(0))
    >>> layer = QuantLinear(mq.quantize_rtn(W, mq.NF4, mq.per_group(64)))
    >>> layer
    QuantLinear(in_features=128, out_features=256, bias=False, 4.25 bits per weight, \
NF4 per group of 64)
    >>> layer(torch.ones(2, 5, 128)).shape
    torch.Size([2, 5, 256])
    """

    def __init__(
        self,
        quantized: QuantizedTensor,
        bias: Tensor | None = None,
        *,
        layout: Layout = "auto",
        backend: Backend = "auto",
    ) -> None:
        super().__init__(tuple(quantized.codes.shape), bias)
        self.backend = check_backend(backend)
        self.ruler = f"{quantized.grid.name} {quantized.granularity}"
        self._hold(packed(quantized, layout), quantized.input_scales)

    def _hold(self, matrix: Matrix, input_scales: Tensor | None) -> None:
        """Tensors become buffers; of the matrix a form without memory stays."""
        tensors = tensors_of(matrix)
        self._form = with_tensors(matrix, {n: t.to("meta") for n, t in tensors.items()})
        if isinstance(matrix, PackedMatrix) and input_scales is not None:
            tensors["input_scales"] = input_scales
        for name, tensor in tensors.items():
            self.register_buffer(name, tensor.contiguous())
        self._made: tuple[tuple, Matrix | None] = (), None

    @classmethod
    def around(
        cls,
        matrix: Matrix,
        bias: Tensor | None = None,
        *,
        ruler: str,
        input_scales: Tensor | None = None,
        backend: Backend = "auto",
    ) -> "QuantLinear":
        """A layer around a matrix that is packed already; it shares its memory.

        ruler: grid and granularity in words, for the repr.
        """
        layer = cls.__new__(cls)
        CodedLinear.__init__(layer, matrix.shape, bias)
        layer.backend, layer.ruler = check_backend(backend), ruler
        layer._hold(matrix, input_scales)
        return layer

    def sharing(self, bias: Tensor | None) -> "QuantLinear":
        """Another layer around the same memory, with a bias of its own."""
        how = {"ruler": self.ruler, "backend": self.backend}
        given = getattr(self, "input_scales", None)
        return type(self).around(self.matrix, bias, input_scales=given, **how)

    @property
    def matrix(self) -> Matrix:
        """The packed matrix, around the buffers as they are now: made when they are
        others than last time, as a product of one token takes hardly longer."""
        held = tuple(self._buffers.values())
        before, matrix = self._made
        if len(before) != len(held) or any(map(is_not, before, held)):
            matrix = with_tensors(self._form, self._buffers)
            self._made = held, matrix
        return matrix

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Any:
        """As `CodedLinear` does; what was made of the old buffers lets go of them."""
        self._made = (), None
        return super()._apply(fn, recurse)

    def _divisor(self) -> Tensor | None:
        """Input scales that the matrix does not hold itself."""
        matrix_has_them = isinstance(self._form, LookupMatrix)
        return None if matrix_has_them else getattr(self, "input_scales", None)

    def product(self, X: Float[Tensor, "n in"]) -> Float[Tensor, "n out"]:
        """X W_hatᵀ by the kernels, or some rows of W_hat at a time."""
        matrix, divisor = self.matrix, self._divisor()
        if isinstance(matrix, PackedMatrix):
            X_in = X if divisor is None else (X / divisor.to(work_dtype(X))).to(X.dtype)
            return matmul(X_in, matrix, backend=self.backend)
        wide = X.to(work_dtype(X))
        parts = [wide @ W_hat.T for _, W_hat in matrix.parts(wide.dtype)]
        return (parts[0] if len(parts) == 1 else torch.cat(parts, 1)).to(X.dtype)

    def rows(self, dtype: torch.dtype = torch.float32) -> Rows:
        """W_hat, some rows at a time."""
        matrix, divisor = self.matrix, self._divisor()
        if isinstance(matrix, LookupMatrix):
            yield from matrix.parts(dtype)
            return
        for rows in row_slices(*matrix.shape):
            if divisor is None:
                yield rows, dequantize(matrix, dtype, rows)
            else:
                work = torch.float64 if dtype == torch.float64 else torch.float32
                W_hat = dequantize(matrix, work, rows) / divisor.to(work)
                yield rows, W_hat.to(dtype)

    def extra_repr(self) -> str:
        """Shapes, the bits of a weight, and the ruler."""
        return f"{super().extra_repr()}, {self.ruler}"


class Int8Linear(CodedLinear):
    """LLM.int8() as a layer: `llm_int8.mixed_product`, some rows of W at a time.

    quantized: W's codes, by `llm_int8.quantize_rows`. kept: W in 16 bits, from which
    outlier columns are taken, as in the paper; None takes them from the codes, as
    bitsandbytes does. threshold, row_scale: as there. Its `rows` are `kept`, if given.

    Raises ValueError if the codes are not of 8 bits with a scale per row.
    """

    def __init__(
        self,
        quantized: QuantizedTensor,
        bias: Tensor | None = None,
        *,
        kept: Float[Tensor, "out in"] | None = None,
        threshold: float = 6.0,
        row_scale: RowScale = "columns",
    ) -> None:
        super().__init__(tuple(quantized.codes.shape), bias)
        fits = quantized.grid == INT8 and quantized.granularity == PER_CHANNEL
        if not fits or not isinstance(quantized.scales, Tensor):
            raise ValueError(
                f"quantized is {quantized.grid.bits}-bit {quantized.grid.name} "
                f"{quantized.granularity}; give llm_int8.quantize_rows(W)"
            )
        self.threshold, self.row_scale = threshold, row_scale
        self.register_buffer("codes", quantized.codes)
        self.register_buffer("scales", quantized.scales)
        self.register_buffer("kept", kept)

    @classmethod
    def quantize(
        cls,
        W: Float[Tensor, "out in"],
        bias: Tensor | None = None,
        *,
        outlier_weights: OutlierWeights = torch.float16,
        **options: Any,
    ) -> "Int8Linear":
        """From floats. outlier_weights: the dtype that W is kept in, or "int8".

        Raises ValueError if that dtype does not hold W, or W is not finite.

        >>> Int8Linear.quantize(torch.eye(64), outlier_weights="int8")
        Int8Linear(in_features=64, out_features=64, bias=False, 8.50 bits per weight, \
threshold 6, outlier columns from the codes)
        """
        quantized = quantize_rows(W)
        if outlier_weights == "int8":
            return cls(quantized, bias, **options)
        kept = W.detach().to(outlier_weights, copy=True)
        if not kept.isfinite().all():
            raise ValueError(
                f"outlier_weights {outlier_weights} does not hold W, which reaches "
                f"{W.abs().max():.3g}; take torch.bfloat16"
            )
        return cls(quantized, bias, kept=kept, **options)

    def product(self, X: Float[Tensor, "n in"]) -> Float[Tensor, "n out"]:
        """`mixed_product` with some rows of W at a time."""
        if not len(X):
            return X.new_zeros(0, self.out_features)
        how = {"threshold": self.threshold, "row_scale": self.row_scale}
        parts = [mixed_product(X, *some, **how) for _, *some in self._some_rows()]
        return parts[0] if len(parts) == 1 else torch.cat(parts, 1)

    def rows(self, dtype: torch.dtype = torch.float32) -> Rows:
        """W as it is kept, or what the codes stand for, some rows at a time."""
        for rows, codes, kept in self._some_rows():
            yield rows, codes.dequantize(dtype) if kept is None else kept.to(dtype)

    def _some_rows(self) -> Iterator[tuple[slice, QuantizedTensor, Tensor | None]]:
        for rows in row_slices(self.out_features, self.in_features):
            some = self.codes[rows], self.scales[rows], None, INT8, PER_CHANNEL
            kept = None if self.kept is None else self.kept[rows]
            yield rows, QuantizedTensor(*some), kept

    def extra_repr(self) -> str:
        """Shapes, the bits of a weight, and where outlier columns come from."""
        kept = "the codes" if self.kept is None else str(self.kept.dtype)[6:]
        return (
            f"{super().extra_repr()}, threshold {self.threshold:g}, "
            f"outlier columns from {kept}"
        )
