"""Small models that can be GGUF files: byte-pair tokenizers, widths of whole blocks."""

import functools

import transformers
from tokenizers import Tokenizer, decoders, models, trainers

from helpers import tiny
from minquant.models.gguf_model import word_cutter

TEXT = (
    "Rivers carry water from the mountains to the sea. In 1987 the old bridge fell, "
    "and 24 people built a new one; it's still there. They don't say who paid."
)


@functools.cache
def tokenizer(cutter="smollm"):
    """A byte-pair tokenizer that cuts words in this way, trained on TEXT."""
    inner = Tokenizer(models.BPE())
    inner.pre_tokenizer = word_cutter(cutter)
    inner.decoder = decoders.ByteLevel()
    inner.train_from_iterator(
        [TEXT],
        trainers.BpeTrainer(
            vocab_size=320,
            special_tokens=["<|end|>", "<|start|>"],
            initial_alphabet=sorted(_letters()),
            show_progress=False,
        ),
    )
    made = transformers.PreTrainedTokenizerFast(
        tokenizer_object=inner,
        bos_token="<|start|>",
        eos_token="<|end|>",
        clean_up_tokenization_spaces=False,
    )
    made.chat_template = "{% for m in messages %}{{ m.content }}{% endfor %}"
    return made


def _letters():
    from tokenizers.pre_tokenizers import ByteLevel

    return ByteLevel.alphabet()


def model(kind="Llama", **changes):
    """A random model whose matrices have rows of 64 and 96 weights."""
    size = {
        "vocab_size": len(tokenizer()),
        "hidden_size": 64,
        "intermediate_size": 96,
        "head_dim": 32,
        "num_attention_heads": 2,
        "num_key_value_heads": 1,
        "bos_token_id": tokenizer().bos_token_id,
        "eos_token_id": tokenizer().eos_token_id,
        "pad_token_id": None,
    }
    if kind == "Qwen2":
        size.pop("head_dim")
    return tiny.model(kind, **{**size, **changes})
