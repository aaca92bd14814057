"""Y = X W_hatᵀ by every backend: near float64, of every shape, with a gradient."""

import pytest
import torch
from helpers.fixture import as_learners_have_it
from hypothesis import given, settings
from hypothesis import strategies as st

from minquant.kernels import launch, matmul, packed_words
from minquant.kernels.packed_words import dequantize, pack_matrix
from minquant.methods import rtn
from minquant.numerics import grids, groups

WITHIN = {
    torch.float16: 1e-3,
    torch.bfloat16: 4e-3,
    torch.float32: 1e-6,
    torch.float64: 1e-13,
}
GRIDS = [make(b) for make in (grids.zero_point, grids.absmax) for b in (2, 3, 4, 8)]


def packed_of(grid=None, g=32, shape=(48, 96), seed=0):
    """A random packed matrix; g None: one group per row."""
    W = torch.randn(shape, generator=torch.Generator().manual_seed(seed))
    cut = groups.per_group(g) if g else groups.PER_CHANNEL
    return pack_matrix(rtn.quantize_rtn(W, grid or grids.zero_point(4), cut))


def inputs(*shape, dtype=torch.float32):
    """Random X."""
    return torch.randn(shape, generator=torch.Generator().manual_seed(1)).to(dtype)


def error(Y, X, packed):
    """‖Y − Y*‖ / ‖Y*‖ against float64."""
    exact = X.double() @ dequantize(packed, torch.float64).T
    return ((Y.double() - exact).norm() / exact.norm()).item()


def test_two_weights_by_hand():
    """Codes 7 and −7 at scale 1/2: 3.5 · 2 + (−3.5) · 4 = −7."""
    W = torch.tensor([[3.5, -3.5]])
    packed = pack_matrix(rtn.quantize_rtn(W, grids.absmax(4)))
    assert matmul.matmul(torch.tensor([2.0, 4.0]), packed).tolist() == [-7.0]


@settings(max_examples=40, deadline=None)
@given(
    st.sampled_from(GRIDS),
    st.sampled_from([None, 16, 32]),
    st.sampled_from(list(WITHIN)),
    st.sampled_from(["auto", "torch", "reference"]),
    st.integers(1, 40),
)
def test_every_width_and_type_is_near_float64(grid, g, dtype, backend, n):
    packed, X = packed_of(grid, g), inputs(n, 96, dtype=dtype)
    Y = matmul.matmul(X, packed, backend=backend)
    assert Y.dtype == dtype and error(Y, X, packed) <= WITHIN[dtype]


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_the_kernels_are_near_it_too(dtype):
    pytest.importorskip("triton", reason="triton is for Linux: no kernels to run")
    packed, X = packed_of(), inputs(2, 3, 96, dtype=dtype)
    if torch.cuda.is_available():
        packed, X = packed.to("cuda"), X.cuda()
    Y = matmul.matmul(X, packed, backend="triton")
    assert Y.shape == (2, 3, 48) and error(Y, X, packed) <= WITHIN[dtype]


def test_torchs_own_kernel_is_taken_where_it_serves():
    packed, X = packed_of(grids.absmax(4)), inputs(4, 96, dtype=torch.bfloat16)
    assert matmul.choose_backend(X, packed) == "cpu_int4"
    assert error(matmul.matmul(X, packed), X, packed) <= WITHIN[torch.bfloat16]
    many = inputs(matmul.FEW + 1, 96, dtype=torch.bfloat16)
    assert matmul.choose_backend(many, packed) == "torch"
    assert (
        matmul.choose_backend(X.float(), packed)
        == matmul.choose_backend(X, packed_of())
        == "torch"
    )


@pytest.mark.parametrize(
    "backend", ["auto", "torch", "reference", "cpu_int4", "triton"]
)
def test_no_tokens_give_no_rows(backend):
    packed, X = packed_of(grids.absmax(4)), inputs(0, 5, 96, dtype=torch.bfloat16)
    if backend == "triton":
        pytest.importorskip("triton", reason="triton is for Linux")
        if torch.cuda.is_available():
            packed, X = packed.to("cuda"), X.cuda()
    assert matmul.matmul(X, packed, backend=backend).shape == (0, 5, 48)


