"""A quantized model in a folder that other programs open: transformers, vLLM, others.

    export(model_hat, report, tokenizer, folder)      # a folder in Hugging Face's form

    config.json          the model's, with a quantization_config: bits, groups, layers
    model.safetensors    the matrices as `pack_quantized` stores them, and all that was
                         not quantized, in fp16; several files, if it is large
    tokenizer.json, …    the tokenizer's own files

Unlike the file of `packed_model.save`, which is for this package alone and takes any
grid, the folder is in compressed-tensors' format. transformers opens it where that
package is installed (AutoModelForCausalLM.from_pretrained), and vLLM as it is.

vLLM reads groups of 32, 64 and 128 and whole rows, and wants the matrices that it joins
(q, k, v; gate, up) to be alike. What is left out: adapters, which are merged or kept
beside (`adapter_files`), and GPT-2's Conv1D. `packed_folder` reads it back. Lesson 12.
"""

import copy
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from minquant.files.pack_quantized import quantization_config, tensors_of
from minquant.layers.coded import CodedLinear
from minquant.models.linear_layers import Report

LINEAR = nn.Linear | CodedLinear
M = TypeVar("M", bound=nn.Module)


def export(
    model: nn.Module,
    report: Report,
    tokenizer: Any,
    folder: str | Path,
    *,
    dtype: torch.dtype = torch.float16,
) -> Path:
    """Writes the folder that the module describes, whole or not at all; its path.

    model: of transformers, quantized with this report, its layers packed or not.
    tokenizer: its own, or None to leave it out. dtype: of all that is not quantized,
    and of the scales: torch.float16, or torch.bfloat16 if the scales are that. A
    tokenizer that ends each text, as the course's does, is written as `open_ended`.

    Raises ValueError if the folder exists, if the format has no word for a layer, or if
    a number is too large for dtype.
    """
    from huggingface_hub import save_torch_state_dict

    folder = Path(folder)
    if folder.exists():
        raise ValueError(f"folder {folder} exists; give the name of a new one")
    if not report:
        raise ValueError("report is empty; give the one that quantize_ returned")
    tensors = dict(_numbers(model, report, dtype))
    for name, quantized in report.items():
        try:
            parts = tensors_of(quantized, dtype)
        except ValueError as problem:
            raise ValueError(f"report has {name}, whose {problem}") from problem
        tensors |= {f"{name}.{part}": tensor for part, tensor in parts.items()}
    config = copy.deepcopy(model.config)
    config.architectures = config.architectures or [type(model).__name__]
    config.dtype = dtype
    linear = [n for n, layer in model.named_modules() if isinstance(layer, LINEAR)]
    config.quantization_config = quantization_config(report, linear)
    folder.parent.mkdir(parents=True, exist_ok=True)
    place = Path(tempfile.mkdtemp(prefix=f".{folder.name}-", dir=folder.parent))
    try:
        said = copy.deepcopy(getattr(model, "generation_config", None))
        if said is not None and said.temperature not in (None, 1.0):
            said.do_sample = True  # which a temperature means; else it is refused
        for part in (config, said, tokenizer and open_ended(tokenizer)):
            if part is not None:
                part.save_pretrained(place)
        save_torch_state_dict(tensors, place, metadata={"format": "pt"})
        place.chmod(0o755)  # temporary folders are their maker's alone
        place.rename(folder)
    finally:
        shutil.rmtree(place, ignore_errors=True)  # there is none, if all went well
    return folder


def open_ended(tokenizer: Any) -> Any:
    """A tokenizer that leaves a text open: itself, unless it puts EOS behind each.

    A server gives a model what the tokenizer makes of a prompt, and asks it to go on.
    Behind EOS a model begins something new, and never answers.
    """
    from tokenizers.processors import TemplateProcessing

    bare, ids = (
        tokenizer("a", add_special_tokens=special)["input_ids"]
        for special in (False, True)
    )
    if ids[len(ids) - 1 :] != [tokenizer.eos_token_id] or ids == bare:
        return tokenizer
    twin, bos = copy.deepcopy(tokenizer), tokenizer.bos_token
    begins = bos is not None and ids[: len(ids) - len(bare) - 1] != []
    twin.backend_tokenizer.post_processor = TemplateProcessing(
        single=f"{bos} $A" if begins else "$A",
        special_tokens=[(bos, tokenizer.bos_token_id)] if begins else [],
    )
    return twin


def _numbers(
    model: nn.Module, report: Report, dtype: torch.dtype
) -> Iterator[tuple[str, Tensor]]:
    """All that is stored as plain numbers, what is shared once: biases, embeddings."""
    modules = dict(model.named_modules())
    for name, quantized in report.items():
        layer, (out, width) = modules.get(name), quantized.codes.shape
        is_linear = isinstance(layer, LINEAR)
        if not is_linear or (layer.out_features, layer.in_features) != (out, width):
            raise ValueError(
                f"report has {name} {(out, width)}, but there the model has {layer}; "
                "give the report of this model (adapters merged, no Conv1D)"
            )
    tied = getattr(model, "all_tied_weights_keys", None) or {}
    for name, tensor in model.state_dict().items():
        layer, _, part = name.rpartition(".")
        if name in tied or (layer in report and part != "bias"):
            continue
        cast = tensor.to(dtype) if tensor.is_floating_point() else tensor
        if not cast.isfinite().all():
            raise ValueError(
                f"model has {name} with numbers up to {tensor.abs().max():g}, which "
                f"{dtype} does not hold; take dtype=torch.bfloat16"
            )
        yield name, cast.clone(memory_format=torch.contiguous_format)
