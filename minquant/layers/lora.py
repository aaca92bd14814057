"""LoRA on a frozen layer: learn a small update beside it, in two thin matrices.

    Y = X Wᵀ + bias + s · (X Aᵀ) Bᵀ         A (r, in), B (out, r), s = alpha / r

W stays as it is; A and B are trained. Together they are an update s · B A of W, of rank
r: for 4096 × 4096 and r = 16 that is 131 thousand numbers instead of 16.8 million, and
gradients and Adam's two moments shrink alike (Hu et al. 2022, section 4.1).

    B starts at 0       so at first the model is exactly what it was
    A starts at random  else both gradients were 0, and nothing would ever move
    s = alpha / r       so that one learning rate may serve for several ranks

QLoRA (Dettmers et al. 2023) is this on a `QuantLinear`, in its paper of NF4 codes with
double quantization (`nf4` here): 4.127 bits per weight instead of 16. Nothing else
changes. The gradients of A and B need X and G = dL/dY, but never W; what flows on to
the layers before,

    dX = G W_hat + s · (G B) A

dequantizes W_hat anew (`coded`). The codes are never written: after training they are
bit for bit what they were.

`merge` adds the update to the floats that the codes stand for: a new `nn.Linear`. To
round that sum again is a choice with a price: every weight gets a fresh rounding error,
one that nobody has trained with. (The update itself mostly stays, unless it is small
beside half a step everywhere.) What is left out: LoRA on embeddings, trained biases,
the rank-stabilised s = alpha / √r. Lesson 09.
"""

import math
from numbers import Integral

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.functional import linear

from minquant.layers.coded import CodedLinear
from minquant.methods.rtn import quantize_rtn
from minquant.numerics.double_quant import DoubleQuantized
from minquant.numerics.grids import NF4
from minquant.numerics.groups import per_group
from minquant.numerics.tensor import QuantizedTensor


def nf4(W: Float[Tensor, "out in"]) -> QuantizedTensor:
    """W as QLoRA stores it: NF4, groups of 64, scales in 8 bits. As `quantize_rtn`.

    >>> nf4(torch.ones(64, 256)).bits_per_weight  # 4 + 8/64 + 32/(64·256) + 32/16384
    4.12890625
    """
    return quantize_rtn(W, NF4, per_group(64), scale_dtype=DoubleQuantized.store)


def check_base(base: nn.Module) -> None:
    """Raises TypeError if an adapter cannot stand on a layer."""
    if not isinstance(base, CodedLinear | nn.Linear):
        raise TypeError(
            f"base is a {type(base).__name__}; give an nn.Linear, or a layer that "
            "keeps codes (mq.pack_ makes one of a Conv1D)"
        )


def check_kind(rank: float, alpha: float, dropout: float, dtype: torch.dtype) -> None:
    """Raises ValueError for a rank that is no integer of 1 or more, an alpha that is 0
    or not finite, a dropout that is no share, a dtype that is not of floats."""
    if not isinstance(rank, Integral) or rank < 1:
        raise ValueError(f"rank is {rank}; choose an integer, often 8 or 16")
    if not math.isfinite(alpha) or alpha == 0:
        raise ValueError(f"alpha is {alpha}; choose a number, often 1 or 2 times rank")
    if not 0 <= dropout < 1:
        raise ValueError(f"dropout is {dropout}; choose a share, often 0 to 0.1")
    if not dtype.is_floating_point:
        raise ValueError(f"dtype is {dtype}; choose floats, such as torch.float32")


class LoraLinear(nn.Module):
    """A frozen layer with a trainable update beside it. The module's equation.

    base: a `QuantLinear`, an `Int8Linear`, or an `nn.Linear` (that is plain LoRA). It
    is frozen, not copied. rank: r. dropout: share of X's numbers that the update does
    not see in training. dtype: of A and B, and of what they compute; fp32 unless
    chosen, as small steps vanish in 16 bits. generator: draws A; None has seed 0.

    A is uniform in ±1/√in, as in the paper's code. Dropout draws from torch's global
    generator, which gradient checkpointing rewinds.

    Raises as `check_base` and `check_kind` do.

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
        self.base, self.rank, self.alpha = base.requires_grad_(False), rank, alpha
        self.drop = nn.Dropout(dropout)
        generator = generator or torch.Generator().manual_seed(0)
        bound = 1 / math.sqrt(base.in_features)
        A = torch.empty(rank, base.in_features).uniform_(
            -bound, bound, generator=generator
        )
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
        few = linear(self.drop(X).to(self.A.dtype), self.A)  # (..., r)
        return Y + linear(few * self.scaling, self.B).to(Y.dtype)

    @torch.no_grad()
    def update(self) -> Float[Tensor, "out in"]:
        """s · B A, float32 (float64 if A and B are): what training added to W."""
        work = torch.promote_types(self.A.dtype, torch.float32)
        return self.scaling * (self.B.to(work) @ self.A.to(work))

    @torch.no_grad()
    def merge(self, dtype: torch.dtype | None = None) -> nn.Linear:
        """A new layer of floats with the update in its weights; this one stays.

        dtype: of the weights; None is the base's own, or float32 where that has codes.
        Its `weight` may be quantized anew: a choice, see above. To take the update off
        again there is nothing to do: `base` was never touched.

        >>> base = nn.Linear(2, 2, bias=False)
        >>> layer = LoraLinear(base, rank=1)
        >>> torch.equal(layer.merge().weight, base.weight)  # B = 0
        True
        """
        base = self.base
        coded = isinstance(base, CodedLinear)
        W = base.dequantize() if coded else base.weight
        dtype = dtype or W.dtype
        work = torch.promote_types(W.dtype, torch.float32)
        W = (W.to(work) + self.update().to(work)).to(dtype)
        shape = base.in_features, base.out_features
        made = nn.Linear(*shape, bias=base.bias is not None, device="meta")
        made.weight = nn.Parameter(W, requires_grad=False)
        if base.bias is not None:
            bias = base.bias.detach().to(dtype, copy=True)
            made.bias = nn.Parameter(bias, requires_grad=False)
        return made.train(self.training)

    def extra_repr(self) -> str:
        """Rank, alpha, and what is trained."""
        count = self.A.numel() + self.B.numel()
        return f"rank={self.rank}, alpha={self.alpha:g}, {count:,} trainable"
