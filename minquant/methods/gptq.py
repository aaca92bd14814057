"""GPTQ: round a column, push its error onto the columns that are not rounded yet.

Unlike RTN: weights are rounded one column after the other, and those still to come move
to make up for it, so that the layer's outputs stay. `gptq_derivation` derives this step
by step, rewriting W after each column. Here stands where that leads, without rewriting
W at all. Factor H = XᵀX = R Rᵀ with R upper triangular (its inverse is U, which
`gptq_derivation.inverse_cholesky` gives), and with E = W − W_hat the layer's error is a
sum over columns:

    ‖X Eᵀ‖² = ‖E R‖² = Σ_j R[j, j]² · ‖w_j − W_hat[:, j]‖²
    w_j     = W[:, j] + Σ_{k<j} E[:, k] · P[k, j]           P[k, j] = R[k, j] / R[j, j]

Whatever w_j is, rounding it to nearest is the best that column j can still do. This is
GPTQ (Frantar et al. 2023, algorithm 1): the sum is what all columns before j push on it
(shown by Chee et al. 2023, QuIP, who call it LDLQ). The paper's H is 2XXᵀ with X (in,
n); the 2 cancels. The choices, each an argument:

    damping         H's mean diagonal times this is added to its diagonal. Directions
                    that calibration hardly saw are then not spent for those it saw
    act_order       the columns with the largest inputs first, while many are left to
                    make up for them. Groups stay as they are in W: no index travels
    static_groups   rulers fixed before the loop, from W; else each when the loop comes
                    to its group, from the weights as they then are. In act_order the
                    loop comes to a group's columns at different times: always fixed
    clip            how the ruler of a group is chosen, as in RTN

An input that calibration never saw (H[j, j] = 0) has no part in this: its column is
rounded to nearest, and neither takes errors nor gives any. So is every column if H is
diagonal: then GPTQ is RTN.

How it is fast: H is factored once, not inverted. A column collects what is pushed on it
when its turn comes, and what comes from far back is collected for many columns in one
product. W lies transposed, so a column is one stretch of memory. All is float32, or
float64 as W and H are; an H that does not factor in float32 is tried in float64.
Lesson 06.
"""

import torch
from jaxtyping import Float, Int, Integer
from torch import Tensor

from minquant.methods.rtn import Clip, floats, scale_and_zero
from minquant.numerics.grids import Grid
from minquant.numerics.groups import PER_CHANNEL, Granularity, group_shape, split
from minquant.numerics.ruler import Ruler
from minquant.numerics.scales import Scales, ScaleType
from minquant.numerics.tensor import QuantizedTensor

