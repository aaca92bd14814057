"""GPTQ: round a column, push its error onto the columns that are not rounded yet.

Unlike RTN: weights are rounded one column after the other, and the columns still to
come move to make up for the error, so that the layer's outputs stay. Read
`gptq_derivation.steps` first: it is the method in eleven lines, and after each column
it rewrites all columns to its right. The loop below never rewrites W. It works through
blocks of columns, and collects in one matrix product what all columns before a block
push on it: the sums are the same, and a machine does one large product far faster than
many small updates.

In formulas: factor H = XᵀX = R Rᵀ with R upper triangular (its inverse is U, which
`gptq_derivation.inverse_cholesky` gives). With E = W − W_hat, the layer's error is a
sum over columns:

    ‖X Eᵀ‖² = ‖E R‖² = Σ_j R[j, j]² · ‖w_j − W_hat[:, j]‖²
    w_j     = W[:, j] + Σ_{k<j} E[:, k] · P[k, j]           P[k, j] = R[k, j] / R[j, j]

The sum in w_j is what the columns before j push on column j. Whatever it is, rounding
w_j to nearest is the best that column j can still do. This is GPTQ (Frantar et al.
2023, algorithm 1), as shown by Chee et al. (2023, QuIP), who call it LDLQ. The paper's
H is 2XXᵀ with X (in, n); the 2 cancels. The choices, each an argument:

    damping         this share of H's mean diagonal is added to its diagonal. Without
                    it, large errors go into directions that calibration hardly saw
    act_order       the columns with the largest inputs first, while many are left to
                    make up for them. Groups stay as they are in W: no index is stored
    static_groups   all rulers fixed before the loop, from W. Otherwise a group gets its
                    ruler when the loop reaches it, from the weights as they then are.
                    With act_order the columns of many groups mix, so rulers are fixed
    clip            how the ruler of a group is chosen, as in RTN

An input that calibration never saw, or hardly (`scales.seen` of √H[j, j]), takes no
part in this: its column is rounded to nearest, and neither receives errors nor pushes
any. If H is diagonal, that holds for every column: then GPTQ is RTN.

H is factored once and never inverted. W is kept transposed, so a column is one stretch
of memory. All is float32, or float64 as W and H are; an H that does not factor in
float32 is tried in float64. Lesson 06.
"""

from collections.abc import Callable
from math import inf

import torch
from jaxtyping import Float, Int, Integer
from torch import Tensor

from minquant.methods.rtn import Clip, floats, scale_and_zero
from minquant.numerics.grids import Grid
from minquant.numerics.groups import PER_CHANNEL, Granularity, split
from minquant.numerics.ruler import Ruler
from minquant.numerics.scales import ScaleType, seen
from minquant.numerics.tensor import QuantizedTensor


