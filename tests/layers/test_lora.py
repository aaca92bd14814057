"""LoRA on frozen layers: an update in thin matrices, whose gradients are right."""

import inspect

import pytest
import torch
from helpers.cases import floats_alive
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.func import functional_call

from minquant.layers.linear import Int8Linear, QuantLinear
from minquant.layers.lora import LoraLinear, nf4
from minquant.methods import rtn
from minquant.numerics import grids, groups
from minquant.planning.memory import Saved

OUT, IN = 24, 64
quick = settings(max_examples=25, deadline=None)


def random(*shape, seed=0, dtype=torch.float32):
    """A random tensor."""
    made = torch.randn(*shape, generator=torch.Generator().manual_seed(seed))
    return made.to(dtype)


def dense(bias=True):
    """A layer of floats."""
    layer = nn.Linear(IN, OUT, bias=bias)
    layer.weight.data = random(OUT, IN)
    return layer


BASES = {
    "floats": dense,
    "nf4": lambda: QuantLinear(nf4(random(OUT, IN)), random(OUT, seed=1)),
    "int4": lambda: QuantLinear(
        rtn.quantize_rtn(random(OUT, IN), grids.zero_point(4), groups.per_group(32))
    ),
    "int8": lambda: Int8Linear.quantize(
        random(OUT, IN), outlier_weights=torch.float16, threshold=0.0
    ),
}
each = pytest.mark.parametrize("kind", BASES)


def trained(kind, rank=4, **options):
    """An adapter whose B has learnt something."""
    layer = LoraLinear(BASES[kind](), rank, 8.0, **options)
    layer.B.data = random(OUT, rank, seed=2, dtype=layer.B.dtype)
    return layer


def weights_of(base):
    """What a base computes with."""
    return base.weight if isinstance(base, nn.Linear) else base.dequantize()


@each
def test_with_b_at_zero_it_changes_nothing(kind):
    base = BASES[kind]()
    layer, X = LoraLinear(base, 4), random(5, IN, seed=3)
    assert not layer.B.any() and layer.A.any()
    assert torch.equal(layer(X), base(X))
    assert torch.equal(layer.merge().weight, weights_of(base))


@each
def test_at_full_rank_any_update_can_be_learnt(kind):
    layer, D = LoraLinear(BASES[kind](), rank=IN, alpha=16.0), random(OUT, IN, seed=4)
    layer.A.data, layer.B.data = torch.eye(IN), D / layer.scaling
    X = random(5, IN, seed=3)
    torch.testing.assert_close(layer.update(), D)
    torch.testing.assert_close(layer(X), layer.base(X) + X @ D.T, rtol=1e-4, atol=1e-4)


@quick
@given(st.integers(1, 24), st.integers(0, 9))
def test_an_update_of_rank_r_is_the_best_that_singular_values_allow(rank, seed):
    D = random(OUT, IN, seed=seed)
    U, S, V = torch.linalg.svd(D, full_matrices=False)
    layer = LoraLinear(dense(), rank, alpha=float(rank))
    layer.B.data, layer.A.data = U[:, :rank] * S[:rank], V[:rank]
    left = (layer.update() - D).norm()
    assert left == pytest.approx(S[rank:].norm().item(), abs=1e-3)
    assert torch.linalg.matrix_rank(layer.update()) == rank


def test_the_equation_by_hand():
    layer = LoraLinear(nn.Linear(2, 1, bias=False), rank=1, alpha=3.0)
    layer.base.weight.data = torch.tensor([[1.0, 2.0]])
    layer.A.data, layer.B.data = torch.tensor([[1.0, -1.0]]), torch.tensor([[0.5]])
    # 1·1 + 2·2 + 3·(1 − 2)·0.5
    assert layer(torch.tensor([[1.0, 2.0]])).item() == 3.5
    assert layer.merge().weight.tolist() == [[2.5, 0.5]]


def test_a_is_uniform_and_comes_from_the_generator():
    draw = torch.Generator().manual_seed(5)
    first, second = (LoraLinear(dense(), 16, generator=draw) for _ in range(2))
    again = LoraLinear(dense(), 16, generator=torch.Generator().manual_seed(5))
    assert torch.equal(first.A, again.A) and not torch.equal(first.A, second.A)
    assert first.A.abs().max() <= 1 / 8  # 1 / sqrt(64)
    assert first.A.std().item() == pytest.approx(1 / 8 / 3**0.5, rel=0.1)


