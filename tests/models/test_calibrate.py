"""Text goes through the model once, and each layer's inputs are those of the model."""

import gc
from contextlib import closing

import pytest
import torch
from helpers import tiny
from torch import nn

from minquant.models import calibrate
from minquant.models.experts import separate_experts_
from minquant.models.linear_layers import linear_layers


def batches(*shapes):
    """Random ids, one batch of each shape (batch, time)."""
    generator = torch.Generator().manual_seed(0)
    return [torch.randint(3, 30, shape, generator=generator) for shape in shapes]


BATCHES = batches((3, 12), (2, 20), (1, 5))


def walk(network, needs=("X",), calibration=BATCHES, layers=None):
    """All groups of a model, without changing any weight."""
    layers = linear_layers(network) if layers is None else layers
    return calibrate.groups(network, layers, calibration, needs)


@pytest.mark.parametrize("kind", [*tiny.CONFIGS, *tiny.MIXTURES])
def test_each_layer_reads_what_it_reads_in_the_whole_model(kind):
    expected = tiny.inputs_read(separate_experts_(tiny.model(kind)), BATCHES)
    for names, inputs, too_few in walk(separate_experts_(tiny.model(kind))):
        for name in names:
            assert too_few or same(inputs["X"], expected[name])
            expected.pop(name, None)
    assert not expected


def same(a, b):
    """Equal but for the rounding of an expert's tokens in one product, not in three."""
    return a.shape == b.shape and torch.allclose(a, b, rtol=1e-4, atol=1e-5)


def test_the_text_goes_through_the_model_once():
    network = tiny.model()
    layers, ran = linear_layers(network), []
    for name, layer in layers.items():
        layer.register_forward_hook(lambda *_, name=name: ran.append(name))
    calibrate.sharing(network, layers, BATCHES)
    assert len(ran) == len(layers)  # a few tokens, once
    ran.clear()
    list(walk(network))
    ran = ran[len(layers) :]
    assert sorted(ran) == sorted(list(layers) * len(BATCHES))


def test_a_batch_waits_in_front_of_the_group_and_goes_on_through_the_new_weights():
    network, order = tiny.model(), []
    for name, layer in linear_layers(network).items():
        layer.register_forward_hook(lambda *_, name=name: order.append(name))
    groups = walk(network)
    with closing(groups):
        for names, inputs, _ in groups:
            assert not set(names) & set(order[14:])  # after 14 on the short text
            for name in names:
                network.get_submodule(name).weight.zero_()
            if names[0].endswith("o_proj"):
                assert (inputs["X"] == 0).all()  # v is 0 by now


@pytest.mark.parametrize(
    ("kind", "groups"),
    [
        ("Llama", "q k v|o|gate up|down"),
        ("Phi", "q k v fc1|dense|fc2"),
        ("GPT2", "attn.c_attn|attn.c_proj|mlp.c_fc|mlp.c_proj"),
    ],
)
def test_layers_that_read_one_tensor_make_a_group_in_the_order_of_the_forward_pass(
    kind, groups
):
    network = tiny.model(kind)
    found = calibrate.sharing(network, linear_layers(network), BATCHES)
    expected = 2 * [names.split() for names in groups.split("|")]
    assert [len(names) for names in found] == [len(names) for names in expected]
    for names, parts in zip(found, expected, strict=True):
        pairs = zip(names, parts, strict=True)
        assert all(name.split(".", 2)[-1].count(part) for name, part in pairs)


class Toy(nn.Module):
    """An embedding, and layers that `order` calls by number for each batch."""

    def __init__(self, order):
        super().__init__()
        self.embed = nn.Embedding(32, 4)
        self.layers = nn.ModuleList(nn.Linear(4, 4) for _ in range(3))
        self.order = order
        self.eval().requires_grad_(False)

    def forward(self, input_ids, use_cache):
        x = self.embed(input_ids)
        for number in self.order(input_ids):
            x = self.layers[number](x)
        return x

    def named_layers(self):
        return {str(i): layer for i, layer in enumerate(self.layers)}


