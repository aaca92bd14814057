"""What others wrote, called on tensors of ours: an environment of its own has them.

`make peers` sets it up. Nothing of it is imported before a function here is called, so
that this file can be read, and tested around, where none of it is installed.
"""

from importlib import import_module, metadata
from importlib.util import find_spec
from typing import NamedTuple

import torch
from torch import Tensor

PARTS = {  # of each package, what is called here
    "llmcompressor": "llmcompressor.modifiers.gptq.gptq_quantize",
    "compressed-tensors": "compressed_tensors.quantization.utils",
    "torchao": "torchao.prototype.awq.core",
    "bitsandbytes": "bitsandbytes.functional",
}


class Rounded(NamedTuple):
    """A matrix on a zero-point grid 0 … 2^bits − 1; scales and zeros per group."""

    codes: Tensor  # (out, in)
    scales: Tensor  # (out, n_groups)
    zeros: Tensor  # (out, n_groups)
    W_hat: Tensor  # (out, in)


def ready(package):
    """Whether a package is here; it is imported, so that no clock counts that."""
    part = PARTS[package]
    return find_spec(part.split(".")[0]) is not None and bool(import_module(part))


def versions():
    """The versions of all that are here, and of torch."""
    here = [name for name in [*PARTS, "torch"] if find_spec(name.replace("-", "_"))]
    return {name: metadata.version(name) for name in here}


# --- llm-compressor: GPTQ ---


class Gptq:
    """llm-compressor's GPTQ on a zero-point grid. `solve` is what can be timed."""

    def __init__(self, W, H, *, bits=4, group=128, act_order=False):
        from compressed_tensors.quantization import QuantizationArgs
        from compressed_tensors.quantization.utils import calculate_qparams

        self.W, self.H, self.bits, self.group = W, H, bits, group
        self.args = QuantizationArgs(
            num_bits=bits,
            symmetric=False,
            strategy="group",
            group_size=group,
            actorder="weight" if act_order else None,
        )
        parts = W.unflatten(1, (-1, group))
        ends = parts.amin(-1), parts.amax(-1)
        self.scales, self.zeros = calculate_qparams(*ends, self.args)

    def solve(self):
        """W_hat, by 1 % damping and blocks of 128. It writes into what it is given."""
        from llmcompressor.modifiers.gptq.gptq_quantize import quantize_weight

        given = (t[None].clone() for t in (self.W, self.H, self.scales, self.zeros))
        W_hat, _, fell_back = quantize_weight(*given, None, self.args)
        if fell_back.any():
            raise RuntimeError("llm-compressor could not factor H and gave RTN instead")
        return W_hat[0]

    def rounded(self):
        """Its result as codes."""
        W_hat = self.solve()
        wide = (t.repeat_interleave(self.group, 1) for t in (self.scales, self.zeros))
        scales, zeros = wide
        shift = 2 ** (self.bits - 1)  # its codes are −8 … 7
        codes = torch.round(W_hat / scales) + zeros + shift
        return Rounded(codes, self.scales, self.zeros + shift, W_hat)


# --- torchao: AWQ's search for input scales ---


def awq_scales(W, X, *, group=128):
    """Input scales (in,) as torchao's AWQObserver finds them for 4-bit zero-point."""
    from torchao.prototype.awq.core import AWQObserver
    from torchao.quantization import IntxWeightOnlyConfig, PerGroup
    from torchao.quantization.quant_primitives import MappingType

    config = IntxWeightOnlyConfig(
        weight_dtype=torch.int4,
        granularity=PerGroup(group),
        mapping_type=MappingType.ASYMMETRIC,
    )
    observer = AWQObserver(W, None, config)
    observer(X, None)
    return observer.calculate_qparams()


# --- bitsandbytes: NF4, double quantization, int8 ---


def nf4(W, *, double=False):
    """Packed bytes and bitsandbytes' own record of how to undo it; blocks of 64."""
    from bitsandbytes.functional import quantize_4bit

    return quantize_4bit(W, blocksize=64, quant_type="nf4", compress_statistics=double)


def nf4_back(packed, state):
    """W_hat of what `nf4` gave."""
    from bitsandbytes.functional import dequantize_4bit

    return dequantize_4bit(packed, state)


def int8_rows(A, threshold=0.0):
    """Codes, the absmax of each row, and outlier columns (None at threshold 0)."""
    from bitsandbytes.functional import int8_vectorwise_quant

    return int8_vectorwise_quant(A, threshold=threshold)


def int8_linear(X, W, threshold):
    """X Wᵀ by Linear8bitLt, its outlier columns from the 8-bit weights."""
    from bitsandbytes.nn import Linear8bitLt

    linear = Linear8bitLt(
        W.shape[1], len(W), bias=False, has_fp16_weights=False, threshold=threshold
    )
    linear.weight.data = W.clone()
    with torch.no_grad():
        return linear.to("cpu").eval()(X)
