"""A report that is kept in a folder: what is done stays done, whatever happens.

    report = ReportFolder("work", model, {"method": "gptq", "bits": 4})
    model_hat, _ = quantize(model, method, calibration=batches, report=report)

Quantizing a large model takes hours, and somebody may pull the plug. `quantize` enters
the layers that share an input in its report when they are done. This report writes them
to a file in the same moment, whole or not at all. Run the same lines again, and the
work goes on behind the last file, and ends as if it had never stopped.

    about.json                         what this is a report of: model and settings
    0000-1f3870be274f6c49.safetensors  layers: codes packed, scales; the header says
                                       what the tensors mean (`layouts.form`)

The name of a file ends with the beginning of its SHA-256, so a file that was damaged is
noticed. Nothing that can run code is stored.
"""

import hashlib
import json
import os
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import nn

from minquant.layers.layouts import form, from_form
from minquant.layers.packed_stream import LookupMatrix
from minquant.models.linear_layers import Report
from minquant.numerics.tensor import QuantizedTensor

ABOUT = "about.json"
_LAYERS = re.compile(r"(\d{4,})-([0-9a-f]{16})\.safetensors")
_HEADER = "minquant report"  # the key of a file's metadata
_NOTES = "rounded_to_nearest", "fell_back"  # attributes of a report
_UNFINISHED = ".unfinished"  # how the name of a file ends while it is written


class ReportFolder(Report):
    """A report, empty or as far as earlier work came, that writes what is entered."""

    def __init__(
        self,
        folder: str | Path,
        model: nn.Module,
        settings: Mapping[str, str | int | float | bool | None],
    ) -> None:
        """Make the folder, or read it.

        model: as it is before it is quantized. settings: all that the result depends
        on, such as method, bits and text, by name.

        Raises ValueError if the folder is of another model or other settings, and says
        which; or if it holds anything else, or a file that is damaged. Grids of more
        than 8 bits are refused when they are entered.
        """
        super().__init__()
        self.folder = Path(folder)
        about = {"kind": "minquant report", "model": fingerprint(model), **settings}
        self.folder.mkdir(parents=True, exist_ok=True)
        files = []
        for path in sorted(self.folder.iterdir()):
            if path.name.endswith(_UNFINISHED):
                path.unlink()
            elif _LAYERS.fullmatch(path.name):
                files.append(path)
            elif path.name != ABOUT:
                raise ValueError(
                    f"folder {self.folder} holds {path.name}, which no report does; "
                    "give the name of a new folder"
                )
        if files or (self.folder / ABOUT).exists():
            self._compare(about)
        else:
            write_whole(self.folder / ABOUT, json.dumps(about, indent=1).encode())
        device = next(model.parameters()).device
        for path in files:
            layers, notes = _read(path)
            super().update({n: layer.to(device) for n, layer in layers.items()})
            for kind in _NOTES:
                getattr(self, kind).update(notes[kind])
        self._next = int(files[-1].name.partition("-")[0]) + 1 if files else 0

    def _compare(self, about: dict[str, Any]) -> None:
        """Raises ValueError, with the name, unless the folder is about the same."""
        here = read_json(self.folder / ABOUT)
        for name in {**about, **here}:
            if here.get(name) != about.get(name):
                raise ValueError(
                    f"folder {self.folder} is a report with {name} {here.get(name)!r}, "
                    f"and now it is {about.get(name)!r}; take the same again, or "
                    "another folder"
                )

    def update(
        self,
        layers: Mapping[str, QuantizedTensor]
        | Iterable[tuple[str, QuantizedTensor]] = (),
        /,
    ) -> None:
        """Enter layers, and write those that are new to one file."""
        layers = dict(layers)
        new = {name: q for name, q in layers.items() if self.get(name) is not q}
        if new:
            data = _file_of(new, {kind: getattr(self, kind) for kind in _NOTES})
            name = f"{self._next:04}-{_digest(data)}.safetensors"
            write_whole(self.folder / name, data)
            self._next += 1
        super().update(layers)

    def __setitem__(self, name: str, quantized: QuantizedTensor) -> None:
        self.update({name: quantized})

    def __ior__(self, layers: Mapping[str, QuantizedTensor]) -> "ReportFolder":
        self.update(layers)
        return self


def fingerprint(model: nn.Module) -> str:
    """A hash of the names, dtypes, shapes and bits of everything a model stores."""
    seen = hashlib.sha256()
    for name, tensor in model.state_dict().items():
        seen.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        seen.update(tensor.detach().cpu().reshape(-1).view(torch.uint8).numpy())
    return seen.hexdigest()


def write_whole(path: Path, data: bytes) -> None:
    """Write a file, so that it is there with all its bytes or not at all."""
    unfinished = path.with_name(path.name + _UNFINISHED)
    with unfinished.open("wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    unfinished.replace(path)


def read_json(path: Path) -> Any:
    """What a JSON file holds. Raises ValueError if it is missing or no JSON."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as problem:
        raise ValueError(
            f"{path} is missing or damaged ({problem}); delete {path.parent} and start "
            "again"
        ) from problem


def _digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()[:16]


def _file_of(
    layers: Mapping[str, QuantizedTensor], notes: Mapping[str, Mapping[str, str]]
) -> bytes:
    """Layers as the bytes of a safetensors file, with what the report notes of them."""
    tensors, forms = {}, {}
    for name, quantized in layers.items():
        matrix = LookupMatrix.pack(quantized)
        dtype = str(quantized.dtype).removeprefix("torch.")
        forms[name] = {"dtype": dtype, "matrix": form(matrix)}
        for kind, reasons in notes.items():
            if name in reasons:
                forms[name][kind] = reasons[name]
        for part, tensor in matrix.tensors().items():
            # a copy, as layers may share their input_scales
            tensors[f"{name}.{part}"] = tensor.detach().cpu().contiguous().clone()
    return save(tensors, {_HEADER: json.dumps(forms)})


def _read(
    path: Path,
) -> tuple[dict[str, QuantizedTensor], dict[str, dict[str, str]]]:
    """The layers of a file, and what the report notes of them.

    Raises ValueError if it is damaged or of another kind.
    """
    _, digest = _LAYERS.fullmatch(path.name).groups()
    try:
        if _digest(path.read_bytes()) != digest:
            raise ValueError("its bytes do not have the hash in its name")
        with safe_open(path, framework="pt") as file:
            forms = json.loads(file.metadata()[_HEADER])
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        layers, notes = {}, {kind: {} for kind in _NOTES}
        for name, described in forms.items():
            of_layer = {
                key.removeprefix(f"{name}."): tensor
                for key, tensor in tensors.items()
                if key.startswith(f"{name}.")
            }
            matrix = from_form(described["matrix"], of_layer)
            layers[name] = matrix.quantized(getattr(torch, described["dtype"]))
            for kind in _NOTES:
                if kind in described:
                    notes[kind][name] = described[kind]
    except (ValueError, KeyError, TypeError, SafetensorError) as problem:
        raise ValueError(
            f"{path} is damaged, or not of this report ({problem}); delete it, and the "
            "layers in it are quantized again"
        ) from problem
    return layers, notes
