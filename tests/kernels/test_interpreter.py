"""Triton for a notebook: in the interpreter, too late, or not at all."""

import subprocess
import sys

import pytest
import torch

from minquant.kernels.interpreter import INSTALLED, NotRun

KERNEL = """
from minquant.kernels.interpreter import tl, triton
import torch

@triton.jit
def double(x, y, N, SIZE: tl.constexpr):
    i = tl.arange(0, SIZE)
    tl.store(y + i, 2 * tl.load(x + i, mask=i < N, other=0), mask=i < N)

device = "cuda" if torch.cuda.is_available() else "cpu"
x, y = torch.arange(5, device=device), torch.zeros(5, dtype=int, device=device)
double[1,](x, y, 5, SIZE=8)
print(y.tolist())
"""


def run(code, tmp_path):
    """A file of its own, as Triton reads a kernel's source."""
    file = tmp_path / "kernel.py"
    file.write_text(code)
    return subprocess.run(
        [sys.executable, "-W", "error", file],
        capture_output=True,
        text=True,
        env={"PYTHONPATH": ":".join(sys.path)},
        check=False,
    )


@pytest.mark.skipif(not INSTALLED, reason="triton is for Linux")
def test_a_kernel_runs_with_or_without_a_gpu(tmp_path):
    done = run(KERNEL, tmp_path)
    assert done.stdout == "[0, 2, 4, 6, 8]\n", done.stderr


@pytest.mark.skipif(not INSTALLED, reason="triton is for Linux")
@pytest.mark.skipif(torch.cuda.is_available(), reason="with a GPU it is never late")
def test_triton_that_was_imported_before_is_told(tmp_path):
    done = run("import triton\n" + KERNEL, tmp_path)
    assert "triton was imported before, for a GPU, and there is none" in done.stderr


def test_a_kernel_that_cannot_run_says_so(capsys):
    def half(x): ...

    NotRun(half)[4,](torch.ones(1))
    assert capsys.readouterr().out == (
        "half does not run: Triton is for Linux, and not installed here\n"
    )