def test_x_may_have_any_strides_and_any_leading_shape():
    packed, X = packed_of(), inputs(4, 3, 192)[:, :, ::2].transpose(0, 1)
    Y = matmul.matmul(X, packed)
    assert Y.shape == (3, 4, 48) and error(Y, X, packed) <= 1e-6
    assert torch.equal(
        matmul.matmul(X[1, 2], packed), matmul.matmul(X[1, 2:3], packed)[0]
    )


def test_a_large_matrix_is_never_dequantized_whole(monkeypatch):
    rows_at_a_time = []

    def seen(packed, dtype, rows=None):
        W_hat = dequantize(packed, dtype, rows)
        rows_at_a_time.append(len(W_hat))
        return W_hat

    monkeypatch.setattr(packed_words, "PART", 96 * 20)
    monkeypatch.setattr(packed_words, "dequantize", seen)
    packed = packed_of()
    X = inputs(3, 96).requires_grad_()
    Y = matmul.matmul(X, packed, backend="torch")
    assert rows_at_a_time == [16, 16, 16]
    Y.sum().backward()
    assert max(rows_at_a_time) == 16 and sum(rows_at_a_time) == 96
    monkeypatch.undo()
    assert error(Y.detach(), X.detach(), packed) <= 1e-6


@pytest.mark.parametrize("backend", ["auto", "torch", "reference"])
def test_the_gradient_of_x_is_that_of_the_dequantized_product(backend):
    packed, X = packed_of(), inputs(5, 96, dtype=torch.float64).requires_grad_()
    assert torch.autograd.gradcheck(
        lambda x: matmul.matmul(x, packed, backend=backend), X
    )


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_a_gradient_in_16_bits_is_as_exact_as_y(dtype):
    packed, X = packed_of(), inputs(5, 96, dtype=dtype).requires_grad_()
    dY = inputs(5, 48, dtype=dtype)
    matmul.matmul(X, packed).backward(dY)
    exact = dY.double() @ dequantize(packed, torch.float64)
    apart = (X.grad.double() - exact).norm() / exact.norm()
    assert X.grad.dtype == dtype and apart <= WITHIN[dtype]


def test_what_does_not_fit_or_serve_is_refused_with_advice(monkeypatch):
    packed = packed_of()
    with pytest.raises(
        ValueError, match=r"X has shape \(2, 95\), packed has in_features 96"
    ):
        matmul.matmul(torch.ones(2, 95), packed)
    with (
        as_learners_have_it(),
        pytest.raises(ValueError, match=r"X has shape \(\), packed has"),
    ):
        matmul.matmul(torch.tensor(1.0), packed)
    with pytest.raises(ValueError, match=r"X is on meta, .*; use packed.to"):
        matmul.matmul(torch.ones(2, 96, device="meta"), packed)
    with pytest.raises(
        ValueError, match="cpu_int4' does not serve here: X is torch.fl"
    ):
        matmul.matmul(torch.ones(2, 96), packed, backend="cpu_int4")
    with (
        as_learners_have_it(),
        pytest.raises(
            ValueError, match="backend is 'cuda'; choose one of auto, triton"
        ),
    ):
        matmul.matmul(torch.ones(2, 96), packed, backend="cuda")
    monkeypatch.setattr(launch, "_kernels", lambda: None)
    with pytest.raises(ValueError, match="triton' does not serve.*pip install triton"):
        matmul.matmul(torch.ones(2, 96), packed, backend="triton")


@pytest.mark.parametrize("dtype", [torch.int32, torch.bool, torch.complex64])
def test_what_holds_no_floats_is_refused_and_nothing_is_cut_off(dtype):
    X = torch.ones(2, 96, dtype=dtype)
    with (
        as_learners_have_it(),
        pytest.raises(TypeError, match=r"X has dtype torch\.\w+; give floats"),
    ):
        matmul.matmul(X, packed_of())
