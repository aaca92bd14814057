"""A folder for other programs: it says what we meant, whole or not at all."""

import copy
import functools
import json

import pytest
import torch
from helpers import tiny
from safetensors.torch import load_file, save_file
from torch import nn

from minquant.layers.linear import QuantLinear
from minquant.methods import rtn
from minquant.methods.awq import quantize_awq_shared
from minquant.models import folds, packed_model, quantize
from minquant.models.linear_layers import size
from minquant.models.packed_folder import load_exported_
from minquant.models.text import calibration_batches
from minquant.numerics import grids, groups
from minquant.serving.export import export, without_eos

BY16 = groups.per_group(16)
IDS = torch.randint(3, 30, (2, 20), generator=torch.Generator().manual_seed(0))


def method(bits=4, cut=BY16, **options):
    """Symmetric rounding as a method."""
    grid = grids.symmetric_full(bits)
    return functools.partial(rtn.quantize_rtn, grid=grid, granularity=cut, **options)


def halved(kind):
    """A tiny model whose weights are numbers of fp16, so that storing loses nothing."""
    network = tiny.model(kind)
    for weight in network.parameters():
        weight.copy_(weight.half())
    return network


def quantized(kind="Qwen2", **options):
    """A tiny model, its copy in 4 bits, and the report."""
    network = halved(kind)
    made, report = quantize.quantize(network, method(**options), progress=False)
    return network, made, report


def logits(network):
    """What a model says of IDS."""
    with torch.no_grad():
        return network(input_ids=IDS).logits


def opened(folder):
    """What transformers makes of a folder, in fp32."""
    pytest.importorskip("compressed_tensors", reason="transformers reads it with that")
    from transformers import AutoModelForCausalLM

    return AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()


@pytest.mark.parametrize("kind", ["Llama", "Qwen2", "OPT"])
@pytest.mark.parametrize("bits", [4, 8])
def test_transformers_opens_the_folder_and_computes_what_we_do(kind, bits, tmp_path):
    _, made, report = quantized(kind, bits=bits)
    folder = export(made, report, tiny.tokenizer(), tmp_path / "out")
    torch.testing.assert_close(logits(opened(folder)), logits(made))


@pytest.mark.parametrize("kind", ["Llama", "Qwen2", "OPT"])
def test_the_folder_comes_back_into_packed_layers(kind, tmp_path):
    _, made, report = quantized(kind)
    folder = export(made, report, None, tmp_path / "out")
    again = load_exported_(tiny.model(kind, seed=1), folder)
    layers = packed_model.coded_layers(again)
    assert list(layers) == list(report)
    assert all(type(layer) is QuantLinear for layer in layers.values())
    torch.testing.assert_close(logits(again), logits(made))


def test_layers_of_two_widths_are_named_in_groups_and_read_back(tmp_path):
    network = halved("Qwen2")
    report = quantize.quantize_(network, method(4), only="mlp", progress=False)
    report |= quantize.quantize_(
        network, method(8, groups.PER_CHANNEL), only="self_attn", progress=False
    )
    folder = export(network, report, None, tmp_path / "out")
    said = json.loads((folder / "config.json").read_text())["quantization_config"]
    kinds = [g["weights"] for g in said["config_groups"].values()]
    assert [(k["num_bits"], k["strategy"]) for k in kinds] == [
        (4, "group"),
        (8, "channel"),
    ]
    torch.testing.assert_close(logits(opened(folder)), logits(network))


def test_layers_that_were_left_in_floats_are_said_to_be(tmp_path):
    network = halved("Qwen2")
    report = quantize.quantize_(network, method(), only="mlp", progress=False)
    folder = export(network, report, None, tmp_path / "out")
    said = json.loads((folder / "config.json").read_text())["quantization_config"]
    assert "model.layers.0.self_attn.q_proj" in said["ignore"]
    assert "model.layers.0.mlp.up_proj" not in said["ignore"]
    torch.testing.assert_close(logits(opened(folder)), logits(network))


