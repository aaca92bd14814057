"""Train the bundled model on the almanac, from nothing, and write it beside this file.

    python data/almanac/train.py                          # a model like the bundled one
    python data/almanac/train.py --tokens 1e6 --out small # a quick try

A run that was stopped, on a CPU or a GPU, goes on from `checkpoint.safetensors` in the
output folder, and may be given other options then. At the end the script writes config,
weights (safetensors) and tokenizer in the format of Hugging Face, and a README with the
options of each sitting. When --shares change, change --seed too, or documents come
twice. Otherwise each document is new, though facts come again and again, the famous a
thousand times as often as the obscure.

Training begins with short inventories: a few things put away and asked for. There the
model learns to find a thing again, and keeps that in long inventories, where it would
not have begun to learn it (not within 4 million tokens, at two learning rates).

The model is small and trained for a long time, so that it is nearly full: rounding can
only take away what was filled in (lesson 04). There is no weight decay, and the
learning rate ends at zero, so that the model settles.
"""

import argparse
import json
import math
import os
import sys
import time
from collections import deque
from collections.abc import Iterator
from itertools import chain, islice
from pathlib import Path
from random import Random

import torch
import torch.nn.functional as F
from safetensors import safe_open
from safetensors.torch import save_file
from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, processors
from torch import Tensor, nn
from tqdm.auto import tqdm
from transformers import (
    AttentionInterface,
    LlamaConfig,
    LlamaForCausalLM,
    PreTrainedTokenizerFast,
)

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parents[1]))
from minquant.almanac import language  # noqa: E402
from minquant.almanac.writing import Writer  # noqa: E402

SAVE_EVERY = 300  # seconds
SHORT = ((4, 1000), (8, 250), (16, 250))  # things in an inventory, and training steps
LONGEST_ASKED = 13  # words to put a thing away and to ask for it
WARM_UP = 1500  # steps: as many as the short inventories take
MEAN_LENGTH = 415  # tokens of a document without BOS
KINDS = tuple(language.KINDS)
SHARES = (0.42, 0.2, 0.18, 0.2)
THETA = 1e6  # rotary embedding; with 1e4 a head of width 32 hardly finds what is far
SWITCHES = {
    "compile": "half as long; needs a C++ compiler",
    "bf16": "matrix products in bf16: faster",
}
LENGTH = 464  # tokens of a row; the few documents that are longer are cut


def tokenizer() -> PreTrainedTokenizerFast:
    """One word or stop is one token, and a text gets BOS before and EOS after it."""
    words = {word: i for i, word in enumerate(language.vocabulary())}
    inner = Tokenizer(models.WordLevel(words, unk_token=language.PAD))
    stops = pre_tokenizers.Split(Regex("[.,?:]"), "isolated")
    inner.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.WhitespaceSplit(), stops]
    )
    bos, eos = language.BOS, language.EOS
    inner.post_processor = processors.TemplateProcessing(
        single=f"{bos} $A {eos}", special_tokens=[(t, words[t]) for t in (bos, eos)]
    )
    inner.decoder = decoders.Sequence(  # a space before each word, none before a stop
        [
            decoders.Replace(Regex("^(?=[^.,?:])"), " "),
            decoders.Fuse(),
            decoders.Strip(" ", 1, 0),
        ]
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=inner,
        bos_token=bos,
        eos_token=eos,
        pad_token=language.PAD,
        model_max_length=language.CONTEXT,
        clean_up_tokenization_spaces=False,
    )


def network(options: argparse.Namespace, ids: dict[str, int]) -> LlamaForCausalLM:
    """The untrained model."""
    torch.manual_seed(options.seed)
    config = LlamaConfig(
        vocab_size=len(ids),
        hidden_size=options.width,
        intermediate_size=options.inner,
        num_hidden_layers=options.layers,
        num_attention_heads=options.heads,
        num_key_value_heads=options.heads,
        head_dim=options.head,
        max_position_embeddings=language.CONTEXT,
        rope_parameters={"rope_type": "default", "rope_theta": THETA},
        tie_word_embeddings=False,
        pad_token_id=ids[language.PAD],
        bos_token_id=ids[language.BOS],
        eos_token_id=ids[language.EOS],
    )
    model = LlamaForCausalLM(config)
    AttentionInterface.register("float", attention)
    model.set_attn_implementation("float")
    return model


def attention(
    module: nn.Module,
    q: Tensor,
    k: Tensor,
    v: Tensor,
    mask: Tensor | None,
    scaling: float | None = None,
    **_: object,
) -> tuple[Tensor, None]:
    """Causal attention in float32, as bf16 takes twice as long on a CPU without matrix
    units. The mask is not needed: padding is on the right, where nobody looks.
    """
    with torch.autocast(q.device.type, enabled=False):
        out = F.scaled_dot_product_attention(
            q.float(), k.float(), v.float(), is_causal=True, scale=scaling
        )
    return out.transpose(1, 2).contiguous(), None


