"""A quantized model as a GGUF file that llama.cpp runs.

    write_gguf(model_hat, report, tokenizer, "model.gguf")

The codes of the report go in as they are (`files.gguf_codes`): what llama.cpp computes
with is what the method found. All else is stored by these rules:

    embeddings, output        Q8_0
    norms and biases          F32
    other linear layers       `floats`, F16 unless you say otherwise

With an empty report and `floats="Q4_K"` the file holds what llama.cpp's own program
would make of the model: a fair peer for any method, from the same code.

A block has 32 or 256 weights, so a row of 172 fits no block of 32. Such a matrix is
stored as F16, also if it has codes: then as what they stand for. A row that only a K
type does not fit (576 = 2.25 · 256) gets Q8_0 in the place of Q6_K and Q5_0 in the
place of Q4_K, as llama.cpp would. `plan_gguf` tells the type of each tensor beforehand,
and what was replaced; writing asks it first.

Architectures and tokenizers that `models.gguf_model` does not know are refused by name
before anything is written.
"""

import copy
import json
import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn

from minquant.files.gguf import GgufTensor, write
from minquant.files.gguf_blocks import block_type
from minquant.files.gguf_codes import BLOCK, tensor_of, type_for
from minquant.layers.coded import CodedLinear
from minquant.models.gguf_model import (
    ARCHITECTURES,
    Architecture,
    gguf_name,
    reordered_heads,
    to_llama_cpp,
    word_cutter_name,
)
from minquant.models.linear_layers import Matrices
from minquant.models.stored import check_described, ties_embeddings

FALLBACK = {"Q4_K": "Q5_0", "Q6_K": "Q8_0"}  # where 256 does not divide a row
_FILE_TYPES = {"F32": 0, "F16": 1, "Q4_0": 2, "Q4_1": 3, "Q8_0": 7, "Q5_0": 8}
_FILE_TYPES |= {"Q4_K": 15, "Q6_K": 18, "BF16": 32}  # llama.cpp's names for a mixture


@dataclass
class GgufPlan:
    """The type of each tensor, by its name in the file, and what could not be stored as
    asked: name to the reason."""

    types: dict[str, str] = field(default_factory=dict)
    replaced: dict[str, str] = field(default_factory=dict)


def plan_gguf(
    model: nn.Module, report: Matrices, *, floats: str = "F16", embeddings: str = "Q8_0"
) -> GgufPlan:
    """Whether and how a model can be written, without writing anything.

    Raises ValueError, with the names, for an architecture that is not known here, a
    model that is not what its config says, a layer of the report whose codes no type
    stores, or an unknown type.
    """
    architecture = _architecture(model)
    plan, parameters = GgufPlan(), _parameters(model)
    config = copy.deepcopy(model.config)
    config.tie_word_embeddings = ties_embeddings(model)
    specs = {name: (_shape(held), torch.float32) for name, held in parameters.items()}
    check_described(config, specs, {})
    for name, parameter in parameters.items():
        theirs, shape = gguf_name(name, architecture), _shape(parameter)
        layer = name.rpartition(".")[0]
        coded = layer in report and name.endswith(".weight")
        if coded and shape[-1] % BLOCK == 0:
            try:
                plan.types[theirs] = type_for(report[layer])
            except ValueError as problem:
                raise ValueError(
                    f"report has {layer}, which GGUF cannot store: {problem}"
                ) from problem
        elif len(shape) < 2:
            plan.types[theirs] = "F32"
        else:
            around = theirs in ("token_embd.weight", "output.weight")
            asked = embeddings if around else floats
            plan.types[theirs] = _fitting(asked, shape[-1])
            if coded:
                plan.replaced[theirs] = (
                    f"{plan.types[theirs]} in the place of its codes: its rows have "
                    f"{shape[-1]} weights, no whole number of blocks of {BLOCK}"
                )
            elif plan.types[theirs] != asked:
                plan.replaced[theirs] = (
                    f"{plan.types[theirs]} in the place of {asked}: its rows have "
                    f"{shape[-1]} weights, no whole number of blocks of "
                    f"{block_type(asked).weights}"
                )
    strangers = sorted(set(report) - {name.rpartition(".")[0] for name in parameters})
    if strangers:
        raise ValueError(
            f"report has {strangers[0]}, which the model has not; give the report of "
            "this model"
        )
    return plan


