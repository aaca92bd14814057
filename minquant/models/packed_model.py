"""A quantized model, packed: its linear layers swapped for ones that keep codes.

    model_hat, report = mq.quantize(original, method)      # floats that codes stand for
    pack_(model_hat, report)                               # the codes themselves
    unpack_(model_hat)                                     # floats again, as nn.Linear

`quantize` writes W_hat where W was, so that the quality of a model can be judged. This
saves no memory. `pack_` swaps in `QuantLinear`, and now memory is saved: `packed_size`
counts what the layers really hold. The model computes the same as before, except that
sums are taken in another order and so are rounded differently.

Layers that share a weight share the codes. `int8_` swaps in `Int8Linear` instead. It
starts from floats, since LLM.int8() decides what stays in floats only when it sees X.

`save` and `load_` keep a packed model in one safetensors file. The file's header says
what its tensors mean (grid, groups, how scales are stored), so nobody has to quantize
again or remember the settings. `load_` needs a model of the same architecture, with any
weights. What is left out: files that other programs read. Lessons 05, 10 and 12.
"""

import json
from collections.abc import Collection
from pathlib import Path
from typing import Any, TypeVar

import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from minquant.layers.coded import CodedLinear
from minquant.layers.layouts import form, from_form
from minquant.layers.linear import Int8Linear, QuantLinear
from minquant.methods.llm_int8 import INT8
from minquant.models.experts import separate_experts_
from minquant.models.linear_layers import (
    Matrices,
    Size,
    linear_layers,
    select_layers,
    weight_of,
)
from minquant.numerics.groups import PER_CHANNEL
from minquant.numerics.tensor import QuantizedTensor

_HEADER = "minquant"  # the key of the file's metadata
M = TypeVar("M", bound=nn.Module)


def pack_(model: M, report: Matrices, **options: Any) -> M:
    """Replace each layer in the report by a `QuantLinear`. Returns the model, which is
    changed in place.

    report: what `quantize_` returned, or any matrices by the names of their layers.
    GPT-2's Conv1D is replaced too. Biases keep their memory, and are frozen. options:
    layout and backend, as for `QuantLinear`.

    Raises ValueError if a name is no linear layer of the model, or if a matrix has
    another shape than its layer.
    """
    layers = linear_layers(model)
    for name, quantized in report.items():
        if name not in layers:
            raise ValueError(
                f"report names {name!r}, which is no linear layer of the model (now); "
                "give the report that quantize_ returned, once"
            )
        shape, needed = tuple(quantized.codes.shape), weight_of(layers[name]).shape
        if shape != needed:
            raise ValueError(
                f"report has {name} of shape {shape}, but the layer is "
                f"{tuple(needed)}; give the report of this model"
            )
    first: dict[int, QuantLinear] = {}
    for name, quantized in report.items():
        old = layers[name]
        if id(quantized) in first:  # shared weights share codes
            new = first[id(quantized)].sharing(old.bias)
        else:
            new = QuantLinear(quantized, old.bias, **options).to(old.weight.device)
            first[id(quantized)] = new
        model.set_submodule(name, new.train(old.training))
    return model


def unpack_(model: M, dtype: torch.dtype | None = None) -> M:
    """Replace each `QuantLinear` and `Int8Linear` by an `nn.Linear` that holds its
    W_hat. Returns the model, which is changed in place.

    dtype: of the weights; None takes the dtype of the model's other parameters. A layer
    that was a Conv1D before it was packed becomes an nn.Linear too, and computes the
    same.
    """
    dtype = dtype or next(model.parameters()).dtype
    for name, layer in coded_layers(model).items():
        shape = layer.in_features, layer.out_features
        linear = nn.Linear(*shape, bias=layer.bias is not None, device="meta")
        linear.weight = nn.Parameter(layer.dequantize(dtype), requires_grad=False)
        linear.bias = layer.bias
        model.set_submodule(name, linear.train(layer.training))
    return model


def int8_(model: M, *, only: str | Collection[str] | None = None, **options: Any) -> M:
    """Replace each linear layer by an `Int8Linear`. Returns the model, which is changed
    in place.

    only: a regular expression found in the names of the layers to replace, or names.
    options: threshold, outlier_weights and row_scale, as for `Int8Linear.quantize`. By
    default a weight takes 8 bits, and each row 32 more for its scale: outlier columns
    come from the codes. With outlier_weights=torch.float16 it takes 24.

    Raises ValueError if `only` finds no layer.
    """
    separate_experts_(model)
    for name, old in select_layers(linear_layers(model), only).items():
        new = Int8Linear.quantize(weight_of(old), old.bias, **options)
        model.set_submodule(name, new.train(old.training))
    return model


