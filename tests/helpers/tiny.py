"""Small random models and a word tokenizer, made on the spot: nothing is downloaded."""

import functools

import torch
import transformers
from tokenizers import Regex, Tokenizer, models, pre_tokenizers, processors
from torch import nn

from minquant.models.linear_layers import linear_layers
from minquant.models.quantize import quantize_
from minquant.models.text import calibration_batches

WORDS = "a b c d e f g h i j k l m n o p q r s t u v w x y z . ,".split()


def tokenizer(words=WORDS, *, ends=True):
    """One token per word; BOS and EOS around a text (only BOS if not `ends`)."""
    vocabulary = ["<pad>", "<bos>", "<eos>", "<unk>", *words]
    inner = Tokenizer(
        models.WordLevel({w: i for i, w in enumerate(vocabulary)}, unk_token="<unk>")
    )
    stops = pre_tokenizers.Split(Regex("[.,?:]"), "isolated")
    inner.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.WhitespaceSplit(), stops]
    )
    inner.post_processor = processors.TemplateProcessing(
        single="<bos> $A <eos>" if ends else "<bos> $A",
        special_tokens=[("<bos>", 1), ("<eos>", 2)],
    )
    return transformers.PreTrainedTokenizerFast(
        tokenizer_object=inner,
        bos_token="<bos>",
        eos_token="<eos>",
        pad_token="<pad>",
        unk_token="<unk>",
    )


SIZE = {
    "vocab_size": 4 + len(WORDS),
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 64,
    "pad_token_id": 0,
    "bos_token_id": 1,
    "eos_token_id": 2,
}
GPT2 = {
    "vocab_size": 32,
    "n_embd": 32,
    "n_layer": 2,
    "n_head": 4,
    "n_positions": 64,
    "bos_token_id": 1,
    "eos_token_id": 2,
}
OPT = {"ffn_dim": 48, "word_embed_proj_dim": 32, "tie_word_embeddings": True}
SLIDING = {"head_dim": 8, "sliding_window": 8}
CONFIGS = {
    "Llama": SIZE,
    "Qwen2": SIZE,
    "Qwen3": {**SIZE, "head_dim": 8},
    "Mistral": {**SIZE, "head_dim": 8, "sliding_window": None},
    "Gemma": {**SIZE, "head_dim": 8},
    "Gemma2": {**SIZE, **SLIDING},
    "Gemma3Text": {
        **SIZE,
        **SLIDING,
        "layer_types": ["sliding_attention", "full_attention"],
    },
    "Phi": {**SIZE, "num_key_value_heads": 4},
    "OPT": {**SIZE, **OPT},
    "GPT2": GPT2,
}
MOE = {"num_experts_per_tok": 2, "num_experts": 4}
LOCAL = {"num_experts_per_tok": 2, "num_local_experts": 4}
MLA = {  # the attention of DeepSeek
    "num_key_value_heads": 4,
    "q_lora_rank": 16,
    "kv_lora_rank": 16,
    "qk_rope_head_dim": 8,
    "qk_nope_head_dim": 8,
    "v_head_dim": 8,
}
MIXTURES = {  # of 4 experts, 2 for each token
    "Mixtral": {**SIZE, **LOCAL},
    "Qwen2Moe": {
        **SIZE,
        **MOE,
        "moe_intermediate_size": 24,
        "shared_expert_intermediate_size": 48,
    },
    "Qwen3Moe": {**SIZE, **MOE, "head_dim": 8, "moe_intermediate_size": 48},
    "Olmoe": {**SIZE, **MOE},
    "GptOss": {
        **SIZE,
        **LOCAL,
        **SLIDING,
        "layer_types": ["sliding_attention", "full_attention"],
        "rope_parameters": {"rope_type": "default", "rope_theta": 10000.0},
    },
    "DeepseekV3": {
        **SIZE,
        **MLA,
        "num_experts_per_tok": 2,
        "n_routed_experts": 4,
        "n_group": 2,
        "topk_group": 1,
        "moe_intermediate_size": 24,
        "first_k_dense_replace": 1,
    },
}
LINEAR_PER_LAYER = {"Phi": 6, "OPT": 6, "GPT2": 4}  # the others: q k v o gate up down