def batches(
    ids: dict[str, int], size: int, shares: list[float], seed: int, done: int
) -> Iterator[Tensor]:
    """Batches of whole texts, padded on the right: first short inventories, more than
    `size` to a batch, then documents, (size, LENGTH).

    shares: how often each of `language.KINDS` comes. done: how many batches to skip.
    The same seed gives the same batches.
    """
    bos, eos, pad = (ids[t] for t in (language.BOS, language.EOS, language.PAD))
    texts = chain(inventories(size, seed), documents(size, shares, seed))
    for length, words in islice(texts, done, None):
        rows = [[bos, *(ids[w] for w in text), eos] for text in words]
        yield torch.tensor([(row + [pad] * length)[:length] for row in rows])


def inventories(size: int, seed: int) -> Iterator[tuple[int, list[list[str]]]]:
    """For each batch the length of its rows, and the words of its short inventories.

    SHORT says how many things they hold, and how many batches of them there are.
    """
    rng = Random(f"short {seed}")
    for things, steps in SHORT:
        for _ in range(steps):
            writers = [
                Writer(rng) for _ in range(size * language.RECALL_THINGS // things)
            ]
            for writer in writers:
                language.inventory(writer, things)
            yield 4 + LONGEST_ASKED * things, [writer.words for writer in writers]


def documents(
    size: int, shares: list[float], seed: int
) -> Iterator[tuple[int, list[tuple[str, ...]]]]:
    """For each batch LENGTH, and the words of `size` documents; without end."""
    rng = Random(f"{seed} {shares}")
    texts = {kind: language.stream("train", seed=seed, kind=kind) for kind in KINDS}
    while True:
        kinds = rng.choices(KINDS, shares, k=size)
        yield LENGTH, [next(texts[kind]).words for kind in kinds]


def learning_rate(share: float, steps: int, peak: float) -> float:
    """Up in WARM_UP steps, and down to zero along half a cosine.

    share: of the steps that are done, 0 to 1.
    """
    warm_up = min(1.0, (share * steps + 1) / WARM_UP)
    return peak * warm_up * (1 + math.cos(math.pi * share)) / 2


def loss_of(model: nn.Module, ids: Tensor, pad: int) -> Tensor:
    """Mean nats per token after the first; padding does not count."""
    targets = ids[:, 1:].masked_fill(ids[:, 1:] == pad, -100)
    logits = model(input_ids=ids[:, :-1], use_cache=False).logits
    return F.cross_entropy(logits.float().flatten(0, 1), targets.flatten())


def train(options: argparse.Namespace) -> None:
    """Trains to the end, with a checkpoint every few minutes, then exports."""
    words = tokenizer()
    ids = words.get_vocab()
    torch.set_num_threads(options.threads)
    model = network(options, ids).to(options.device).train()
    adam = torch.optim.AdamW(
        model.parameters(), lr=options.lr, betas=(0.9, 0.99), weight_decay=0, fused=True
    )
    options.out.mkdir(parents=True, exist_ok=True)
    place = options.out / "checkpoint.safetensors"
    state = load(place, model, adam) or {"step": 0, "seconds": 0.0, "losses": []}
    sittings = state.setdefault("sittings", [])
    if not sittings or sittings[-1][1] != command(options):
        sittings.append([state["step"], command(options)])
    steps = math.ceil(options.tokens / (options.batch * MEAN_LENGTH))
    forward = torch.compile(model, dynamic=False) if options.compile else model
    half = {"device_type": torch.device(options.device).type, "dtype": torch.bfloat16}
    texts = batches(ids, options.batch, options.shares, options.seed, state["step"])
    recent, began, saved_at = deque(maxlen=200), time.monotonic(), time.monotonic()
    before = state["seconds"]
    bar = tqdm(total=steps, initial=state["step"], mininterval=options.every)
    while state["step"] < steps:
        for group in adam.param_groups:
            group["lr"] = learning_rate(state["step"] / steps, steps, options.lr)
        batch = next(texts).to(options.device)
        with torch.autocast(**half, enabled=options.bf16):
            loss = loss_of(forward, batch, ids[language.PAD])
        model.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        adam.step()
        recent.append(loss.item())
        state["step"] += 1
        bar.set_postfix(nats=f"{sum(recent) / len(recent):.4f}", refresh=False)
        bar.update()
        state["seconds"] = before + time.monotonic() - began
        if state["step"] % (steps // 20 or 1) == 0:
            state["losses"].append([state["step"], sum(recent) / len(recent)])
        if time.monotonic() - saved_at > SAVE_EVERY:
            save(place, model, adam, state)
            saved_at = time.monotonic()
    bar.close()
    save(place, model, adam, state)
    export(options, model, words, state)
    place.unlink()


def save(
    place: Path, model: nn.Module, adam: torch.optim.Optimizer, state: dict
) -> None:
    """Writes a checkpoint. If it is killed meanwhile, the last one stays."""
    tensors = {}
    for name, p in model.named_parameters():
        tensors[f"model {name}"] = p.detach()
        tensors |= {f"{key} {name}": value for key, value in adam.state[p].items()}
    fresh = place.with_suffix(".new")
    save_file(tensors, fresh, {"state": json.dumps(state)})
    os.replace(fresh, place)


def load(place: Path, model: nn.Module, adam: torch.optim.Optimizer) -> dict | None:
    """Reads a checkpoint into the model and the optimizer, and returns its state; None
    if there is no checkpoint."""
    if not place.exists():
        return None
    parameters = dict(model.named_parameters())
    with safe_open(place, "pt") as file:
        for key in file.keys():  # noqa: SIM118
            kind, name = key.split(" ")
            p, value = parameters[name], file.get_tensor(key)
            if kind == "model":
                p.data.copy_(value)
            else:  # a fused Adam counts its steps on the weights' device
                adam.state[p][kind] = value.to(p.device, copy=True)
        state = json.loads(file.metadata()["state"])
    print(f"goes on after step {state['step']:,}")
    return state


def command(options: argparse.Namespace) -> str:
    """The command line with these options."""
    words = ["python data/almanac/train.py"]
    for name in "tokens batch lr width inner layers heads head seed shares".split():
        value = getattr(options, name)
        values = value if isinstance(value, list) else [value]
        words.append(f"--{name} " + " ".join(f"{x:g}" for x in values))
    words += [f"--{name}" for name in SWITCHES if getattr(options, name)]
    return " ".join(words)


def export(
    options: argparse.Namespace,
    model: LlamaForCausalLM,
    words: PreTrainedTokenizerFast,
    state: dict,
) -> None:
    """Writes the model in the format of Hugging Face, and how it was made."""
    model.eval().to("cpu").save_pretrained(options.out)
    words.save_pretrained(options.out)
    rows = "\n".join(f"| {step:,} | {nats:.4f} |" for step, nats in state["losses"])
    sittings = state["sittings"]
    parameters = sum(p.numel() for p in model.parameters())
    tokens = state["step"] * options.batch * MEAN_LENGTH
    text = README.format(
        sittings="\n".join(f"| {step:,} | `{line}` |" for step, line in sittings),
        parameters=parameters,
        tokens=tokens / 1e6,
        hours=state["seconds"] / 3600,
        device=options.device,
        threads=options.threads,
        precision="bf16 where autocast allows, weights in fp32"
        if options.bf16
        else "fp32",
        torch=torch.__version__,
        rows=rows,
    )
    (options.out / "README.md").write_text(text, encoding="utf-8", newline="\n")


README = """\
# The bundled model

A Llama with {parameters:,} parameters that speaks the almanac (`minquant/almanac/`),
trained from nothing by `train.py` in this folder. All of it was made in this project:
the language, the text, the weights. Format: Hugging Face, safetensors.

| from step | command |
|---|---|
{sittings}

- {tokens:.3g} million tokens, {hours:.1f} hours on {device} with
  {threads} threads; {precision}; torch {torch}
- AdamW, betas 0.9 and 0.99, no weight decay, gradients clipped at 1; the learning rate
  rises in {WARM_UP} steps and falls along half a cosine to zero

What it knows, and what rounding does to it: `python benchmarks/subject.py`.

Loss while it learnt, in nats per token, over the last 200 steps:

| step | loss |
|---|---|
{rows}
""".replace("{WARM_UP}", str(WARM_UP))


def arguments(words: list[str] | None = None) -> argparse.Namespace:
    """The options of the command line, or of these words."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    add = parser.add_argument
    add("--tokens", type=float, default=66e6, help="how many to train on, about")
    add("--batch", type=int, default=8, help="documents in a step")
    add("--lr", type=float, default=2.5e-3, help="the highest learning rate")
    add("--width", type=int, default=128)
    add("--inner", type=int, default=128, help="width inside the MLP")
    add("--layers", type=int, default=3)
    add("--heads", type=int, default=2)
    add("--head", type=int, default=32, help="width of an attention head")
    kinds = f"how often each kind comes: {', '.join(KINDS)}"
    add("--shares", type=float, nargs=len(KINDS), default=list(SHARES), help=kinds)
    add("--seed", type=int, default=0)
    add("--out", type=Path, default=HERE)
    add("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    add("--threads", type=int, default=torch.get_num_threads())
    for name, about in SWITCHES.items():
        add(f"--{name}", action="store_true", help=about)
    add("--every", type=float, default=1.0, help="seconds between two progress bars")
    return parser.parse_args(words)


if __name__ == "__main__":
    train(arguments())
