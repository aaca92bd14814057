"""A quantized model in a folder of compressed-tensors' format, read into packed layers.

    load_exported_(model, folder)       # the layers that the folder has codes of

`serving.export` writes such folders, and so do other programs. What the tensors of a
matrix mean stands in `files.pack_quantized`; here they find their layers. Lesson 12.
"""

import json
from pathlib import Path
from typing import Any, TypeVar

from safetensors.torch import load_file
from torch import Tensor, nn

from minquant.files.pack_quantized import PACKED, bits_by_layer, quantized_tensor
from minquant.models.linear_layers import Report
from minquant.models.packed_model import pack_

M = TypeVar("M", bound=nn.Module)


def load_exported_(model: M, folder: str | Path) -> M:
    """What `export`, or another program, wrote in this format, into packed layers.

    model: of the same architecture with any weights, not packed; the layers that the
    folder has codes of become `QuantLinear` in place, and all else is copied into it.

    Raises ValueError if the folder is not in this format, or does not fit the model;
    then the model is as it was.
    """
    folder = Path(folder)
    bits = bits_by_layer(_config(folder))
    tensors: dict[str, Tensor] = {}
    for file in sorted(folder.glob("*.safetensors")):
        tensors |= load_file(file)
    parts: dict[str, dict[str, Tensor]] = {}
    for key in [key for key in tensors if key.endswith(f".{PACKED}")]:
        name = key.removesuffix(f".{PACKED}")
        mine = [k for k in tensors if k.startswith(f"{name}.weight")]
        parts[name] = {k.removeprefix(f"{name}."): tensors.pop(k) for k in mine}
    report = {n: quantized_tensor(part, bits(n)) for n, part in parts.items()}
    _check_fit(model, report, tensors, folder)
    model.load_state_dict(tensors, strict=False)
    return pack_(model, report)


def _config(folder: Path) -> dict[str, Any]:
    """What config.json says of the codes."""
    file = folder / "config.json"
    if not file.is_file():
        raise ValueError(f"folder {folder} has no config.json; give what export wrote")
    return json.loads(file.read_text()).get("quantization_config") or {}


def _check_fit(
    model: nn.Module, report: Report, rest: dict[str, Tensor], folder: Path
) -> None:
    """Raises ValueError unless codes and numbers are the model's, one for one."""
    modules, mine = dict(model.named_modules()), model.state_dict()
    tied = getattr(model, "all_tied_weights_keys", None) or {}
    coded = {f"{name}.weight" for name in report}
    wrong = [n for n in report if not isinstance(modules.get(n), nn.Linear)]
    wrong += [n for n in rest if n not in mine or mine[n].shape != rest[n].shape]
    wrong += [n for n in mine if n not in rest and n not in coded and n not in tied]
    wrong += [
        name
        for name, quantized in report.items()
        if name not in wrong and modules[name].weight.shape != quantized.codes.shape
    ]
    if wrong:
        raise ValueError(
            f"folder {folder} does not fit the model: see {', '.join(wrong[:3])}; give "
            "a model of the architecture that it was made from, not packed"
        )