def model(kind="Llama", *, seed=0, dtype=torch.float32, **changes):
    """A random model of a family, ready to evaluate; those in `CONFIGS` and `MIXTURES`
    have their own sizes."""
    settings = {**CONFIGS, **MIXTURES}.get(kind, SIZE)
    config = getattr(transformers, f"{kind}Config")(**{**settings, **changes})
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        made = transformers.AutoModelForCausalLM.from_config(config, dtype=dtype)
        for weight in made.parameters():  # large enough that predictions differ
            if weight.ndim > 1:
                nn.init.normal_(weight, std=0.25)
    return made.eval().requires_grad_(False)


def inputs_of(network, name, batches):
    """What flows into the module of that name while the batches are read: X (n, in)."""
    seen = []
    hook = network.get_submodule(name).register_forward_pre_hook(
        lambda _, given: seen.append(given[0].flatten(0, -2))
    )
    for ids in batches:
        network(input_ids=ids)
    hook.remove()
    return torch.cat(seen)


def quantized(method, name, documents, batch):
    """The report of a Llama whose every layer now holds what its codes stand for; and
    of the layer of that name X and W, as they were before.
    """
    batches = calibration_batches(
        tokenizer(), texts_of("calibration", documents), batch=batch
    )
    network, before = model(), model()
    report = quantize_(network, method, calibration=batches, progress=False)
    layers = linear_layers(network)
    assert list(report) == list(layers)
    for other, layer in layers.items():
        assert torch.equal(layer.weight, report[other].dequantize())
    W = linear_layers(before)[name].weight
    return report, inputs_of(before, name, batches), W


class Fixed(nn.Module):
    """Says the same of every token, whatever came before: `scores`, one per word."""

    def __init__(self, scores):
        super().__init__()
        self.scores = nn.Parameter(scores, requires_grad=False)
        self.config = transformers.LlamaConfig(**SIZE)
        self.eval()

    def forward(self, input_ids, **_):
        logits = self.scores.expand(*input_ids.shape, -1)
        return transformers.modeling_outputs.CausalLMOutputWithPast(logits=logits)


class Scripted(nn.Module):
    """Goes on after each word as `next_of` says, word by word; ids in, logits out."""

    def __init__(self, next_of, words=WORDS):
        super().__init__()
        ids = tokenizer(words).get_vocab()
        table = torch.zeros(len(ids), len(ids))
        for word, then in next_of.items():
            table[ids[word], ids[then]] = 1.0
        self.table = nn.Parameter(table, requires_grad=False)
        self.config = transformers.LlamaConfig(**SIZE)
        self.eval()

    def forward(self, input_ids, **_):
        return transformers.modeling_outputs.CausalLMOutputWithPast(
            logits=self.table[input_ids]
        )


@functools.cache
def texts_of(split, n, words=12):
    """The first n random texts over WORDS that belong to a split, half to twice
    `words` long."""
    from minquant import almanac

    found, generator = [], torch.Generator().manual_seed(1)
    while len(found) < n:
        length = int(torch.randint(words // 2, 2 * words, (), generator=generator))
        picks = torch.randint(26, (length,), generator=generator).tolist()
        text = " ".join(WORDS[i] for i in picks)
        if almanac.split_of(text) == split:
            found.append(text)
    return found


def inputs_read(network, calibration):
    """What each linear layer reads when the model itself runs, all rows."""
    read = {name: [] for name in linear_layers(network)}
    for name, layer in linear_layers(network).items():
        layer.register_forward_pre_hook(
            lambda _, args, name=name: read[name].append(args[0].flatten(0, -2))
        )
    for ids in calibration:
        network(input_ids=ids)
    return {name: torch.cat(rows) for name, rows in read.items() if rows}
