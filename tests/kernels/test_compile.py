"""The kernels compiled for seven GPUs that are not here, and what came out."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("triton", reason="triton is for Linux: no kernels to compile")

HELPER = Path(__file__).parents[1] / "helpers/aot.py"
SHARED = {75: 64, 80: 163, 86: 99, 89: 99, 90: 227, 100: 227, 120: 99}  # KiB a program
TENSOR_CORE_KERNELS = ("skinny", "gemm")


@pytest.fixture(scope="module")
def rows():
    """What `aot.py` reports: a dictionary for each kernel, card, width and dtype."""
    done = subprocess.run([sys.executable, HELPER], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)["rows"]


def of(rows, *kernels):
    """The rows of these kernels, at least one."""
    chosen = [row for row in rows if row["kernel"] in kernels]
    assert chosen
    return chosen


def test_every_kernel_compiles_for_every_card_that_runs_it(rows):
    made = {(row["arch"], row["kernel"], row["bits"]) for row in rows}
    for arch in SHARED:
        names = ["gemv", "dequantize", *(TENSOR_CORE_KERNELS if arch >= 80 else ())]
        assert {(arch, name, bits) for name in names for bits in (2, 4)} <= made


def test_nothing_spills(rows):
    assert [row for row in rows if row["spilled"]] == []


def test_nothing_compiles_to_a_trap(rows):
    assert [row for row in rows if row["traps"]] == []


def test_shared_memory_fits_each_card(rows):
    over = [row for row in rows if row["shared"] > SHARED[row["arch"]] * 1024]
    assert over == []


def test_the_products_of_several_tokens_use_tensor_cores(rows):
    assert all(row["tensor_cores"] for row in of(rows, *TENSOR_CORE_KERNELS))


def test_words_are_loaded_16_bytes_at_a_time(rows):
    assert all(row["wide_loads"] for row in of(rows, "gemv", *TENSOR_CORE_KERNELS))


def test_gemv_keeps_subnormal_numbers(rows):
    """A code in the mantissa of a float32 is one. Flushed to 0 it would be lost."""
    assert all(row["flushes"] == 0 for row in of(rows, "gemv"))


def test_the_warps_of_gemv_meet_for_scales_at_most(rows):
    """Triton 3.7 has no barrier in the loop. 3.6 gives the scales another layout than
    the words, and moves two numbers per run there: two barriers each. More would mean
    that X, or the products, go from thread to thread."""
    assert all(row["barriers"] <= 4 * row["runs"] for row in of(rows, "gemv"))