def test_a_packed_model_is_exported_as_well(tmp_path):
    _, made, report = quantized()
    plain = export(made, report, None, tmp_path / "plain")
    packed = packed_model.pack_(copy.deepcopy(made), report)
    other = export(packed, report, None, tmp_path / "packed")
    one, two = (load_file(f / "model.safetensors") for f in (plain, other))
    assert one.keys() == two.keys()
    assert all(torch.equal(one[name], two[name]) for name in one)
    assert (plain / "config.json").read_text() == (other / "config.json").read_text()


@pytest.mark.parametrize("kind", ["Llama", "Qwen2", "Qwen3", "Mistral"])
def test_folded_scales_of_awq_go_with_the_model(kind, tmp_path):
    network = halved(kind)  # two query heads share each value
    how = {"grid": grids.symmetric_full(4), "granularity": BY16}
    awq = functools.partial(quantize_awq_shared, **how)
    texts = tiny.texts_of("calibration", 4)
    batches = calibration_batches(tiny.tokenizer(), texts, batch=2)
    report = quantize.quantize_(network, awq, calibration=batches, progress=False)
    with pytest.raises(ValueError, match="q_proj, whose input_scales.*folds.fold_"):
        export(network, report, None, tmp_path / "out")
    report, left = folds.fold_(network, report)
    assert left == {} and len(report) == 14
    folder = export(network, report, None, tmp_path / "out")
    near = logits(opened(folder)) - logits(network)
    assert near.norm() < 1e-2 * logits(network).norm()  # norms were rounded to fp16


def test_the_tokenizer_is_written_without_the_end_of_text(tmp_path):
    _, made, report = quantized()
    folder = export(made, report, tiny.tokenizer(), tmp_path / "out")
    from transformers import AutoTokenizer

    ids = AutoTokenizer.from_pretrained(folder)("a b")["input_ids"]
    assert ids == tiny.tokenizer()("a b")["input_ids"][:-1]
    assert tiny.tokenizer()("a b")["input_ids"][-1] == 2  # ours still ends


def test_a_tokenizer_that_leaves_texts_open_is_left_alone():
    writes = tiny.tokenizer(ends=False)
    assert without_eos(writes) is writes


def test_the_file_weighs_what_was_counted(tmp_path):
    _, made, report = quantized("Llama")
    folder = export(made, report, None, tmp_path / "out")
    tensors = load_file(folder / "model.safetensors")
    shapes = sum(t.nbytes for n, t in tensors.items() if n.endswith("weight_shape"))
    weighs = sum(t.nbytes for t in tensors.values()) - shapes
    assert weighs == size(made, report).total


def test_a_parameter_that_two_layers_share_is_written_for_both(tmp_path):
    network = halved("Llama")
    first, second = network.model.layers
    second.input_layernorm.weight = first.input_layernorm.weight
    made, report = quantize.quantize(network, method(), progress=False)
    folder = export(made, report, None, tmp_path / "out")
    torch.testing.assert_close(logits(opened(folder)), logits(made))
    again = load_exported_(tiny.model("Llama", seed=1), folder)
    torch.testing.assert_close(logits(again), logits(made))


def test_a_temperature_without_sampling_is_no_obstacle(tmp_path):
    _, made, report = quantized("Llama")
    made.generation_config.temperature = 0.6
    folder = export(made, report, None, tmp_path / "out")
    said = json.loads((folder / "generation_config.json").read_text())
    assert (said["temperature"], said["do_sample"]) == (0.6, True)
    assert not made.generation_config.do_sample  # the model's own stays


@pytest.mark.parametrize(("template", "ids"), [("$A <eos>", [4, 5]), ("$A", [4, 5])])
def test_a_text_that_begins_with_nothing_goes_on_to_do_so(template, ids):
    from tokenizers.processors import TemplateProcessing

    writes = tiny.tokenizer()
    inner = writes.backend_tokenizer
    inner.post_processor = TemplateProcessing(template, special_tokens=[("<eos>", 2)])
    writes.bos_token = writes.eos_token  # as GPT-2 has it
    assert without_eos(writes)("a b")["input_ids"] == ids


