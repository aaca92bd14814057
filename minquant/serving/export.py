"""Write a quantized model into a folder that transformers, vLLM and others open.

    export(model_hat, report, tokenizer, folder)      # a folder in Hugging Face's form
    export(model_hat, report, tokenizer, folder, format="gguf")         # for llama.cpp
    check_export(model, tokenizer, grid, granularity)   # could it? asked before hours

    config.json          the model's, with a quantization_config: bits, groups, layers
    model.safetensors    the matrices as `pack_quantized` stores them, and the rest in
                         fp16; several files if it is large
    tokenizer.json, …    the files of the tokenizer

The first is in the format of compressed-tensors. transformers opens it if that package
is installed (AutoModelForCausalLM.from_pretrained), and so does vLLM. (The file of
`packed_model.save` takes any grid, but only this package reads it.)

config.json says what the model is, not what it was: a model whose lm_head was tied to
the embeddings, and is no longer, is stored as untied, with both. Before anything is
written, the tensors are compared with those of the model that a reader builds from that
config.

vLLM reads groups of 32, 64 and 128 and whole rows, and the matrices that it joins (q,
k, v; gate, up) must have the same width and groups. What is left out: adapters, which
you merge or save separately (`adapter_files`); GPT-2, whose Conv1D no reader of this
format looks for codes in; and models with experts unless all experts have codes, and
all codes are of one kind. `mq.load` reads the folder back. Lesson 12.
"""

import copy
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor, nn

from minquant.files import pack_quantized
from minquant.layers.coded import CodedLinear
from minquant.models.experts import separated
from minquant.models.linear_layers import (
    Matrices,
    is_router,
    linear_layers,
    weight_of,
)
from minquant.models.stored import check_described, stored_tensors, ties_embeddings
from minquant.numerics.grids import Grid, code_dtype
from minquant.numerics.groups import Granularity, group_shape
from minquant.numerics.tensor import QuantizedTensor
from minquant.serving.gguf_export import plan_gguf, tokenizer_settings, write_gguf

LINEAR = nn.Linear | CodedLinear


def export(
    model: nn.Module,
    report: Matrices,
    tokenizer: Any,
    folder: str | Path,
    *,
    format: Literal["compressed-tensors", "gguf"] = "compressed-tensors",
    dtype: torch.dtype = torch.float16,
) -> Path:
    """Writes a new folder, completely or not at all; its path.

    model: from transformers, quantized with this report; its layers may be packed.
    tokenizer: the model's, or None to write none; one that puts EOS at the end of each
    text is written `without_eos`. format: "compressed-tensors" is the folder above, for
    transformers and vLLM; "gguf" a folder with one file, model.gguf, for llama.cpp
    (`gguf_export`). dtype: of the scales and of everything that is not quantized, in
    compressed-tensors: torch.float16, or torch.bfloat16 if the scales are in that.

    Raises ValueError if the folder exists, if the format cannot describe a layer, if
    the report does not fit the model, or if a number is too large for dtype.
    """
    folder = Path(folder).expanduser()
    if folder.exists():
        raise ValueError(f"folder {folder} exists; give the name of a new one")
    if not report:
        raise ValueError("report is empty; give the one that quantize_ returned")
    _check(model, report, tokenizer, format, dtype)
    if format == "gguf":
        with _new_folder(folder) as temporary:
            write_gguf(model, report, tokenizer, temporary / "model.gguf")
    else:
        _export_tensors(model, report, tokenizer, folder, dtype)
    return folder


def check_export(
    model: nn.Module,
    tokenizer: Any,
    grid: Grid,
    granularity: Granularity,
    *,
    format: Literal["compressed-tensors", "gguf"] = "compressed-tensors",
    dtype: torch.dtype = torch.float16,
) -> None:
    """Whether `export` could write a model if all its layers were quantized like this.

    Ask before you quantize for hours. Arguments are those of `export` and of methods;
    scales are taken to be numbers of dtype, and input scales to be folded.

    Raises the ValueError that `export` would raise.

    >>> import minquant as mq
    >>> check_export(*mq.load(), mq.symmetric_full(3), mq.per_group(64))
    Traceback (most recent call last):
    ValueError: report has model.layers.0.self_attn.q_proj, whose grid is \
symmetric_full of 3 bits, which the format has no word for; quantize with \
grids.symmetric_full(4), or (8)
    """
    report = {
        name: _stand_in(tuple(weight_of(layer).shape), grid, granularity, dtype)
        for name, layer in linear_layers(model).items()
    }
    _check(model, report, tokenizer, format, dtype)


