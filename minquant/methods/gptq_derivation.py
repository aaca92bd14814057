"""From one weight to GPTQ: a derivation in four steps, each of which runs.

Unlike RTN: when a weight is rounded, those not yet rounded move to make up for it. For
one row w of W, a change δ of its weights changes the layer's outputs by

    E(δ) = ‖X δᵀ‖² = δ H δᵀ              H = XᵀX (in, in), the same for every row

1. One weight (Optimal Brain Surgeon; Hassibi & Stork 1993). Fix weight q at value v,
   let the others move freely: minimise E under δ_q = v − w_q. At the minimum the slope
   2 δ H is 0 for every weight that may move, so δ H has one entry that is not 0, at q,
   and δ is a multiple of row q of H⁻¹: the one whose entry q is v − w_q.

       δ = −e · H⁻¹[q, :] / H⁻¹[q, q]     e = w_q − v        E = e² / H⁻¹[q, q]

2. One weight after another (OBQ; Frantar & Alistarh 2022). A fixed weight no longer
   moves, so H loses its row and column q, and the inverse of what is left is H⁻¹ after
   one step of Gaussian elimination:

       H⁻¹ ← H⁻¹ − H⁻¹[:, q] H⁻¹[q, :] / H⁻¹[q, q]

   OBQ takes the cheapest weight of each row first, so each row needs its own H⁻¹. In
   one order for all rows, say left to right, one H⁻¹ serves them all: O(in³) and not
   O(out · in³). That costs little accuracy (Frantar et al. 2023, their step 1).

3. No elimination (their step 3). The row of H⁻¹ that column j needs at its turn can be
   read from a Cholesky factor H⁻¹ = Uᵀ U, U upper triangular:

       H⁻¹[j, j:] after j eliminations  =  U[j, j] · U[j, j:]

   (Indices count the columns as they were at first; `eliminate` takes them away.)

4. Lazy batches (their step 2). Push errors only to the columns of the same block. When
   the block is done, push them to all columns beyond it in one matrix product. The sums
   are the same, and a machine multiplies matrices far faster than it adds outer
   products.

Papers write w as a column, and H = 2XXᵀ with X (in, n): the 2 cancels in δ. They call
H⁻¹'s row and entry [H_F⁻¹]_{q,:} and [H_F⁻¹]_{qq}, and e / U[j, j] the error Err.

What is left out: damping, scales that are fitted when the loop reaches their group,
speed. `gptq.py` has them. Here all is float64 if W and H are. Lesson 06 builds these
functions one by one.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float, Integer
from torch import Tensor

from minquant.numerics.ruler import Ruler
from minquant.numerics.tensor import QuantizedTensor


def obs_step(
    w: Float[Tensor, " in"], H_inv: Float[Tensor, "in in"], q: int, v: float
) -> tuple[Float[Tensor, " in"], float]:
    """Fix weight q at v and move all others as well as possible: the new w, its cost.

    H_inv is the inverse of H = XᵀX, and the cost E is in the units of ‖Xw‖². Hassibi
    and Stork 1993, for v = 0: there a weight is pruned. Lesson 06.

    Two inputs that are nearly the same: what weight 0 loses, weight 1 gains.

    >>> H_inv = torch.linalg.inv(torch.tensor([[1.0, 0.9], [0.9, 1.0]]))
    >>> w, cost = obs_step(torch.tensor([0.3, 0.5]), H_inv, q=0, v=0.0)
    >>> w, round(cost, 4)
    (tensor([0.0000, 0.7700]), 0.0171)
    """
    e, d = w[q] - v, H_inv[q, q]
    moved = w - e / d * H_inv[q]
    moved[q] = v  # exactly, without a rounding error
    return moved, (e * e / d).item()


def eliminate(H_inv: Float[Tensor, "in in"], q: int) -> Float[Tensor, "left left"]:
    """The inverse of H without its row and column q, from the inverse of H.

    One step of Gaussian elimination (Frantar and Alistarh 2022, lemma 1). Lesson 06.

    >>> H = torch.tensor([[2.0, 1.0], [1.0, 4.0]])
    >>> eliminate(torch.linalg.inv(H), 0)
    tensor([[0.2500]])
    """
    left = [i for i in range(len(H_inv)) if i != q]
    eliminated = H_inv - torch.outer(H_inv[:, q], H_inv[q]) / H_inv[q, q]
    return eliminated[left][:, left]


def inverse_cholesky(H: Float[Tensor, "in in"]) -> Float[Tensor, "in in"]:
    """U, upper triangular, with H⁻¹ = Uᵀ U: all that GPTQ needs of H.

    As in the paper: invert, then factor. Raises torch.linalg.LinAlgError unless H is
    positive definite; if it is not, add to its diagonal first.

    >>> inverse_cholesky(torch.tensor([[0.25, 0.0], [0.0, 1.0]])).abs()
    tensor([[2., 0.],
            [0., 1.]])
    """
    H_inv = torch.cholesky_inverse(torch.linalg.cholesky(H))
    return torch.linalg.cholesky(H_inv, upper=True)


def rows_by_elimination(H: Float[Tensor, "in in"]) -> Iterator[Float[Tensor, " left"]]:
    """For each column j, the first row of the inverse of H[j:, j:].

    Its first entry is the diagonal, and it has `in` − j entries. OBQ's way: O(in³) in
    all for one order of columns, but each step rewrites the whole inverse. Lesson 06.
    """
    H_inv = torch.linalg.inv(H)
    while len(H_inv):
        yield H_inv[0]
        H_inv = eliminate(H_inv, 0)


def rows_by_cholesky(H: Float[Tensor, "in in"]) -> Iterator[Float[Tensor, " left"]]:
    """The same rows, read from a factor that is computed once: U[j, j] · U[j, j:].

    GPTQ's step 3, "Cholesky reformulation". Lesson 06.
    """
    U = inverse_cholesky(H)
    for j in range(len(U)):
        yield U[j, j] * U[j, j:]


@dataclass(frozen=True, eq=False)
class Step:
    """The state after column j: what is rounded, and what was pushed to the right."""

    column: int
    codes: Integer[Tensor, "out done"]  # of the columns so far, j + 1 of them
    error: Float[Tensor, " out"]  # e = w_j − ŵ_j, where w_j has moved already
    pushed: Float[Tensor, "out left"]  # how far the columns to the right moved
    W: Float[Tensor, "out in"]  # W_hat up to column j, the moved weights beyond
    cost: float  # what fixing column j added to ‖X(W_hat − W)ᵀ‖², summed over rows


def steps(
    W: Float[Tensor, "out in"],
    rows: Iterable[Float[Tensor, " left"]],
    rulers: Sequence[Ruler],
) -> Iterator[Step]:
    """Round W column by column and push each error onto the rest: a Step per column.

    rows: from `rows_by_elimination` (then this is OBQ in a fixed order) or from
    `rows_by_cholesky` (then it is GPTQ). rulers: one for each column, as from
    `column_rulers`. Each Step holds copies, so later steps do not change it. The costs
    add up to the layer's error.
    """
    W, done = W.clone(), []
    for j, row in enumerate(rows):
        codes = rulers[j].codes(W[:, j])
        W_hat_j = rulers[j].values(codes)
        error = W[:, j] - W_hat_j
        pushed = -torch.outer(error / row[0], row[1:])  # (out, in - j - 1)
        W[:, j] = W_hat_j
        W[:, j + 1 :] += pushed
        done.append(codes)
        cost = (error.square().sum() / row[0]).item()
        yield Step(j, torch.stack(done, 1), error, pushed, W.clone(), cost)


def lazy_batches(
    W: Float[Tensor, "out in"],
    H: Float[Tensor, "in in"],
    rulers: Sequence[Ruler],
    block: int = 128,
) -> tuple[Integer[Tensor, "out in"], Float[Tensor, "out in"]]:
    """GPTQ in blocks of columns: codes and W_hat, those of `steps` up to float error.

    GPTQ's algorithm 1. Raises ValueError if block < 1. Lesson 06.
    """
    if block < 1:
        raise ValueError(f"block is {block}; choose a number of columns, often 128")
    U, W, done = inverse_cholesky(H), W.clone(), []
    for a in range(0, W.shape[1], block):
        b = min(a + block, W.shape[1])
        errors = torch.zeros_like(W[:, a:b])  # (out, block): e / U[j, j]
        for j in range(a, b):
            codes = rulers[j].codes(W[:, j])
            W_hat_j = rulers[j].values(codes)
            errors[:, j - a] = (W[:, j] - W_hat_j) / U[j, j]
            W[:, j] = W_hat_j
            W[:, j + 1 : b] -= torch.outer(errors[:, j - a], U[j, j + 1 : b])
            done.append(codes)
        W[:, b:] -= errors @ U[a:b, b:]  # the errors of the whole block
    return torch.stack(done, 1), W


def column_rulers(
    quantized: QuantizedTensor, dtype: torch.dtype = torch.float64
) -> list[Ruler]:
    """The ruler of each column of a quantized matrix, with a scale for each row.

    quantized: W rounded by RTN. Its rulers stay as they are while W moves, as with
    `static_groups` in `quantize_gptq`. dtype: to calculate in, that of W. Lesson 06.

    >>> import minquant as mq
    >>> q = mq.quantize_rtn(torch.tensor([[7.0, 2.6]]), mq.absmax(4))
    >>> column_rulers(q, torch.float32)[1].round(torch.tensor([3.4]))
    tensor([3.])
    """
    q, width = quantized, quantized.codes.shape[1]
    ruler = Ruler.of_groups(q.scales, q.zeros, q.grid, dtype)
    n_groups = q.scales.shape[1]
    return [ruler.column(j * n_groups // width) for j in range(width)]