def coded_layers(model: nn.Module) -> dict[str, CodedLinear]:
    """The layers of a model that keep codes, by name."""
    return {n: m for n, m in model.named_modules() if isinstance(m, CodedLinear)}


def packed_size(model: nn.Module, *, dtype: torch.dtype | None = torch.float16) -> Size:
    """The bytes of a packed model: what layers with codes hold in memory, and all other
    weights as if stored in `dtype` (None: in their own). Shared memory counts once.
    """
    layers = coded_layers(model).values()
    distinct = {next(layer.buffers()).data_ptr(): layer for layer in layers}.values()
    return Size(
        quantized=sum(layer.nbytes for layer in distinct),
        elsewhere=sum(
            p.numel() * (dtype or p.dtype).itemsize for p in model.parameters()
        ),
        layers=len(distinct),
        weights=sum(layer.in_features * layer.out_features for layer in distinct),
    )


def save(model: nn.Module, path: str | Path) -> None:
    """Write a packed model to one safetensors file: its state_dict, and in the header
    what the tensors of each layer mean. A shared tensor is written once.
    """
    tensors: dict[str, Tensor] = {}
    first_at: dict[tuple, str] = {}
    shared: dict[str, str] = {}
    for name, tensor in model.state_dict().items():
        place = tensor.data_ptr(), tensor.dtype, tensor.shape, tensor.stride()
        first = first_at.setdefault(place, name) if tensor.numel() else name
        if first == name:
            tensors[name] = tensor.contiguous()
        else:
            shared[name] = first
    layers = {name: _description(layer) for name, layer in coded_layers(model).items()}
    header = {"layers": layers, "shared": shared}
    save_file(tensors, path, {"format": "pt", _HEADER: json.dumps(header)})


def load_(model: M, path: str | Path) -> M:
    """Load the packed model that `save` wrote. Returns the model, which is changed in
    place.

    model: of the same architecture with any weights, packed or not. Its linear layers
    are replaced as the file says, and all other tensors are copied into it. The file's
    tensors go to the CPU first.

    Raises ValueError if `save` did not write the file, or if it does not fit the model.
    """
    with safe_open(path, framework="pt") as file:
        header = (file.metadata() or {}).get(_HEADER)
        if header is None:
            raise ValueError(
                f"path {path} has no header of minquant's; write the file with "
                "packed_model.save"
            )
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    header = json.loads(header)
    tensors |= {name: tensors[first] for name, first in header["shared"].items()}
    device = next(model.parameters()).device
    separate_experts_(model)
    modules = dict(model.named_modules())
    for name, description in header["layers"].items():
        if name not in modules:
            raise ValueError(f"path {path} has a layer {name!r}, but model has not")
        of_layer = {
            key.removeprefix(f"{name}."): tensor
            for key, tensor in tensors.items()
            if key.startswith(f"{name}.")
        }
        new = _layer(description, of_layer).train(modules[name].training)
        model.set_submodule(name, new.to(device))
    try:
        model.load_state_dict(tensors)
    except RuntimeError as problem:
        raise ValueError(f"path {path} does not fit the model: {problem}") from problem
    return model


def _description(layer: CodedLinear) -> dict[str, Any]:
    """What the header says about a layer, besides its tensors."""
    if isinstance(layer, Int8Linear):
        return {"threshold": layer.threshold, "row_scale": layer.row_scale}
    return {"ruler": layer.ruler, "matrix": form(layer.matrix)}


def _layer(description: dict[str, Any], tensors: dict[str, Tensor]) -> CodedLinear:
    """The layer that `_description` described, around these tensors."""
    bias = tensors.get("bias")
    if "matrix" not in description:
        codes, scales = tensors["codes"], tensors["scales"]
        quantized = QuantizedTensor(codes, scales, None, INT8, PER_CHANNEL)
        return Int8Linear(quantized, bias, kept=tensors.get("kept"), **description)
    return QuantLinear.around(
        from_form(description["matrix"], tensors),
        bias,
        ruler=description["ruler"],
        input_scales=tensors.get("input_scales"),
    )
