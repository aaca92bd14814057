"""Every kernel against float64: in Triton's interpreter, or on the GPU if there is one.

Y is NaN wherever a kernel does not write, and so is the memory before and behind X, so
a forgotten edge shows. Kernels write fp32 here, and X holds numbers that fit 16 bits,
so only the order of sums may differ.
"""

import inspect

import numpy as np
import pytest
import torch

pytest.importorskip("triton", reason="triton is for Linux: no kernels to run")

from minquant.kernels import launch, packed_words, triton_kernels
from minquant.methods import rtn
from minquant.numerics import grids, groups

DEVICE = "cpu" if triton_kernels.INTERPRETED else "cuda"
# ‖Y − Y*‖ / ‖Y*‖ for sums of some hundred products in fp32, in any order; tensor cores
# cut off the last bits of what they add up
EXACT = 1e-5 if triton_kernels.INTERPRETED else 1e-4
pytestmark = [] if triton_kernels.INTERPRETED else pytest.mark.gpu
GEMV = launch.Plan(1, 1, "gemv", 1, 16, 128, 1, 1)
SKINNY = launch.Plan(1, 1, "skinny", 8, 16, 4, 4, 1)
GEMM = launch.Plan(1, 1, "gemm", 16, 32, 1, 4, 1)
MARGIN = 512  # NaN on either side of X
TOKENS = {"gemv": 2, "skinny": 9, "gemm": 19}  # more than a block, and not whole ones
ZERO, FULL = grids.zero_point, grids.symmetric_full


@pytest.fixture
def _unwritten_is_nan():
    """torch fills what it allocates with NaN in this mode."""
    torch.use_deterministic_algorithms(True)
    yield
    torch.use_deterministic_algorithms(False)


def matrix(grid, g, width, out=37, seed=0):
    """A random packed matrix, in groups of g (None: one per row)."""
    W = torch.randn(out, width, generator=torch.Generator().manual_seed(seed))
    cut = groups.per_group(g) if g else groups.PER_CHANNEL
    return packed_words.pack_matrix(rtn.quantize_rtn(W, grid, cut)).to(DEVICE)


def inputs(n, width, dtype=torch.float16, seed=1):
    """Random X (n, width) surrounded by NaN, so that a read beyond it shows in Y."""
    X = torch.randn(n, width, generator=torch.Generator().manual_seed(seed))
    size = n * width + 2 * MARGIN
    around = torch.full((size,), torch.nan, device=DEVICE, dtype=dtype)
    inside = around[MARGIN:-MARGIN].view(n, width)
    return inside.copy_(X)


def error(by, X, packed):
    """‖Y − Y*‖ / ‖Y*‖ of a kernel that writes fp32."""
    Y = torch.full((len(X), packed.shape[0]), torch.nan, device=DEVICE)
    launch._launch(by, X, packed, Y)
    exact = X.double() @ packed_words.dequantize(packed, torch.float64).T
    return ((Y.double() - exact).norm() / exact.norm()).item()


CASES = [  # grid, group size (None: a row), in_features
    (ZERO(4), 32, 352),
    (FULL(4), 128, 384),
    (FULL(4), None, 301),  # odd, and no whole block
    (ZERO(3), 32, 352),
    (ZERO(3), 160, 320),
    (FULL(3), None, 128),
    (ZERO(8), 64, 192),
    (FULL(8), None, 97),
    (ZERO(2), 32, 288),
    (FULL(2), 256, 512),
]


@pytest.mark.parametrize("by", [GEMV, SKINNY, GEMM], ids=lambda by: by.kernel)
@pytest.mark.parametrize(
    ("grid", "g", "width"), CASES, ids=lambda v: str(getattr(v, "bits", v))
)
def test_a_kernel_makes_the_product(by, grid, g, width):
    X = inputs(TOKENS[by.kernel], width)
    assert error(by, X, matrix(grid, g, width)) < EXACT