def write_gguf(
    model: nn.Module,
    report: Matrices,
    tokenizer: Any,
    path: str | Path,
    *,
    floats: str = "F16",
    embeddings: str = "Q8_0",
    importance: Mapping[str, Float[Tensor, " width"]] | None = None,
) -> GgufPlan:
    """Write the file that the module describes, whole or not at all; returns the plan.

    model: of transformers, quantized with this report, its layers packed or not; the
    report may be empty. floats, embeddings: types of what has no codes. importance: for
    K types, by the layer's name, how much each column matters: the diagonal of H.

    Raises ValueError as `plan_gguf` does, if the tokenizer has no equal in llama.cpp,
    or a number does not fit its type.
    """
    plan = plan_gguf(model, report, floats=floats, embeddings=embeddings)
    architecture = _architecture(model)
    settings = _model_settings(model.config, _commonest(plan))
    settings |= tokenizer_settings(tokenizer, model.config.vocab_size)
    tensors = {}
    for name, parameter in _parameters(model).items():
        theirs, layer = gguf_name(name, architecture), name.rpartition(".")[0]
        heads = reordered_heads(name, model.config) if architecture.reordered else 0
        coded = layer in report and name.endswith(".weight")
        if coded and theirs not in plan.replaced:
            tensors[theirs] = tensor_of(_reordered(report[layer], heads))
            continue
        source = report[layer] if coded else parameter
        is_float = isinstance(source, Tensor)
        W = source.detach().float() if is_float else source.dequantize(torch.float32)
        W = to_llama_cpp(W, heads) if heads else W
        counts = None if importance is None else importance.get(layer)
        tensors[theirs] = GgufTensor.of(W, plan.types[theirs], counts)
    write(path, settings, tensors)
    return plan


def _reordered(quantized: Any, heads: int) -> Any:
    """The same matrix with its rows in llama.cpp's order."""
    if not heads:
        return quantized
    rows = {"codes": to_llama_cpp(quantized.codes, heads)}
    for name in ("scales", "zeros"):
        numbers = getattr(quantized, name)
        if numbers is not None and len(numbers) > 1:
            rows[name] = to_llama_cpp(numbers, heads)
    return replace(quantized, **rows)


def _fitting(asked: str, width: int) -> str:
    """The type asked for, or the first in its line that rows of this width fit."""
    kind = asked
    while width % block_type(kind).weights:
        kind = FALLBACK.get(kind, "F16")
    return kind


def _parameters(model: nn.Module) -> dict[str, Tensor | CodedLinear]:
    """What is stored, by name; a packed layer stands for its weight, so that nothing is
    unpacked before it is needed. An output that is the embedding is left out, as
    llama.cpp expects it; whether it is, the model says, and not its config.
    """
    found: dict[str, Tensor | CodedLinear] = {}
    tied = model.get_output_embeddings() if ties_embeddings(model) else None
    for name, module in model.named_modules():
        if isinstance(module, CodedLinear):
            found[f"{name}.weight"] = module
        for part, parameter in module.named_parameters(recurse=False):
            if module is not tied or part != "weight":
                found[f"{name}.{part}"] = parameter
    return found


def _shape(parameter: Tensor | CodedLinear) -> tuple[int, ...]:
    if isinstance(parameter, CodedLinear):
        return parameter.out_features, parameter.in_features
    return tuple(parameter.shape)


def _commonest(plan: GgufPlan) -> str:
    """The type of most matrices in the blocks: what the file is called by."""
    inside = [t for name, t in plan.types.items() if re.match(r"blk.*weight$", name)]
    matrices = [t for t in inside if t != "F32"] or inside
    return Counter(matrices).most_common(1)[0][0]


