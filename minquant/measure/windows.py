"""How a model reads test documents: in windows, in batches, every token counted once.

    documents ──encode──▶ ids ──cut──▶ windows ──pad──▶ logits ──▶ sums per document

A document that fits the window is one. A longer one is read in windows that begin
`stride` tokens apart, and where two overlap the later one only reads, for context:

    tokens   0 1 2 3 4 5 6 7 8 9          window 6, stride 4
    first    0 1*2*3*4*5*                 * counted: each is predicted from those before
    second           4 5 6*7*8*9*

Windows of like length stand together in a batch. Padding stands on the right, where a
causal model cannot see it, and is not counted.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from tqdm.auto import tqdm

from minquant import almanac
from minquant.models.text import HasText, check_split, encode, text_of

LONGEST_WINDOW = 2048  # the default goes no further, as in GPTQ's paper and since
_TOKENS = 4096  # in one batch: more is no faster on a CPU
_HELD = 2**28  # logits in one batch, where the vocabulary is large: 1 GB in float32
_LOGITS = 2**24  # worked on at once: 64 MB in float32

Measure = Callable[..., Float[Tensor, "k n"]]


@dataclass(frozen=True, eq=False)
class Window:
    """Some ids of a document (its index); the first `seen` of them are not counted."""

    document: int
    ids: Int[Tensor, " t"]
    seen: int


@dataclass(frozen=True, eq=False)
class Reading:
    """A plan to read documents: fingerprints, counted tokens of each, all windows."""

    documents: tuple[int, ...]
    tokens: Int[Tensor, " d"]
    windows: tuple[Window, ...]
    window: int
    stride: int


def plan(
    model: nn.Module,
    tokenizer: Any,
    documents: Sequence[str | HasText],
    *,
    held_out: bool = True,
    window: int | None = None,
    stride: int | None = None,
) -> Reading:
    """Cut documents into windows that `model` can read.

    Raises ValueError for text of another split than test (unless held_out=False), a
    window beyond the model's context, a stride not in 1..window - 1.
    """
    if held_out:
        check_split(documents, test=True)
    context = getattr(model.config, "max_position_embeddings", None) or LONGEST_WINDOW
    window = min(context, LONGEST_WINDOW) if window is None else window
    stride = window // 2 if stride is None else stride
    if not 2 <= window <= context:
        raise ValueError(f"window is {window}; the model reads 2 to {context} tokens")
    if not 1 <= stride < window:
        raise ValueError(f"stride is {stride}; choose 1 to {window - 1}")
    rows = encode(tokenizer, documents)
    windows = (w for d, ids in enumerate(rows) for w in cut(d, ids, window, stride))
    return Reading(
        documents=tuple(almanac.fingerprint(text_of(d)) for d in documents),
        tokens=torch.tensor([len(ids) - 1 for ids in rows]),
        windows=tuple(windows),
        window=window,
        stride=stride,
    )


def cut(
    document: int, ids: Int[Tensor, " t"], window: int, stride: int
) -> list[Window]:
    """A document's windows: every id but the first is counted in exactly one of them.

    >>> [w.ids.tolist()[w.seen:] for w in cut(0, torch.arange(10), 6, 4)]
    [[1, 2, 3, 4, 5], [6, 7, 8, 9]]
    """
    windows, end = [], 1
    for start in range(0, len(ids), stride):
        windows.append(Window(document, ids[start : start + window], end - start))
        end = start + window
        if end >= len(ids):
            break
    return windows


@torch.no_grad()
def sums(
    reading: Reading,
    models: Sequence[nn.Module],
    measure: Measure,
    *,
    progress: bool = True,
) -> Float[Tensor, "k d"]:
    """Sums over each document of what `measure` says of each of its counted tokens.

    measure takes the logits (n, vocab) of each model, and the n tokens they should
    predict, and returns k numbers per token (k, n). Sums are float64, on the CPU.
    Raises ValueError for a model in training mode, where dropout would add noise.
    """
    for model in models:
        if model.training:
            raise ValueError("the model is in training mode; call model.eval() first")
    totals: Tensor | None = None
    vocabulary = getattr(models[0].config, "vocab_size", 1)
    batches = list(_batches(reading.windows, min(_TOKENS, _HELD // vocabulary)))
    for windows in tqdm(batches, "reading", delay=3, disable=not progress):
        ids, counted = _pad(windows)  # (b, t), (b, t - 1)
        logits = [_logits(model, ids, counted) for model in models]
        values = _in_pieces(measure, *logits, ids[:, 1:][counted])  # (k, n)
        owners = torch.tensor([w.document for w in windows])
        owners = owners.repeat_interleave(counted.sum(1))  # (n,)
        if totals is None:
            totals = torch.zeros(len(values), len(reading.documents)).double()
        totals.index_add_(1, owners, values.cpu().double())
    return totals


def _logits(
    model: nn.Module, ids: Int[Tensor, "b t"], counted: Bool[Tensor, "b t-1"]
) -> Float[Tensor, "n vocab"]:
    """What the model predicts for each counted token, from those before it."""
    device = next(model.parameters()).device
    out = model(input_ids=ids.to(device), use_cache=False).logits
    return out[:, :-1][counted.to(device)]


def _in_pieces(measure: Measure, *rows: Tensor) -> Float[Tensor, "k n"]:
    """`measure` on some rows at a time: a hub model's vocabulary makes logits large."""
    device, step = rows[0].device, max(1, _LOGITS // rows[0].shape[-1])
    pieces = zip(*(row.to(device).split(step) for row in rows), strict=True)
    return torch.cat([measure(*piece) for piece in pieces], 1)


def _batches(windows: Sequence[Window], tokens: int) -> Iterator[list[Window]]:
    """Windows of like length, the longest first, so that memory is short at once."""
    batch: list[Window] = []
    for w in sorted(windows, key=lambda w: -len(w.ids)):
        if batch and (len(batch) + 1) * len(batch[0].ids) > tokens:
            yield batch
            batch = []
        batch.append(w)
    if batch:
        yield batch


def _pad(windows: list[Window]) -> tuple[Int[Tensor, "b t"], Bool[Tensor, "b t-1"]]:
    """Ids padded on the right, and which of ids[:, 1:] are counted."""
    rows = [w.ids for w in windows]
    ids = nn.utils.rnn.pad_sequence(rows, batch_first=True)  # (b, t)
    place = torch.arange(1, ids.shape[1])  # (t - 1,)
    seen = torch.tensor([[w.seen] for w in windows])  # (b, 1)
    end = torch.tensor([[len(w.ids)] for w in windows])
    return ids, (place >= seen) & (place < end)
