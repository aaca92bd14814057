"""Linear layers that keep codes and compute with them: `QuantLinear` and `Int8Linear`.

    QuantLinear    Y = X W_hatᵀ + bias        weights of few bits, X as it comes
    Int8Linear     LLM.int8(): X in 8 bits too, outlier columns in floats

They stand where `nn.Linear` stood, with frozen weights. `coded` holds what they share.
Y has X's dtype: fp16, bf16, fp32, and fp64 for checks.

A QuantLinear keeps its weights in one of two layouts (`layouts`): words, which kernels
read, or a stream without gaps, read by a table.

Input scales (AWQ's, before they are folded) divide X before a product with words, and
divide W_hat when it comes out of a stream. The result is the same, rounded in another
place.

Rounding X has no useful derivative (it is 0 nearly everywhere). So `Int8Linear` passes
on the gradient of the product that it approximates, as bitsandbytes does. Lessons 05,
09 and 10.
"""

from collections.abc import Callable, Iterator
from operator import is_
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from minquant.kernels.frozen_product import Parts, multiply_by_parts, row_slices
from minquant.kernels.matmul import Backend, check_backend, matmul
from minquant.kernels.packed_words import PackedMatrix
from minquant.layers import packed_stream
from minquant.layers.coded import CodedLinear
from minquant.layers.layouts import (
    Layout,
    Matrix,
    form,
    packed,
    tensors_of,
    with_tensors,
)
from minquant.methods.llm_int8 import (
    INT8,
    OutlierWeights,
    RowScale,
    kept_weights,
    mixed_product,
    quantize_rows,
)
from minquant.numerics.groups import PER_CHANNEL
from minquant.numerics.ruler import work_dtype
from minquant.numerics.tensor import QuantizedTensor


class QuantLinear(CodedLinear):
    """A linear layer that keeps the `QuantizedTensor` of any method packed.

    bias: (out,) or None. layout: "auto", "words" or "stream" (`layouts`). backend: for
    words, as in `matmul.matmul`.

    Raises ValueError if the layout cannot hold the matrix, bias does not fit, or no
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
        self._register(packed(quantized, layout), quantized.input_scales)

    def _register(self, matrix: Matrix, input_scales: Tensor | None) -> None:
        """Keeps the matrix: its tensors as buffers, and a copy that has no memory."""
        tensors = tensors_of(matrix)
        self._empty = with_tensors(
            matrix, {name: tensor.to("meta") for name, tensor in tensors.items()}
        )
        if isinstance(matrix, PackedMatrix) and input_scales is not None:
            tensors["input_scales"] = input_scales
        for name, tensor in tensors.items():
            self.register_buffer(name, tensor.contiguous())
        self._matrix: Matrix | None = None  # the matrix around `_matrix_buffers`
        self._matrix_buffers: tuple[Tensor | None, ...] = ()

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
        """A layer around a matrix that is packed already. It shares the memory.

        ruler: grid and granularity in words, for the repr.
        """
        layer = cls.__new__(cls)
        CodedLinear.__init__(layer, matrix.shape, bias)
        layer.backend = check_backend(backend)
        layer.ruler = ruler
        layer._register(matrix, input_scales)
        return layer

    def sharing(self, bias: Tensor | None) -> "QuantLinear":
        """Another layer that shares this one's memory but has another bias."""
        return type(self).around(
            self.matrix,
            bias,
            ruler=self.ruler,
            input_scales=getattr(self, "input_scales", None),
            backend=self.backend,
        )

    @property
    def matrix(self) -> Matrix:
        """The packed matrix around the current buffers.

        It is built anew only if a buffer was replaced, by a move or an assignment:
        building it takes nearly as long as a product of one token.
        """
        buffers = tuple(self._buffers.values())
        if self._matrix is None or not all(map(is_, self._matrix_buffers, buffers)):
            self._matrix = with_tensors(self._empty, self._buffers)
            self._matrix_buffers = buffers
        return self._matrix

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Any:
        """As `CodedLinear` does. The matrix is forgotten, so old buffers are freed."""
        self._matrix = None
        self._matrix_buffers = ()
        return super()._apply(fn, recurse)

    def _divisor(self) -> Tensor | None:
        """Input scales that the matrix does not hold: words have no place for them."""
        if isinstance(self._empty, PackedMatrix):
            return getattr(self, "input_scales", None)
        return None

    def product(self, X: Float[Tensor, "n in"]) -> Float[Tensor, "n out"]:
        """X W_hatᵀ: words by `matmul`, a stream a few rows at a time."""
        matrix, divisor = self.matrix, self._divisor()
        if not isinstance(matrix, PackedMatrix):
            return multiply_by_parts(X, matrix.parts, self.out_features)
        if divisor is not None:
            X = (X / divisor.to(work_dtype(X.dtype))).to(X.dtype)
        return matmul(X, matrix, backend=self.backend)

    def parts(self, dtype: torch.dtype = torch.float32) -> Parts:
        """W_hat in `dtype`, a few rows at a time."""
        divisor = self._divisor()
        if divisor is None:
            yield from self.matrix.parts(dtype)
            return
        work = work_dtype(dtype)
        for rows, W_hat in self.matrix.parts(work):
            yield rows, (W_hat / divisor.to(work)).to(dtype)

    def form(self) -> dict[str, Any]:
        """The ruler in words, and what the matrix's tensors mean (`layouts.form`)."""
        return {"ruler": self.ruler, "matrix": form(self._empty)}

    def extra_repr(self) -> str:
        """The shape, the bits per weight, and the ruler."""
        return f"{super().extra_repr()}, {self.ruler}"