def test_h_by_hand_is_the_sum_of_the_outer_products_of_all_tokens():
    network = Toy(lambda _: [0])
    network.embed.weight[:3, :2] = torch.tensor([[1.0, 2.0], [3.0, 0.0], [0.0, 1.0]])
    network.embed.weight[:, 2:] = 0
    ids, layer = [torch.tensor([[0, 1]]), torch.tensor([[2]])], {"0": network.layers[0]}
    ((names, inputs, _),) = walk(network, ("X", "H"), ids, layer)
    assert names == ["0"]
    assert inputs["X"][:, :2].tolist() == [[1, 2], [3, 0], [0, 1]]
    assert inputs["H"][:2, :2].tolist() == [[1 + 9, 2], [2, 4 + 1]]


def exact_of(X):
    """XᵀX in float64."""
    return X.double().T @ X.double()


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_h_is_summed_in_float32_whatever_the_model_computes_in(dtype):
    with closing(walk(tiny.model(dtype=dtype), ("X", "H"))) as groups:
        inputs = next(groups).inputs
    X, H = inputs["X"], inputs["H"]
    assert X.dtype == dtype and H.dtype == torch.float32
    # a sum of n products, each rounded: at most n eps of the sum of their magnitudes
    bound = len(X) * torch.finfo(torch.float32).eps * exact_of(X.abs())
    assert ((H - exact_of(X)).abs() <= bound).all()


def test_a_layer_that_only_some_texts_reach_is_calibrated_on_those():
    def order(ids):
        return [0, 1, 2] if ids[0, 0] == 7 else [0, 2]

    network = Toy(order)
    ids = [torch.tensor([[3, 4]]), torch.tensor([[7, 5, 6]]), torch.tensor([[8]])]
    rows = {
        n[0]: len(i["X"])
        for n, i, _ in walk(network, ("X",), ids, network.named_layers())
    }
    assert rows == {"0": 6, "1": 3, "2": 6} and list(rows) == ["0", "1", "2"]


@pytest.mark.parametrize(
    ("order", "message"),
    [
        (lambda ids: [0, 1, 0, 2], "model Toy calls 0 more than once per batch"),
        (lambda ids: [0, 2], "never reaches 1; give more text, or leave it out with"),
        (
            lambda ids: [0, 1, 2] if ids.shape[1] == 2 else [2, 1, 0],
            "model Toy runs 1 in another order on some texts",
        ),
    ],
)
def test_layers_that_cannot_be_calibrated_one_by_one_are_named(order, message):
    network = Toy(order)
    ids = [torch.tensor([[3, 4]]), *batches((1, 3), (1, 4))]
    with pytest.raises(ValueError, match=message):
        list(walk(network, ("H",), ids, network.named_layers()))
    assert not hooks_and_batches(network)


def hooks_and_batches(network):
    """What must not be left behind."""
    hooks = [m for m in network.modules() if m._forward_pre_hooks or m._forward_hooks]
    batches = [b for b in gc.get_objects() if type(b) is calibrate._Batch and b]
    return hooks + batches


@pytest.mark.parametrize("how", ["end", "close", "error", "error in the model"])
def test_no_hook_and_no_batch_stays(how):
    network = tiny.model()
    groups = walk(network)
    if how == "error in the model":
        network.model.layers[1].mlp.up_proj.weight = None
        with pytest.raises(TypeError):
            list(groups)
    elif how == "end":
        list(groups)
    else:
        next(groups)
        assert hooks_and_batches(network)
        if how == "close":
            groups.close()
        else:
            with pytest.raises(KeyboardInterrupt):
                groups.throw(KeyboardInterrupt)
    assert not hooks_and_batches(network)


def test_others_may_run_the_model_meanwhile():
    network = tiny.model()
    expected = network(input_ids=BATCHES[0]).logits
    with closing(walk(network)) as groups:
        next(groups)
        assert torch.equal(network(input_ids=BATCHES[0]).logits, expected)


def test_a_model_in_training_mode_is_refused():
    with pytest.raises(ValueError, match="training mode; call model.eval"):
        next(walk(tiny.model().train()))


def test_inputs_that_overflow_are_named():
    network = tiny.model(dtype=torch.float16)
    network.model.embed_tokens.weight.fill_(float("inf"))
    message = r"q_proj inputs in torch.float16 that are not finite; load the model with"
    with pytest.raises(ValueError, match=message):
        list(walk(network, ("H",)))


def test_without_x_and_h_no_text_goes_through_the_model():
    network, ran = tiny.model(), []
    network.model.layers[0].register_forward_hook(lambda *_: ran.append(0))
    assert [len(names) for names, *_ in walk(network, ())] == 2 * [3, 1, 2, 1]
    assert len(ran) == 1  # a few tokens, to see the order