def _architecture(model: nn.Module) -> Architecture:
    kind = getattr(model.config, "model_type", None)
    if kind not in ARCHITECTURES:
        raise ValueError(
            f"model is of type {kind!r}; GGUF files are written for "
            f"{', '.join(ARCHITECTURES)}"
        )
    scaling = getattr(model.config, "rope_parameters", None) or {}
    if scaling.get("rope_type", "default") != "default":
        raise ValueError(
            f"model scales its rotary embeddings ({scaling['rope_type']}); only models "
            "that do not are written"
        )
    return ARCHITECTURES[kind]


def _model_settings(config: Any, mostly: str) -> dict[str, Any]:
    kind = config.model_type
    heads = config.num_attention_heads
    head = getattr(config, "head_dim", None) or config.hidden_size // heads
    return {
        "general.architecture": kind,
        "general.name": Path(getattr(config, "name_or_path", "")).name or kind,
        "general.file_type": _FILE_TYPES[mostly],
        "general.quantization_version": 2,
        f"{kind}.block_count": config.num_hidden_layers,
        f"{kind}.context_length": config.max_position_embeddings,
        f"{kind}.embedding_length": config.hidden_size,
        f"{kind}.feed_forward_length": config.intermediate_size,
        f"{kind}.attention.head_count": heads,
        f"{kind}.attention.head_count_kv": config.num_key_value_heads,
        f"{kind}.attention.key_length": head,
        f"{kind}.attention.value_length": head,
        f"{kind}.attention.layer_norm_rms_epsilon": float(config.rms_norm_eps),
        f"{kind}.rope.dimension_count": head,
        f"{kind}.rope.freq_base": float(config.rope_parameters["rope_theta"]),
        f"{kind}.vocab_size": config.vocab_size,
    }


def tokenizer_settings(tokenizer: Any, size: int) -> dict[str, Any]:
    """A tokenizer as settings of a file. size: rows of the embedding.

    Raises ValueError if it is no byte-pair tokenizer, or cuts words in a way that
    llama.cpp has no name for here.
    """
    parts = json.loads(tokenizer.backend_tokenizer.to_str())
    if parts["model"]["type"] != "BPE":
        raise ValueError(
            f"tokenizer is of the kind {parts['model']['type']}, which llama.cpp does "
            "not have; GGUF files are written with byte-pair tokenizers"
        )
    cutter = word_cutter_name(parts["pre_tokenizer"])
    tokens = [f"[PAD{i}]" for i in range(size)]  # for rows that no token uses
    kinds = np.full(size, 5, np.int32)  # unused
    for token, i in parts["model"]["vocab"].items():
        tokens[i], kinds[i] = token, 1
    for added in parts["added_tokens"]:
        tokens[added["id"]] = added["content"]
        kinds[added["id"]] = 3 if added["special"] else 4
    merges = parts["model"]["merges"]
    merges = [pair if isinstance(pair, str) else " ".join(pair) for pair in merges]
    settings = {
        "tokenizer.ggml.model": "gpt2",
        "tokenizer.ggml.pre": cutter,
        "tokenizer.ggml.tokens": tokens,
        "tokenizer.ggml.token_type": kinds,
        "tokenizer.ggml.merges": [
            m if isinstance(m, str) else " ".join(m) for m in merges
        ],
        "tokenizer.ggml.add_bos_token": False,
        "tokenizer.ggml.add_space_prefix": False,
    }
    for ours, theirs in (
        ("bos", "bos"),
        ("eos", "eos"),
        ("unk", "unknown"),
        ("pad", "padding"),
    ):
        if (number := getattr(tokenizer, f"{ours}_token_id")) is not None:
            settings[f"tokenizer.ggml.{theirs}_token_id"] = number
    if tokenizer.chat_template:
        settings["tokenizer.chat_template"] = tokenizer.chat_template
    return settings
