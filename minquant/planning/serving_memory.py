"""How much memory a model takes while it answers: from its shapes, before a download.

    matrices of the decoder layers    bits per weight, with scales and zeros, / 8
    embeddings, norms, lm_head        2 bytes a number: they are not quantized here
    KV cache, for each token          2 · layers · kv_heads · head_size · bits / 8

Each token leaves a key and a value in every layer, so that the next token need not read
the text again (Kwon et al. 2023, section 2). The tokens of all conversations that are
going on count. Where several query heads share one key and value (grouped-query
attention, Ainslie et al. 2023) there are fewer kv_heads than heads, and the cache
shrinks with them. It does not shrink when weights are quantized, so with long contexts
it is most of what is left.

What is left out: the working memory of a forward pass, and what an engine and a driver
keep for themselves. Leave a share of the card free for these. `roofline.CARDS` has the
memory of some cards as sold; `torch.cuda.mem_get_info()` says how much yours has free.
A model with a sliding window forgets old tokens, so its cache is smaller than what is
counted here.

`budget` does the same for fine-tuning. Lesson 12 plans with both.
"""

from dataclasses import dataclass
from math import ceil
from typing import NamedTuple

from torch import nn

HALF = 2  # bytes of a number of 16 bits


def cache_bytes(
    layers: int, kv_heads: int, head_size: int, tokens: int, bits: float = 16
) -> int:
    """Bytes of the keys and values of so many tokens, rounded up.

    bits: of each number of the cache. Raises ValueError if a size is below 1, tokens
    are below 0, or bits are not above 0.

    >>> cache_bytes(32, 32, 128, 1)  # Llama-2-7B: half a megabyte a token
    524288
    >>> cache_bytes(32, 8, 128, 1)  # Llama-3.1-8B, four query heads to a key
    131072
    """
    sizes = {"layers": layers, "kv_heads": kv_heads, "head_size": head_size}
    for name, size in sizes.items():
        if size < 1:
            raise ValueError(f"{name} is {size}; give 1 or more")
    if tokens < 0 or not bits > 0:
        raise ValueError(
            f"tokens is {tokens}, bits is {bits}; give 0 or more tokens, and bits "
            "such as 16, 8 or 4"
        )
    numbers = 2 * layers * kv_heads * head_size * tokens  # keys and values
    return ceil(numbers * bits / 8)


@dataclass(frozen=True)
class Architecture:
    """The sizes of a Llama, or of a model built like one (Qwen2, Mistral).

    width: of the residual stream. inner: of the MLP. tied: lm_head and the embedding
    are one matrix. biases: q, k and v have biases, as in Qwen2.
    """

    layers: int
    width: int
    inner: int
    heads: int
    kv_heads: int
    head_size: int
    vocabulary: int
    tied: bool = False
    biases: bool = False

    @property
    def matrices(self) -> int:
        """Weights in the matrices of the decoder layers: these are quantized."""
        attention = 2 * self.width * self.head_size * (self.heads + self.kv_heads)
        return self.layers * (attention + 3 * self.width * self.inner)

    @property
    def rest(self) -> int:
        """Other numbers: embeddings, norms, biases, lm_head."""
        tables = (1 if self.tied else 2) * self.vocabulary * self.width
        biases = self.head_size * (self.heads + 2 * self.kv_heads) * self.biases
        return tables + (2 * self.layers + 1) * self.width + self.layers * biases

    @classmethod
    def of(cls, model: nn.Module) -> "Architecture":
        """The sizes in a model's config, checked against the model's parameters.

        Raises ValueError if the model is not built like a Llama, is packed (then its
        parameters are not its weights), or has a sliding window (then its cache does
        not grow).
        """
        try:
            config = model.config
            heads = config.num_attention_heads
            head_size = getattr(config, "head_dim", None) or config.hidden_size // heads
            architecture = cls(
                layers=config.num_hidden_layers,
                width=config.hidden_size,
                inner=config.intermediate_size,
                heads=heads,
                kv_heads=config.num_key_value_heads,
                head_size=head_size,
                vocabulary=config.vocab_size,
                tied=config.tie_word_embeddings,
                biases=config.model_type == "qwen2",
            )
        except AttributeError as problem:
            raise ValueError(
                f"model is a {type(model).__name__}, whose config lacks what a Llama "
                f"has ({problem}); give the sizes to Architecture yourself"
            ) from problem
        counted = sum(p.numel() for p in model.parameters())
        if (expected := architecture.matrices + architecture.rest) != counted:
            raise ValueError(
                f"model has {counted:,} numbers, and a Llama of its sizes "
                f"{expected:,}; give the sizes of one built like it"
            )
        if window := getattr(config, "sliding_window", None):
            raise ValueError(
                f"model forgets what is {window} tokens back, so its cache is smaller; "
                "give the sizes to Architecture yourself, and few enough tokens"
            )
        return architecture


