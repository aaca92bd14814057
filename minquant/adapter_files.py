"""Adapters as files that `peft` reads too.

A folder with two files, as peft's `save_pretrained` writes them:

    adapter_config.json          rank, alpha, and which layers have an adapter
    adapter_model.safetensors    base_model.model.<layer>.lora_A.weight     (r, in)
                                 base_model.model.<layer>.lora_B.weight     (out, r)

The two `base_model.model` are peft's own wrappers around a model, and stand before
every name. Its A and B are ours, and so is its scaling, lora_alpha / r, so tensors go
over bit for bit. What a file does not hold is the base: an adapter that was trained on
4-bit codes loads on the same model in 16 bits as well, and does there nearly, not
exactly, what it was trained to do.

    PeftModel.from_pretrained(model, folder)          # in a program that has peft
    load_adapters_(model, folder)                     # here

Layers are named by their last part (q_proj) where that means exactly the layers that
have an adapter, else in full. What is left out, and refused when read: DoRA, rank-
stabilised scaling, trained biases or other modules, ranks that differ. Lesson 09.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from .adapters import adapters, add_adapters_
from .lora import LoraLinear

CONFIG, WEIGHTS = "adapter_config.json", "adapter_model.safetensors"
_PREFIX = "base_model.model."
_PLAIN = {  # what peft can do and these files do not
    "alpha_pattern": {},
    "bias": "none",
    "layers_to_transform": None,
    "modules_to_save": None,
    "rank_pattern": {},
    "use_dora": False,
    "use_rslora": False,
}
M = TypeVar("M", bound=nn.Module)


def save_adapters(
    model: nn.Module, folder: str | Path, *, base_model: str | None = None
) -> None:
    """Writes the adapters of a model into a folder, which is made if it is missing.

    base_model: where the base comes from, for those who read the file; None is the
    name that the model was loaded by. Raises ValueError if there are no adapters, or
    their ranks, alphas or dropouts differ.
    """
    found = adapters(model)
    kinds = {(a.rank, a.alpha, a.drop.p) for a in found.values()}
    if len(kinds) != 1:
        raise ValueError(
            f"model has adapters of {len(kinds)} kinds of (rank, alpha, dropout): "
            f"{sorted(kinds) or 'none at all'}; a file holds one kind"
        )
    (kind,) = kinds
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    name = base_model or getattr(model, "name_or_path", None) or None
    config = _config(model, found, *kind, base_model=name)
    (folder / CONFIG).write_text(json.dumps(config, indent=2, sort_keys=True) + "\n")
    save_file(tensors_of(found), folder / WEIGHTS, {"format": "pt"})


def load_adapters_(model: M, folder: str | Path, **options: Any) -> M:
    """Puts the adapters of a folder onto a model, in place; the model again.

    model: without adapters on these layers. options: as for `add_adapters_`, of which
    method=None leaves layers of floats as they are.

    Raises ValueError if a file is missing, holds what is left out here, or does not fit
    the model.
    """
    config, tensors = _read(Path(folder))
    odd = {k: config[k] for k, plain in _PLAIN.items() if config.get(k, plain) != plain}
    if config.get("peft_type") != "LORA" or odd:
        raise ValueError(
            f"folder {folder} holds {config.get('peft_type')} with {odd}; only plain "
            "LoRA is read here"
        )
    names = list(dict.fromkeys(key.rsplit(".lora_", 1)[0] for key in tensors))
    kind = {"rank": config["r"], "alpha": config["lora_alpha"]}
    kind["dropout"] = config.get("lora_dropout", 0.0)
    add_adapters_(model, only=names, **kind, **options)
    worn = adapters(model)
    for name in names:
        for part in ("A", "B"):
            given = tensors.get(f"{name}.lora_{part}.weight")
            _put(getattr(worn[name], part), given, f"{name}.lora_{part}.weight")
    return model


def tensors_of(found: Mapping[str, LoraLinear]) -> dict[str, Tensor]:
    """A and B of adapters under the names that peft gives them."""
    return {
        f"{_PREFIX}{name}.lora_{part}.weight": getattr(adapter, part).detach()
        for name, adapter in found.items()
        for part in ("A", "B")
    }


def _config(
    model: nn.Module,
    found: Mapping[str, LoraLinear],
    rank: int,
    alpha: float,
    dropout: float,
    *,
    base_model: str | None,
) -> dict[str, Any]:
    """What adapter_config.json says; peft fills in what is not there."""
    return {
        **_PLAIN,
        "base_model_name_or_path": base_model,
        "fan_in_fan_out": False,
        "inference_mode": True,
        "init_lora_weights": True,
        "lora_alpha": int(alpha) if alpha == int(alpha) else alpha,
        "lora_dropout": dropout,
        "peft_type": "LORA",
        "r": rank,
        "revision": None,
        "target_modules": targets(model, found),
        "task_type": "CAUSAL_LM",
    }


def targets(model: nn.Module, found: Mapping[str, LoraLinear]) -> list[str]:
    """The layers by the last part of their names, if that names no other; else in full.

    peft takes a module whose name is such a target, or ends with a dot and it.
    """
    last = sorted({name.rsplit(".", 1)[-1] for name in found})
    hit = {name for name, _ in model.named_modules() if name.rsplit(".", 1)[-1] in last}
    return last if hit == set(found) else sorted(found)


def _read(folder: Path) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """The config, and tensors by their names without the prefix."""
    for name in (CONFIG, WEIGHTS):
        if not (folder / name).is_file():
            raise ValueError(f"folder {folder} has no {name}; give one that has both")
    config = json.loads((folder / CONFIG).read_text())
    tensors = load_file(folder / WEIGHTS)
    return config, {key.removeprefix(_PREFIX): t for key, t in tensors.items()}


@torch.no_grad()
def _put(matrix: nn.Parameter, given: Tensor | None, name: str) -> None:
    """Copy a tensor of the file into its place; ValueError if it does not fit."""
    if given is None or given.shape != matrix.shape:
        seen = "missing" if given is None else f"of shape {tuple(given.shape)}"
        raise ValueError(
            f"{name} is {seen}, but the model needs {tuple(matrix.shape)}; "
            "give the adapter of this model"
        )
    matrix.data = given.to(matrix.device)  # in the dtype that it was trained in