@pytest.mark.parametrize("by", [GEMV, SKINNY, GEMM], ids=lambda by: by.kernel)
@pytest.mark.parametrize("bits", [4, 8])
def test_bf16_keeps_its_range_and_its_bits(by, bits):
    """Numbers that fp16 cannot hold: 1e6, and 1e-6, which would lose bits."""
    X = inputs(2, 160, torch.bfloat16)
    packed = matrix(ZERO(bits), 32, 160)
    assert error(by, X * 1e6, packed) < EXACT
    assert error(by, X * 1e-6, packed) < EXACT


@pytest.mark.parametrize("grid", [ZERO(4), FULL(3)], ids=lambda grid: str(grid.bits))
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
@pytest.mark.usefixtures("_unwritten_is_nan")
def test_dequantize_writes_what_torch_computes_bit_for_bit(grid, dtype):
    packed = matrix(grid, 32, 352)
    made = launch.dequantize(packed, dtype, slice(0, 37))
    assert torch.equal(made, packed_words.dequantize(packed, dtype))
    assert torch.equal(launch.dequantize(packed, dtype, slice(9, 20)), made[9:20])


@pytest.mark.parametrize("size", [2.0**-41, 2.0**63])
def test_one_token_may_be_as_small_and_as_large_as_promised(size):
    X = inputs(1, 160, torch.bfloat16).sign() * size
    assert error(GEMV, X, matrix(ZERO(4), 32, 160)) < EXACT


interpreted = pytest.mark.skipif(
    not triton_kernels.INTERPRETED, reason="on a GPU compute-sanitizer sees it"
)


@interpreted
@pytest.mark.parametrize("by", [GEMV, SKINNY, GEMM], ids=lambda by: by.kernel)
@pytest.mark.parametrize(
    ("grid", "g", "width"), CASES, ids=lambda v: str(getattr(v, "bits", v))
)
def test_no_address_outside_the_tensors_is_touched(by, grid, g, width, monkeypatch):
    """Not even where the number that is read would not count."""
    assert strays(by, inputs(TOKENS[by.kernel], width), matrix(grid, g, width)) == 0


def strays(by, X, packed):
    """How many numbers a kernel would load or store outside its tensors."""
    Y = torch.empty(len(X), packed.shape[0])
    mine = [
        t for t in (X, packed.words, packed.scales, packed.zeros, Y) if t is not None
    ]
    with pytest.MonkeyPatch.context() as patch:
        if by is GEMV:  # an odd row gets a 0 to end with: this is what is then read
            mine.append(pairs := launch._pairs(X))
            patch.setattr(launch, "_pairs", lambda _: pairs)
        found = guard(patch, mine)
        launch._launch(by, X, packed, Y)
    assert len(found) > 3
    return sum(found)


def guard(patch, mine):
    """Lets the interpreter load and store in these tensors alone.

    Returns a list. Each access adds to it how many numbers lie outside.
    """
    from triton.runtime import interpreter

    found, builder = [], interpreter.InterpreterBuilder

    def watch(name, mask_at):
        original = getattr(builder, name)

        def watched(self, ptrs, *rest):
            mask, at = rest[mask_at], ptrs.data.astype(int)
            last = at + ptrs.get_element_ty().primitive_bitwidth // 8 - 1
            ends = [(t.data_ptr(), t.data_ptr() + t.nbytes) for t in mine]
            inside = np.any([(at >= a) & (last < b) for a, b in ends], axis=0)
            found.append(int((mask.data & ~inside).sum()))
            rest = list(rest)
            rest[mask_at] = interpreter.TensorHandle(mask.data & inside, mask.dtype)
            return original(self, ptrs, *rest)

        patch.setattr(builder, name, watched)

    watch("create_masked_load", 0)
    watch("create_masked_store", 1)
    return found


def test_the_smallest_inputs_of_fp16_count():
    """gemv multiplies subnormal numbers, which must not be flushed to 0."""
    X = torch.full((1, 128), 2.0**-24).half().to(DEVICE)  # the smallest fp16
    assert error(GEMV, X, matrix(ZERO(4), 32, 128)) < EXACT


