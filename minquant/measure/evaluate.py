"""What did quantizing cost? Four answers, from a single matrix to what a user notices.

    layer_error     how far the outputs of one matrix move
    kl_and_flips    how far the model's predictions move, and how often its first choice
                    changes
    perplexity      how well it predicts text that it has not seen
    both            these two, of a model and its original, in one reading
    accuracy        how much it still knows (in `probes.py`)

Loss is counted in nats per token. Over documents d with nats L_d and tokens T_d

    nats = sum L_d / sum T_d          perplexity = exp(nats)

and its interval comes from drawing documents again, both sums together. Two models are
compared on the same documents (`compare`): what makes a document hard cancels, so the
interval of the difference is far narrower than the interval of either loss. Only test
text is accepted: a model looks better on text that it was trained or calibrated on.
Lesson 04.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from math import exp, inf
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn

from minquant import almanac
from minquant.measure import windows
from minquant.measure.intervals import Difference, bootstrap
from minquant.measure.probes import accuracy, compare_accuracy
from minquant.models.text import HasText

__all__ = ["accuracy", "both", "compare", "compare_accuracy", "kl_and_flips"]
__all__ += ["Both", "Divergence", "LayerError", "Perplexity", "layer_error"]
__all__ += ["perfect_reader", "perplexity"]


class LayerError(NamedTuple):
    """How far a layer's outputs move: the mean square, and its share of their power."""

    mean_squared: float
    relative: float


def layer_error(
    W: Float[Tensor, "out in"], W_hat: Float[Tensor, "out in"], X: Float[Tensor, "n in"]
) -> LayerError:
    """The error of the outputs Y = X Wᵀ when W_hat replaces W.

        mean_squared = mean((X (W_hat - W)ᵀ)²)
        relative     = mean_squared / mean((X Wᵀ)²)

    This is what GPTQ and AWQ minimise. Outputs are computed in float32, and squared in
    float64, where no small output becomes 0 and no large one infinite. Of outputs that
    are all 0, `relative` is 0 if they stay so, else infinite. Lesson 04.

    Raises ValueError if the shapes do not fit, or if there is no output.

    >>> W, X = torch.tensor([[2.0, 0.0]]), torch.tensor([[1.0, 5.0], [3.0, 5.0]])
    >>> layer_error(W, torch.tensor([[1.0, 0.0]]), X)
    LayerError(mean_squared=5.0, relative=0.25)
    """
    if W.shape != W_hat.shape or X.shape[-1] != W.shape[-1]:
        raise ValueError(
            f"W is {tuple(W.shape)}, W_hat {tuple(W_hat.shape)}, X {tuple(X.shape)}; "
            "give W and W_hat (out, in), and X (n, in)"
        )
    if not len(X) or not W.numel():
        raise ValueError(
            f"W is {tuple(W.shape)}, X {tuple(X.shape)}; there is no output to compare"
        )
    X = X.float()
    error = (X @ (W_hat.float() - W.float()).T).double().square().mean().item()
    power = (X @ W.float().T).double().square().mean().item()
    return LayerError(error, error / power if power else (inf if error else 0.0))


@dataclass(frozen=True, eq=False)
class Divergence:
    """How far the predictions of two models are apart; sums over each document."""

    document_kl: Float[Tensor, " d"]
    document_flips: Float[Tensor, " d"]
    document_tokens: Int[Tensor, " d"]

    @property
    def kl(self) -> float:
        """The mean KL divergence in nats per token."""
        return (self.document_kl.sum() / self.document_tokens.sum()).item()

    @property
    def flips(self) -> float:
        """The share of tokens, 0 to 1, for which the most likely prediction differs."""
        return (self.document_flips.sum() / self.document_tokens.sum()).item()

    def interval(
        self, what: str = "kl", level: float = 0.95, *, seed: int = 0
    ) -> tuple[float, float]:
        """The interval of `kl` or of `flips`, by drawing documents again.

        Raises ValueError if `what` is neither "kl" nor "flips".
        """
        sums = {"kl": self.document_kl, "flips": self.document_flips}
        if what not in sums:
            raise ValueError(f"what is {what!r}; choose 'kl' or 'flips'")
        return bootstrap(sums[what], self.document_tokens, level=level, seed=seed)

    def __repr__(self) -> str:
        d, tokens = len(self.document_kl), int(self.document_tokens.sum())
        return (
            f"KL {self.kl:.5f} nats/token, first choice flips {self.flips:.2%}; "
            f"{tokens:,} tokens in {d:,} documents"
        )


