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

from minquant.files.whole import whole_file
from minquant.layers.coded import CodedLinear
from minquant.layers.layouts import from_form
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
from minquant.models.stored import (
    Spec,
    check_fit,
    first_of,
    put_,
    read_copies,
    specs_of,
    stored_tensors,
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

    Raises ValueError if the report is empty, a name is no linear layer of the model, or
    a matrix has another shape than its layer.
    """
    if not report:
        raise ValueError("report is empty; give the one that quantize_ returned")
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

    Raises ValueError if the model has no packed layers.
    """
    dtype = dtype or next(model.parameters()).dtype
    packed = coded_layers(model)
    if not packed:
        raise ValueError("model has no packed layers; they are floats already")
    for name, layer in packed.items():
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

    Raises ValueError if `only` finds no layer, or if all layers hold codes already.
    """
    check_floats(model)
    separate_experts_(model)
    for name, old in select_layers(linear_layers(model), only).items():
        new = Int8Linear.quantize(weight_of(old), old.bias, **options)
        model.set_submodule(name, new.train(old.training))
    return model


def coded_layers(model: nn.Module) -> dict[str, CodedLinear]:
    """The layers of a model that keep codes, by name."""
    return {n: m for n, m in model.named_modules() if isinstance(m, CodedLinear)}


def check_floats(model: nn.Module) -> None:
    """Raises ValueError if every linear layer of a model holds codes already."""
    packed = coded_layers(model)
    if packed and not linear_layers(model):
        kinds = " and ".join(
            sorted({type(layer).__name__ for layer in packed.values()})
        )
        raise ValueError(
            f"model has no layer of floats: its {len(packed)} layers are {kinds} and "
            "hold codes; mq.unpack_(model) makes floats of them again"
        )


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
    """Write a packed model to one safetensors file, whole or not at all: its tensors,
    and in the header what those of each layer mean. A shared tensor is written once,
    and the header says for which names it stands.

    Raises ValueError if a tensor is on the device meta, which has no numbers.
    """
    state, first = stored_tensors(model), first_of(model)
    if empty := [name for name, tensor in state.items() if tensor.is_meta]:
        raise ValueError(
            f"model has {len(empty)} tensors on meta, without numbers: "
            f"{', '.join(empty[:3])}; load it first"
        )
    tensors = {
        name: tensor.detach().contiguous()
        for name, tensor in state.items()
        if first[name] == name
    }
    header = {
        "layers": {name: layer.form() for name, layer in coded_layers(model).items()},
        "shared": {name: own for name, own in first.items() if own != name},
    }
    with whole_file(path) as place:
        save_file(tensors, place, {"format": "pt", _HEADER: json.dumps(header)})


def load_(model: M, path: str | Path) -> M:
    """Load the packed model that `save` wrote. Returns the model, which is changed in
    place.

    model: of the same architecture with any weights, packed or not. Its linear layers
    are replaced as the file says, and all other tensors are copied into it. One without
    weights does, and then no floats are made that codes replace:

        with torch.device("meta"):
            empty = AutoModelForCausalLM.from_config(config)
        model = load_(empty, path)

    Raises ValueError if `save` did not write the file, or if the model has other names,
    shapes or ties, or a dtype that does not hold the file's numbers. Then the model is
    as it was.
    """
    path = Path(path).expanduser()
    specs = specs_of(path)
    with safe_open(path, framework="pt") as file:
        header = (file.metadata() or {}).get(_HEADER)
    if header is None:
        raise ValueError(
            f"path {path} has no header of minquant's; write the file with "
            "packed_model.save"
        )
    forms, shared = (json.loads(header)[part] for part in ("layers", "shared"))
    parts: dict[str, dict[str, str]] = {name: {} for name in forms}
    rest: dict[str, str] = {}
    for key in [*specs, *shared]:
        layer, _, part = key.rpartition(".")
        if layer in forms:
            parts[layer][part] = shared.get(key, key)
        else:
            rest[key] = shared.get(key, key)
    coded = {name: _shape(form, parts[name], specs) for name, form in forms.items()}
    compared = {key: specs[stored] for key, stored in rest.items()}
    for name in forms:
        if "bias" in parts[name]:
            compared[f"{name}.bias"] = specs[parts[name]["bias"]]
    separate_experts_(model)
    check_fit(model, compared, f"path {path}", coded=coded, shared=shared)
    device = next(model.parameters()).device
    device = torch.device("cpu") if device.type == "meta" else device
    common = read_copies(path, set(shared.values()))  # so that what was one stays one
    layers: dict[str, nn.Module] = {}
    for name, form in forms.items():
        own = read_copies(path, set(parts[name].values()) - set(common))
        tensors = {part: (common | own)[key] for part, key in parts[name].items()}
        if "bias" in tensors:
            tensors["bias"] = tensors["bias"].to(model.get_submodule(name).bias.dtype)
        layers[name] = _layer(form, tensors).to(device)
    tensors = {
        key: common[stored] if stored in common else read_copies(path, [stored])[stored]
        for key, stored in rest.items()
    }
    put_(model, tensors, layers)
    return model


def _shape(
    form: dict[str, Any], parts: dict[str, str], specs: dict[str, Spec]
) -> tuple[int, int]:
    """(out, in) of a layer in a file."""
    shape = form["matrix"]["shape"] if "matrix" in form else specs[parts["codes"]][0]
    return shape[0], shape[1]


def _layer(form: dict[str, Any], tensors: dict[str, Tensor]) -> CodedLinear:
    """The layer that has this form, around these tensors."""
    bias = tensors.get("bias")
    if "matrix" not in form:
        codes, scales = tensors["codes"], tensors["scales"]
        quantized = QuantizedTensor(codes, scales, None, INT8, PER_CHANNEL)
        return Int8Linear(quantized, bias, **{**form, "kept": tensors.get("kept")})
    return QuantLinear.around(
        from_form(form["matrix"], tensors),
        bias,
        ruler=form["ruler"],
        input_scales=tensors.get("input_scales"),
    )
