"""Adapters as files that `peft` reads too.

A folder with two files, as peft's `save_pretrained` writes them:

    adapter_config.json          rank, alpha, and which layers have an adapter
    adapter_model.safetensors    base_model.model.<layer>.lora_A.weight     (r, in)
                                 base_model.model.<layer>.lora_B.weight     (out, r)

Every name begins with `base_model.model`, the names of peft's two wrappers around a
model. peft's A, B and scaling, lora_alpha / r, are the same as ours, so tensors are
written bit for bit. The base is not in the file: an adapter that was trained on 4-bit
codes can also be loaded on the same model in 16 bits. There it does nearly, but not
exactly, what it was trained to do.

    PeftModel.from_pretrained(model, folder)          # in a program that has peft
    load_adapters_(model, folder)                     # here

Layers are named by their last part (q_proj) if exactly the layers with an adapter have
that last part, else in full. These are refused when read: DoRA, rank-stabilised
scaling, trained biases or other modules, ranks that differ, starts that change the base
(PiSSA, OLoRA, LoftQ), and whatever else a config asks for or a file holds that is not
read here. Nothing is skipped: an adapter with a part missing would not fail, it would
answer worse. Lesson 09.
"""

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from minquant.files.whole import whole_file
from minquant.layers.coded import CodedLinear
from minquant.layers.lora import LoraLinear
from minquant.models.linear_layers import select_layers, weight_of
from minquant.training.adapters import adaptable, adapters, add_adapters_

CONFIG, WEIGHTS = "adapter_config.json", "adapter_model.safetensors"
_PREFIX = "base_model.model."
_KEY = re.compile(r".+\.lora_[AB]\.weight")
_PLAIN = {  # options of peft that are off in the files we write
    "alpha_pattern": {},
    "bias": "none",
    "layers_to_transform": None,
    "modules_to_save": None,
    "rank_pattern": {},
    "use_dora": False,
    "use_rslora": False,
}
# Entries of a config that do not change what a layer with A and B computes.
_HARMLESS = """
auto_mapping base_model_name_or_path corda_config ensure_weight_tying eva_config
exclude_modules fan_in_fan_out inference_mode init_lora_weights layers_pattern
loftq_config lora_alpha lora_dropout lora_ga_config megatron_config megatron_core
peft_type peft_version qalora_group_size r revision runtime_config target_modules
task_type velora_config
""".split()
_OFF = None, False, {}, [], "none"  # all other entries must be one of these
# Values of init_lora_weights that leave the base as it is.
_STARTS = None, True, False, "gaussian", "eva", "orthogonal", "mica"
M = TypeVar("M", bound=nn.Module)


def save_adapters(
    model: nn.Module, folder: str | Path, *, base_model: str | None = None
) -> None:
    """Writes the adapters of a model into a folder, which is created if it is missing.
    If writing fails, files that were there stay as they were.

    base_model: where the base comes from, for readers of the file; None is the name
    that the model was loaded by. Raises ValueError if there are no adapters, or if
    their ranks, alphas or dropouts differ.
    """
    layers = adapters(model)
    kinds = {(layer.rank, layer.alpha, layer.drop.p) for layer in layers.values()}
    if len(kinds) != 1:
        raise ValueError(
            f"model has adapters of {len(kinds)} kinds of (rank, alpha, dropout): "
            f"{sorted(kinds) or 'none at all'}; a file holds one kind"
        )
    (kind,) = kinds
    folder = Path(folder).expanduser()
    name = base_model or getattr(model, "name_or_path", None) or None
    config = _config(model, layers, *kind, base_model=name)
    tensors = _separate(tensors_of(layers))
    if any(tensor.is_meta for tensor in tensors.values()):
        raise ValueError("model has adapters on meta, without numbers; load them first")
    with whole_file(folder / CONFIG) as text, whole_file(folder / WEIGHTS) as weights:
        stated = json.dumps(config, indent=2, sort_keys=True) + "\n"
        text.write_text(stated, encoding="utf-8", newline="\n")
        save_file(tensors, weights, {"format": "pt"})
        # Old config, new weights would be a wrong alpha. Without a config none is read.
        (folder / CONFIG).unlink(missing_ok=True)


def load_adapters_(
    model: M, folder: str | Path, *, dtype: torch.dtype | None = None, **options: Any
) -> M:
    """Puts the adapters in a folder onto a model, in place; returns the model.

    model: without adapters on these layers. dtype: of A and B; None is the dtype in the
    file (if that has 16 bits, further training would be in 16 bits). options: as for
    `add_adapters_`, where method=None leaves layers of floats as they are.

    Raises ValueError if a file is missing, holds what is not read here, or does not fit
    the model. Then the model is unchanged.
    """
    config, tensors = _read(Path(folder).expanduser())
    names = list(dict.fromkeys(key.rsplit(".lora_", 1)[0] for key in tensors))
    kind = {"rank": config["r"], "alpha": config["lora_alpha"]}
    kind["dropout"] = config.get("lora_dropout", 0.0)
    layers = select_layers(adaptable(model), names)
    for name in names:
        _check(name, layers[name], tensors, config["r"], dtype)
    if dtype is not None:
        options["dtype"] = dtype
    add_adapters_(model, only=names, **kind, **options)
    added = adapters(model)
    for name in names:
        for part in ("A", "B"):
            matrix = getattr(added[name], part)
            stored = tensors[f"{name}.lora_{part}.weight"]
            matrix.data = stored.to(matrix.device, dtype)
    return model


