"""A folder in compressed-tensors' format, read into packed layers.

    load_exported_(model, folder)

`serving.export` writes such folders, and so do other programs.
`files.pack_quantized` knows what the tensors of a matrix mean; here they find their
layers, one after the other, so that never more than one matrix is unpacked. Lesson 12.
"""

import json
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from minquant.files.pack_quantized import (
    PACKED,
    PARTS,
    SHAPE,
    bits_by_layer,
    quantized_tensor,
)
from minquant.layers.linear import QuantLinear
from minquant.models.experts import separate_experts_
from minquant.models.stored import (
    Spec,
    check_fit,
    first_of,
    groups_of,
    put_,
    read_copies,
    specs_of,
)

M = TypeVar("M", bound=nn.Module)


def load_exported_(model: M, folder: str | Path) -> M:
    """Load the quantized model that `export`, or another program, wrote to a folder in
    this format. Returns the model, which is changed in place.

    model: of the same architecture with any weights, packed or not. Its layers for
    which the folder has codes become `QuantLinear`, and all other tensors are copied
    into it. One on the device meta does, as for `packed_model.load_`; `mq.load(folder)`
    makes one.

    Raises ValueError if the folder is not in this format, or if the model has other
    names, shapes or ties, or a dtype that does not hold the folder's numbers. Then the
    model is as it was.
    """
    folder = Path(folder).expanduser()
    bits = bits_by_layer(_config(folder))
    specs: dict[str, Spec] = {}
    place: dict[str, Path] = {}
    for file in sorted(folder.glob("*.safetensors")):
        for name, spec in specs_of(file).items():
            specs[name], place[name] = spec, file
    parts = _parts(specs, folder)
    coded = {}
    for name, keys in parts.items():
        out, width = read_copies(place[keys[SHAPE]], [keys[SHAPE]])[
            keys[SHAPE]
        ].tolist()
        coded[name] = out, width
    of_layers = {key for keys in parts.values() for key in keys.values()}
    rest = {key: spec for key, spec in specs.items() if key not in of_layers}
    separate_experts_(model)
    check_fit(model, rest, f"folder {folder}", coded=coded)
    tensors = {key: read_copies(place[key], [key])[key] for key in rest}
    _check_ties(model, tensors, folder)
    device = next(model.parameters()).device
    device = torch.device("cpu") if device.type == "meta" else device
    layers: dict[str, nn.Module] = {}
    for name, keys in parts.items():
        stored = {part: read_copies(place[k], [k])[k] for part, k in keys.items()}
        bias = tensors.pop(f"{name}.bias", None)
        if bias is not None:
            bias = bias.to(model.get_submodule(name).bias.dtype)
        layers[name] = QuantLinear(quantized_tensor(stored, bits(name)), bias).to(
            device
        )
    put_(model, tensors, layers)
    return model


def _parts(specs: dict[str, Spec], folder: Path) -> dict[str, dict[str, str]]:
    """For each layer with codes the names of its tensors, by what they are.

    Raises ValueError if one is missing, or there are others, such as zeros.
    """
    parts: dict[str, dict[str, str]] = {}
    for key in specs:
        layer, _, part = key.rpartition(".")
        if f"{layer}.{PACKED}" in specs and part.startswith("weight"):
            parts.setdefault(layer, {})[part] = key
    for name, keys in parts.items():
        if set(keys) != set(PARTS):
            raise ValueError(
                f"folder {folder} has {name} as {', '.join(sorted(keys))}; only "
                f"symmetric grids without act-order are read: {', '.join(PARTS)}"
            )
    return parts


def _check_ties(model: nn.Module, tensors: dict[str, Tensor], folder: Path) -> None:
    """Raises ValueError if tensors of the folder differ that are one in the model."""
    own = first_of(model)
    for first, *others in groups_of({name: own[name] for name in tensors}).values():
        for other in others:
            if not torch.equal(tensors[first], tensors[other]):
                raise ValueError(
                    f"folder {folder} does not fit the model: {first} and {other} are "
                    "one tensor in the model, and differ in the folder; give a model "
                    "made with the folder's config.tie_word_embeddings"
                )


def _config(folder: Path) -> dict[str, Any]:
    """What config.json says about the codes."""
    file = folder / "config.json"
    if not file.is_file():
        raise ValueError(f"folder {folder} has no config.json; give what export wrote")
    config = json.loads(file.read_text(encoding="utf-8"))
    return config.get("quantization_config") or {}