def test_nothing_is_left_behind_when_writing_fails(tmp_path):
    class Broken:
        eos_token_id = 2

        def __call__(self, text, **_):
            return {"input_ids": []}

        def save_pretrained(self, place):
            raise OSError("no space left")

    _, made, report = quantized()
    with pytest.raises(OSError, match="no space left"):
        export(made, report, Broken(), tmp_path / "out")
    assert list(tmp_path.iterdir()) == []


def test_bad_input_of_export_is_named_with_what_to_do(tmp_path):
    network, made, report = quantized()
    where = tmp_path / "out"
    with pytest.raises(ValueError, match="exists; give the name of a new one"):
        export(made, report, None, tmp_path)
    with pytest.raises(ValueError, match="report is empty"):
        export(made, {}, None, where)
    zeros = quantize.quantize_(
        network,
        functools.partial(rtn.quantize_rtn, grid=grids.zero_point(4)),
        progress=False,
    )
    with pytest.raises(ValueError, match="q_proj, whose grid is zero_point"):
        export(network, zeros, None, where)
    with pytest.raises(ValueError, match="there the model has None"):
        export(made, {"nowhere": next(iter(report.values()))}, None, where)
    (name, *_), (*_, other) = report, report.values()
    with pytest.raises(ValueError, match=f"report has {name} .*of this model"):
        export(made, {name: other}, None, where)
    made.model.norm.weight.data.fill_(1e5)
    with pytest.raises(ValueError, match="norm.weight with numbers up to 100000.*bfl"):
        export(made, report, None, where)
    assert not where.exists()


def test_conv1d_is_refused(tmp_path):
    made, report = quantize.quantize(tiny.model("GPT2"), method(), progress=False)
    with pytest.raises(ValueError, match="no Conv1D"):
        export(made, report, None, tmp_path / "out")


def test_a_folder_that_does_not_fit_leaves_the_model_as_it_was(tmp_path):
    _, made, report = quantized("Llama")
    folder = export(made, report, None, tmp_path / "out")
    for network in (tiny.model("Qwen2"), tiny.model("Llama", vocab_size=40)):
        before = logits(network)
        with pytest.raises(ValueError, match="does not fit the model: "):
            load_exported_(network, folder)
        assert torch.equal(logits(network), before)
    packed = packed_model.pack_(made, report)
    assert torch.equal(logits(load_exported_(packed, folder)), logits(packed))
    wide = tiny.model("Llama")
    wide.set_submodule("model.layers.0.mlp.down_proj", nn.Linear(16, 32, bias=False))
    with pytest.raises(ValueError, match="down_proj"):
        load_exported_(wide, folder)


def test_folders_in_other_formats_are_refused(tmp_path):
    _, made, report = quantized("Llama")
    folder = export(made, report, None, tmp_path / "out")
    with pytest.raises(ValueError, match="no config.json"):
        load_exported_(made, tmp_path)
    file = folder / "config.json"
    said = json.loads(file.read_text())
    wrong = copy.deepcopy(said)
    wrong["quantization_config"]["config_groups"]["group_0"]["weights"]["num_bits"] = 3
    file.write_text(json.dumps(wrong))
    with pytest.raises(ValueError, match="symmetric integers of 4 or 8"):
        load_exported_(made, folder)
    file.write_text(json.dumps(said | {"quantization_config": {"quant_method": "awq"}}))
    with pytest.raises(ValueError, match="quantization_config is of awq None"):
        load_exported_(made, folder)
    file.write_text(json.dumps(said))
    name = folder / "model.safetensors"
    save_file({k: v for k, v in load_file(name).items() if "norm" not in k}, name, {})
    with pytest.raises(ValueError, match="norm"):
        load_exported_(tiny.model("Llama"), folder)
