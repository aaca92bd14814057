"""A folder in compressed-tensors' format, read into packed layers.

    load_exported_(model, folder)

`serving.export` writes such folders, and so do other programs.
`files.pack_quantized` knows what the tensors of a matrix mean; here they find their
layers. Lesson 12.
"""

import json
from pathlib import Path
from typing import Any, TypeVar

from safetensors.torch import load_file
from torch import Tensor, nn

from minquant.files.pack_quantized import PACKED, bits_by_layer, quantized_tensor
from minquant.models.experts import separate_experts_
from minquant.models.linear_layers import Matrices
from minquant.models.packed_model import pack_

M = TypeVar("M", bound=nn.Module)


def load_exported_(model: M, folder: str | Path) -> M:
    """Load the quantized model that `export`, or another program, wrote to a folder in
    this format. Returns the model, which is changed in place.

    model: of the same architecture with any weights, not packed. Its layers for which
    the folder has codes become `QuantLinear`, and all other tensors are copied into it.

    Raises ValueError if the folder is not in this format, or does not fit the model,
    which then is as it was.
    """
    folder = Path(folder)
    bits = bits_by_layer(_config(folder))
    tensors: dict[str, Tensor] = {}
    for file in sorted(folder.glob("*.safetensors")):
        tensors |= load_file(file)
    packed = [key for key in tensors if key.endswith(f".{PACKED}")]
    report: Matrices = {}
    for name in [key.removesuffix(f".{PACKED}") for key in packed]:
        keys = [key for key in tensors if key.startswith(f"{name}.weight")]
        parts = {key.removeprefix(f"{name}."): tensors.pop(key) for key in keys}
        report[name] = quantized_tensor(parts, bits(name))
    separate_experts_(model)
    _check_fit(model, report, tensors, folder)
    model.load_state_dict(tensors, strict=False)
    return pack_(model, report)


def _config(folder: Path) -> dict[str, Any]:
    """What config.json says about the codes."""
    file = folder / "config.json"
    if not file.is_file():
        raise ValueError(f"folder {folder} has no config.json; give what export wrote")
    return json.loads(file.read_text()).get("quantization_config") or {}


def _check_fit(
    model: nn.Module, report: Matrices, rest: dict[str, Tensor], folder: Path
) -> None:
    """Raises ValueError unless the report and the rest of the folder's tensors have
    exactly the names and shapes of the model's."""
    modules, state = dict(model.named_modules()), model.state_dict()
    tied = getattr(model, "all_tied_weights_keys", None) or {}
    coded = {f"{name}.weight" for name in report}
    not_linear = [n for n in report if not isinstance(modules.get(n), nn.Linear)]
    unknown = [n for n in rest if n not in state or state[n].shape != rest[n].shape]
    missing = [n for n in state if n not in rest and n not in coded and n not in tied]
    wrong_shape = [
        name
        for name, quantized in report.items()
        if name not in not_linear
        and modules[name].weight.shape != quantized.codes.shape
    ]
    wrong = not_linear + unknown + missing + wrong_shape
    if wrong:
        raise ValueError(
            f"folder {folder} does not fit the model: see {', '.join(wrong[:3])}; give "
            "a model of the architecture that it was made from, not packed"
        )