class Int8Linear(CodedLinear):
    """LLM.int8() as a layer: `llm_int8.mixed_product`, a few rows of W at a time.

    quantized: W's codes, by `llm_int8.quantize_rows`. kept: W in floats, which the
    outlier columns come from, as in the paper; None takes them from the codes, as
    bitsandbytes does. threshold, row_scale: as for `mixed_product`. W_hat is `kept`, if
    there is one.

    Raises ValueError if the codes do not have 8 bits and a scale per row.
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
        outlier_weights: OutlierWeights = "int8",
        **options: Any,
    ) -> "Int8Linear":
        """A layer of floats, W, quantized.

        outlier_weights: "int8" keeps only the codes, 8 bits per weight and a scale per
        row. A dtype keeps W, too, as the paper does (`llm_int8.kept_weights`): with
        torch.float16 that makes 24 bits per weight, more than before.
        options: threshold and row_scale, as for the class.

        Raises ValueError if W is not finite, or an option is unknown.

        >>> Int8Linear.quantize(torch.eye(64))
        Int8Linear(in_features=64, out_features=64, bias=False, 8.50 bits per weight, \
threshold 6, outlier columns from the codes)
        """
        kept = kept_weights(W, outlier_weights)
        return cls(quantize_rows(W), bias, kept=kept, **options)

    def product(self, X: Float[Tensor, "n in"]) -> Float[Tensor, "n out"]:
        """`mixed_product` with a few rows of W at a time."""
        if not len(X):
            return X.new_zeros(0, self.out_features)
        columns = [
            mixed_product(X, W_q, W, threshold=self.threshold, row_scale=self.row_scale)
            for _, W_q, W in self._quantized_parts()
        ]
        return columns[0] if len(columns) == 1 else torch.cat(columns, 1)

    def parts(self, dtype: torch.dtype = torch.float32) -> Parts:
        """W as it is kept, or what the codes stand for, a few rows at a time."""
        for rows, W_q, W in self._quantized_parts():
            yield rows, W_q.dequantize(dtype) if W is None else W.to(dtype)

    def form(self) -> dict[str, Any]:
        """What the layer does with X besides its codes, and whether it keeps W."""
        kept = None if self.kept is None else f"{self.kept.dtype}"
        does = {"threshold": self.threshold, "row_scale": self.row_scale}
        return {**does, "kept": kept}

    def _quantized_parts(
        self,
    ) -> Iterator[tuple[slice, QuantizedTensor, Tensor | None]]:
        """A few rows at a time: which rows, their codes, and W if it is kept."""
        for rows in row_slices(tuple(self.codes.shape), packed_stream.PART):
            W_q = QuantizedTensor(
                self.codes[rows], self.scales[rows], None, INT8, PER_CHANNEL
            )
            yield rows, W_q, None if self.kept is None else self.kept[rows]

    def extra_repr(self) -> str:
        """The shape, the bits per weight, and where outlier columns come from."""
        kept = "the codes" if self.kept is None else str(self.kept.dtype)[6:]
        return (
            f"{super().extra_repr()}, threshold {self.threshold:g}, "
            f"outlier columns from {kept}"
        )
