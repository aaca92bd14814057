"""Weights that others passed over in silence: experts in tensors of three dimensions,
and whatever else is no linear layer.

Reported as NVIDIA/Model-Optimizer#1187 (experts of Mixtral, Qwen2-MoE, Qwen3-MoE, OLMoE
and DeepSeek-V3 in transformers 5), #1173 and #2011 (91 % of Gemma 4 "silently skipped";
50 GB of Qwen3.5's experts), and AI-Hypercomputer/maxtext#5293. Experts that calibration
hardly reaches: ModelCloud/GPTQModel#1680. Routers quantized by mistake: mlc-llm#2012.
"""

import functools
import json

import pytest
import torch
import transformers
from helpers import tiny

from minquant.measure.evaluate import perplexity
from minquant.methods.awq import quantize_awq, quantize_awq_shared
from minquant.methods.gptq import quantize_gptq
from minquant.methods.rtn import quantize_rtn
from minquant.models import folds, packed_model
from minquant.models.calibrate import groups
from minquant.models.experts import separate_experts_
from minquant.models.linear_layers import Report, linear_layers, weight_of
from minquant.models.load import load
from minquant.models.packed_folder import load_exported_
from minquant.models.quantize import quantize, quantize_
from minquant.models.text import calibration_batches
from minquant.numerics.grids import symmetric_full, zero_point
from minquant.serving.export import export

IDS = torch.randint(3, 30, (2, 20), generator=torch.Generator().manual_seed(0))
METHODS = {
    "rtn": functools.partial(quantize_rtn, grid=symmetric_full(4)),
    "gptq": functools.partial(quantize_gptq, grid=symmetric_full(4), damping=0.1),
    "awq": functools.partial(
        quantize_awq_shared, grid=symmetric_full(4), ratios=(0, 0.5), clip=None
    ),
}
SHARES = {  # of the weights, in experts and attention and shared experts, of the tiny
    "Mixtral": 0.94,
    "Qwen2Moe": 0.92,
    "Qwen3Moe": 0.94,
    "Olmoe": 0.94,
    "GptOss": 0.92,
    "DeepseekV3": 0.91,
}
PER_BLOCK = {"Qwen2Moe": 4 + 4 * 3 + 3}  # the others have no shared experts


@pytest.fixture(scope="module")
def batches():
    """Calibration text of 400 tokens."""
    texts = tiny.texts_of("calibration", 40)
    return calibration_batches(tiny.tokenizer(), texts, batch=8)


def logits(network):
    """What a model says of IDS."""
    with torch.no_grad():
        return network(input_ids=IDS).logits


@pytest.mark.parametrize("kind", tiny.MIXTURES)
@pytest.mark.parametrize("name", METHODS)
def test_experts_are_quantized_by_every_method(kind, name, batches):
    network = tiny.model(kind)
    names = list(network.state_dict())
    twin, report = quantize(network, METHODS[name], calibration=batches)
    layers = linear_layers(twin)
    assert list(report) == list(layers)
    if kind != "DeepseekV3":  # its first block has no experts
        assert len(report) == 2 * PER_BLOCK.get(kind, 4 + 4 * 3)
    for layer, quantized in report.items():
        assert torch.equal(weight_of(layers[layer]), quantized.dequantize())
    coded = sum(q.codes.numel() for q in report.values())
    share = coded / sum(p.numel() for p in network.parameters())
    assert share >= SHARES[kind]
    assert share + sum(left.share for left in report.left.values()) == pytest.approx(1)
    assert list(network.state_dict()) == names  # the original is as it was


@pytest.mark.parametrize("kind", tiny.MIXTURES)
def test_routers_stay_floats_and_are_reported(kind):
    network = tiny.model(kind)
    twin, report = quantize(network, METHODS["rtn"], progress=False)
    routers = [n for n, left in report.left.items() if left.why == "routers"]
    moe = 1 if kind == "DeepseekV3" else 2
    assert len(routers) == moe * (2 if kind == "Qwen2Moe" else 1)
    for name in routers:
        assert "gate" in name or "router" in name
        assert torch.equal(twin.get_parameter(name), network.get_parameter(name))
    assert not any(left.why == "other matrices" for left in report.left.values())


@pytest.mark.parametrize("kind", tiny.MIXTURES)
def test_each_expert_is_calibrated_on_the_tokens_that_are_sent_to_it(kind, batches):
    network = separate_experts_(tiny.model(kind))
    expected = tiny.inputs_read(network, batches)
    network = separate_experts_(tiny.model(kind))
    layers, seen = linear_layers(network), set()
    for names, inputs, too_few in groups(network, layers, batches, ("X", "H")):
        assert not too_few
        for name in names:
            X = expected[name].float()
            torch.testing.assert_close(inputs["X"], X, rtol=1e-4, atol=1e-4)
            torch.testing.assert_close(inputs["H"], X.T @ X, rtol=1e-3, atol=1e-2)
            seen.add(name)
    assert seen == set(layers)