def _stand_in(
    shape: tuple[int, int], grid: Grid, granularity: Granularity, dtype: torch.dtype
) -> QuantizedTensor:
    """A matrix of one code and one scale; it takes no memory to speak of."""
    groups = group_shape(shape, granularity)[:2]
    code = torch.tensor(max(grid.low, 0), dtype=code_dtype(grid))
    zeros = code.expand(groups) if grid.has_zeros else None
    scales = torch.ones((), dtype=dtype).expand(groups)
    return QuantizedTensor(code.expand(shape), scales, zeros, grid, granularity)


def _check(
    model: nn.Module, report: Matrices, tokenizer: Any, format: str, dtype: torch.dtype
) -> None:
    """Raises ValueError for what the format cannot hold."""
    if format == "gguf":
        plan_gguf(model, report)
        tokenizer_settings(tokenizer, model.config.vocab_size)
    elif format == "compressed-tensors":
        _check_experts(model, report)
        for name, quantized in report.items():
            try:
                pack_quantized.check(quantized, dtype)
            except ValueError as problem:
                raise ValueError(f"report has {name}, whose {problem}") from problem
        for _ in _plain_tensors(model, report, dtype):
            pass  # each is checked when its turn comes
    else:
        raise ValueError(f'format is {format!r}; choose "compressed-tensors" or "gguf"')


def _export_tensors(
    model: nn.Module, report: Matrices, tokenizer: Any, folder: Path, dtype: torch.dtype
) -> None:
    """The folder of compressed-tensors."""
    from huggingface_hub import save_torch_state_dict

    config = copy.deepcopy(model.config)
    config.tie_word_embeddings = ties_embeddings(model)
    tensors = dict(_plain_tensors(model, report, dtype))
    _check_readable(config, report, tensors)
    for name, quantized in report.items():
        parts = pack_quantized.tensors_of(quantized, dtype)
        tensors |= {f"{name}.{part}": tensor for part, tensor in parts.items()}
    config.architectures = config.architectures or [type(model).__name__]
    config.dtype = dtype
    linear = [
        name
        for name, layer in model.named_modules()
        if isinstance(layer, LINEAR) or _is_router(model, name, layer)
    ]
    config.quantization_config = pack_quantized.quantization_config(report, linear)
    with _new_folder(folder) as temporary:
        config.save_pretrained(temporary)
        generation = copy.deepcopy(getattr(model, "generation_config", None))
        if generation is not None:
            if generation.temperature not in (None, 1.0):
                generation.do_sample = True  # or transformers refuses a temperature
            generation.save_pretrained(temporary)
        if tokenizer is not None:
            without_eos(tokenizer).save_pretrained(temporary)
        save_torch_state_dict(tensors, temporary, metadata={"format": "pt"})


def _is_router(model: nn.Module, name: str, layer: nn.Module) -> bool:
    """Whether vLLM takes a layer that chooses experts for a linear one."""
    weight = getattr(layer, "weight", None)
    is_matrix = isinstance(weight, Tensor) and weight.ndim == 2
    return is_matrix and is_router(model, name, weight)


def _check_experts(model: nn.Module, report: Matrices) -> None:
    """Raise ValueError unless transformers opens the experts: it joins those of a layer
    again, all of one kind, where it knows how checkpoints store them."""
    for path, experts in separated(model).items():
        numbers = range(experts.num_experts)
        names = [f"{path}.{e}.{name}" for e in numbers for name in experts.names]
        missing = [name for name in names if name not in report]
        if not experts.stored:
            raise ValueError(
                f"model has experts ({path}), and {model.config.model_type} stores "
                "them in one tensor, for whose codes the format has no place; keep the "
                "model with packed_model.save"
            )
        if missing:
            raise ValueError(
                f"report has no {missing[0]}, but the format needs all experts; "
                "quantize them too"
            )
        kinds = {(q.grid.bits, q.granularity): name for name, q in report.items()}
        if len(kinds) > 1:
            raise ValueError(
                f"report has {' and '.join(list(kinds.values())[:2])} of different "
                "bits or groups; transformers opens a model with experts only if all "
                "layers are alike"
            )


