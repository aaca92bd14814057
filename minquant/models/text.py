"""Text goes into a model as token ids, and comes out again one token at a time.

    documents_from        your own text file, cut into documents
    encode                documents -> ids, with the special tokens the tokenizer adds
    calibration_batches   documents -> batches without padding, for H and X
    continue_greedily     ids -> the most likely next ids, with a KV cache
    generate              the same for a string, from prompt to continuation
    sample                texts that the model writes itself, drawn token by token

A document is a `str`, or anything with a `.text`, such as `almanac.Document`. Its text
alone decides which split it belongs to (`almanac.split_of`), in the almanac and in your
own file: so no text can serve both to calibrate and to test.

What is left out: sampling from a prompt, and stopping early when every row has ended.
"""

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import torch
from jaxtyping import Int
from torch import Tensor, nn
from tqdm.auto import tqdm

from minquant import almanac


@runtime_checkable
class HasText(Protocol):
    """Anything with a text, such as `almanac.Document`."""

    @property
    def text(self) -> str:
        """The whole text."""


def text_of(document: str | HasText) -> str:
    """The text of a document. Raises TypeError for anything else."""
    text = document if isinstance(document, str) else getattr(document, "text", None)
    if not isinstance(text, str):
        raise TypeError(
            f"documents holds a {type(document).__name__}; give strings, or objects "
            "with a .text such as almanac.documents('test', 100)"
        )
    return text


def texts_of(documents: Sequence[str | HasText]) -> list[str]:
    """The texts of documents.

    Raises TypeError for a single string, which is a sequence of letters, and for what
    holds anything but documents; ValueError if there is none, or one has no words.
    """
    if isinstance(documents, str) or not isinstance(documents, Iterable):
        seen = "one string" if isinstance(documents, str) else type(documents).__name__
        raise TypeError(f"documents is {seen}; give a list of texts, such as [text]")
    texts = [text_of(document) for document in documents]
    if not texts:
        raise ValueError("documents is empty; give at least one")
    for index, text in enumerate(texts):
        if not text.strip():
            raise ValueError(f"documents[{index}] has no words; leave it out")
    return texts


def check_split(documents: Sequence[str | HasText], *, test: bool) -> None:
    """Refuse documents that are not test text (test=True), or that are (test=False).

    Raises ValueError with the index and the split of the first such document; and as
    `texts_of` does.
    """
    for index, text in enumerate(texts_of(documents)):
        split = almanac.split_of(text)
        if (split == "test") == test:
            continue
        use, wanted = ("measure", "test") if test else ("calibrate", "calibration")
        raise ValueError(
            f"documents[{index}] belongs to the {split} split; to {use}, take "
            f"almanac.documents({wanted!r}, n) or documents_from(path, "
            f"split={wanted!r}), or pass held_out=False and know that it may flatter"
        )


def documents_from(
    path: str | Path, *, split: str | None = None, words: int = 300
) -> list[str]:
    """A UTF-8 text file, cut at blank lines into documents of at least `words` words.

    split: None for all documents; or 'train', 'calibration' or 'test' for those of one
    split, which are 14, 1 and 1 of 16 by their fingerprint. The same text always has
    the same split. What is left at the end of the file joins the last document.

    Raises ValueError if the file is missing, not UTF-8, or holds no such document.
    """
    if split is not None and split not in almanac.SPLITS:
        choices = ", ".join(almanac.SPLITS)
        raise ValueError(f"split {split!r} is unknown; choose None or one of {choices}")
    documents: list[str] = []
    paragraphs: list[str] = []  # of the next document
    for paragraph in _paragraphs(Path(path)):
        paragraphs.append(paragraph)
        if sum(len(p.split()) for p in paragraphs) >= words:
            documents.append("\n\n".join(paragraphs))
            paragraphs = []
    if paragraphs:  # too short to be a document
        last = documents[-1:]
        documents = [*documents[:-1], "\n\n".join([*last, *paragraphs])]
    kept = [d for d in documents if split is None or almanac.split_of(d) == split]
    if not kept:
        raise ValueError(
            f"path {str(path)!r} holds {len(documents)} documents of {words} words, "
            f"none of split {split!r}; give a longer text, fewer words, or split=None"
        )
    return kept


def _paragraphs(path: Path) -> list[str]:
    """The paragraphs of a text file, without the blank lines between them."""
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as problem:
        raise ValueError(
            f"path {str(path)!r} cannot be read as text ({problem}); give the path of "
            "a UTF-8 text file"
        ) from problem
    text = "\n".join(line.rstrip() for line in lines)
    return [p.strip("\n") for p in text.split("\n\n") if p.strip()]


