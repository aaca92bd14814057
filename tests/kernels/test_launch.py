"""Which kernel is launched for which shape and card, and with what."""

import subprocess
import sys

import pytest
import torch

from minquant.kernels import launch, packed_words
from minquant.methods import rtn
from minquant.numerics import grids, groups

CUDA = torch.cuda.is_available()
T4, A10, H100 = (7, 5), (8, 6), (9, 0)


def packed_of(grid=None, g=32, shape=(24, 96)):
    """A random packed matrix."""
    W = torch.randn(shape, generator=torch.Generator().manual_seed(0))
    grid = grid or grids.zero_point(4)
    made = packed_words.pack_matrix(rtn.quantize_rtn(W, grid, groups.per_group(g)))
    return made.to("cuda") if CUDA else made


def like(packed, X):
    """X where the matrix is."""
    return X.to(packed.words.device)


# --- the table ---


@pytest.mark.parametrize(
    ("tokens", "card", "kernel"),
    [
        (1, H100, "gemv"),
        (2, H100, "skinny"),
        (16, A10, "skinny"),
        (17, A10, "gemm"),
        (256, H100, "gemm"),
        (257, H100, None),
        (4, T4, "gemv"),
        (5, T4, None),
    ],
)
def test_tokens_and_card_choose_the_kernel(tokens, card, kernel):
    by = launch.plan_for(tokens, 4096, card)
    assert (by and by.kernel) == kernel


@pytest.mark.parametrize("rows", launch.TABLE.values(), ids=launch.TABLE)
def test_every_row_of_the_table_is_reached_by_some_shape(rows):
    reached = {
        next(r for r in rows if tokens <= r.tokens and outputs <= r.outputs)
        for tokens in {row.tokens for row in rows}
        for outputs in (1024, 65536)
    }
    assert reached == set(rows)


@pytest.mark.parametrize("rows", launch.TABLE.values(), ids=launch.TABLE)
def test_what_kernels_take_for_granted_holds_in_the_table(rows):
    for row in rows:
        if row.kernel == "gemv":  # a thread holds one lane of four words
            assert row.block_m == 1 and row.split == 128 * row.num_warps
        if row.kernel == "skinny":  # a warp holds one layer
            assert row.split == row.num_warps
        if row.kernel != "gemv":  # tensor cores multiply 16 outputs by 8 tokens
            assert row.block_n % 16 == 0 and row.block_m % 8 == 0


def test_four_small_outputs_are_many_programs():
    """4096 outputs of one token keep the 132 multiprocessors of an H100 busy."""
    assert 4096 / launch.plan_for(1, 4096, H100).block_n >= 3 * 132


# --- what is refused ---


def test_without_triton_it_says_so(monkeypatch):
    monkeypatch.setattr(launch, "_kernels", lambda: None)
    packed = packed_of()
    X = like(packed, torch.ones(1, 96).half())
    assert "pip install triton" in launch.refuses(X, packed)


def test_the_module_works_where_triton_is_absent():
    """None in sys.modules makes the import fail, as on a machine without triton."""
    code = """
import sys, torch
sys.modules["triton"] = None
import minquant as mq
from minquant.kernels import matmul
packed = mq.pack_matrix(mq.quantize_rtn(torch.randn(8, 64), mq.absmax(4)))
X = torch.randn(2, 64)
assert torch.allclose(matmul.matmul(X, packed), matmul.reference(X, packed), 1e-4, 1e-5)
try:
    matmul.matmul(X, packed, backend="triton")
except ValueError as error:
    print(error)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert "triton is not installed" in done.stdout, done.stderr


def test_groups_that_cut_a_slice_are_refused():
    packed = packed_of(g=24)
    X = like(packed, torch.ones(1, 96).half())
    pytest.importorskip("triton", reason="triton is for Linux")
    assert "group_size is 24; the kernels take multiples of 32" in launch.refuses(
        X, packed
    )


def test_float64_is_refused():
    pytest.importorskip("triton", reason="triton is for Linux")
    packed = packed_of()
    X = like(packed, torch.ones(1, 96).double())
    assert "X is torch.float64" in launch.refuses(X, packed)


# --- what is launched ---


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
@pytest.mark.parametrize("tokens", [1, 3, 40])
def test_a_product_by_the_table_is_near_float64(tokens, dtype):
    pytest.importorskip("triton", reason="triton is for Linux")
    packed = packed_of()
    X = like(packed, torch.randn(tokens, 96).to(dtype))
    exact = X.double() @ packed_words.dequantize(packed, torch.float64).T
    within = {torch.float16: 1e-3, torch.bfloat16: 4e-3, torch.float32: 1e-3}[dtype]
    Y = launch.product(X, packed)
    assert Y.dtype == dtype and (Y.double() - exact).norm() <= within * exact.norm()


@pytest.mark.parametrize("width", [97, 96])
def test_rows_of_x_may_lie_anywhere(width):
    """Odd rows, strided rows, and rows that begin in the middle of an int32."""
    pytest.importorskip("triton", reason="triton is for Linux")
    packed = packed_of(g=width, shape=(24, width))
    kept = like(packed, torch.randn(2 * width + 1).half())
    W_hat = packed_words.dequantize(packed, torch.float64)
    for X in (kept[1 : width + 1][None], kept[: 2 * width : 2][None]):
        exact = X.double() @ W_hat.T
        Y = launch.product(X, packed)
        assert (Y.double() - exact).norm() <= 1e-3 * exact.norm()


def test_w_hat_is_written_slice_by_slice(monkeypatch):
    pytest.importorskip("triton", reason="triton is for Linux")
    monkeypatch.setattr(launch, "PART", 96 * 10)
    packed = packed_of()
    X = like(packed, torch.randn(3, 96))
    exact = X.double() @ packed_words.dequantize(packed, torch.float64).T
    assert (launch.product(X, packed).double() - exact).norm() <= 1e-3 * exact.norm()
