"""Nothing done, nothing said: bitsandbytes#629, llm-foundry#916, transformers#30703.

A model that was quantized already is "quantized" again without a word; weights that are
loaded onto the device meta go nowhere. A call does what its name says, or raises.
"""

from functools import partial

import pytest
import torch
import transformers
from helpers import tiny

import minquant as mq
from minquant.models import packed_model
from minquant.training import adapter_files
from minquant.training.adapters import (
    add_adapters_,
    merge_adapters_,
    remove_adapters_,
    trainable,
)

IDS = torch.arange(4, 24)[None]
symmetric = partial(mq.quantize_rtn, grid=mq.symmetric_full(8))
nf4_by_16 = partial(mq.quantize_rtn, grid=mq.NF4, granularity=mq.per_group(16))


def packed(kind="Llama", method=nf4_by_16, **options):
    """A tiny packed model."""
    network = tiny.model(kind, **options)
    return mq.pack_(network, mq.quantize_(network, method, progress=False))


def empty(config, **options):
    """A model of this config without numbers."""
    with torch.device("meta"):
        return transformers.AutoModelForCausalLM.from_config(config, **options).eval()


# --- quantized already ---


@pytest.mark.parametrize("only", [None, "up_proj"])
def test_a_packed_model_is_not_quantized_again_without_a_word(only):
    for network, kind in (
        (packed(), "QuantLinear"),
        (mq.int8_(tiny.model()), "Int8Linear"),
    ):
        seen = (
            f"no layer of floats: its 14 layers are {kind} and hold codes; mq.unpack_"
        )
        for act in (
            partial(mq.quantize_, method=symmetric, progress=False),
            partial(mq.quantize, method=symmetric, progress=False),
            mq.int8_,
        ):
            with pytest.raises(ValueError, match=seen):
                act(network, only=only)
        assert mq.quantize_(mq.unpack_(network), symmetric, progress=False)


def test_what_there_is_nothing_to_do_for_is_said():
    with pytest.raises(ValueError, match="report is empty; give the one that"):
        mq.pack_(tiny.model(), {})
    with pytest.raises(ValueError, match="has no packed layers; they are floats"):
        mq.unpack_(tiny.model())
    for act in (merge_adapters_, remove_adapters_, trainable):
        with pytest.raises(ValueError, match="has no adapters; put some on with"):
            act(tiny.model())
    with pytest.raises(ValueError, match=r"\(now\); fold the scales before you pack"):
        mq.fold_(packed(), mq.quantize_(tiny.model(), symmetric, progress=False))
    with pytest.raises(ValueError, match="names no layer; the layers are"):
        mq.int8_(tiny.model(), only="experts")


def test_adapters_still_go_onto_a_packed_model():
    network = add_adapters_(packed())
    assert len(trainable(network)) == 28


# --- loaded onto meta ---


@pytest.mark.parametrize("tied", [False, True])
@pytest.mark.parametrize("kind", tiny.CONFIGS)
def test_a_packed_file_is_loaded_into_a_model_without_numbers(kind, tied, tmp_path):
    network = packed(kind, tie_word_embeddings=tied)
    packed_model.save(network, tmp_path / "p.safetensors")
    made = empty(network.config)
    assert packed_model.load_(made, tmp_path / "p.safetensors") is made
    tensors = [*made.parameters(), *made.buffers()]
    assert {tensor.device.type for tensor in tensors} == {"cpu"}
    assert torch.equal(made(IDS).logits, network(IDS).logits)
    one = made.get_output_embeddings().weight is made.get_input_embeddings().weight
    assert one == tied
    assert repr(made) == repr(network)


@pytest.mark.parametrize("dtype", [torch.float16, torch.float32])
@pytest.mark.parametrize("kind", ["Llama", "Qwen2", "OPT", "Gemma3Text"])
def test_a_folder_is_loaded_into_a_model_without_numbers(kind, dtype, tmp_path):
    network = tiny.model(kind, dtype=torch.float16)
    report = mq.quantize_(network, symmetric, progress=False)
    folder = mq.export(network, report, None, tmp_path / "out")
    made = mq.load_exported_(empty(network.config, dtype=dtype), folder)
    tensors = [*made.parameters(), *made.buffers()]
    assert {tensor.device.type for tensor in tensors} == {"cpu"}
    assert {p.dtype for p in made.parameters()} == {dtype}
    expected = mq.load_exported_(tiny.model(kind, seed=1, dtype=dtype), folder)
    assert torch.equal(made(IDS).logits, expected(IDS).logits)


def test_a_buffer_that_nobody_computes_is_named(tmp_path):
    network = packed()
    packed_model.save(network, tmp_path / "p.safetensors")
    made = empty(network.config)
    lost = torch.ones(3, device="meta")
    made.model.norm.register_buffer("lost", lost, persistent=False)
    with pytest.raises(ValueError, match="keep 1 tensors on meta, .*: model.norm.lost"):
        packed_model.load_(made, tmp_path / "p.safetensors")
    assert not packed_model.coded_layers(made)


def test_a_model_without_numbers_is_not_written(tmp_path):
    made = empty(tiny.model().config)
    with pytest.raises(ValueError, match="has 21 tensors on meta, without numbers: mo"):
        packed_model.save(made, tmp_path / "p.safetensors")
    adapter_files.save_adapters(add_adapters_(tiny.model(), method=None), tmp_path)
    with pytest.raises(ValueError, match="_proj on meta, without numbers; load the mo"):
        adapter_files.load_adapters_(made, tmp_path, method=None)
    assert not (tmp_path / "p.safetensors").exists()