def encode(
    tokenizer: Any, documents: Sequence[str | HasText]
) -> list[Int[Tensor, " t"]]:
    """Token ids of each document, on the CPU: t includes the special tokens.

    These are the ones that the tokenizer adds by itself (BOS and EOS in the almanac).
    BOS is added in any case if the tokenizer has one, since a first token with nothing
    before it cannot be predicted.

    Raises ValueError if one has fewer than two tokens, so that there is nothing to
    predict; TypeError if the tokenizer is none; and as `texts_of` does.
    """
    rows = []
    texts = texts_of(documents)
    check_tokenizer(tokenizer)
    bos = tokenizer.bos_token_id
    for index, ids in enumerate(tokenizer(texts, verbose=False)["input_ids"]):
        if bos is not None and ids[:1] != [bos]:
            ids = [bos, *ids]
        if len(ids) < 2:
            raise ValueError(
                f"documents[{index}] has {len(ids)} token(s), too few to predict one "
                "from another; leave it out"
            )
        rows.append(torch.tensor(ids, device="cpu"))
    return rows


def check_tokenizer(tokenizer: Any) -> None:
    """Raises TypeError if this is no tokenizer."""
    if not callable(tokenizer) or not hasattr(tokenizer, "bos_token_id"):
        raise TypeError(
            f"tokenizer is a {type(tokenizer).__name__}; give the tokenizer that "
            "load returned"
        )


def check_model(model: nn.Module) -> None:
    """Raises TypeError if this is no model."""
    if not isinstance(model, nn.Module):
        raise TypeError(
            f"model is a {type(model).__name__}; give the model alone: "
            "model, tokenizer = load()"
        )


def check_evaluates(model: nn.Module) -> None:
    """Raises TypeError if this is no model, and ValueError if it is in training mode,
    where dropout would add noise."""
    check_model(model)
    if model.training:
        raise ValueError("model is in training mode; call model.eval() first")


def check_ids(
    model: nn.Module, ids: Int[Tensor, "*shape"], name: str = "tokenizer"
) -> None:
    """Raises ValueError if the model has no embedding for an id. name: of the argument
    that gave the ids, in the message."""
    embeddings = getattr(model, "get_input_embeddings", lambda: None)()
    if embeddings is None or not ids.numel():
        return
    known = len(embeddings.weight)
    if ids.min() < 0 or ids.max() >= known:
        raise ValueError(
            f"{name} gives ids from {ids.min()} to {ids.max()}, but the model knows "
            f"0 to {known - 1}; take the tokenizer that belongs to the model"
        )


def check_batches(model: nn.Module, calibration: Sequence[Int[Tensor, "_ _"]]) -> None:
    """Raises TypeError unless calibration is a list of tensors of ids, as
    `calibration_batches` makes it; ValueError if one is no (batch, time), is empty,
    holds ids that the model does not know, or is longer than the model's context."""
    advice = "give what calibration_batches(tokenizer, texts) returns"
    if isinstance(calibration, str | Tensor) or not isinstance(calibration, Sequence):
        raise TypeError(f"calibration is a {type(calibration).__name__}; {advice}")
    config = getattr(model, "config", None)
    context = getattr(config, "max_position_embeddings", None)
    for index, ids in enumerate(calibration):
        name = f"calibration[{index}]"
        if not isinstance(ids, Tensor):
            raise TypeError(f"{name} is a {type(ids).__name__}; {advice}")
        if ids.dtype not in (torch.int64, torch.int32):
            raise TypeError(f"{name} has dtype {ids.dtype}, and ids int64; {advice}")
        if ids.ndim != 2 or not ids.numel():
            raise ValueError(
                f"{name} has shape {tuple(ids.shape)}, not (batch, time); {advice}"
            )
        check_ids(model, ids, name)
        if context is not None and ids.shape[1] > context:
            raise ValueError(
                f"{name} has {ids.shape[1]} tokens in a row, but the model has a "
                f"context of {context}; give calibration_batches a smaller length"
            )


def encode_prompt(tokenizer: Any, prompt: str) -> list[int]:
    """Token ids of the start of a text: with BOS if the tokenizer has one, without EOS.

    Raises ValueError if there is no token at all, and TypeError if the prompt is no
    string or the tokenizer none.
    """
    check_tokenizer(tokenizer)
    if not isinstance(prompt, str):
        raise TypeError(f"prompt is a {type(prompt).__name__}; give one string")
    ids = tokenizer(prompt, add_special_tokens=False)["input_ids"]
    if tokenizer.bos_token_id is not None:
        ids = [tokenizer.bos_token_id, *ids]
    if not ids:
        raise ValueError("prompt is empty and this model has no BOS; give a first word")
    return ids