def quantize_gptq(
    W: Float[Tensor, "out in"],
    H: Float[Tensor, "rows cols"],
    grid: Grid,
    granularity: Granularity = PER_CHANNEL,
    *,
    damping: float = 0.01,
    block: int = 128,
    act_order: bool = False,
    static_groups: bool = False,
    clip: Clip = None,
    scale_dtype: ScaleType = torch.float16,
) -> QuantizedTensor:
    """W rounded so that the outputs X Wᵀ move least, given H = XᵀX of its inputs X.

    H: (in, in), the sum over all calibration tokens or their mean: only its proportions
    matter. grid, granularity, clip, scale_dtype: as in `quantize_rtn`. damping: a share
    of H's mean diagonal, 0.01 in the paper. block: columns that share one product; the
    result is the same but for floating-point error. act_order, static_groups: see the
    module. Without either, block is the group size, and scale_dtype must be a dtype: a
    format such as E8M0 needs the scales of all groups before the loop.

    Raises ValueError if H does not fit W, is not finite, symmetric and positive
    definite after damping, or an option is out of range; and as `quantize_rtn` does.

    Two inputs that are nearly the same: 2.4 is rounded down, so 3.2 goes up to 4.

    >>> import minquant as mq
    >>> W, H = torch.tensor([[2.4, 3.2, 7.0]]), torch.eye(3)
    >>> H[0, 1] = H[1, 0] = 0.9
    >>> mq.quantize_gptq(W, H, mq.absmax(4)).codes
    tensor([[2, 4, 7]], dtype=torch.int8)
    """
    if block < 1:
        raise ValueError(f"block is {block}; choose a number of columns, often 128")
    W = floats(W)
    H = _checked(H, W)
    groups = split(W, granularity)  # (rows, n_groups, g)
    g = W.shape[1] // groups.shape[1]  # columns of a group
    fixed = static_groups or act_order or g == W.shape[1]
    if not fixed and not isinstance(scale_dtype, torch.dtype):
        raise ValueError(
            "scale_dtype is a format that needs all scales at once, and here they are "
            "fitted one group after the other; pass static_groups=True"
        )
    order = torch.arange(len(H), device=W.device)
    if act_order:
        order = H.diagonal().argsort(descending=True, stable=True)
    P = _pushes(H, order, damping, W.dtype)
    W_ordered = W.T.contiguous()[order]  # (in, out)
    stored = []  # scales and zeros: of all groups, or of one after the other

    def fit(groups: Float[Tensor, "rows n_groups g"]) -> list[Ruler]:
        """The rulers of these groups; their scales and zeros are stored."""
        stored.append(scale_and_zero(groups, grid, clip=clip, scale_dtype=scale_dtype))
        ruler = Ruler.of_groups(*stored[-1], grid, groups.dtype)
        return [ruler.column(i) for i in range(groups.shape[1])]

    if fixed:
        rulers = fit(groups)
        rulers = [rulers[i] for i in (order // g).tolist()]  # one for each column
        codes = _round_columns(W_ordered, P, block, rulers)
        scales, zeros = stored[0]
    else:
        codes = _round_columns(W_ordered, P, g, [], fit)
        scales = torch.cat([s for s, _ in stored], 1)
        zeros = torch.cat([z for _, z in stored], 1) if grid.has_zeros else None
    codes = codes[order.argsort()].T.contiguous()
    return QuantizedTensor(codes, scales, zeros, grid, granularity)


def _round_columns(
    W: Float[Tensor, "in out"],
    P: Float[Tensor, "in in"],
    block: int,
    rulers: list[Ruler],
    fit: Callable[[Tensor], list[Ruler]] | None = None,
) -> Integer[Tensor, "in out"]:
    """The codes of all columns of the layer, one after the other.

    W, P: in the order of rounding. W is transposed: its rows are the layer's columns,
    and so are E's: E[j] here is E[:, j] of the module.
    rulers: one for each column; or none, and `fit` gives one for each block.
    """
    E, codes = torch.zeros_like(W), []
    for a in range(0, len(W), block):
        b = min(a + block, len(W))
        pushed = P[:a, a:b].T @ E[:a]  # (block, out): by all columns before the block
        if fit:
            moved = W[a:b] + _moves(P[a:b, a:b], pushed)
            rulers = rulers + fit(moved.T[:, None]) * block
        now = W[a:b] + pushed
        P_block = P[a:b, a:b].T.contiguous()  # row k: what is pushed on column a + k
        for k, j in enumerate(range(a, b)):
            w = torch.addmv(now[k], E[a:j].T, P_block[k, :k])  # (out,)
            codes.append(rulers[j].codes(w))
            E[j] = W[j] - rulers[j].values(codes[j])
    return torch.stack(codes)


def _moves(
    P: Float[Tensor, "g g"], pushed: Float[Tensor, "g out"]
) -> Float[Tensor, "g out"]:
    """How far the columns of a group move before any of them is rounded.

    pushed: what the columns before the group push on each of its columns. A column that
    moves by m_k has an error too, E[:, k] = −m_k, and so pushes on the columns after
    it. Each column moves by all that is pushed on it,

        m_j = pushed_j − Σ_{k<j} m_k P[k, j]

    which is the triangular system Pᵀ m = pushed, as P has ones on its diagonal.
    """
    return torch.linalg.solve_triangular(P.T, pushed, upper=False, unitriangular=True)


def _checked(
    H: Float[Tensor, "rows cols"], W: Float[Tensor, "out in"]
) -> Float[Tensor, "in in"]:
    """H as `floats` gives it, or ValueError if it cannot be XᵀX."""
    width = W.shape[1]
    if tuple(H.shape) != (width, width):
        raise ValueError(
            f"H has shape {tuple(H.shape)}, but W {tuple(W.shape)} needs "
            f"{(width, width)}; give X.T @ X for inputs X (n, {width})"
        )
    H = floats(H, "H").to(W.device)
    least, most = H.diagonal().aminmax()
    skew = (H.T.contiguous() - H).abs_().max()
    if least < 0 or skew > 1e-3 * most:
        raise ValueError(
            f"H is no XᵀX: it differs from its transpose by up to {skew:.3g}, and its "
            f"diagonal runs from {least:.3g} to {most:.3g}; give X.T @ X"
        )
    return H


def _pushes(
    H: Float[Tensor, "in in"],
    order: Int[Tensor, " in"],
    damping: float,
    dtype: torch.dtype,
) -> Float[Tensor, "in in"]:
    """P of damped H, for columns in this order: upper triangular, its diagonal 1.

    Cholesky gives lower triangular factors, and R is upper triangular. So factor H with
    its columns in reverse order, H = L Lᵀ; then R is L with its rows and columns
    reversed.
    """
    if not 0 <= damping < inf:
        raise ValueError(f"damping is {damping}; choose 0 or more, often 0.01")
    last_first = order.flip(0)
    reversed_H = H[last_first][:, last_first]
    diagonal = reversed_H.diagonal()  # a view
    unseen = ~seen(diagonal.sqrt())
    reversed_H[unseen] = 0
    reversed_H[:, unseen] = 0
    diagonal += damping * diagonal.mean() + unseen  # any number serves beside zeros
    L, failed = torch.linalg.cholesky_ex(reversed_H)
    if failed:  # one more try, with 53 bits
        L, failed = torch.linalg.cholesky_ex(reversed_H.double())
    # with damping 0, a pivot this small is floating-point noise: a sum of other inputs
    noise = len(H) * torch.finfo(H.dtype).eps * diagonal
    if failed or (damping == 0 and (L.diagonal().square() <= noise).any()):
        raise ValueError(
            f"H does not factor at damping {damping}: some inputs are sums of others; "
            f"choose damping={max(0.01, 10 * damping):g}, or calibrate on more tokens"
        )
    del reversed_H, diagonal  # as large as L, and so is what flip makes
    L /= L.diagonal().clone()
    return L.to(dtype).flip(0, 1)