@contextmanager
def _new_folder(folder: Path) -> Iterator[Path]:
    """A folder beside this one, that takes its name when all is written in it."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    temporary = Path(tempfile.mkdtemp(prefix=f".{folder.name}-", dir=folder.parent))
    try:
        yield temporary
        temporary.chmod(0o755)  # others may read it, unlike a temporary folder
        try:
            temporary.rename(folder)
        except PermissionError as problem:
            raise ValueError(
                f"folder {folder} cannot take its name ({problem}); a program may have "
                "a file in it open: take another name"
            ) from problem
    finally:
        shutil.rmtree(temporary, ignore_errors=True)  # only there if something failed


def without_eos(tokenizer: Any) -> Any:
    """A copy of the tokenizer that puts no EOS at the end of a text; itself if it puts
    none there anyway.

    A server tokenizes a prompt and lets the model continue. After EOS the model would
    begin a new text, and never answer.
    """
    from tokenizers.processors import TemplateProcessing

    bare = tokenizer("a", add_special_tokens=False)["input_ids"]
    ids = tokenizer("a", add_special_tokens=True)["input_ids"]
    if ids == bare or ids[-1] != tokenizer.eos_token_id:
        return tokenizer
    twin, bos = copy.deepcopy(tokenizer), tokenizer.bos_token
    has_bos = bos is not None and len(ids) > len(bare) + 1
    twin.backend_tokenizer.post_processor = TemplateProcessing(
        single=f"{bos} $A" if has_bos else "$A",
        special_tokens=[(bos, tokenizer.bos_token_id)] if has_bos else [],
    )
    return twin


def _plain_tensors(
    model: nn.Module, report: Matrices, dtype: torch.dtype
) -> Iterator[tuple[str, Tensor]]:
    """The tensors that are not quantized, by name: biases, embeddings, norms, and what
    packed layers stand for whose codes are not in the report.

    A tied lm_head is left out: config says that it is tied.
    """
    modules = dict(model.named_modules())
    for name, quantized in report.items():
        layer, (out, width) = modules.get(name), quantized.codes.shape
        is_linear = isinstance(layer, LINEAR)
        if not is_linear or (layer.out_features, layer.in_features) != (out, width):
            raise ValueError(
                f"report has {name} {(out, width)}, but there the model has {layer}; "
                "give the report of this model (adapters merged, no Conv1D)"
            )
    head = None
    if ties_embeddings(model):
        (head,) = (n for n, m in modules.items() if m is model.get_output_embeddings())
    unpacked = [n for n, m in modules.items() if isinstance(m, CodedLinear)]
    unpacked = {name for name in unpacked if name not in report}
    for name, tensor in stored_tensors(model).items():
        layer, _, part = name.rpartition(".")
        coded = layer in report or layer in unpacked
        if name == f"{head}.weight" or (coded and part != "bias"):
            continue
        yield name, _stored_as(tensor, dtype, name)
    for name in sorted(unpacked):
        key = f"{name}.weight"
        yield key, _stored_as(modules[name].dequantize(dtype), dtype, key)


def _stored_as(tensor: Tensor, dtype: torch.dtype, name: str) -> Tensor:
    """A tensor of the model as the file has it, in memory of its own."""
    stored = tensor.detach()
    stored = stored.to(dtype if stored.is_floating_point() else stored.dtype, copy=True)
    if not stored.isfinite().all():
        raise ValueError(
            f"model has {name} with numbers up to {tensor.abs().max():g}, which "
            f"{dtype} does not hold; take dtype=torch.bfloat16"
        )
    return stored.contiguous()


def _check_readable(config: Any, report: Matrices, tensors: dict[str, Tensor]) -> None:
    """Raises ValueError unless the model that a reader builds from this config has
    exactly these tensors, and an nn.Linear for each layer of the report."""
    specs = {name: (tuple(t.shape), t.dtype) for name, t in tensors.items()}
    coded = {name: tuple(q.codes.shape) for name, q in report.items()}
    built = dict(check_described(config, specs, coded).named_modules())
    for name in report:
        if type(built[name]) is not nn.Linear:
            raise ValueError(
                f"report has {name}, which is a {type(built[name]).__name__} where the "
                "folder is opened; readers of compressed-tensors look for codes in "
                "nn.Linear, and no Conv1D (GPT-2's): keep it with packed_model.save"
            )
