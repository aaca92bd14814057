"""A quantized model, packed: its linear layers swapped for ones that keep codes.

    model_hat, report = mq.quantize(original, method)      # floats that codes stand for
    pack_(model_hat, report)                               # the codes themselves
    unpack_(model_hat)                                     # floats again, as nn.Linear

`quantize` writes W_hat where W was, so that a model's quality can be judged; it takes
no less memory. `pack_` swaps in `QuantLinear`, and now it does: what `packed_size`
counts is what lies in memory. The model computes the same but for the rounding of a
sum taken in another order.

Layers that share a weight share the codes. `int8_` swaps in `Int8Linear` instead, from
floats, since LLM.int8() decides when it sees X what stays in floats.

`save` and `load_` keep a packed model in one safetensors file. What its tensors mean
(grid, groups, how scales are stored) stands in the file's header, so that nobody has to
quantize again, or to remember how. `load_` needs a model of the same architecture, with
any weights. What is left out: files that other programs read. Lessons 05, 10 and 12.
"""

import json
import re
from collections.abc import Collection, Mapping
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
from minquant.models.linear_layers import Report, Size, linear_layers, weight_of
from minquant.numerics.groups import PER_CHANNEL
from minquant.numerics.tensor import QuantizedTensor

_HEADER = "minquant"  # the key of the file's metadata
M = TypeVar("M", bound=nn.Module)
L = TypeVar("L", bound=nn.Module)


def pack_(model: M, report: Report, **options: Any) -> M:
    """Each layer in the report becomes a `QuantLinear`, in place; the model again.

    report: of `mq.quantize_`, or any matrices by the names of their layers. GPT-2's
    Conv1D is swapped as well. Biases stay what they are, and are frozen. options: as
    for `QuantLinear`: layout, backend.

    Raises ValueError if a name is no linear layer of the model, or has another shape.
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
        if twin := first.get(id(quantized)):  # shared weights share codes
            made = twin.sharing(old.bias)
        else:
            made = QuantLinear(quantized, old.bias, **options).to(old.weight.device)
            first[id(quantized)] = made
        model.set_submodule(name, made.train(old.training))
    return model


def unpack_(model: M, dtype: torch.dtype | None = None) -> M:
    """Each `QuantLinear` and `Int8Linear` becomes an `nn.Linear` of its W_hat.

    dtype: of the weights; None takes that of the model's other parameters. What was a
    Conv1D before it was packed comes back as nn.Linear too, and computes the same.
    """
    dtype = dtype or next(model.parameters()).dtype
    for name, layer in coded_layers(model).items():
        shape = layer.in_features, layer.out_features
        made = nn.Linear(*shape, bias=layer.bias is not None, device="meta")
        made.weight = nn.Parameter(layer.dequantize(dtype), requires_grad=False)
        made.bias = layer.bias
        model.set_submodule(name, made.train(layer.training))
    return model


def int8_(model: M, *, only: str | Collection[str] | None = None, **options: Any) -> M:
    """Each linear layer, or those that `only` names, becomes an `Int8Linear`, in place.

    options: as for `Int8Linear.quantize`: threshold, outlier_weights, row_scale.
    """
    for name, old in named(linear_layers(model), only).items():
        made = Int8Linear.quantize(weight_of(old), old.bias, **options)
        model.set_submodule(name, made.train(old.training))
    return model


def named(layers: Mapping[str, L], only: str | Collection[str] | None) -> dict[str, L]:
    """The layers whose name fits a regular expression, or is in a collection.

    Raises ValueError if none does, or a name of the collection is unknown.
    """
    if only is None or isinstance(only, str):
        found = {n: m for n, m in layers.items() if re.search(only or "", n)}
    else:
        found = {n: m for n, m in layers.items() if n in only}
    missing = [] if isinstance(only, str | None) else set(only) - set(found)
    if missing or not found:
        raise ValueError(
            f"only={only!r} names {sorted(missing) or 'no layer'}; there are "
            f"{', '.join(list(layers)[:3]) or 'none'}, ..."
        )
    return found


def coded_layers(model: nn.Module) -> dict[str, CodedLinear]:
    """The layers of a model that keep codes, by name."""
    return {n: m for n, m in model.named_modules() if isinstance(m, CodedLinear)}


def packed_size(model: nn.Module, *, dtype: torch.dtype | None = torch.float16) -> Size:
    """Bytes of a packed model: buffers of the layers that keep codes as they lie in
    memory, all else as if stored in `dtype` (None: in its own). Shared counts once.
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
    """A packed model in one safetensors file: its state_dict, and in the header what
    the tensors of each layer mean. Tensors that are shared are written once.
    """
    tensors: dict[str, Tensor] = {}
    seen: dict[tuple, str] = {}
    shared: dict[str, str] = {}
    for name, tensor in model.state_dict().items():
        place = tensor.data_ptr(), tensor.dtype, tensor.shape, tensor.stride()
        first = seen.setdefault(place, name) if tensor.numel() else name
        if first == name:
            tensors[name] = tensor.contiguous()
        else:
            shared[name] = first
    layers = {name: _form(layer) for name, layer in coded_layers(model).items()}
    header = {"layers": layers, "shared": shared}
    save_file(tensors, path, {"format": "pt", _HEADER: json.dumps(header)})


def load_(model: M, path: str | Path) -> M:
    """The packed model that `save` wrote, into a model of the same architecture.

    model: with any weights, packed or not; its linear layers are replaced as the file
    says, and all else is copied into it. The file's tensors go to the CPU first.

    Raises ValueError if the file has no such header, or does not fit the model.
    """
    with safe_open(path, framework="pt") as file:
        header = (file.metadata() or {}).get(_HEADER)
        if header is None:
            raise ValueError(f"path {path} has no header of ours; write it with save")
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    header = json.loads(header)
    tensors |= {name: tensors[first] for name, first in header["shared"].items()}
    device = next(model.parameters()).device
    modules = dict(model.named_modules())
    for name, said in header["layers"].items():
        if name not in modules:
            raise ValueError(f"path {path} has a layer {name!r}, but model has not")
        of_layer = {
            key.removeprefix(f"{name}."): tensor
            for key, tensor in tensors.items()
            if key.startswith(f"{name}.")
        }
        made = _layer(said, of_layer).train(modules[name].training)
        model.set_submodule(name, made.to(device))
    try:
        model.load_state_dict(tensors)
    except RuntimeError as problem:
        raise ValueError(f"path {path} does not fit the model: {problem}") from problem
    return model


def _form(layer: CodedLinear) -> dict[str, Any]:
    """What a layer is, beside its tensors."""
    if isinstance(layer, Int8Linear):
        return {"threshold": layer.threshold, "row_scale": layer.row_scale}
    return {"ruler": layer.ruler, "matrix": form(layer.matrix)}


def _layer(said: dict[str, Any], tensors: dict[str, Tensor]) -> CodedLinear:
    """The layer that `_form` described, around these tensors."""
    bias = tensors.get("bias")
    if "matrix" not in said:
        codes = tensors["codes"], tensors["scales"], None, INT8, PER_CHANNEL
        return Int8Linear(
            QuantizedTensor(*codes), bias, kept=tensors.get("kept"), **said
        )
    matrix, given = from_form(said["matrix"], tensors), tensors.get("input_scales")
    return QuantLinear.around(matrix, bias, ruler=said["ruler"], input_scales=given)
