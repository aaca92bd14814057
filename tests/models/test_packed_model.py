"""A packed model computes what the quantized one does, in the memory promised."""

import copy
import functools

import pytest
import torch
from helpers import tiny
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import nn

from minquant import almanac
from minquant.layers import lora
from minquant.layers.linear import Int8Linear, QuantLinear
from minquant.measure import evaluate
from minquant.methods import rtn
from minquant.models import packed_model, quantize
from minquant.models.linear_layers import linear_layers, size, weight_of
from minquant.models.load import load
from minquant.numerics import grids, groups

BY16, BY64 = groups.per_group(16), groups.per_group(64)
IDS = torch.randint(3, 30, (2, 20), generator=torch.Generator().manual_seed(0))


def rounding(bits, cut=BY16):
    """Zero-point rounding as a method."""
    return functools.partial(
        rtn.quantize_rtn, grid=grids.zero_point(bits), granularity=cut
    )


INT4 = rounding(4)
nf4 = functools.partial(rtn.quantize_rtn, grid=grids.NF4, granularity=BY16)


@functools.cache
def bundled():
    """The bundled model, its tokenizer, and some test text."""
    network, tokenizer = load()
    return network, tokenizer, almanac.documents("test", 6)


def logits(network):
    """The predictions of a model for IDS."""
    with torch.no_grad():
        return network(input_ids=IDS).logits


def stored(network):
    """Bytes of all tensors of a model in memory, each counted once."""
    tensors = [*network.parameters(), *network.buffers()]
    return sum({t.data_ptr(): t.nbytes for t in tensors}.values())


@pytest.mark.parametrize(
    ("method", "layout"),
    [
        (rounding(4, BY64), "auto"),
        (rounding(4, BY64), "stream"),
        (rounding(3, BY64), "auto"),
        (rounding(2, BY64), "words"),
        (lora.nf4, "auto"),
    ],
)
def test_the_bundled_model_packed_has_the_perplexity_of_the_quantized_one(
    method, layout
):
    original, tokenizer, texts = bundled()
    twin, report = quantize.quantize(original, method, progress=False)
    plain = evaluate.perplexity(twin, tokenizer, texts, progress=False)
    packed_model.pack_(twin, report, layout=layout)
    packed = evaluate.perplexity(twin, tokenizer, texts, progress=False)
    assert packed.value == pytest.approx(plain.value, rel=1e-3)
    assert (
        packed.value
        != evaluate.perplexity(original, tokenizer, texts, progress=False).value
    )


@pytest.mark.parametrize("bits", [2, 3, 4, 8])
def test_memory_is_the_arithmetic_within_two_percent(bits):
    original, _, _ = bundled()
    twin, report = quantize.quantize(original, rounding(bits, BY64), progress=False)
    expected = size(twin, report, dtype=None)
    before = stored(twin)
    packed_model.pack_(twin, report)
    found = packed_model.packed_size(twin, dtype=None)
    linear = sum(weight_of(layer).numel() for layer in linear_layers(original).values())
    arithmetic = linear * (bits + (16 + bits) / 64) / 8  # codes, scales, zeros
    assert found.quantized == pytest.approx(arithmetic, rel=0.02)
    assert found.total == pytest.approx(expected.total, rel=0.02)
    assert stored(twin) == before - 4 * linear + found.quantized  # nothing else is left
    assert found.weights == linear and found.layers == len(report)
    assert found.bits_per_weight == pytest.approx(expected.bits_per_weight, rel=0.02)


@pytest.mark.parametrize("kind", tiny.CONFIGS)
@pytest.mark.parametrize("method", [rounding(4), nf4])
def test_every_family_computes_the_same_packed_and_unpacked_again(kind, method):
    network = tiny.model(kind)
    report = quantize.quantize_(network, method, progress=False)
    before = logits(network)
    assert packed_model.pack_(network, report) is network
    assert len(packed_model.coded_layers(network)) == len(report)
    torch.testing.assert_close(logits(network), before, rtol=1e-4, atol=1e-3)
    assert packed_model.unpack_(network) is network
    assert not packed_model.coded_layers(network)
    torch.testing.assert_close(logits(network), before, rtol=1e-4, atol=1e-3)
    for name, quantized in report.items():
        layer = network.get_submodule(name)
        assert type(layer) is nn.Linear
        assert torch.equal(layer.weight, quantized.dequantize())