def kl_and_flips(
    reference: nn.Module,
    model: nn.Module,
    tokenizer: Any,
    documents: Sequence[str | HasText],
    *,
    held_out: bool = True,
    window: int | None = None,
    stride: int | None = None,
    progress: bool = True,
) -> Divergence:
    """How far the predictions of `model` are from those of `reference`, over every
    token of the documents.

        KL = sum over words of p (log p - log q)      p: reference, q: model

    It sees changes that perplexity hides: a model can lose one thing and guess another
    better. Documents are read as in `perplexity`.

    Raises ValueError as `perplexity` does, and if the vocabularies differ.
    """
    plan = windows.plan(
        model, tokenizer, documents, held_out=held_out, window=window, stride=stride
    )
    kl, flips = windows.sums(plan, (reference, model), _divergence, progress=progress)
    return Divergence(kl, flips, plan.tokens)


def _divergence(
    reference: Float[Tensor, "n vocab"],
    model: Float[Tensor, "n vocab"],
    ids: Int[Tensor, " n"],
) -> Float[Tensor, "2 n"]:
    """KL, and 1 where the first choice flips, of each token. The ids do not matter."""
    if reference.shape != model.shape:
        raise ValueError(
            f"reference knows {reference.shape[1]} tokens and model {model.shape[1]}; "
            "compare two versions of one model"
        )
    p, q = reference.float().log_softmax(-1), model.float().log_softmax(-1)
    return torch.stack([kl_divergence(p, q), (p.argmax(-1) != q.argmax(-1)).float()])


def kl_divergence(
    p: Float[Tensor, "n vocab"], q: Float[Tensor, "n vocab"]
) -> Float[Tensor, " n"]:
    """KL in nats, from log-probabilities: the sum of exp(p) (p - q) over words.

    A word that p rules out adds nothing, whatever q makes of it: 0 log 0 is 0. Where q
    rules out a word that p does not, KL is infinite.

    >>> p = torch.tensor([[0.5, 0.5, 0.0]]).log()
    >>> kl_divergence(p, p), kl_divergence(p, torch.tensor([[1.0, 0.0, 0.0]]).log())
    (tensor([0.]), tensor([inf]))
    """
    ruled_out = p.exp() == 0  # -inf, or too small for float32
    p, q = p.masked_fill(ruled_out, 0), q.masked_fill(ruled_out, 0)
    return (p.exp() * (p - q)).sum(-1)


@dataclass(frozen=True, eq=False)
class Perplexity:
    """The loss of one model on some documents: `nats` per token, `value` = exp(nats).

    documents: their fingerprints. document_nats, document_tokens: sums over each
    document. window, stride: in tokens, how longer documents were read.
    """

    documents: tuple[int, ...]
    document_nats: Float[Tensor, " d"]
    document_tokens: Int[Tensor, " d"]
    window: int
    stride: int

    @property
    def nats(self) -> float:
        """The mean loss in nats per token: all nats over all tokens."""
        return (self.document_nats.sum() / self.document_tokens.sum()).item()

    @property
    def value(self) -> float:
        """exp(nats): the model is as unsure as in a fair draw from so many tokens.
        Infinite above 709 nats."""
        try:
            return exp(self.nats)
        except OverflowError:  # more than a float holds
            return inf

    def interval(self, level: float = 0.95, *, seed: int = 0) -> tuple[float, float]:
        """The interval of `nats`, by drawing documents again."""
        tokens = self.document_tokens
        return bootstrap(self.document_nats, tokens, level=level, seed=seed)

    def __repr__(self) -> str:
        d, tokens = len(self.documents), int(self.document_tokens.sum())
        interval = " [{:.4f}, {:.4f}]".format(*self.interval()) if d > 1 else ""
        return (
            f"perplexity {self.value:.3f}, {self.nats:.4f} nats/token{interval}; "
            f"{tokens:,} tokens in {d:,} documents, "
            f"window {self.window}, stride {self.stride}"
        )