def tensors_of(layers: Mapping[str, LoraLinear]) -> dict[str, Tensor]:
    """A and B of all adapters, under the names that peft gives them."""
    return {
        f"{_PREFIX}{name}.lora_{part}.weight": getattr(layer, part).detach()
        for name, layer in layers.items()
        for part in ("A", "B")
    }


def _config(
    model: nn.Module,
    layers: Mapping[str, LoraLinear],
    rank: int,
    alpha: float,
    dropout: float,
    *,
    base_model: str | None,
) -> dict[str, Any]:
    """The content of adapter_config.json. peft has defaults for what is not there."""
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
        "target_modules": targets(model, layers),
        "task_type": "CAUSAL_LM",
    }


def targets(model: nn.Module, layers: Mapping[str, LoraLinear]) -> list[str]:
    """The names of layers for peft: their last parts if no other module has these, else
    in full.

    peft puts an adapter on every module whose name is a target, or ends with a dot and
    a target.
    """
    last = sorted({name.rsplit(".", 1)[-1] for name in layers})
    hit = {name for name, _ in model.named_modules() if name.rsplit(".", 1)[-1] in last}
    return last if hit == set(layers) else sorted(layers)


def _separate(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The same tensors, contiguous and none sharing memory, as safetensors requires."""
    separate: dict[str, Tensor] = {}
    seen: set[int] = set()
    for name, tensor in tensors.items():
        contiguous = tensor.contiguous()
        address = contiguous.untyped_storage().data_ptr()
        separate[name] = contiguous.clone() if address in seen else contiguous
        seen.add(address)
    return separate


def _read(folder: Path) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """The config, and the tensors by their names without the prefix.

    Raises ValueError if a file is missing, or if they are not plain LoRA.
    """
    for name in (CONFIG, WEIGHTS):
        if not (folder / name).is_file():
            raise ValueError(f"folder {folder} has no {name}; give one that has both")
    config = json.loads((folder / CONFIG).read_text(encoding="utf-8"))
    unread = {k: v for k, v in config.items() if k not in _HARMLESS and v not in _OFF}
    if (start := config.get("init_lora_weights")) not in _STARTS:
        unread["init_lora_weights"] = start
    if config.get("peft_type") != "LORA" or unread:
        raise ValueError(
            f"folder {folder} holds {config.get('peft_type')} with {unread}; only "
            "plain LoRA is read here"
        )
    if missing := [key for key in ("r", "lora_alpha") if key not in config]:
        raise ValueError(f"{folder / CONFIG} does not say {missing}; write it there")
    return config, _matrices(load_file(folder / WEIGHTS), folder)


def _matrices(tensors: dict[str, Tensor], folder: Path) -> dict[str, Tensor]:
    """The tensors by their names without the prefix.

    Raises ValueError if one is not an A or B, or two have the same name.
    """
    bare = {key.removeprefix(_PREFIX): tensor for key, tensor in tensors.items()}
    for key, tensor in tensors.items():
        name = key.removeprefix(_PREFIX)
        if not _KEY.fullmatch(name) or bare[name] is not tensor:
            raise ValueError(
                f"folder {folder} holds a tensor {key}, which is not read here; only "
                "plain LoRA's are, one A and one B for each layer"
            )
    return bare


def _check(
    name: str,
    layer: nn.Module,
    tensors: dict[str, Tensor],
    rank: int,
    dtype: torch.dtype | None,
) -> None:
    """Raises ValueError if A or B of a layer is missing, not of floats, or has another
    shape; if they have two dtypes and none is asked for; or if the layer is on meta."""
    layer = layer.base if isinstance(layer, LoraLinear) else layer
    if isinstance(layer, CodedLinear):
        out, width = layer.out_features, layer.in_features
    else:
        out, width = weight_of(layer).shape
    for part, needed in (("A", (rank, width)), ("B", (out, rank))):
        tensor = tensors.get(f"{name}.lora_{part}.weight")
        if tensor is None:
            seen = "missing"
        elif not tensor.is_floating_point():
            seen = f"of {tensor.dtype}"
        elif tensor.shape != needed:
            seen = f"of shape {tuple(tensor.shape)}"
        else:
            continue
        raise ValueError(
            f"{name}.lora_{part}.weight is {seen}, but the model needs {needed} of "
            "floats; give the adapter of this model"
        )
    A, B = (tensors[f"{name}.lora_{part}.weight"] for part in "AB")
    if dtype is None and A.dtype != B.dtype:
        raise ValueError(
            f"{name} has lora_A in {A.dtype} and lora_B in {B.dtype}, which are not "
            "multiplied with each other; give dtype="
        )
    if any(tensor.is_meta for tensor in layer.state_dict().values()):
        raise ValueError(
            f"model has {name} on meta, without numbers; load the model's own weights "
            "before its adapters"
        )