def test_an_expert_that_no_token_reaches_is_rounded_to_nearest_and_named(capsys):
    network = tiny.model("Qwen3Moe")
    ids = [IDS[:1, :3]]  # three tokens, two experts for each: some have too few
    before = {
        n: weight_of(m)
        for n, m in linear_layers(separate_experts_(tiny.model("Qwen3Moe"))).items()
    }
    options = {"grid": zero_point(4)}
    for method in (quantize_gptq, quantize_awq):
        capsys.readouterr()
        partial = functools.partial(method, **options)
        _, report = quantize(network, partial, calibration=ids)
        assert any("0 tokens" in why for why in report.rounded_to_nearest.values())
        for name, why in report.rounded_to_nearest.items():
            assert ".experts." in name and "tokens reached it; " in why
            expected = quantize_rtn(before[name], zero_point(4))
            if method is quantize_gptq:
                assert torch.equal(report[name].codes, expected.codes)
            else:
                assert torch.equal(
                    report[name].input_scales, torch.ones(before[name].shape[1])
                )
        others = [n for n in report if n not in report.rounded_to_nearest]
        assert len(others) >= 8 + 2 * 3
        first = next(iter(report.rounded_to_nearest))
        assert (
            f"rounded to nearest, for want of text ({first}" in capsys.readouterr().out
        )


def test_interrupted_work_keeps_the_names_of_what_was_only_rounded():
    method = functools.partial(quantize_gptq, grid=zero_point(4))
    options = {"calibration": [IDS[:1, :3]], "progress": False}
    _, whole = quantize(tiny.model("Qwen3Moe"), method, **options)
    network, report, calls = tiny.model("Qwen3Moe"), Report(), []

    def stops(W, H):
        calls.append(0)
        if len(calls) == 20:
            raise KeyboardInterrupt
        return method(W, H=H)

    with pytest.raises(KeyboardInterrupt):
        quantize_(network, stops, report=report, **options)
    assert report.rounded_to_nearest and len(report) < len(whole)
    resumed = quantize_(network, method, report=report, **options)
    assert resumed.rounded_to_nearest == whole.rounded_to_nearest
    assert all(torch.equal(resumed[n].codes, whole[n].codes) for n in whole)
    with pytest.raises(TypeError, match=r"report is a dict, .*; give Report\(\)"):
        quantize_(network, method, report={}, **options)


@pytest.mark.parametrize("kind", tiny.MIXTURES)
def test_float_inputs_of_experts_are_those_of_the_model_as_it_was(kind, batches):
    seen = []

    def method(W, X):
        seen.append(X.clone())
        return quantize_rtn(W, zero_point(2))

    network = separate_experts_(tiny.model(kind))
    found = groups(network, linear_layers(network), batches, ("X",))
    expected = [inputs["X"] for names, inputs, _ in found for _ in names]
    quantize_(network, method, calibration=batches, float_inputs=True, progress=False)
    assert all(torch.equal(a, b) for a, b in zip(seen, expected, strict=True))


def test_one_line_says_what_was_quantized_and_what_was_not(capsys):
    quantize(tiny.model("Llama"), METHODS["rtn"])
    # 2 (2 · 32² + 2 · 16 · 32 + 3 · 48 · 32) = 15360 of 15360 + 2 · 32² + 5 · 32
    assert capsys.readouterr().out == (
        "quantized: 87.4% of the weights, in 14 layers; floats: embeddings 5.8%, "
        "output head 5.8%, norms and biases 0.9%\n"
    )
    quantize(tiny.model("Llama"), METHODS["rtn"], only="mlp")
    assert (
        "layers left out by only= 35.0% (model.layers.0.self_attn.q_proj.weight, "
        in (capsys.readouterr().out)
    )
    quantize(tiny.model("Llama"), METHODS["rtn"], progress=False)
    assert not capsys.readouterr().out


OTHERS = {  # what is neither linear layer nor embedding nor norm, and what it holds
    "Mamba": (
        {"vocab_size": 32, "hidden_size": 32, "num_hidden_layers": 2, "state_size": 8},
        {"A_log", "conv1d.weight"},
    ),
    "Llama4Text": (
        {**tiny.SIZE, **tiny.LOCAL, "head_dim": 8, "intermediate_size_mlp": 48},
        {"experts.gate_up_proj", "experts.down_proj"},
    ),
    "JetMoe": (
        {**tiny.SIZE, **tiny.LOCAL, "kv_channels": 8},
        {"input_linear.weight", "output_linear.weight"},
    ),
}


@pytest.mark.parametrize("kind", OTHERS)
def test_matrices_that_are_no_linear_layers_are_named(kind, monkeypatch):
    config, parts = OTHERS[kind]
    monkeypatch.setitem(tiny.CONFIGS, kind, config)
    network = tiny.model(kind)
    report = quantize_(network, METHODS["rtn"], progress=False)
    other = {n for n, left in report.left.items() if left.why == "other matrices"}
    assert {part for part in parts if any(n.endswith(part) for n in other)} == parts
    assert all(n.endswith(tuple(parts)) for n in other)
    assert next(iter(other)) in report.summary() or "other matrices" in report.summary()
    coded = {f"{name}.weight" for name in report}
    assert coded | set(report.left) == {name for name, _ in network.named_parameters()}