def perplexity(
    model: nn.Module,
    tokenizer: Any,
    documents: Sequence[str | HasText],
    *,
    held_out: bool = True,
    window: int | None = None,
    stride: int | None = None,
    progress: bool = True,
) -> Perplexity:
    """The loss of `model` on `documents`, every token after the first counted once.

    A document longer than `window` tokens (default: the model's context, at most 2048)
    is read in windows that begin `stride` tokens apart (default: half a window). What
    two windows share is context in the second, so every token counted there has at
    least window - stride tokens before it. Perplexities with different windows cannot
    be compared.

    Raises ValueError for text that is not of the test split (unless held_out=False), a
    window longer than the model's context, a stride outside 1..window - 1, or a model
    in training mode.
    """
    plan = windows.plan(
        model, tokenizer, documents, held_out=held_out, window=window, stride=stride
    )
    (nats,) = windows.sums(plan, (model,), _nats, progress=progress)
    return Perplexity(plan.documents, nats, plan.tokens, plan.window, plan.stride)


def _nats(
    logits: Float[Tensor, "n vocab"], ids: Int[Tensor, " n"]
) -> Float[Tensor, "1 n"]:
    """The loss of each token."""
    return F.cross_entropy(logits.float(), ids, reduction="none")[None]  # (1, n)


class Both(NamedTuple):
    """The loss of the reference, that of the model, and how far they are apart."""

    reference: Perplexity
    model: Perplexity
    apart: Divergence


def both(
    reference: nn.Module,
    model: nn.Module,
    tokenizer: Any,
    documents: Sequence[str | HasText],
    *,
    held_out: bool = True,
    progress: bool = True,
) -> Both:
    """`perplexity` of two models and `kl_and_flips` between them, with each document
    read once by each model.

    Raises ValueError as these do.
    """
    plan = windows.plan(model, tokenizer, documents, held_out=held_out)
    sums = windows.sums(plan, (reference, model), _both, progress=progress)
    rest = plan.tokens, plan.window, plan.stride
    before, after = (Perplexity(plan.documents, nats, *rest) for nats in sums[:2])
    return Both(before, after, Divergence(*sums[2:], plan.tokens))


def _both(
    reference: Float[Tensor, "n vocab"],
    model: Float[Tensor, "n vocab"],
    ids: Int[Tensor, " n"],
) -> Float[Tensor, "4 n"]:
    """The loss of each, then KL and flips, of each token."""
    nats = [_nats(reference, ids), _nats(model, ids)]
    return torch.cat([*nats, _divergence(reference, model, ids)])


def perfect_reader(documents: Sequence[almanac.Document]) -> Perplexity:
    """The best possible loss on documents of the almanac, which is their entropy.

    `compare(perfect_reader(...), perplexity(...))` is what a model could still learn.
    Raises ValueError if there is no document.
    """
    if not documents:
        raise ValueError("documents is empty; give at least one")
    on_cpu = {"device": "cpu"}
    tokens = torch.tensor([len(d.words) + 1 for d in documents], **on_cpu)
    entropy = torch.tensor(
        [d.entropy for d in documents], dtype=torch.float64, **on_cpu
    )
    prints = tuple(almanac.fingerprint(d.text) for d in documents)
    return Perplexity(prints, entropy, tokens, almanac.CONTEXT, almanac.CONTEXT)


def compare(
    a: Perplexity, b: Perplexity, *, level: float = 0.95, seed: int = 0
) -> Difference:
    """The loss of `b` minus the loss of `a` in nats per token, paired by document.

    Raises ValueError unless both were measured on the same documents and tokens, and in
    the same windows where documents were cut; TypeError for what is no `Perplexity`.
    """
    for name, loss in (("a", a), ("b", b)):
        if not isinstance(loss, Perplexity):
            raise TypeError(
                f"{name} is a {type(loss).__name__}; give what perplexity returned"
            )
    same = a.documents == b.documents
    if not same or not torch.equal(a.document_tokens, b.document_tokens):
        raise ValueError(
            f"a ({len(a.documents)} documents) and b ({len(b.documents)}) were not "
            "measured on the same text and tokens; give both the same documents"
        )
    cut = a.document_tokens.max() >= min(a.window, b.window)
    if cut and (a.window, a.stride) != (b.window, b.stride):
        raise ValueError(
            f"a was read with window {a.window}, stride {a.stride}; b with {b.window}, "
            f"{b.stride}; measure both alike"
        )
    added = b.document_nats - a.document_nats
    low, high = bootstrap(added, a.document_tokens, level=level, seed=seed)
    mean = (added.sum() / a.document_tokens.sum()).item()
    return Difference(mean, low, high, level=level)