def test_fp32_scales_are_used_as_they_are():
    W = torch.randn(16, 64, generator=torch.Generator().manual_seed(0))
    cut = groups.per_group(32)
    q = rtn.quantize_rtn(W, grids.absmax(4), cut, scale_dtype=torch.float32)
    packed = packed_words.pack_matrix(q).to(DEVICE)
    for by in (GEMV, SKINNY, GEMM):
        assert error(by, inputs(2, 64), packed) < EXACT


# --- the tests above, on kernels that are broken on purpose ---


HEADER = """import triton
from minquant.kernels.triton_kernels import _add_product, _as_floats, _steps, _zeros_at
from minquant.kernels.triton_kernels import constexpr, no_type_check, tensor, tl


"""


def broken(kernel, old, new, folder):
    """A kernel with one change, made from its own source."""
    source = inspect.getsource(getattr(triton_kernels, kernel).fn)
    assert old in source
    file = folder / "planted.py"  # triton reads the source again
    file.write_text(HEADER + source.replace(old, new))
    planted = {"__name__": "planted"}
    exec(compile(file.read_text(), file, "exec"), planted)
    return planted[kernel]


PLANTED = {  # kernel: what stands there, and what a slip of the pen makes of it
    "gemv": [
        ("mask=n < N)", "mask=n < N - 1)"),
        ("k < half_K, other=0", "k < half_K + 2, other=0"),
        ("2.0 ** (64 - BITS * i)", "2.0 ** (64 - BITS * (i ^ 1))"),
        ("(low >> 16) & 0xFFFF", "low & 0xFFFF"),
        ("dot - zero *", "dot - (zero + 1) *"),
        ("run * RUN) * 32 // GROUP", "0 * RUN) * 32 // GROUP"),
        ("m * half_K", "0 * half_K"),
    ],
    "skinny": [
        ("mask=(m < M) & (n < N)", "mask=(m < M - 1) & (n < N)"),
        ("+ layer", "+ layer * 0"),
        ("sums += scale[:, :, None] * dots", "sums = scale[:, :, None] * dots"),
        ("& (k < K)", "& (k < K - 1)"),
        ("+ i)[:, :, None]", "+ (i ^ 1))[:, :, None]"),
    ],
    "gemm": [
        ("mask=(m < M) & (n < N)", "mask=(m < M) & (n < N - 1)"),
        ("program_id(0) * BLOCK_M", "program_id(0) * 32"),
        ("BITS, i).reshape", "BITS, 0).reshape"),
        ("scale * dots", "dots"),
        ("& (k < K)", "& (k < K - 1)"),
    ],
}


@pytest.mark.parametrize(
    ("kernel", "old", "new"),
    [(kernel, *slip) for kernel, slips in PLANTED.items() for slip in slips],
)
def test_a_planted_mistake_is_caught(kernel, old, new, monkeypatch, tmp_path):
    monkeypatch.setattr(triton_kernels, kernel, broken(kernel, old, new, tmp_path))
    by = {"gemv": GEMV, "skinny": SKINNY, "gemm": GEMM}[kernel]
    for g, width in ((32, 352), (None, 300)):
        if (
            not error(by, inputs(TOKENS[kernel], width), matrix(ZERO(4), g, width))
            < EXACT
        ):
            return
    pytest.fail("the tests would not see it")


@interpreted
@pytest.mark.parametrize(
    ("kernel", "old", "new"),
    [
        ("gemv", "(n < N) & (at < n_words)", "(n < N + 8) & (at < n_words)"),
        ("gemm", "mask=n < N,", "mask=n < N + 8,"),
        ("gemm", "(m < M) & (k < K), other", "(k < K), other"),
        ("skinny", "(m < M) & (k < K), other", "(k < K), other"),
    ],
)
def test_a_mask_that_lets_too_much_be_read_is_caught(
    kernel, old, new, monkeypatch, tmp_path
):
    monkeypatch.setattr(triton_kernels, kernel, broken(kernel, old, new, tmp_path))
    by = {"gemv": GEMV, "skinny": SKINNY, "gemm": GEMM}[kernel]
    assert strays(by, inputs(TOKENS[kernel], 352), matrix(ZERO(4), 32, 352)) > 0