@pytest.mark.parametrize("kind", tiny.MIXTURES)
def test_a_mixture_is_judged_packed_saved_and_opened_again(kind, batches, tmp_path):
    made, report = quantize(tiny.model(kind), METHODS["gptq"], calibration=batches)
    expected, texts = logits(made), tiny.texts_of("test", 4)
    judged = perplexity(made, tiny.tokenizer(), texts, progress=False)
    packed_model.pack_(made, report)
    torch.testing.assert_close(logits(made), expected, rtol=1e-4, atol=1e-4)
    again = perplexity(made, tiny.tokenizer(), texts, progress=False)
    assert again.nats == pytest.approx(judged.nats, rel=1e-4)
    packed_model.save(made, tmp_path / "packed.safetensors")
    opened = packed_model.load_(
        tiny.model(kind, seed=1), tmp_path / "packed.safetensors"
    )
    assert torch.equal(logits(opened), logits(made))
    size = packed_model.packed_size(opened)
    assert size.layers == len(report)
    assert size.bits_per_weight < 6


def halved(kind):
    """A mixture whose weights are numbers of fp16, so that storing loses nothing."""
    network = tiny.model(kind)
    for weight in network.parameters():
        weight.copy_(weight.half())
    return network


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("kind", [k for k in tiny.MIXTURES if k != "GptOss"])
def test_transformers_opens_the_exported_folder_as_it_was_meant(kind, packed, tmp_path):
    pytest.importorskip("compressed_tensors", reason="transformers reads it with that")
    made, report = quantize(halved(kind), METHODS["rtn"], progress=False)
    expected = {n: weight_of(m).clone() for n, m in linear_layers(made).items()}
    said = logits(made)
    if packed:
        packed_model.pack_(made, report)
    folder = export(made, report, None, tmp_path / "out")
    config = json.loads((folder / "config.json").read_text())["quantization_config"]
    routers = [n for n in report.left if report.left[n].why == "routers"]
    assert {n.removesuffix(".weight") for n in routers} < set(config["ignore"])
    opened = transformers.AutoModelForCausalLM.from_pretrained(
        folder, dtype=torch.float32, device_map=None
    ).eval()
    logits(opened)  # which decompresses the rest
    for name, layer in linear_layers(separate_experts_(opened)).items():
        W = expected[name]
        assert ((weight_of(layer) - W).abs() <= 2.0**-10 * W.abs()).all()  # fp16
    ours = load_exported_(tiny.model(kind, seed=1), folder)
    torch.testing.assert_close(logits(ours), said, rtol=1e-3, atol=1e-3)


def test_what_transformers_would_open_wrongly_is_refused_before_anything_is_written(
    tmp_path,
):
    rtn = METHODS["rtn"]
    coarse = functools.partial(quantize_rtn, grid=symmetric_full(8))
    folder = tmp_path / "out"
    made, report = quantize(tiny.model("GptOss"), rtn, progress=False)
    with pytest.raises(ValueError, match=r"experts \(model.*, and gpt_oss stores them"):
        export(made, report, None, folder)
    made, report = quantize(tiny.model("Mixtral"), rtn, only="attn", progress=False)
    with pytest.raises(ValueError, match="has no model.layers.0.mlp.experts.0.w1, but"):
        export(made, report, None, folder)
    report.update(quantize_(made, coarse, only="experts", progress=False))
    with pytest.raises(ValueError, match="q_proj|o_proj .*of different bits or groups"):
        export(made, report, None, folder)
    for kind in tiny.MIXTURES:
        made, report = quantize(tiny.model(kind), rtn, progress=False)
        with pytest.raises(
            ValueError, match=f"model is of type '{made.config.model_type}"
        ):
            export(made, report, tiny.tokenizer(), folder, format="gguf")
    assert not list(tmp_path.iterdir())


def test_awqs_scales_of_experts_stay_and_fold_says_so(batches):
    made, report = quantize(
        tiny.model("Qwen3Moe"), METHODS["awq"], calibration=batches, progress=False
    )
    expected = logits(made)
    folded = folds.fold_(made, report)
    # scales of up_proj are rounded to fp16 once more
    torch.testing.assert_close(logits(made), expected, rtol=1e-2, atol=1e-2)
    kept = {n for n, q in folded.report.items() if q.input_scales is not None}
    assert kept == set(folded.left)
    assert {n for n in report if n.endswith((".gate_proj", ".up_proj"))} <= kept
    assert folded.report.left == report.left


def test_load_separates_experts(tmp_path):
    network = tiny.model("Mixtral")
    network.save_pretrained(tmp_path)
    tiny.tokenizer().save_pretrained(tmp_path)
    opened, _ = load(tmp_path)
    assert len(linear_layers(opened)) == 2 * (4 + 4 * 3)
    torch.testing.assert_close(logits(opened), logits(network))