def test_all_else_is_left_alone_and_biases_share_their_memory():
    network = tiny.model("GPT2")
    report = quantize.quantize_(network, INT4, progress=False)
    linear = linear_layers(network)
    biases = {name: layer.bias.data_ptr() for name, layer in linear.items()}
    inside = {id(p) for layer in linear.values() for p in layer.parameters()}
    others = {id(p) for p in network.parameters()} - inside
    packed_model.pack_(network, report)
    assert others <= {id(p) for p in network.parameters()}
    for name, layer in packed_model.coded_layers(network).items():
        assert layer.bias.data_ptr() == biases[name] and not layer.bias.requires_grad


def test_layers_that_share_a_weight_share_their_codes():
    network = tiny.model()
    first, second = (network.model.layers[i].mlp.up_proj for i in (0, 1))
    second.weight = first.weight
    report = quantize.quantize_(network, rounding(4), progress=False)
    before, expected = logits(network), size(network, report)
    packed_model.pack_(network, report)
    first, second = (network.model.layers[i].mlp.up_proj for i in (0, 1))
    codes = [next(layer.buffers()).data_ptr() for layer in (first, second)]
    assert codes[0] == codes[1]
    assert packed_model.packed_size(network).total == pytest.approx(
        expected.total, rel=0.02
    )
    torch.testing.assert_close(logits(network), before, rtol=1e-4, atol=1e-3)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_a_model_in_sixteen_bits_stays_in_them(dtype):
    network = tiny.model(dtype=dtype)
    report = quantize.quantize_(network, rounding(4), progress=False)
    packed_model.pack_(network, report)
    assert logits(network).dtype == dtype
    packed_model.unpack_(network)
    assert {p.dtype for p in network.parameters()} == {dtype}
    layer = next(iter(linear_layers(network).values()))
    assert torch.equal(layer.weight, next(iter(report.values())).dequantize(dtype))


def test_int8_swaps_in_the_other_layer_and_keeps_the_predictions():
    network = tiny.model()
    before = logits(network)
    packed_model.int8_(network, only="mlp", threshold=3.0)
    kinds = [type(layer) for layer in packed_model.coded_layers(network).values()]
    assert kinds == 6 * [Int8Linear]
    off = (logits(network) - before).norm() / before.norm()
    assert 0 < off < 0.05
    for name, layer in packed_model.coded_layers(network).items():
        assert layer.bits_per_weight == 8 + 32 / layer.in_features, name
    predicted = logits(network)
    packed_model.unpack_(network)
    assert (logits(network) - predicted).norm() < 0.05 * before.norm()


# --- files ---


def packed_tiny(kind="Llama", method=INT4, **options):
    """A tiny packed model."""
    network = tiny.model(kind)
    return packed_model.pack_(
        network, quantize.quantize_(network, method, progress=False), **options
    )


@pytest.mark.parametrize("kind", ["Llama", "GPT2", "OPT"])
@pytest.mark.parametrize(
    "make",
    [
        functools.partial(packed_tiny, method=rounding(4), layout="words"),
        functools.partial(packed_tiny, method=rounding(3), layout="stream"),
        functools.partial(packed_tiny, method=nf4),
        lambda kind: packed_model.int8_(tiny.model(kind)),
    ],
)
def test_a_file_gives_the_model_back_bit_for_bit(kind, make, tmp_path):
    network = make(kind=kind)
    packed_model.save(network, tmp_path / "packed.safetensors")
    again = packed_model.load_(
        tiny.model(kind, seed=1), tmp_path / "packed.safetensors"
    )
    assert torch.equal(logits(again), logits(network))
    assert repr(again) == repr(network)
    state, expected = again.state_dict(), network.state_dict()
    assert list(state) == list(expected)
    assert all(torch.equal(state[name], expected[name]) for name in state)


