"""LoRA on a frozen layer: learn a small update beside it, in two thin matrices.

    Y = X Wᵀ + bias + s · (X Aᵀ) Bᵀ         A (r, in), B (out, r), s = alpha / r

W stays as it is; A and B are trained. Together they are an update s · B A of W, of rank
r. For 4096 × 4096 and r = 16 that is 131 thousand numbers instead of 16.8 million, and
gradients and Adam's two moments shrink alike (Hu et al. 2022, section 4.1).

    B starts at 0       so at first the model is exactly what it was
    A starts at random  if it were 0 too, both gradients would be 0, and stay so
    s = alpha / r       so that one learning rate may serve for several ranks

QLoRA (Dettmers et al. 2023) is this on a `QuantLinear`. In the paper it has NF4 codes
with double quantization (`nf4` here): 4.127 bits per weight instead of 16. Nothing else
changes. The gradients of A and B need X and G = dL/dY, but never W. Only the gradient
for the layers before needs W_hat, and makes it again (`kernels.frozen_product`):

    dX = G W_hat + s · (G B) A

The codes are never written. After training they are bit for bit what they were.

`merge` adds the update to the floats that the codes stand for: a new `nn.Linear`.
Rounding that sum again is a choice with a price: every weight gets a new rounding
error, which the training has not seen. (The update itself mostly survives, unless it is
small against half a step everywhere.) What is left out: LoRA on embeddings, trained
biases, the rank-stabilised s = alpha / √r. Lesson 09.
"""

import math
from numbers import Integral
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.functional import linear

from minquant.layers.coded import CodedLinear, FormChecked
from minquant.methods.rtn import quantize_rtn
from minquant.numerics.double_quant import DoubleQuantized
from minquant.numerics.grids import NF4
from minquant.numerics.groups import Granularity, per_group
from minquant.numerics.ruler import work_dtype
from minquant.numerics.tensor import QuantizedTensor


def nf4(
    W: Float[Tensor, "out in"],
    granularity: Granularity = per_group(64),  # noqa: B008  a constant
) -> QuantizedTensor:
    """W quantized as in QLoRA: to nearest NF4, groups of 64, scales in 8 bits.

    Groups end with the row. bitsandbytes cuts blocks of 64 from all rows, one after the
    other: these are the same blocks if 64 divides a row. `quantize_` and
    `add_adapters_` give other rows one scale each.

    Raises ValueError as `quantize_rtn` does.

    >>> nf4(torch.ones(64, 256)).bits_per_weight  # 4 + 8/64 + 32/(64·256) + 32/16384
    4.12890625
    """
    return quantize_rtn(W, NF4, granularity, scale_dtype=DoubleQuantized.store)


def check_base(base: nn.Module) -> None:
    """Raises TypeError if base is no layer that can have an adapter."""
    if not isinstance(base, CodedLinear | nn.Linear):
        raise TypeError(
            f"base is a {type(base).__name__}; give an nn.Linear, or a layer that "
            "keeps codes (mq.pack_ makes one of a Conv1D)"
        )


def check_kind(rank: float, alpha: float, dropout: float, dtype: torch.dtype) -> None:
    """Raises ValueError if one of an adapter's options is impossible.

    rank: an integer of 1 or more. alpha: finite and not 0. dropout: 0 or more, below 1.
    dtype: of floats.
    """
    if not isinstance(rank, Integral) or rank < 1:
        raise ValueError(f"rank is {rank}; choose an integer, often 8 or 16")
    if not math.isfinite(alpha) or alpha == 0:
        raise ValueError(f"alpha is {alpha}; choose a number, often 1 or 2 times rank")
    if not 0 <= dropout < 1:
        raise ValueError(f"dropout is {dropout}; choose a share, often 0 to 0.1")
    if not dtype.is_floating_point:
        raise ValueError(f"dtype is {dtype}; choose floats, such as torch.float32")


