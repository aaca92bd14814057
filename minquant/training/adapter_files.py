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
stabilised scaling, trained biases or other modules, ranks that differ, starts that
change the base (PiSSA, OLoRA, LoftQ), and whatever else a config may ask for or a file
may hold. Nothing is passed over: an adapter of which a part is missing does not fail,
it answers worse. Lesson 09.
"""

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from minquant.layers.coded import CodedLinear
from minquant.layers.lora import LoraLinear
from minquant.models.linear_layers import select_layers, weight_of
from minquant.training.adapters import adaptable, adapters, add_adapters_

CONFIG, WEIGHTS = "adapter_config.json", "adapter_model.safetensors"
_PREFIX = "base_model.model."
_KEY = re.compile(r".+\.lora_[AB]\.weight")
_PLAIN = {  # what peft can do and these files do not: so it is written
    "alpha_pattern": {},
    "bias": "none",
    "layers_to_transform": None,
    "modules_to_save": None,
    "rank_pattern": {},
    "use_dora": False,
    "use_rslora": False,
}
_FREE = """
auto_mapping base_model_name_or_path corda_config ensure_weight_tying eva_config
exclude_modules fan_in_fan_out inference_mode init_lora_weights layers_pattern
loftq_config lora_alpha lora_dropout lora_ga_config megatron_config megatron_core
peft_type peft_version qalora_group_size r revision runtime_config target_modules
task_type velora_config
""".split()  # entries that say nothing of what a layer with A and B computes
_UNASKED = None, False, {}, [], "none"  # the others must be one of these
_STARTS = None, True, False, "gaussian", "eva", "orthogonal", "mica"  # leave the base
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
    save_file(_apart(tensors_of(found)), folder / WEIGHTS, {"format": "pt"})


def load_adapters_(
    model: M, folder: str | Path, *, dtype: torch.dtype | None = None, **options: Any
) -> M:
    """Puts the adapters of a folder onto a model, in place; the model again.

    model: without adapters on these layers. dtype: of A and B; None is what the file
    has, and what it has in 16 bits would be trained on in 16 bits. options: as for
    `add_adapters_`, of which method=None leaves layers of floats as they are.

    Raises ValueError if a file is missing, holds what is left out here, or does not fit
    the model, which then is what it was.
    """
    config, tensors = _read(Path(folder))
    names = list(dict.fromkeys(key.rsplit(".lora_", 1)[0] for key in tensors))
    kind = {"rank": config["r"], "alpha": config["lora_alpha"]}
    kind["dropout"] = config.get("lora_dropout", 0.0)
    layers = select_layers(adaptable(model), names)
    for name in names:
        _check(name, layers[name], tensors, config["r"])
    if dtype is not None:
        options["dtype"] = dtype
    add_adapters_(model, only=names, **kind, **options)
    worn = adapters(model)
    for name in names:
        for part in ("A", "B"):
            given = tensors[f"{name}.lora_{part}.weight"]
            matrix = getattr(worn[name], part)
            matrix.data = given.to(matrix.device, dtype)
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


def _apart(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The same numbers, each tensor in one piece and in memory of its own, as the
    format asks for: some may be transposed, or shared by two layers."""
    made: dict[str, Tensor] = {}
    places: set[int] = set()
    for name, tensor in tensors.items():
        whole = tensor.contiguous()
        place = whole.untyped_storage().data_ptr()
        made[name] = whole.clone() if place in places else whole
        places.add(place)
    return made


def _read(folder: Path) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """The config, if it is of plain LoRA, and tensors by their names without the
    prefix, if they are A and B."""
    for name in (CONFIG, WEIGHTS):
        if not (folder / name).is_file():
            raise ValueError(f"folder {folder} has no {name}; give one that has both")
    config = json.loads((folder / CONFIG).read_text())
    odd = {k: v for k, v in config.items() if k not in _FREE and v not in _UNASKED}
    if (start := config.get("init_lora_weights")) not in _STARTS:
        odd["init_lora_weights"] = start
    if config.get("peft_type") != "LORA" or odd:
        raise ValueError(
            f"folder {folder} holds {config.get('peft_type')} with {odd}; only plain "
            "LoRA is read here"
        )
    if missing := [key for key in ("r", "lora_alpha") if key not in config]:
        raise ValueError(f"{folder / CONFIG} does not say {missing}; write it there")
    return config, _matrices(load_file(folder / WEIGHTS), folder)


def _matrices(tensors: dict[str, Tensor], folder: Path) -> dict[str, Tensor]:
    """The tensors without the prefix; ValueError if one would be passed over."""
    bare = {key.removeprefix(_PREFIX): tensor for key, tensor in tensors.items()}
    for key, tensor in tensors.items():
        name = key.removeprefix(_PREFIX)
        if not _KEY.fullmatch(name) or bare[name] is not tensor:
            raise ValueError(
                f"folder {folder} holds a tensor {key}, which is not read here; only "
                "plain LoRA's are, one A and one B for each layer"
            )
    return bare


def _check(name: str, layer: nn.Module, tensors: dict[str, Tensor], rank: int) -> None:
    """Raises ValueError if A or B of a layer is missing, of another shape, or codes."""
    layer = layer.base if isinstance(layer, LoraLinear) else layer
    if isinstance(layer, CodedLinear):
        out, width = layer.out_features, layer.in_features
    else:
        out, width = weight_of(layer).shape
    for part, needed in (("A", (rank, width)), ("B", (out, rank))):
        given = tensors.get(f"{name}.lora_{part}.weight")
        if given is not None and given.shape == needed and given.is_floating_point():
            continue
        seen = "missing" if given is None else f"of shape {tuple(given.shape)}"
        if given is not None and not given.is_floating_point():
            seen = f"of {given.dtype}"
        raise ValueError(
            f"{name}.lora_{part}.weight is {seen}, but the model needs {needed} of "
            "floats; give the adapter of this model"
        )