# fmt: off
MODELS: dict[str, Architecture] = {
    #                            layers width  inner heads kv size vocabulary
    "Qwen2.5-0.5B": Architecture(24,   896,  4864, 14,  2,  64, 151936, True, True),
    "Llama-3.2-1B": Architecture(16,  2048,  8192, 32,  8,  64, 128256, True),
    "Llama-3.2-3B": Architecture(28,  3072,  8192, 24,  8, 128, 128256, True),
    "Qwen2.5-7B":   Architecture(28,  3584, 18944, 28,  4, 128, 152064, False, True),
    "Llama-2-7B":   Architecture(32,  4096, 11008, 32, 32, 128,  32000),
    "Llama-3.1-8B": Architecture(32,  4096, 14336, 32,  8, 128, 128256),
    "Qwen2.5-32B":  Architecture(64,  5120, 27648, 40,  8, 128, 152064, False, True),
    "Llama-2-70B":  Architecture(80,  8192, 28672, 64,  8, 128,  32000),
    "Llama-3.1-70B": Architecture(80, 8192, 28672, 64,  8, 128, 128256),
}
# fmt: on


class Need(NamedTuple):
    """Bytes of the quantized matrices, of the rest of the model, and of the cache."""

    matrices: int
    rest: int
    cache: int

    @property
    def total(self) -> int:
        """All three together."""
        return sum(self)


def need(
    architecture: Architecture,
    *,
    bits_per_weight: float = 16,
    tokens: int = 0,
    cache_bits: float = 16,
) -> Need:
    """The memory that a model takes with so many tokens in its cache.

    bits_per_weight: of the matrices, with scales and zeros: 4.125 for codes of 4 bits
    with a scale of 16 bits for each 128. tokens: of all conversations together.
    cache_bits: of each number of the cache.

    Raises ValueError if bits_per_weight is not above 0, and as `cache_bytes` does.

    >>> need(MODELS["Llama-3.1-8B"], bits_per_weight=4.125, tokens=1000)
    Need(matrices=3598712832, rest=2101878784, cache=131072000)
    """
    if not bits_per_weight > 0:
        raise ValueError(f"bits_per_weight is {bits_per_weight}; give 16, 4.125, ...")
    a = architecture
    return Need(
        round(a.matrices * bits_per_weight / 8),
        HALF * a.rest,
        cache_bytes(a.layers, a.kv_heads, a.head_size, tokens, cache_bits),
    )


def tokens_that_fit(
    architecture: Architecture,
    memory: int,
    *,
    bits_per_weight: float = 16,
    cache_bits: float = 16,
) -> int:
    """How many tokens fit into `memory` bytes beside the weights.

    0 if the weights alone do not fit. Raises ValueError as `need` does.

    >>> tokens_that_fit(MODELS["Llama-3.1-8B"], 16 * 10**9)
    0
    """
    options = {"bits_per_weight": bits_per_weight, "cache_bits": cache_bits}
    free = memory - need(architecture, **options).total
    a_thousand = need(architecture, tokens=1000, **options).cache
    return max(0, int(free * 1000 // a_thousand))