class LoraLinear(FormChecked):
    """A frozen layer with a trainable update beside it: Y = base(X) + s · (X Aᵀ) Bᵀ.

    base: a `QuantLinear`, an `Int8Linear`, or an `nn.Linear` (plain LoRA). It is
    frozen, not copied. rank: r. dropout: the share of X's numbers that the update does
    not see in training. dtype: of A, B and the update's products; fp32 by default,
    because small steps vanish in 16 bits. generator: draws A; None is one of seed 0.

    A is uniform in ±1/√in, as in the paper's code. Dropout uses torch's global
    generator, which gradient checkpointing rewinds.

    Raises TypeError as `check_base` does, and ValueError as `check_kind` does.

    >>> layer = LoraLinear(nn.Linear(256, 128, bias=False), rank=4, alpha=8)
    >>> layer.A.shape, layer.B.shape, layer.scaling
    (torch.Size([4, 256]), torch.Size([128, 4]), 2.0)
    """

    def __init__(
        self,
        base: nn.Module,
        rank: int = 8,
        alpha: float = 16.0,
        dropout: float = 0.0,
        *,
        dtype: torch.dtype = torch.float32,
        generator: torch.Generator | None = None,
    ) -> None:
        super().__init__()
        check_base(base)
        check_kind(rank, alpha, dropout, dtype)
        self.base = base.requires_grad_(False)
        self.rank, self.alpha = rank, float(alpha)
        self.drop = nn.Dropout(dropout)
        generator = generator or torch.Generator().manual_seed(0)
        bound = 1 / math.sqrt(base.in_features)
        A = torch.empty(rank, base.in_features, dtype=torch.float32, device="cpu")
        A.uniform_(-bound, bound, generator=generator)
        device = next(iter(base.state_dict().values())).device
        self.A = nn.Parameter(A.to(device, dtype))
        self.B = nn.Parameter(A.new_zeros(base.out_features, rank).to(self.A))

    @property
    def scaling(self) -> float:
        """s = alpha / r."""
        return self.alpha / self.rank

    def forward(self, X: Float[Tensor, "*batch in"]) -> Float[Tensor, "*batch out"]:
        """The base's Y plus the update's, in the base's dtype."""
        Y = self.base(X)
        XA = linear(self.drop(X).to(self.A.dtype), self.A)  # (..., r)
        return Y + linear(XA * self.scaling, self.B).to(Y.dtype)

    @torch.no_grad()
    def update(self) -> Float[Tensor, "out in"]:
        """s · B A in float32 or float64: what training added to W."""
        work = work_dtype(self.A.dtype)
        return self.scaling * (self.B.to(work) @ self.A.to(work))

    @torch.no_grad()
    def merge(self, dtype: torch.dtype | None = None) -> nn.Linear:
        """A new layer of floats, with the update in its weights.

        dtype: of the weights; None is the base's, or float32 if the base has codes.
        This layer and its base stay as they are. Quantizing the new `weight` again has
        a price: see the module.

        >>> base = nn.Linear(2, 2, bias=False)
        >>> layer = LoraLinear(base, rank=1)
        >>> torch.equal(layer.merge().weight, base.weight)  # B = 0
        True
        """
        base = self.base
        W = base.dequantize() if isinstance(base, CodedLinear) else base.weight
        dtype = dtype or W.dtype
        work = work_dtype(W.dtype)
        W = (W.to(work) + self.update().to(work)).to(dtype)
        merged = nn.Linear(
            base.in_features,
            base.out_features,
            bias=base.bias is not None,
            device="meta",
        )
        merged.weight = nn.Parameter(W, requires_grad=False)
        if base.bias is not None:
            bias = base.bias.detach().to(dtype, copy=True)
            merged.bias = nn.Parameter(bias, requires_grad=False)
        return merged.train(self.training)

    def form(self) -> dict[str, Any]:
        """alpha, which scales the update: A and B alone say too little."""
        return {"alpha": self.alpha}

    def extra_repr(self) -> str:
        """Rank, alpha, and how many numbers are trained."""
        count = self.A.numel() + self.B.numel()
        return f"rank={self.rank}, alpha={self.alpha:g}, {count:,} trainable"
