"""Does a file fit a model? Compare them tensor by tensor, and only then copy.

    first_of(model)           which tensors are one: the embeddings and a tied lm_head
    ties_embeddings(model)    whether these two are one, whatever the config says
    check_fit(model, …)       names, shapes, dtypes and ties of a file against a model's
    check_described(…)        the same, against the model that a config describes
    put_(model, …)            copy them; a tensor on meta gets its memory now

A config may say that a model is tied when it is no longer: after a rotation, or after
training lm_head alone. A reader that believes it would leave lm_head out, or would give
two layers one weight. So all of this asks the model itself.

On the device "meta" a model has shapes and no numbers. That is how to open a large file
without ever holding floats that it replaces:

    with torch.device("meta"):
        empty = AutoModelForCausalLM.from_config(config)

Some buffers are in no file, since a module computes them when it is made, such as the
frequencies of rotary embeddings. On meta they were not computed: `put_` does it.
"""

import copy
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn

from minquant.layers.coded import CodedLinear
from minquant.models.experts import separate_experts_
from minquant.models.linear_layers import is_linear, weight_of

Spec = tuple[tuple[int, ...], torch.dtype]  # the shape and dtype of a stored tensor


def first_of(model: nn.Module) -> dict[str, str]:
    """For each tensor of the state_dict the first name of the same memory, most often
    its own."""
    first: dict[Any, str] = {}
    found = {}
    for name, tensor in stored_tensors(model).items():
        place: Any = id(tensor)  # on meta, and where there are no numbers
        if tensor.numel() and not tensor.is_meta:
            place = tensor.data_ptr(), tensor.dtype, tensor.shape, tensor.stride()
        found[name] = first.setdefault(place, name)
    return found


def groups_of(first: Mapping[str, str]) -> dict[str, list[str]]:
    """The names of each tensor, by the first of them, from `first_of`."""
    groups: dict[str, list[str]] = {}
    for name, own in first.items():
        groups.setdefault(own, []).append(name)
    return groups


def stored_tensors(model: nn.Module) -> dict[str, Tensor]:
    """Parameters and persistent buffers, by name, as the model holds them."""
    state = model.state_dict(keep_vars=True)
    return {n: t for n, t in state.items() if not n.endswith("_extra_state")}


def ties_embeddings(model: nn.Module) -> bool:
    """Whether the output layer of a model from transformers is its embedding."""
    layers = model.get_input_embeddings(), model.get_output_embeddings()
    weights = [getattr(layer, "weight", None) for layer in layers]
    if any(weight is None for weight in weights):
        return False
    E, head = weights
    return E is head or (not E.is_meta and E.data_ptr() == head.data_ptr())


_DTYPES = {
    "F64": torch.float64,
    "F32": torch.float32,
    "F16": torch.float16,
    "BF16": torch.bfloat16,
    "I64": torch.int64,
    "I32": torch.int32,
    "I16": torch.int16,
    "I8": torch.int8,
    "U8": torch.uint8,
    "BOOL": torch.bool,
}


def specs_of(path: Path) -> dict[str, Spec]:
    """The shape and dtype of each tensor of a safetensors file, from its header.

    Raises ValueError if the file is cut off or is none, or has another dtype, such as
    float8.
    """
    specs = {}
    try:
        with safe_open(path, framework="pt") as file:
            for name in file.keys():  # noqa: SIM118
                part = file.get_slice(name)
                kind = part.get_dtype()
                if kind not in _DTYPES:
                    raise ValueError(
                        f"{path} has {name} in {kind}, which is not read here; known "
                        f"are {', '.join(_DTYPES)}"
                    )
                specs[name] = tuple(part.get_shape()), _DTYPES[kind]
    except SafetensorError as problem:
        raise ValueError(
            f"{path} is no sound safetensors file ({problem}); copy it again"
        ) from problem
    return specs


def read_copies(path: Path, names: Iterable[str]) -> dict[str, Tensor]:
    """Some tensors of a safetensors file, in memory of their own.

    The file is mapped only meanwhile. One that stays mapped counts as memory twice, and
    must not be written again.
    """
    with safe_open(path, framework="pt") as file:
        return {name: file.get_tensor(name).clone() for name in names}


