"""Compiles the kernels for GPUs that are not here, and says what came out, as JSON.

    python tests/helpers/aot.py 75 90     only these compute capabilities; default: all

A process of its own: one that asked for Triton's interpreter cannot compile. What it
needs (ptxas, cuobjdump, nvdisasm) comes with triton. A row for each of `jobs`.
"""

import json
import math
import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path

os.environ.pop("TRITON_INTERPRET", None)
sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

import triton
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource

from minquant.kernels import launch, triton_kernels

ARCHES = (75, 80, 86, 89, 90, 100, 120)
TOOLS = Path(triton.__file__).parent / "backends/nvidia/bin"
POINTERS = {"words": "*i32", "scales": "*fp16", "zeros": "*u8"}
WRITE = launch.Plan(math.inf, math.inf, "dequantize", 1, 32, 1, 4, 1)


def plans(arch):
    """All rows of the table for this card, and what stands for writing W_hat."""
    table = launch.TABLE["sm_80 and later" if arch >= 80 else "before sm_80"]
    return [*table, WRITE]


def jobs(arch):
    """(plan, bits, dtype of X, whether there are zeros). For each card each kernel in
    its largest size, at 4 and at 2 bits, which needs most registers; other sizes,
    widths and types on one card of each table.
    """
    largest = {by.kernel: by for by in plans(arch)}
    for by in largest.values():
        yield by, 4, "fp16", True
        yield by, 2, "fp16", True
        if arch == 90:
            yield by, 3, "fp16", True
            yield by, 8, "fp16", True
            yield by, 4, "bf16", False
    if arch in (75, 90):
        for by in plans(arch):
            if by not in largest.values():
                yield by, 4, "fp16", True


def compiled(arch, by, bits, dtype, zeros):
    """The kernel for that card, for shapes that 16 divides and groups of 128."""
    kernel = getattr(triton_kernels, by.kernel)
    known = {
        "BITS": bits,
        "GROUP": 128,
        "RUN": math.gcd(128 // 32, 16 // bits),
        "IS_BF16": dtype == "bf16",
        "BLOCK_M": by.block_m,
        "BLOCK_N": by.block_n,
        "WORDS": by.split,
        "SPLIT": by.split,
        "STAGES": by.num_stages,
    } | ({} if zeros else {"zeros": None})
    constants = {name: known[name] for name in kernel.arg_names if name in known}
    x = "*i32" if by.kernel == "gemv" else f"*{dtype}"
    types = {**POINTERS, "x": x, "y": f"*{dtype}", "W_hat": f"*{dtype}"}
    signature = {
        name: "constexpr" if name in constants else types.get(name, "i32")
        for name in kernel.arg_names
    }
    aligned = {*types, "N", "K", "half_K"} - {*constants}
    attributes = {
        (i,): [["tt.divisibility", 16]]
        for i, name in enumerate(kernel.arg_names)
        if name in aligned
    }
    source = ASTSource(kernel, signature, constants, attributes)
    target = GPUTarget("cuda", arch, 32)
    return triton.compile(source, target, {"num_warps": by.num_warps})


def tool(name, cubin, *options):
    """What one of NVIDIA's tools prints about a compiled kernel."""
    with tempfile.NamedTemporaryFile(suffix=".cubin") as file:
        file.write(cubin)
        file.flush()
        command = [TOOLS / name, *options, file.name]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
    return done.stdout + done.stderr


def report(arch, by, bits, dtype, zeros):
    """One row: what was compiled, and what the compiler made of it."""
    made = compiled(arch, by, bits, dtype, zeros)
    ptx, cubin = made.asm["ptx"], made.asm["cubin"]
    usage = tool("cuobjdump", cubin, "-res-usage")
    numbers = {n: int(v) for n, v in re.findall(r"(REG|STACK|LOCAL):(\d+)", usage)}
    sass = tool("nvdisasm", cubin, "-c")
    return {
        "arch": arch,
        "kernel": by.kernel,
        "bits": bits,
        "dtype": dtype,
        "zeros": zeros,
        "registers": numbers["REG"],
        "spilled": numbers["STACK"] + numbers["LOCAL"],
        "shared": made.metadata.shared,
        "tensor_cores": len(re.findall(r"\b(?:wg)?mma[._]|\btcgen05\.mma", ptx)),
        "traps": len(re.findall(r"\btrap;", ptx)),
        "flushes": len(re.findall(r"\.ftz|\.FTZ", ptx + sass)),
        "wide_loads": len(re.findall(r"\bLDG(?:STS)?\.E\S*\.128", sass)),
        "barriers": barriers_in_loop(sass),
        "runs": 16 // bits // math.gcd(128 // 32, 16 // bits),
    }


def barriers_in_loop(sass):
    """Barriers of all warps inside the loop over K, which is the longest loop."""
    at, lines, longest = {}, [], []
    for line in sass.splitlines():
        if label := re.match(r"\s*(\.L_x_\d+):", line):
            at[label[1]] = len(lines)
        elif re.match(r"\s+/\*[0-9a-f]{4,}\*/", line):
            lines.append(line)
            jump = re.search(r"\bBRA\b.*?(\.L_x_\d+)", line)
            body = lines[at[jump[1]] :] if jump and jump[1] in at else []
            longest = max(longest, body, key=len)
    return sum(" BAR." in line for line in longest)


if __name__ == "__main__":
    chosen = [int(arch) for arch in sys.argv[1:]] or ARCHES
    rows = [report(arch, *job) for arch in chosen for job in jobs(arch)]
    json.dump({"triton": triton.__version__, "rows": rows}, sys.stdout)
