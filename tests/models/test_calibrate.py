"""Block by block, calibration finds the inputs that the whole model has."""

import gc
import weakref
from functools import partial

import pytest
import torch
from helpers import tiny
from torch import nn

from minquant.models import calibrate
from minquant.models.linear_layers import decoder_blocks, linear_layers


def batches(*shapes):
    """Random ids, one batch of each shape (batch, time)."""
    generator = torch.Generator().manual_seed(0)
    return [torch.randint(3, 30, shape, generator=generator) for shape in shapes]


BATCHES = batches((3, 12), (2, 20), (1, 5))


def walk(network, calibration):
    """Each block with its linear layers and the function that runs it, in turn."""
    blocks, hidden = decoder_blocks(network), None
    inputs = calibrate.block_inputs(network, blocks, calibration)
    for block, calls in zip(blocks, inputs, strict=True):
        run = partial(calibrate.advance, block, calls, hidden)
        inside = set(block.modules())
        yield {n: m for n, m in linear_layers(network).items() if m in inside}, run
        hidden = run()


def whole_forward(network, calibration):
    """What each linear layer reads when the model itself runs, all rows."""
    read = {name: [] for name in linear_layers(network)}
    for name, layer in linear_layers(network).items():
        layer.register_forward_pre_hook(
            lambda _, args, name=name: read[name].append(args[0].flatten(0, -2))
        )
    for ids in calibration:
        network(input_ids=ids)
    return {name: torch.cat(rows) for name, rows in read.items()}


@pytest.mark.parametrize("kind", tiny.CONFIGS)
def test_each_layer_reads_block_by_block_what_it_reads_in_the_whole_model(kind):
    expected = whole_forward(tiny.model(kind), BATCHES)
    for layers, run in walk(tiny.model(kind), BATCHES):
        for names in calibrate.sharing(layers, run):
            X = calibrate.collect(layers, names, run, "X")
            for name in names:
                assert torch.equal(X, expected.pop(name))
    assert not expected


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
    layers, run = next(walk(tiny.model(kind), BATCHES))
    found = calibrate.sharing(layers, run)
    expected = [names.split() for names in groups.split("|")]
    assert [len(names) for names in found] == [len(names) for names in expected]
    for names, parts in zip(found, expected, strict=True):
        pairs = zip(names, parts, strict=True)
        assert all(name.split(".", 2)[-1].count(part) for name, part in pairs)


def test_h_by_hand_is_the_sum_of_the_outer_products_of_all_tokens():
    layer = nn.Linear(2, 1, bias=False)
    calls = [
        calibrate.Call(torch.tensor([[[1.0, 2.0], [3.0, 0.0]]]), (), {}),
        calibrate.Call(torch.tensor([[[0.0, 1.0]]]), (), {}),
    ]
    run = partial(calibrate.advance, layer, calls)
    X = calibrate.collect({"only": layer}, ["only"], run, "X")
    H = calibrate.collect({"only": layer}, ["only"], run, "H")
    assert X.tolist() == [[1, 2], [3, 0], [0, 1]]
    assert H.tolist() == [[1 + 9, 2], [2, 4 + 1]]


def exact_of(X):
    """XᵀX in float64."""
    return X.double().T @ X.double()


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_h_is_summed_in_float32_whatever_the_model_computes_in(dtype):
    layers, run = next(walk(tiny.model(dtype=dtype), BATCHES))
    name = next(iter(layers))
    X = calibrate.collect(layers, [name], run, "X")
    H = calibrate.collect(layers, [name], run, "H")
    exact = exact_of(X)
    assert X.dtype == dtype and H.dtype == torch.float32
    # a sum of n products, each rounded: at most n eps of the sum of their magnitudes
    bound = len(X) * torch.finfo(torch.float32).eps * exact_of(X.abs())
    assert ((H - exact).abs() <= bound).all()


def test_running_a_block_leaves_no_trace_so_it_can_run_again():
    _, run = next(walk(tiny.model("GPT2"), BATCHES))
    for first, second in zip(run(), run(), strict=True):
        assert torch.equal(first, second)


def test_the_first_blocks_inputs_are_freed_when_the_second_is_asked_for():
    network = tiny.model()
    inputs = calibrate.block_inputs(network, decoder_blocks(network), BATCHES)
    held = [weakref.ref(call.hidden) for call in next(inputs)]
    later = next(inputs)
    gc.collect()
    assert all(ref() is None for ref in held)
    assert all(call.hidden is None for call in later)
    assert list(inputs) == []


def test_a_block_runs_only_as_far_as_the_group():
    layers, run = next(walk(tiny.model(), BATCHES))
    late = [n for n in layers if n.endswith(("o_proj", "up_proj", "down_proj"))]
    ran = []
    for name in late:
        layers[name].register_forward_hook(lambda *_, name=name: ran.append(name))
    groups = calibrate.sharing(layers, run)
    ran.clear()
    for names in groups[:3]:
        calibrate.collect(layers, names, run, "H")
    assert ran == late[:1] * len(BATCHES)  # for gate and up, and nothing after them


def test_no_hook_stays_after_success_or_interruption():
    network = tiny.model()
    layers, run = next(walk(network, BATCHES))

    def interrupted():
        raise KeyboardInterrupt

    calibrate.sharing(layers, run)
    for what in ("X", "H"):
        with pytest.raises(KeyboardInterrupt):
            calibrate.collect(layers, list(layers), interrupted, what)
    assert not any(m._forward_pre_hooks or m._forward_hooks for m in network.modules())


def test_a_model_in_training_mode_is_refused():
    network = tiny.model().train()
    with pytest.raises(ValueError, match="training mode; call model.eval"):
        next(calibrate.block_inputs(network, decoder_blocks(network), BATCHES))


class Odd(nn.Module):
    """Two blocks that are not a chain: the second reads what the first read, doubled,
    or the first one runs twice."""

    def __init__(self, twice):
        super().__init__()
        self.embed = nn.Embedding(32, 4)
        self.layers = nn.ModuleList(nn.Linear(4, 4) for _ in range(2))
        self.twice = twice
        self.eval()

    def forward(self, input_ids, use_cache):
        x = self.embed(input_ids)
        y = self.layers[0](x)
        return self.layers[1](self.layers[0](y) if self.twice else 2 * x)


@pytest.mark.parametrize(("twice", "culprit"), [(False, 1), (True, 0)])
def test_blocks_that_are_no_chain_are_refused(twice, culprit):
    network = Odd(twice)
    with pytest.raises(
        ValueError, match=f"Odd does not call its decoder layer {culprit} e"
    ):
        next(calibrate.block_inputs(network, network.layers, BATCHES))


def test_a_layer_that_no_token_reaches_is_named():
    layers, run = next(walk(tiny.model(), BATCHES))
    with pytest.raises(ValueError, match="never reaches idle; give more text, or leav"):
        calibrate.sharing({**layers, "idle": nn.Linear(4, 4)}, run)
    assert calibrate.sharing({}, run) == []


def test_inputs_that_overflow_are_named():
    network = tiny.model(dtype=torch.float16)
    network.model.embed_tokens.weight.fill_(float("inf"))
    layers, run = next(walk(network, BATCHES))
    message = r"q_proj inputs in torch.float16 that are not finite; load the model with"
    with pytest.raises(ValueError, match=message):
        calibrate.collect(layers, list(layers), run, "H")


def test_only_x_and_h_are_collected():
    layers, run = next(walk(tiny.model(), BATCHES))
    with pytest.raises(ValueError, match="what is 'Y'; choose 'X' or 'H'"):
        calibrate.collect(layers, list(layers), run, "Y")