def check_fit(
    model: nn.Module,
    specs: Mapping[str, Spec],
    source: str,
    *,
    coded: Mapping[str, tuple[int, int]],
    shared: Mapping[str, str] | None = None,
) -> None:
    """Raises ValueError unless a file has exactly the tensors of the model.

    specs: shape and dtype of each tensor of the file. The dtype may be a narrower one
    than the model's: no number changes then. source: the file, for the message. coded:
    (out, in) of layers that the file has as codes: they may replace linear layers of
    that shape, and of their tensors only the bias is among specs. shared: of names that
    stand for an earlier tensor of the file, that tensor; None says that the file does
    not tell, and leaves out a tied tensor or has it twice.
    """
    modules, first = dict(model.named_modules()), first_of(model)
    inside = tuple(f"{name}." for name in coded)
    biases = {f"{name}.bias" for name in coded}
    state = {
        name: tensor
        for name, tensor in stored_tensors(model).items()
        if name in biases or not name.startswith(inside)
    }
    wrong = []
    for name, shape in coded.items():
        layer = modules.get(name)
        if isinstance(layer, CodedLinear):
            its = layer.out_features, layer.in_features
        elif layer is not None and is_linear(layer):
            its = tuple(weight_of(layer).shape)
        else:
            seen = "nothing" if layer is None else f"a {type(layer).__name__}"
            wrong.append(f"{name} has codes, but there the model has {seen}")
            continue
        if its != tuple(shape):
            wrong.append(f"{name} has codes {tuple(shape)}, but the layer is {its}")
    groups = groups_of({name: first[name] for name in state})
    stored = set(specs) | set(shared or {})
    for names in groups.values():
        if shared is None and any(name in specs for name in names):
            continue  # one of a tied group stands for all
        wrong += [f"{name} is missing" for name in names if name not in stored]
    for name, (shape, dtype) in specs.items():
        if name not in state:
            wrong.append(f"{name} is not in the model")
        elif tuple(state[name].shape) != tuple(shape):
            its = tuple(state[name].shape)
            wrong.append(f"{name} is {tuple(shape)}, but in the model {its}")
        elif not _holds(state[name].dtype, dtype):
            its = state[name].dtype
            wrong.append(f"{name} is {dtype}, which the model's {its} does not hold")
    for name in state:
        own, there = first[name], name if shared is None else shared.get(name, name)
        compared = shared is not None and name not in biases
        if compared and own in state and there in state and own != there:
            tied, apart = ("model", "file") if own != name else ("file", "model")
            other = own if own != name else there
            wrong.append(
                f"{name} is {other} in the {tied}, but a tensor of its own in the "
                f"{apart} (config.tie_word_embeddings says which a new model gets)"
            )
    if wrong:
        more = f" (and {len(wrong) - 3} more)" if len(wrong) > 3 else ""
        raise ValueError(
            f"{source} does not fit the model: {'; '.join(wrong[:3])}{more}. Give a "
            "model of the architecture and dtype that it was made from"
        )


def check_described(
    config: Any, specs: Mapping[str, Spec], coded: Mapping[str, tuple[int, int]]
) -> nn.Module:
    """The model that a reader builds from this config, on meta.

    specs, coded: what a writer is about to write, as for `check_fit`.

    Raises ValueError if they do not fit it.
    """
    from transformers import AutoModelForCausalLM

    with torch.device("meta"):
        built = AutoModelForCausalLM.from_config(config, dtype=torch.float32)
    separate_experts_(built)
    try:
        check_fit(built, specs, "what would be written", coded=coded)
    except ValueError as problem:
        raise ValueError(
            f"model is not what its config says: {problem}, or correct model.config "
            "(vocab_size, num_hidden_layers and the like)"
        ) from problem
    return built


def put_(
    model: nn.Module, tensors: Mapping[str, Tensor], layers: Mapping[str, nn.Module]
) -> None:
    """Put layers in the place of others, and copy tensors into all the rest, whose
    shapes they have. What is on meta gets memory, on the CPU; tied tensors stay tied.

    Raises ValueError, before anything is changed, if a tensor would stay on meta.
    """
    first, held = first_of(model), stored_tensors(model)
    computed = computed_buffers(model)
    given = {first[name] for name in tensors}
    replaced = tuple(f"{name}." for name in layers)
    empty = [n for n, t in [*held.items(), *model.named_buffers()] if t.is_meta]
    left = [
        name
        for name in dict.fromkeys(empty)
        if first.get(name) not in given
        and name not in computed
        and not name.startswith(replaced)
    ]
    if left:
        raise ValueError(
            f"model would keep {len(left)} tensors on meta, without numbers: "
            f"{', '.join(left[:3])}; give one that is in memory"
        )
    for name, layer in layers.items():
        model.set_submodule(name, layer.train(model.get_submodule(name).training))
    filled: dict[str, Tensor] = dict(computed)
    together = groups_of(first)
    with torch.no_grad():
        for name, tensor in tensors.items():
            old = held[name]
            if not old.is_meta:
                old.copy_(tensor)
            elif isinstance(old, nn.Parameter):
                new = nn.Parameter(tensor.to(old.dtype), old.requires_grad)
                filled |= dict.fromkeys(together[first[name]], new)
            else:
                filled[name] = tensor.to(old.dtype)
    for name, tensor in filled.items():
        path, _, part = name.rpartition(".")
        module = model.get_submodule(path)
        kind = module._buffers if part in module._buffers else module._parameters
        kind[part] = tensor


def computed_buffers(model: nn.Module) -> dict[str, Tensor]:
    """The buffers on meta that no file has, computed as transformers does when it opens
    a model: by `_init_weights`, module by module.

    A buffer that this does not set is left out. To tell, it is set from two starts.
    """
    kept = stored_tensors(model)
    found: dict[str, Tensor] = {}
    for path, module in model.named_modules():
        wanted = {
            part: buffer
            for part, buffer in module.named_buffers(recurse=False)
            if buffer.is_meta and f"{path}.{part}".lstrip(".") not in kept
        }
        if not wanted or not hasattr(model, "_init_weights"):
            continue
        results = []
        for start in (0, 1):
            twin = copy.copy(module)  # whose parameters have no numbers to change
            twin._parameters = {
                part: None if held is None else held.to("meta")
                for part, held in module._parameters.items()
            }
            twin._buffers = {
                part: torch.full_like(buffer, start, device="cpu")
                for part, buffer in wanted.items()
            }
            with torch.no_grad():
                model._init_weights(twin)
            results.append(twin._buffers)
        for part, buffer in results[0].items():
            if torch.equal(buffer, results[1][part]):
                found[f"{path}.{part}".lstrip(".")] = buffer
    return found


def _holds(wide: torch.dtype, narrow: torch.dtype) -> bool:
    """Whether a dtype holds every number of another."""
    if wide == narrow:
        return True
    wider = wide.is_floating_point and narrow.is_floating_point and narrow.itemsize > 1
    return wider and torch.promote_types(wide, narrow) == wide
