"""From a folder of floats to files that other programs open, as one would work: models
whose widths no group divides, query heads that share values, GPT-2's Conv1D, norms of q
and k. Every step holds what the step before it had, or says beforehand that it cannot.
"""

import copy
from functools import partial

import pytest
import torch
from helpers import small_gguf, tiny
from transformers import AutoModelForCausalLM

import minquant as mq
from minquant.layers.lora import nf4
from minquant.models import packed_model
from minquant.serving.gguf_export import plan_gguf, write_gguf

TOKENS = len(small_gguf.tokenizer())
LLAMA = {"num_attention_heads": 6, "num_key_value_heads": 2, "vocab_size": TOKENS}
SUBJECTS = {  # kind, sizes, the groups to ask for
    "Llama, 96 and 172": (
        "Llama",
        {**LLAMA, "hidden_size": 96, "intermediate_size": 172},
        32,
    ),
    "Llama, 192 and 256": (
        "Llama",
        {**LLAMA, "hidden_size": 192, "intermediate_size": 256},
        128,
    ),
    "Qwen3": (
        "Qwen3",
        {**LLAMA, "hidden_size": 96, "intermediate_size": 128, "head_dim": 32}
        | {"tie_word_embeddings": True},
        64,
    ),
    "GPT2": ("GPT2", {"vocab_size": TOKENS, "n_embd": 96, "n_inner": 172}, 64),
}
SYMMETRIC = {"grid": mq.symmetric_full(4)}
METHODS = {
    "RTN": partial(mq.quantize_rtn, **SYMMETRIC),
    "GPTQ": partial(mq.quantize_gptq, act_order=True, **SYMMETRIC),
    "AWQ": partial(mq.quantize_awq_shared, ratios=(0.0, 0.5), **SYMMETRIC),
    "SmoothQuant": mq.quantize_smooth_shared,
    "NF4": nf4,
}


def words(n, seed):
    """Random words of the tokenizer's letters, as texts of about 30 tokens."""
    generator = torch.Generator().manual_seed(seed)
    picks = torch.randint(97, 123, (n, 10, 3), generator=generator)
    return [" ".join("".join(map(chr, word)) for word in text) for text in picks]


TEXTS = words(6, seed=0)
IDS = torch.randint(2, TOKENS, (2, 24), generator=torch.Generator().manual_seed(1))


def logits(network):
    """What a model says of IDS."""
    with torch.no_grad():
        return network(input_ids=IDS).logits.float()


def apart(found, expected):
    """How far two models' logits are apart, as a share."""
    return ((found - expected).norm() / expected.norm()).item()


@pytest.fixture(scope="module", params=SUBJECTS)
def subject(request, tmp_path_factory):
    """A folder of a model in bf16, and the group size to ask for."""
    kind, sizes, g = SUBJECTS[request.param]
    network = tiny.model(kind, dtype=torch.bfloat16, **sizes)
    folder = tmp_path_factory.mktemp("models") / kind
    network.save_pretrained(folder)
    small_gguf.tokenizer().save_pretrained(folder)
    return folder, g


@pytest.mark.parametrize("name", METHODS)
def test_a_model_goes_all_the_way(subject, name, tmp_path, capsys):
    folder, g = subject
    model, tokenizer = mq.load(folder, dtype=torch.float32)
    before = logits(model)
    method = partial(METHODS[name], granularity=mq.per_group(g))
    batches = mq.calibration_batches(tokenizer, TEXTS, held_out=False)

    small, report = mq.quantize(model, method, calibration=batches)
    assert report.keys() == mq.linear_layers(model).keys()
    odd = {n for n, q in report.items() if q.codes.shape[1] % g}
    assert report.fell_back.keys() == odd and odd
    assert all(report[n].granularity == mq.PER_CHANNEL for n in odd)
    assert f"; {len(odd)} layers have one scale per row" in capsys.readouterr().out

    is_gpt2 = model.config.model_type == "gpt2"
    if name in ("AWQ", "SmoothQuant"):
        unfolded = logits(small)
        report, left = mq.fold_(small, report)
        assert [n for n in left if not n.endswith("mlp.c_proj")] == []
        assert len(left) == (2 if is_gpt2 else 0)  # a GELU stands before it
        assert apart(logits(small), unfolded) < 2**-9
    assert torch.equal(logits(model), before)  # the original is as it was

    options = {"held_out": False, "progress": False}
    judged = [mq.perplexity(m, tokenizer, TEXTS, **options) for m in (model, small)]
    assert all(torch.isfinite(torch.tensor(p.nats)) for p in judged)
    assert mq.kl_and_flips(model, small, tokenizer, TEXTS, **options).kl > 0
    assert mq.compare(*judged).mean != 0

    expected = logits(small)
    packed = mq.pack_(copy.deepcopy(small), report)
    assert apart(logits(packed), expected) < 1e-5
    packed_model.save(packed, tmp_path / "packed.safetensors")
    other = mq.load(folder, dtype=torch.float32)[0]
    for parameter in other.parameters():
        parameter.zero_()
    packed_model.load_(other, tmp_path / "packed.safetensors")
    assert torch.equal(logits(other), logits(packed))
    assert mq.packed_size(other).quantized < sum(
        2 * q.codes.numel() for q in report.values()
    )

    # folding divides norms, which the folder stores in fp16: a random model makes much
    # of 2^-11
    slack = 5e-3 if name in ("AWQ", "SmoothQuant") else 1e-5
    out = tmp_path / "tensors"
    if name == "NF4" or is_gpt2:
        refused = {"NF4": "no word for"}.get(name, "no Conv1D")
        if is_gpt2 and name in ("AWQ", "SmoothQuant"):
            refused = "input_scales are not 1"  # it has two reasons, and says one
        with pytest.raises(ValueError, match=refused):
            mq.export(small, report, tokenizer, out)
        assert not out.exists()
    else:
        mq.export(small, report, tokenizer, out)
        again = mq.load_exported_(mq.load(folder, dtype=torch.float32)[0], out)
        assert apart(logits(again), expected) < slack
        pytest.importorskip("compressed_tensors", reason="transformers reads with that")
        opened = AutoModelForCausalLM.from_pretrained(out, dtype=torch.float32)
        assert apart(logits(opened.eval()), expected) < slack

    out = tmp_path / "gguf"
    if name == "NF4" or is_gpt2:
        refused = "model is of type 'gpt2'" if is_gpt2 else "no type stores"
        with pytest.raises(ValueError, match=refused):
            plan_gguf(small, report)
        with pytest.raises(ValueError, match=refused):
            mq.export(small, report, tokenizer, out, format="gguf")
        assert not out.exists()
    else:
        mq.export(small, report, tokenizer, out, format="gguf")
        opened, _ = mq.load(out / "model.gguf")
        assert apart(logits(opened), expected) < 0.1  # the embeddings are Q8_0
        file = tmp_path / "exact.gguf"
        plan = write_gguf(small, report, tokenizer, file, embeddings="F32")
        assert plan == plan_gguf(small, report, embeddings="F32")
        assert apart(logits(mq.load(file)[0]), expected) < 2**-10
        no_block = {n for n, q in report.items() if q.codes.shape[1] % 32}
        assert len(plan.replaced) == len(no_block)
        assert all("in the place of its codes" in why for why in plan.replaced.values())