_FAR = 4  # so many blocks collect in one product what comes from before all of them


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
    of H's mean diagonal, 0.01 in the paper. block: columns that collect errors at once;
    the result is the same but for rounding. act_order, static_groups: see the module.
    Scales with a format of their own, no dtype, need static_groups or act_order.

    Raises ValueError if H does not fit W, is not finite, symmetric and positive
    definite after damping, or an option is out of range; and as `quantize_rtn` does.

    Two inputs that are nearly the same: 2.4 is rounded down, so 3.2 goes up to 4.

    >>> from minquant.numerics.grids import absmax
    >>> W, H = torch.tensor([[2.4, 3.2, 7.0]]), torch.eye(3)
    >>> H[0, 1] = H[1, 0] = 0.9
    >>> quantize_gptq(W, H, absmax(4)).codes
    tensor([[2, 4, 7]], dtype=torch.int8)
    """
    if block < 1:
        raise ValueError(f"block is {block}; choose a number of columns, often 128")
    W = floats(W)
    H = _checked(H, W)
    order = torch.arange(len(H), device=W.device)
    if act_order:
        order = H.diagonal().argsort(descending=True, stable=True)
    fixed = static_groups or act_order
    rulers = _GroupRulers(W, order, grid, granularity, clip, scale_dtype, fixed)
    P = _pushes(H, order, damping, W.dtype)
    codes = _solve(W.T.contiguous()[order], P, rulers, block)  # (in, out)
    codes = codes[order.argsort()].T.contiguous()
    return QuantizedTensor(codes, *rulers.stored(), grid, granularity)


def _solve(
    W: Float[Tensor, "in out"],
    P: Float[Tensor, "in in"],
    rulers: "_GroupRulers",
    block: int,
) -> Integer[Tensor, "in out"]:
    """The loop. A row here is a column of the layer; rows are in the order of rounding.

    It computes what `gptq_derivation.steps` computes, with two differences that make it
    fast. W is never rewritten: column j collects what all columns before it push on it
    when its turn comes. And it collects from far away in one matrix product for a whole
    block of columns; only what the block itself pushes is collected column by column.
    """
    g = rulers.columns_at_once  # the columns of a group stay in one block
    block = g * max(1, block // g)
    E, codes = torch.zeros_like(W), []
    for a in range(0, len(W), block):
        b = min(a + block, len(W))
        if a % (_FAR * block) == 0:
            start, far = a, P[:a, a : a + _FAR * block].T @ E[:a]
        pushed = far[a - start : b - start] + P[start:a, a:b].T @ E[start:a]
        now = W[a:b] + pushed  # (block, out)
        near = P[a:b, a:b].T.contiguous()  # row k: onto column a + k
        for k, j in enumerate(range(a, b)):
            if not rulers.fixed and j % g == 0:
                group = slice(j, j + g)
                onto_group = pushed[k : k + g] + P[a:j, group].T @ E[a:j]
                rulers.fit_next(W[group] + _moves(P[group, group], onto_group))
            w = torch.addmv(now[k], E[a:j].T, near[k, :k])  # (out,)
            ruler = rulers.of_column(j)
            codes.append(ruler.codes(w))
            torch.sub(W[j], ruler.values(codes[-1]), out=E[j])
    return torch.stack(codes)


def _moves(
    P: Float[Tensor, "g g"], pushed: Float[Tensor, "g out"]
) -> Float[Tensor, "g out"]:
    """How far the columns of a group have moved before any of them is rounded.

    pushed: what the columns before the group push on each of its columns. That is not
    yet how far they move: a column that has moved pushes on those after it, as if it
    had been rounded there. With E = −moves, what arrives at each column is
    pushed + (E P without its diagonal) = moves, so E solves E P + pushed = 0.
    """
    return torch.linalg.solve_triangular(P.T, pushed, upper=False, unitriangular=True)


class _GroupRulers:
    """The ruler of each group of columns: fixed before the loop, or fitted in it."""

    def __init__(
        self,
        W: Float[Tensor, "out in"],
        order: Int[Tensor, " in"],
        grid: Grid,
        granularity: Granularity,
        clip: Clip,
        scale_dtype: ScaleType,
        fixed: bool,
    ) -> None:
        self.grid, self.options = grid, {"clip": clip, "scale_dtype": scale_dtype}
        _, n_groups, g = group_shape(tuple(W.shape), granularity)
        self.group_of = (order // g).tolist() if n_groups > 1 else [0] * len(order)
        self.fixed = fixed or n_groups == 1
        self.columns_at_once = 1 if self.fixed else g
        self.rulers: list[Ruler] = []
        self.parts: list[tuple[Scales, Tensor | None]] = []  # as stored, for groups
        if self.fixed:
            self._add(split(W, granularity), W.dtype)
        elif not isinstance(scale_dtype, torch.dtype):
            raise ValueError(
                "scale_dtype is a format that needs all scales at once, and here they "
                "are taken one group after the other; pass static_groups=True"
            )

    def _add(
        self, groups: Float[Tensor, "rows n_groups g"], dtype: torch.dtype
    ) -> None:
        scales, zeros = scale_and_zero(groups, self.grid, **self.options)
        self.parts.append((scales, zeros))
        self.rulers += Ruler.by_group(scales, zeros, self.grid, dtype)

    def fit_next(self, now: Float[Tensor, "g out"]) -> None:
        """Fit the ruler of the next group to its weights as they are now."""
        self._add(now.T[:, None], now.dtype)  # (out, 1, g)

    def of_column(self, j: int) -> Ruler:
        """The ruler of the j-th column in the order of rounding."""
        return self.rulers[self.group_of[j]]

    def stored(self) -> tuple[Scales, Tensor | None]:
        """Scales as stored and zeros, (rows, n_groups), in the order of the groups."""
        if self.fixed:
            return self.parts[0]
        scales, zeros = zip(*self.parts, strict=True)
        return torch.cat(scales, 1), None if zeros[0] is None else torch.cat(zeros, 1)


def _checked(
    H: Float[Tensor, "rows cols"], W: Float[Tensor, "out in"]
) -> Float[Tensor, "in in"]:
    """H in float32 (float64 stays), or ValueError for what cannot be XᵀX."""
    width = W.shape[1]
    if tuple(H.shape) != (width, width):
        raise ValueError(
            f"H has shape {tuple(H.shape)}, but W {tuple(W.shape)} needs "
            f"{(width, width)}; give X.T @ X for inputs X (n, {width})"
        )
    H = H.detach().to(W.device)
    H = H if H.dtype == torch.float64 else H.float()
    if not torch.stack(H.aminmax()).isfinite().all():  # they pass NaN on
        raise ValueError(
            f"H holds {int((~H.isfinite()).sum())} of {H.numel()} numbers that are not "
            "finite; compute X.T @ X in float32, and look for overflow in X"
        )
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

    With its last column first, H = L Lᵀ as usual; turned back, L is R.
    """
    if not damping >= 0:
        raise ValueError(f"damping is {damping}; choose 0 or more, often 0.01")
    last_first = order.flip(0)
    turned = H[last_first][:, last_first]
    diagonal = turned.diagonal()  # a view
    dead = diagonal == 0  # any number serves them: all else in their rows is 0
    diagonal += damping * diagonal.mean() + dead
    L, failed = torch.linalg.cholesky_ex(turned)
    if failed:  # one more try, with 53 bits
        L, failed = torch.linalg.cholesky_ex(turned.double())
    # undamped, what is left of an input beside the others may be H's own rounding
    noise = len(H) * torch.finfo(H.dtype).eps * diagonal
    if failed or (damping == 0 and (L.diagonal().square() <= noise).any()):
        raise ValueError(
            f"H does not factor at damping {damping}: some inputs are sums of others; "
            f"choose damping={max(0.01, 10 * damping):g}, or calibrate on more tokens"
        )
    return (L / L.diagonal().contiguous()).to(dtype).flip(0, 1)
