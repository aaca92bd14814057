"""A language model from a GGUF file, with its tokenizer, as transformers knows it.

    model, tokenizer = load_gguf("model.gguf")

A GGUF file holds all that is needed: settings from which a config is made, tensors
under llama.cpp's names, and the tokenizer's tokens and merges.

    GGUF                     transformers
    token_embd               model.embed_tokens
    blk.3.attn_norm          model.layers.3.input_layernorm
    blk.3.attn_q             model.layers.3.self_attn.q_proj     (k, v, output: o)
    blk.3.ffn_norm           model.layers.3.post_attention_layernorm
    blk.3.ffn_gate           model.layers.3.mlp.gate_proj        (up, down)
    output_norm              model.norm
    output                   lm_head; if it is missing, the embeddings serve as output

In Llama files the rows of q and k are in another order. Rotary embeddings turn pairs of
a head's numbers; transformers pairs number i with i + d/2, llama.cpp i with i + 1 (i
even). `to_llama_cpp` reorders the rows of a head accordingly, `from_llama_cpp` goes
back. Qwen's files keep transformers' order.

Read are the architectures in ARCHITECTURES, with tokenizers of the byte-pair kind.
Others are refused by name.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Shaped
from torch import Tensor, nn

from minquant.files.gguf import Gguf, read
from minquant.models.stored import put_

_BLOCK = {  # within a block of every architecture here
    "attn_norm": "input_layernorm",
    "attn_q": "self_attn.q_proj",
    "attn_k": "self_attn.k_proj",
    "attn_v": "self_attn.v_proj",
    "attn_output": "self_attn.o_proj",
    "ffn_norm": "post_attention_layernorm",
    "ffn_gate": "mlp.gate_proj",
    "ffn_up": "mlp.up_proj",
    "ffn_down": "mlp.down_proj",
}
_AROUND = {
    "token_embd": "model.embed_tokens",
    "output_norm": "model.norm",
    "output": "lm_head",
}


@dataclass(frozen=True)
class Architecture:
    """How a family of models is called in both worlds.

    config: the name of its class in transformers. more: names within a block that only
    this family has. reordered: whether q and k have llama.cpp's order of rows.
    """

    config: str
    more: Mapping[str, str] = field(default_factory=dict)
    reordered: bool = False


ARCHITECTURES = {
    "llama": Architecture("LlamaConfig", reordered=True),
    "qwen2": Architecture("Qwen2Config"),
    "qwen3": Architecture(
        "Qwen3Config",
        {"attn_q_norm": "self_attn.q_norm", "attn_k_norm": "self_attn.k_norm"},
    ),
}


def load_gguf(
    path: str | Path, dtype: torch.dtype = torch.float32
) -> tuple[nn.Module, Any]:
    """The model and the tokenizer of a GGUF file; weights dequantized, in this dtype.

    Raises ValueError if the file is not sound (`files.gguf.read`), or holds an
    architecture, a tokenizer or a tensor that is not known here, or lacks one.
    """
    file = read(path)
    architecture_of(file)  # the first thing to say of a file that is not for us
    tokenizer = tokenizer_of(file)
    return model_of(file, dtype, path), tokenizer


def model_of(
    file: Gguf, dtype: torch.dtype = torch.float32, path: str | Path = "the file"
) -> nn.Module:
    """The model of a file that has been read; path: what messages call it.

    Raises ValueError as `load_gguf` does.
    """
    from transformers import AutoModelForCausalLM

    architecture = architecture_of(file)
    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(config_of(file), dtype=dtype)
    wanted = model.state_dict()
    tied = set(getattr(model, "all_tied_weights_keys", None) or {})
    found = {}
    for name, tensor in file.tensors.items():
        ours = transformers_name(name, file)
        if ours not in wanted or wanted[ours].shape != tensor.shape:
            there = tuple(wanted[ours].shape) if ours in wanted else "no such tensor"
            raise ValueError(
                f"{path} has {name} {tensor.shape}, and the model it describes has "
                f"{there}; the settings and the tensors do not fit"
            )
        W = tensor.dequantize()
        if architecture.reordered and (heads := reordered_heads(ours, model.config)):
            W = from_llama_cpp(W, heads)
        found[ours] = W.to(dtype)
    if missing := [name for name in wanted if name not in found and name not in tied]:
        raise ValueError(
            f"{path} lacks {len(missing)} tensors of the model it describes, the first "
            f"{missing[0]}; the file is incomplete"
        )
    put_(model, found, {})
    return model.eval().requires_grad_(False)


def architecture_of(file: Gguf) -> Architecture:
    """The architecture of a file. Raises ValueError if it is not among those known."""
    name = file.settings.get("general.architecture")
    if name not in ARCHITECTURES:
        raise ValueError(
            f"general.architecture is {name!r}; known are {', '.join(ARCHITECTURES)}"
        )
    return ARCHITECTURES[name]


def config_of(file: Gguf) -> Any:
    """The config of transformers that a file's settings describe."""
    import transformers

    architecture, settings = architecture_of(file), file.settings
    kind = settings["general.architecture"]

    def setting(name: str, default: Any = None) -> Any:
        """A setting of the architecture as a Python number."""
        value = settings.get(f"{kind}.{name}", default)
        if value is None:
            raise ValueError(f"the file has no setting {kind}.{name}")
        return value.item() if hasattr(value, "item") else value

    if f"{kind}.rope.scaling.type" in settings or "rope_freqs.weight" in file.tensors:
        raise ValueError(
            "the file scales its rotary embeddings (rope.scaling, rope_freqs), which "
            "is not known here; take a model without, or the original from the hub"
        )
    heads, width = setting("attention.head_count"), setting("embedding_length")
    ids = {
        f"{name}_token_id": settings.get(f"tokenizer.ggml.{stored}_token_id")
        for name, stored in (("bos", "bos"), ("eos", "eos"), ("pad", "padding"))
    }
    return getattr(transformers, architecture.config)(
        vocab_size=file.tensors["token_embd.weight"].shape[0],
        hidden_size=width,
        intermediate_size=setting("feed_forward_length"),
        num_hidden_layers=setting("block_count"),
        num_attention_heads=heads,
        num_key_value_heads=setting("attention.head_count_kv", heads),
        head_dim=setting("attention.key_length", width // heads),
        rms_norm_eps=setting("attention.layer_norm_rms_epsilon"),
        max_position_embeddings=setting("context_length"),
        rope_parameters={
            "rope_type": "default",
            "rope_theta": setting("rope.freq_base", 10000.0),
        },
        tie_word_embeddings="output.weight" not in file.tensors,
        **{name: None if i is None else int(i) for name, i in ids.items()},
    )


def transformers_name(name: str, file: Gguf) -> str:
    """The name in transformers of a tensor of a file, `…weight` or `…bias`.

    Raises ValueError for a name that is not known.
    """
    inside = {**_BLOCK, **architecture_of(file).more}
    if match := re.fullmatch(r"blk\.(\d+)\.(\w+)\.(weight|bias)", name):
        number, part, kind = match.groups()
        if part in inside:
            return f"model.layers.{number}.{inside[part]}.{kind}"
    match = re.fullmatch(r"(\w+)\.(weight|bias)", name)
    if match and match[1] in _AROUND:
        return f"{_AROUND[match[1]]}.{match[2]}"
    raise ValueError(f"the file has the tensor {name!r}, which is not known here")


def gguf_name(name: str, architecture: Architecture) -> str:
    """The way back from `transformers_name`. Raises ValueError if there is none."""
    stem, _, kind = name.rpartition(".")
    around = {ours: theirs for theirs, ours in _AROUND.items()}
    if stem in around:
        return f"{around[stem]}.{kind}"
    inside = {o: theirs for theirs, o in {**_BLOCK, **architecture.more}.items()}
    match = re.fullmatch(r"model\.layers\.(\d+)\.(.+)", stem)
    if match and match[2] in inside:
        return f"blk.{match[1]}.{inside[match[2]]}.{kind}"
    raise ValueError(f"the model has {name!r}, for which GGUF has no name here")


def to_llama_cpp(
    rows: Shaped[Tensor, "out ..."], heads: int
) -> Shaped[Tensor, "out ..."]:
    """Rows of q or k in llama.cpp's order: a head's first half and second, alternating.

    rows: weights, or anything that has one row per output, such as codes or scales.

    >>> to_llama_cpp(torch.tensor([0, 1, 2, 3]), heads=1)
    tensor([0, 2, 1, 3])
    """
    halves = rows.unflatten(0, (heads, 2, -1))  # (heads, 2, d / 2, …)
    return halves.transpose(1, 2).reshape(rows.shape)


def from_llama_cpp(
    rows: Shaped[Tensor, "out ..."], heads: int
) -> Shaped[Tensor, "out ..."]:
    """The way back from `to_llama_cpp`."""
    pairs = rows.unflatten(0, (heads, -1, 2))  # (heads, d / 2, 2, …)
    return pairs.transpose(1, 2).reshape(rows.shape)


def reordered_heads(name: str, config: Any) -> int:
    """How many heads the rows of this layer have, if they are q's or k's; else 0."""
    if ".q_proj." in name:
        return config.num_attention_heads
    return config.num_key_value_heads if ".k_proj." in name else 0


# --- the tokenizer ---

_WORDS = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+"
_REST = r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
_DIGITS = {"qwen2": r"|\p{N}", "llama-bpe": r"|\p{N}{1,3}"}
_CONTROL, _USER = 3, 4  # kinds of tokens that are never cut


def tokenizer_of(file: Gguf) -> Any:
    """The tokenizer of a file, as transformers' fast tokenizer.

    Raises ValueError for another kind than byte pairs ("gpt2"), or an unknown way of
    cutting text into words.
    """
    from tokenizers import AddedToken, Tokenizer, decoders, models
    from transformers import PreTrainedTokenizerFast

    settings = file.settings
    kind = settings.get("tokenizer.ggml.model")
    if kind != "gpt2":
        raise ValueError(
            f"tokenizer.ggml.model is {kind!r}; only byte-pair tokenizers ('gpt2') are "
            "read"
        )
    tokens = settings["tokenizer.ggml.tokens"]
    merges = [tuple(merge.split(" ")) for merge in settings["tokenizer.ggml.merges"]]
    bpe = models.BPE(dict(zip(tokens, range(len(tokens)), strict=True)), merges)
    inner = Tokenizer(bpe)
    inner.pre_tokenizer = word_cutter(settings.get("tokenizer.ggml.pre", "gpt-2"))
    inner.decoder = decoders.ByteLevel()
    kinds = settings["tokenizer.ggml.token_type"].tolist()
    whole = [(token, k) for token, k in zip(tokens, kinds, strict=True) if k in (3, 4)]
    inner.add_tokens([AddedToken(t, normalized=False) for t, k in whole if k == _USER])
    inner.add_special_tokens(
        [
            AddedToken(t, normalized=False, special=True)
            for t, k in whole
            if k == _CONTROL
        ]
    )
    named = {}
    for ours, theirs in (
        ("bos", "bos"),
        ("eos", "eos"),
        ("unk", "unknown"),
        ("pad", "padding"),
    ):
        number = settings.get(f"tokenizer.ggml.{theirs}_token_id")
        if number is not None:
            named[f"{ours}_token"] = tokens[int(number)]
    made = PreTrainedTokenizerFast(
        tokenizer_object=inner, clean_up_tokenization_spaces=False, **named
    )
    made.chat_template = settings.get("tokenizer.chat_template")
    return made


def word_cutter(name: str) -> Any:
    """How text is cut into words before pairs are merged, by llama.cpp's name of it."""
    from tokenizers import Regex
    from tokenizers.pre_tokenizers import ByteLevel, Digits, Sequence, Split

    plain = ByteLevel(add_prefix_space=False)
    if name in ("gpt-2", "default"):
        return plain
    if name in ("smollm", "starcoder", "refact"):
        return Sequence([Digits(individual_digits=True), plain])
    if name in _DIGITS:
        words = Split(Regex(_WORDS + _DIGITS[name] + _REST), behavior="isolated")
        return Sequence([words, ByteLevel(add_prefix_space=False, use_regex=False)])
    raise ValueError(
        f"tokenizer.ggml.pre is {name!r}, a way of cutting words that is not known here"
    )


def word_cutter_name(parts: dict[str, Any]) -> str:
    """llama.cpp's name for a way of cutting words. parts: `pre_tokenizer` of a fast
    tokenizer's file.

    Raises ValueError if it is none of those known here.
    """
    steps = parts.get("pretokenizers", [parts]) if parts else []
    kinds = [step["type"] for step in steps]
    if kinds == ["ByteLevel"]:
        return "gpt-2"
    if kinds == ["Digits", "ByteLevel"] and steps[0]["individual_digits"]:
        return "smollm"
    if kinds == ["Split", "ByteLevel"]:
        regex = steps[0]["pattern"].get("Regex")
        for name, digits in _DIGITS.items():
            if regex == _WORDS + digits + _REST:
                return name
    raise ValueError(
        f"tokenizer cuts words by {kinds}, for which llama.cpp has no name here; known "
        f"are those of GPT-2, SmolLM, Qwen and Llama 3"
    )