def calibration_batches(
    tokenizer: Any,
    documents: Sequence[str | HasText],
    *,
    length: int = 512,
    batch: int = 16,
    held_out: bool = True,
) -> list[Int[Tensor, "batch time"]]:
    """Documents as batches of ids, for methods that need H or X.

    There is no padding, since it would count as input. Documents longer than `length`
    tokens are cut into pieces. At most `batch` pieces make a batch, none more than a
    fifth longer than its shortest, and all are cut to the shortest. The last token of a
    document is left out, as nothing is predicted from it.

    Raises ValueError for a document of the test split: a model that is calibrated on
    the text that it is judged by looks better than it is (`held_out=False` allows it);
    for a length or batch below 1; and as `encode` does.
    """
    if length < 1 or batch < 1:
        raise ValueError(f"length is {length} and batch {batch}; choose 1 or more")
    texts = texts_of(documents)
    if held_out:
        check_split(texts, test=False)
    pieces = []
    for ids in encode(tokenizer, texts):
        pieces.extend(ids[:-1].split(length))
    groups: list[list[Tensor]] = []
    for piece in sorted(pieces, key=len):
        full = not groups or len(groups[-1]) == batch
        if full or len(piece) > 1.2 * len(groups[-1][0]):
            groups.append([])
        groups[-1].append(piece)
    return [torch.stack([ids[: len(group[0])] for ids in group]) for group in groups]


@torch.no_grad()
def continue_greedily(
    model: nn.Module, ids: Int[Tensor, "batch time"], new: int
) -> Int[Tensor, "batch new"]:
    """The `new` most likely next tokens of each row, one after the other.

    The KV cache keeps what was read: each step reads one token per row, and computes
    the logits of the last token only. Of two equally likely tokens the lower id is
    taken, so the same model always gives the same answer.

    Raises ValueError if time + new exceeds the context the model was made for, if new
    is below 0, the model is in training mode, does not know an id, or predicts NaN.
    """
    check_evaluates(model)
    check_ids(model, ids)
    if new < 0:
        raise ValueError(f"new is {new}; choose the number of tokens to add")
    room = getattr(model.config, "max_position_embeddings", None)
    if room is not None and ids.shape[1] + new > room:
        raise ValueError(
            f"the prompt has {ids.shape[1]} tokens and new is {new}, but the model has "
            f"a context of {room}; shorten one of them"
        )
    unread = ids.to(next(model.parameters()).device)
    cache, new_ids = None, []
    for _ in range(new):
        out = model(
            input_ids=unread, past_key_values=cache, use_cache=True, logits_to_keep=1
        )
        logits, cache = out.logits[:, -1:], out.past_key_values
        if logits.isnan().any():
            raise ValueError(
                f"model predicts NaN for new token {len(new_ids)}; look for numbers in "
                "its weights that are not finite, or load it with dtype=torch.float32"
            )
        unread = logits.argmax(-1)  # (batch, 1)
        new_ids.append(unread)
    return torch.cat(new_ids, 1) if new_ids else ids[:, :0]


def generate(
    model: nn.Module, tokenizer: Any, prompt: str, max_new_tokens: int = 40
) -> str:
    """How the model goes on after `prompt`: its most likely tokens, up to EOS.

    Returns the continuation without the prompt. Raises TypeError and ValueError as
    `encode_prompt` and `continue_greedily` do. Lesson 00 watches it fall apart.
    """
    check_evaluates(model)
    ids = torch.tensor([encode_prompt(tokenizer, prompt)], device="cpu")  # (1, time)
    new_ids = continue_greedily(model, ids, max_new_tokens)[0].tolist()
    if tokenizer.eos_token_id in new_ids:
        new_ids = new_ids[: new_ids.index(tokenizer.eos_token_id)]
    return tokenizer.decode(new_ids, skip_special_tokens=True)


@torch.no_grad()
def sample(
    model: nn.Module,
    tokenizer: Any,
    n: int,
    length: int,
    *,
    seed: int = 0,
    progress: bool = True,
) -> list[str]:
    """`n` texts of `length` tokens that the model writes itself, at temperature 1.

    Each token is drawn as often as the model expects it, after BOS (or after EOS, where
    there is no BOS). A text does not stop at EOS: what comes then is what the model
    expects of a next text, or of a next turn of a chat. All texts are written at the
    same time. The same seed gives the same texts on the same machine.

    Raises ValueError if the tokenizer has neither BOS nor EOS, or if `length` is not
    below the context the model was made for.
    """
    first = tokenizer.bos_token_id
    first = tokenizer.eos_token_id if first is None else first
    if first is None:
        raise ValueError("tokenizer has neither BOS nor EOS to begin a text; give text")
    room = getattr(model.config, "max_position_embeddings", None)
    if room is not None and length >= room:
        raise ValueError(f"length is {length}; the model reads {room} tokens, BOS too")
    generator = torch.Generator().manual_seed(seed)
    unread = torch.full((n, 1), first, device=next(model.parameters()).device)
    cache, drawn = None, []
    for _ in tqdm(range(length), "writing", delay=1, disable=not progress):
        out = model(
            input_ids=unread, past_key_values=cache, use_cache=True, logits_to_keep=1
        )
        p = out.logits[:, -1].float().softmax(-1).cpu()  # (n, vocab)
        drawn.append(p.multinomial(1, generator=generator))
        unread, cache = drawn[-1].to(unread), out.past_key_values
    return tokenizer.batch_decode(torch.cat(drawn, 1))
