"""Test documents are read in windows and batches, and every token is counted once.

    documents ──encode──▶ ids ──cut──▶ windows ──pad──▶ logits ──▶ sums per document

A document that fits into a window is one window. A longer one is read in windows that
begin `stride` tokens apart. Where two overlap, the tokens are context for the later
window and are counted in the earlier one only:

    tokens   0 1 2 3 4 5 6 7 8 9          window 6, stride 4
    first    0 1*2*3*4*5*                 * counted: predicted from the tokens before it
    second           4 5 6*7*8*9*

Windows of similar length make a batch. Padding stands on the right, where a causal
model cannot see it, and is not counted.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from tqdm.auto import tqdm

from minquant import almanac
from minquant.models.text import (
    HasText,
    check_ids,
    check_model,
    check_split,
    encode,
    texts_of,
)

LONGEST_WINDOW = 2048  # of the default: as in GPTQ's paper, and usual since
_BATCH_TOKENS = 4096  # at most in a batch: more is no faster on a CPU
_BATCH_LOGITS = 2**28  # at most in a batch, for large vocabularies: 1 GB in float32
_PIECE_LOGITS = 2**24  # measured together: 64 MB in float32

Measure = Callable[..., Float[Tensor, "k n"]]


@dataclass(frozen=True, eq=False)
class Window:
    """Some ids of the document with this index. The first `seen` ids are context, and
    are not counted."""

    document: int
    ids: Int[Tensor, " t"]
    seen: int


@dataclass(frozen=True, eq=False)
class Plan:
    """How documents are read: the fingerprint and the number of counted tokens of each,
    and all windows. window, stride: in tokens."""

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
) -> Plan:
    """Cut documents into windows that `model` can read.

    window: in tokens; None takes the model's context, at most 2048. stride: in tokens;
    None takes half a window.

    Raises ValueError for text that is not of the test split (unless held_out=False), a
    window longer than the model's context, a stride outside 1..window - 1, or ids that
    the model does not know; and as `encode` does.
    """
    check_model(model)
    documents = texts_of(documents)
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
    windows: list[Window] = []
    for index, ids in enumerate(rows):
        check_ids(model, ids)
        windows.extend(cut(index, ids, window, stride))
    return Plan(
        documents=tuple(almanac.fingerprint(text) for text in documents),
        tokens=torch.tensor([len(ids) - 1 for ids in rows], device="cpu"),
        windows=tuple(windows),
        window=window,
        stride=stride,
    )


def cut(
    document: int, ids: Int[Tensor, " t"], window: int, stride: int
) -> list[Window]:
    """The windows of a document: every id but the first is counted in exactly one.

    >>> [w.ids.tolist()[w.seen:] for w in cut(0, torch.arange(10), 6, 4)]
    [[1, 2, 3, 4, 5], [6, 7, 8, 9]]
    """
    windows, counted = [], 1  # the first id has nothing before it to predict it from
    for start in range(0, len(ids), stride):
        windows.append(Window(document, ids[start : start + window], counted - start))
        counted = start + window
        if counted >= len(ids):
            break
    return windows


@torch.no_grad()
def sums(
    plan: Plan,
    models: Sequence[nn.Module],
    measure: Measure,
    *,
    progress: bool = True,
) -> Float[Tensor, "k d"]:
    """What `measure` returns for the counted tokens, summed over each document.

    measure: a function of the logits (n, vocab) of each model and the n tokens that
    they should predict. It returns k numbers per token (k, n). Sums are float64, on the
    CPU.

    Raises ValueError for a model in training mode, where dropout would add noise.
    """
    for model in models:
        if model.training:
            raise ValueError("the model is in training mode; call model.eval() first")
    totals: Tensor | None = None
    vocabulary = getattr(models[0].config, "vocab_size", 1)
    most = min(_BATCH_TOKENS, _BATCH_LOGITS // vocabulary)
    batches = list(_batches(plan.windows, most))
    for windows in tqdm(batches, "reading", delay=3, disable=not progress):
        ids, counted = _pad(windows)  # (b, t), (b, t - 1)
        logits = [_logits(model, ids, counted) for model in models]
        values = _in_pieces(measure, *logits, ids[:, 1:][counted])  # (k, n)
        owners = torch.tensor([w.document for w in windows], device="cpu")
        owners = owners.repeat_interleave(counted.sum(1))  # (n,)
        if totals is None:
            shape = len(values), len(plan.documents)
            totals = torch.zeros(shape, dtype=torch.float64, device="cpu")
        totals.index_add_(1, owners, values.cpu().double())
    return totals


def _logits(
    model: nn.Module, ids: Int[Tensor, "b t"], counted: Bool[Tensor, "b t-1"]
) -> Float[Tensor, "n vocab"]:
    """The logits of the model for each counted token, from the tokens before it."""
    device = next(model.parameters()).device
    out = model(input_ids=ids.to(device), use_cache=False).logits
    return out[:, :-1][counted.to(device)]


def _in_pieces(measure: Measure, *rows: Tensor) -> Float[Tensor, "k n"]:
    """`measure` on a few rows at a time: a large vocabulary makes logits large."""
    device, step = rows[0].device, max(1, _PIECE_LOGITS // rows[0].shape[-1])
    pieces = zip(*(row.to(device).split(step) for row in rows), strict=True)
    return torch.cat([measure(*piece) for piece in pieces], 1)


def _batches(windows: Sequence[Window], tokens: int) -> Iterator[list[Window]]:
    """Batch windows of similar length, longest first, so that running out of memory
    shows in the first batch. tokens: at most in a batch, with its padding."""
    batch: list[Window] = []
    for window in sorted(windows, key=lambda w: -len(w.ids)):
        if batch and (len(batch) + 1) * len(batch[0].ids) > tokens:
            yield batch
            batch = []
        batch.append(window)
    if batch:
        yield batch


def _pad(windows: list[Window]) -> tuple[Int[Tensor, "b t"], Bool[Tensor, "b t-1"]]:
    """Ids padded on the right, and which of ids[:, 1:] are counted."""
    rows = [w.ids for w in windows]
    ids = nn.utils.rnn.pad_sequence(rows, batch_first=True)  # (b, t)
    place = torch.arange(1, ids.shape[1], device="cpu")  # (t - 1,)
    seen = torch.tensor([[w.seen] for w in windows], device="cpu")  # (b, 1)
    end = torch.tensor([[len(w.ids)] for w in windows], device="cpu")
    return ids, (place >= seen) & (place < end)
