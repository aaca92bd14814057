"""Open a language model and its tokenizer: the bundled one, a folder, or the hub's.

    model, tokenizer = load()                         # the bundled model
    model, tokenizer = load("folder/of/a/model")      # in Hugging Face's format
    model, tokenizer = load("Qwen/Qwen2.5-0.5B")      # from the hub, by its id

Only safetensors are read. A pickle can run any code when it is opened, and a model can
bring code of its own: neither is opened or run here. transformers is imported when
`load` is called, not before, since the import takes a second or two. Lesson 00.
"""

from pathlib import Path
from typing import Any

import torch
from torch import nn

from minquant import almanac


def load(
    name: str | Path = "almanac",
    *,
    device: str | torch.device = "cpu",
    dtype: torch.dtype = torch.float32,
) -> tuple[nn.Module, Any]:
    """A language model and its tokenizer, ready to evaluate: no dropout, no gradients.

    name: 'almanac' is the bundled model; else a local folder in Hugging Face format;
    else a model on the hub, such as 'Qwen/Qwen2.5-0.5B'. Only safetensors are read, and
    no code or pickle that comes with a model is run.

    Raises ValueError if there is no such model, or the hub cannot be reached.
    """
    from huggingface_hub import constants
    from transformers import AutoModelForCausalLM, AutoTokenizer

    place = almanac.DIRECTORY if name == "almanac" else name
    safe = {"trust_remote_code": False}
    try:
        tokenizer = AutoTokenizer.from_pretrained(place, **safe)
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
