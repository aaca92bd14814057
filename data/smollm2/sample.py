"""Sample English from SmolLM2 itself, to calibrate on and to measure on.

    python data/smollm2/sample.py               # writes sampled.txt; about ten minutes

Everybody needs the same text, and no text of others is part of this repository. So the
model writes it, token by token, each drawn from its own probabilities at temperature 1.
Each of the STARTS below begins BATCH texts. A text may not end by itself (special
tokens are left out of the draw), and one with an address of the web is thrown away.

The text is kept, because another machine rounds differently and would soon draw another
token. It reads like a dream, since every improbable word is drawn now and then. But on
this text the float model is the truth: what a quantized model loses on it, in nats per
token, is on average its KL from the float model.

A document ends after the first word, from the 150th on, with which its fingerprint
falls into the split that is wanted (`almanac.split_of`): half of the documents are for
calibration, half for tests. Lines are stripped at their ends, and blank lines in a row
become one. `documents_from(path, split="test", words=150)` reads the documents back.
"""

import re
from pathlib import Path
from typing import Any

import torch
from torch import nn

from minquant import almanac
from minquant.models.load import load
from minquant.models.text import encode_prompt

PATH = Path(__file__).with_name("sampled.txt")
EACH = 80  # documents of each split
WORDS = 150  # of a document, at least
BATCH, NEW = 16, 300  # texts written together, and tokens of each
ADDRESS = re.compile(r"https?:|www\.|\w@\w", re.IGNORECASE)
STARTS = (
    *("", "The river begins in the hills and", "In the morning the children"),
    *("To make a loaf of bread, you", "", "A good teacher knows that"),
    *("One of the oldest trees in", "The history of the bicycle", ""),
    *("When water freezes, it", "She opened the door and", "Most birds build their"),
    *(
        "Question: Why is the sky",
        "The train to the coast leaves",
        "A letter to a friend:",
    ),
)


@torch.no_grad()
def write(
    model: nn.Module, tokenizer: Any, start: str, generator: torch.Generator
) -> list[str]:
    """BATCH texts with this beginning."""
    ids = torch.tensor([encode_prompt(tokenizer, start)]).repeat(BATCH, 1)
    banned = torch.tensor(tokenizer.all_special_ids)
    unread, cache = ids, None
    for _ in range(NEW):
        out = model(
            input_ids=unread, past_key_values=cache, use_cache=True, logits_to_keep=1
        )
        logits, cache = out.logits[:, -1], out.past_key_values
        logits = logits.index_fill(1, banned, -torch.inf)
        unread = torch.multinomial(logits.softmax(-1), 1, generator=generator)
        ids = torch.cat([ids, unread], 1)
    return tokenizer.batch_decode(ids, skip_special_tokens=True)


def document(text: str, wanted: set[str]) -> str | None:
    """The shortest beginning of a text that is a document of a split that is wanted.

    Its paragraphs before the last one have fewer than WORDS words, as otherwise
    `documents_from` would end it there.
    """
    lines = "\n".join(line.rstrip() for line in text.splitlines())
    text = "\n\n".join(p.strip("\n") for p in lines.split("\n\n") if p.strip())
    for number, word in enumerate(re.finditer(r"\S+", text), 1):
        if number < WORDS:
            continue
        beginning = text[: word.end()]
        before_last = beginning.rpartition("\n\n")[0]
        if len(before_last.split()) >= WORDS:
            return None
        if almanac.split_of(beginning) in wanted:
            return beginning
    return None


def main() -> None:
    """Write sampled.txt, the documents of the two splits in turn."""
    model, tokenizer = load("smollm2")
    kept: dict[str, list[str]] = {"calibration": [], "test": []}
    for seed, start in enumerate(STARTS):
        generator = torch.Generator().manual_seed(seed)
        for text in write(model, tokenizer, start, generator):
            wanted = {split for split, texts in kept.items() if len(texts) < EACH}
            found = None if ADDRESS.search(text) else document(text, wanted)
            if found:
                kept[almanac.split_of(found)].append(found)
        print(f"{start!r}: {[len(texts) for texts in kept.values()]}", flush=True)
    few = {split: len(texts) for split, texts in kept.items() if len(texts) < EACH}
    if few:
        raise RuntimeError(f"not enough documents: {few} of {EACH}; add to STARTS")
    in_turn = [text for pair in zip(*kept.values(), strict=True) for text in pair]
    PATH.write_text("\n\n".join(in_turn) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