def test_a_file_is_about_as_large_as_the_model(tmp_path):
    original, _, _ = bundled()
    twin, report = quantize.quantize(original, lora.nf4, progress=False)
    packed_model.save(packed_model.pack_(twin, report), tmp_path / "packed.safetensors")
    header = 40_000  # names, shapes and forms of 21 layers
    found = (tmp_path / "packed.safetensors").stat().st_size
    promised = packed_model.packed_size(twin, dtype=None).total
    assert promised <= found < promised + header


def test_shared_codes_are_written_once_and_shared_again(tmp_path):
    network = tiny.model()
    network.model.layers[1].mlp.up_proj.weight = network.model.layers[
        0
    ].mlp.up_proj.weight
    packed_model.pack_(
        network, quantize.quantize_(network, rounding(4), progress=False)
    )
    packed_model.save(network, tmp_path / "packed.safetensors")
    with safe_open(tmp_path / "packed.safetensors", "pt") as file:
        assert "model.layers.1.mlp.up_proj.scales" not in file.keys()  # noqa: SIM118
    again = packed_model.load_(tiny.model(seed=1), tmp_path / "packed.safetensors")
    first, second = (again.model.layers[i].mlp.up_proj for i in (0, 1))
    assert first.scales.data_ptr() == second.scales.data_ptr()
    assert torch.equal(logits(again), logits(network))


def test_a_state_dict_can_be_saved_with_safetensors_alone(tmp_path):
    network, other = packed_tiny(), packed_tiny()
    for layer in packed_model.coded_layers(other).values():
        for buffer in layer.buffers():
            buffer.zero_()
    save_file(network.state_dict(), tmp_path / "plain.safetensors")
    other.load_state_dict(load_file(tmp_path / "plain.safetensors"))
    assert torch.equal(logits(other), logits(network))


# --- what is refused ---


def test_what_does_not_fit_is_named_and_nothing_changes(tmp_path):
    network = tiny.model()
    report = quantize.quantize_(network, rounding(4), progress=False)
    name = "model.layers.0.mlp.up_proj"
    with pytest.raises(ValueError, match="report names 'lm_head', which is no linear"):
        packed_model.pack_(network, {**report, "lm_head": report[name]})
    wrong = {**report, name: report["model.layers.0.mlp.down_proj"]}
    with pytest.raises(ValueError, match=r"up_proj of shape \(32, 48\), but t"):
        packed_model.pack_(network, wrong)
    assert not packed_model.coded_layers(network)
    packed_model.pack_(network, report)
    with pytest.raises(ValueError, match="no linear layer of the model .now.; g"):
        packed_model.pack_(network, report)
    with pytest.raises(ValueError, match="only='none' names no layer; the layers a"):
        packed_model.int8_(tiny.model(), only="none")
    with pytest.raises(ValueError, match=r"only=\['up'\] names \['up'\]"):
        packed_model.int8_(tiny.model(), only=["up"])


def test_files_of_others_are_refused(tmp_path):
    plain, packed = tmp_path / "plain.safetensors", tmp_path / "packed.safetensors"
    save_file({"a": torch.ones(2)}, plain)
    with pytest.raises(ValueError, match="has no header of minquant's; write the fi"):
        packed_model.load_(tiny.model(), plain)
    packed_model.save(packed_tiny(), packed)
    with pytest.raises(
        ValueError, match="does not fit the model: model.layers.0.*has codes, but"
    ):
        packed_model.load_(tiny.model("GPT2"), packed)
    with pytest.raises(
        ValueError,
        match=r"does not fit the model: .*embed_tokens.weight is \(32, 32\), but in",
    ):
        packed_model.load_(tiny.model(vocab_size=40), packed)


def test_a_deep_copy_shares_no_memory():
    network = packed_tiny()
    twin = copy.deepcopy(network)
    next(iter(packed_model.coded_layers(twin).values())).scales.zero_()
    assert not torch.equal(logits(twin), logits(network))
    assert all(
        isinstance(m, QuantLinear) for m in packed_model.coded_layers(twin).values()
    )