# --- gradients ---


@each
def test_gradients_agree_with_finite_differences_in_float64(kind):
    layer = trained(kind, rank=2, dtype=torch.float64)
    if kind == "floats":
        layer.base.double()
    if kind == "int8":
        layer.base.kept = layer.base.kept.double()

    def Y(X, A, B):
        return functional_call(layer, {"A": A, "B": B}, (X,))

    X = random(1, IN, seed=3, dtype=torch.float64).requires_grad_()
    A, B = (m.detach().clone().requires_grad_() for m in (layer.A, layer.B))
    assert torch.autograd.gradcheck(Y, (X, A, B))


@each
def test_gradients_are_those_of_a_dense_layer_with_the_same_weights(kind):
    layer = trained(kind)
    X, X_dense = (random(5, IN, seed=3).requires_grad_() for _ in range(2))
    G = random(5, OUT, seed=6)
    layer(X).backward(G)
    W = layer.merge().weight.clone().requires_grad_()
    (X_dense @ W.T).backward(G)
    torch.testing.assert_close(X.grad, X_dense.grad, rtol=1e-4, atol=1e-4)
    s, A, B = layer.scaling, layer.A.detach(), layer.B.detach()
    torch.testing.assert_close(layer.B.grad, s * W.grad @ A.T, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(layer.A.grad, s * B.T @ W.grad, rtol=1e-4, atol=1e-4)


@each
def test_only_a_and_b_learn_and_the_base_is_untouched(kind):
    layer = LoraLinear(BASES[kind](), 4)
    before = {name: t.clone() for name, t in layer.base.state_dict().items()}
    assert [n for n, p in layer.named_parameters() if p.requires_grad] == ["A", "B"]
    optimizer = torch.optim.AdamW([p for p in layer.parameters() if p.requires_grad])
    target, X = random(32, OUT, seed=7), random(32, IN, seed=8)
    losses = []
    for _ in range(60):
        optimizer.zero_grad()
        loss = (layer(X) - target).square().mean()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < losses[0] - 0.5 and layer.B.any()
    after = layer.base.state_dict()
    assert all(torch.equal(after[name], t) for name, t in before.items())


# --- memory ---


@pytest.mark.parametrize("kind", ["nf4", "int4", "int8"])
def test_what_is_saved_for_the_backward_pass_is_thin(kind):
    layer, n, rank = trained(kind, rank=2), 3, 2
    X = random(n, IN, seed=3).requires_grad_()
    layer(X)
    before = floats_alive(OUT * IN // 2)
    with Saved(layer) as saved:
        Y = layer(X).sum()
    # X for the gradient of A, s X Aᵀ for B's; A and B are the layer's own
    assert saved.nbytes == 4 * n * (IN + rank)
    assert floats_alive(OUT * IN // 2) <= before
    Y.backward()


def test_weights_gradients_and_adam_fall_as_the_arithmetic_says():
    out, width, r = 1024, 2048, 16
    W = random(out, width)
    layer = LoraLinear(QuantLinear(nf4(W)), r)
    thin = 4 * r * (out + width)
    codes = W.numel() * (4 + 8 / 64 + 32 / (64 * 256)) / 8 + 4
    assert sum(b.nbytes for b in layer.buffers()) == codes
    assert sum(p.nbytes for p in layer.parameters() if p.requires_grad) == thin
    # 16-bit weights, their gradients, and Adam on fp32 masters: 16 bytes a weight
    assert 16 * W.numel() / (codes + 4 * thin) > 17.9


# --- merging ---


@each
def test_a_merged_layer_is_new_and_computes_the_same(kind):
    layer, X = trained(kind), random(5, IN, seed=3)
    Y, before = layer(X), {n: t.clone() for n, t in layer.state_dict().items()}
    merged = layer.merge()
    assert type(merged) is nn.Linear and not merged.weight.requires_grad
    torch.testing.assert_close(merged(X), Y, rtol=1e-4, atol=1e-4)
    merged.weight.zero_()
    if merged.bias is not None:
        merged.bias.zero_()
    after = layer.state_dict()
    assert all(torch.equal(after[n], t) for n, t in before.items())
    assert torch.equal(layer(X), Y)  # unmerged is what it always was
    assert layer.merge(torch.bfloat16).weight.dtype == torch.bfloat16


def test_to_quantize_a_merged_layer_again_has_a_price():
    layer = trained("nf4")
    layer.B.data *= 0.01  # an update that is small beside a step
    W = layer.merge().weight
    again = nf4(W).dequantize()
    D, D_left = W - layer.base.dequantize(), again - layer.base.dequantize()
    lost = (D_left - D).norm() / D.norm()
    assert lost > 0.5  # most of it has vanished, or become noise
    assert ((again - W).norm() / W.norm()) < 0.2


@pytest.mark.parametrize(
    ("size", "there"), [(0.01, (-0.1, 0.1)), (0.2, (0.9, 1.1)), (0.3, (0.95, 1.05))]
)
def test_a_second_rounding_keeps_an_update_that_is_not_tiny(size, there):
    layer = LoraLinear(QuantLinear(nf4(random(128, 128))), 4, 8.0)
    layer.B.data = random(128, 4, seed=6)
    W_hat = layer.base.dequantize()
    layer.B.data *= size * W_hat.abs().mean() / layer.update().abs().mean()
    D = layer.update()
    D_left = nf4(layer.merge().weight).dequantize() - W_hat
    low, high = there
    assert low < (D_left * D).sum() / D.square().sum() < high
    assert (D_left - D).norm() > 0.2 * D.norm()  # the fresh error, whichever


# --- options ---


def test_dropout_hides_inputs_from_the_update_alone_and_only_in_training():
    layer, X = trained("nf4", dropout=0.5), random(2000, IN, seed=3)
    Y_base = layer.base(X)
    layer.train()
    torch.manual_seed(0)
    D, D_mean = layer(X) - Y_base, X @ layer.update().T
    assert not torch.allclose(D, D_mean)
    off = (D - D_mean).mean(0).abs().max() / D_mean.std()
    assert off < 0.15  # right on average
    layer.eval()
    torch.testing.assert_close(layer(X) - Y_base, D_mean, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_adapters_have_a_dtype_of_their_own(dtype):
    layer = LoraLinear(dense().bfloat16(), 4, dtype=dtype)
    X = random(5, IN, dtype=torch.bfloat16).requires_grad_()
    Y = layer(X)
    Y.sum().backward()
    assert Y.dtype == X.grad.dtype == torch.bfloat16
    assert layer.A.dtype == layer.A.grad.dtype == layer.B.grad.dtype == dtype


def test_alpha_over_rank_is_the_scale():
    layer = LoraLinear(dense(), rank=4, alpha=2.0)
    assert layer.scaling == 0.5
    assert "rank=4, alpha=2, 352 trainable" in repr(layer)


@pytest.mark.parametrize(
    ("given", "error", "message"),
    [
        (
            {"base": nn.Conv2d(1, 1, 1)},
            TypeError,
            "base is a Conv2d; give an nn.Lin",
        ),
        ({"rank": 0}, ValueError, "rank is 0; choose an integer, often 8 or 16"),
        ({"rank": 2.0}, ValueError, "rank is 2.0; choose an integer, often 8 or 16"),
        ({"alpha": 0.0}, ValueError, "alpha is 0.0; choose a number, often 1 or 2 ti"),
        ({"alpha": float("nan")}, ValueError, "alpha is nan; choose a number"),
        ({"alpha": float("inf")}, ValueError, "alpha is inf; choose a number"),
        ({"dtype": torch.int8}, ValueError, "dtype is torch.int8; choose floats, such"),
        (
            {"dropout": 1.0},
            ValueError,
            "dropout is 1.0; choose a share, often 0 to 0.1",
        ),
    ],
)
def test_what_makes_no_adapter_is_named(given, error, message):
    plain = inspect.unwrap(LoraLinear.__init__)  # types are not checked outside pytest
    with pytest.raises(error, match=message):
        plain(LoraLinear.__new__(LoraLinear), **{"base": dense(), **given})


def test_a_refused_base_is_not_frozen():
    base = dense()
    with pytest.raises(ValueError, match="rank is 0"):
        LoraLinear(base, 0)
    assert base.weight.requires_grad
