"""Files for llama.cpp: it opens them, cuts text into the same tokens, and predicts what
the quantized model predicts."""

import copy
from functools import partial

import pytest
import torch
from helpers import small_gguf, tiny
from helpers.fixture import as_learners_have_it
from helpers.llama_cpp import Engine

import minquant as mq
from minquant.files import gguf
from minquant.models.gguf_model import load_gguf
from minquant.serving.gguf_export import plan_gguf, write_gguf

KINDS = ["Llama", "Qwen2", "Qwen3"]
GRIDS = {
    "Q4_0": mq.symmetric_full(4),
    "Q4_1": mq.zero_point(4),
    "Q5_0": mq.symmetric_full(5),
    "Q8_0": mq.absmax(8),
}


def quantized(model, grid, g=32):
    """A copy on this grid, and its report."""
    method = partial(mq.quantize_rtn, grid=grid, granularity=mq.per_group(g))
    return mq.quantize(model, method, progress=False)


def differences(path, model, text=small_gguf.TEXT):
    """|log p| of llama.cpp minus ours at each token of a text, and greedy agreement."""
    ids = small_gguf.tokenizer()(text)["input_ids"]
    engine = Engine(path)
    try:
        assert engine.tokens(text) == ids
        theirs = engine.logits(ids).log_softmax(-1)
    finally:
        engine.close()
    ours = model(torch.tensor([ids])).logits[0].log_softmax(-1)
    apart = (theirs - ours)[:-1].gather(1, torch.tensor(ids[1:])[:, None]).abs()
    return apart, (theirs.argmax(-1) == ours.argmax(-1)).float().mean()


def test_export_makes_a_folder_for_llama_cpp(tmp_path):
    small, report = quantized(small_gguf.model(), mq.symmetric_full(4))
    folder = mq.export(
        small, report, small_gguf.tokenizer(), tmp_path / "out", format="gguf"
    )
    assert [path.name for path in folder.iterdir()] == ["model.gguf"]
    back, tokenizer = mq.load(folder / "model.gguf")
    for name, q in report.items():
        assert torch.equal(mq.weight_of(back.get_submodule(name)), q.dequantize())
    assert tokenizer("a")["input_ids"] == small_gguf.tokenizer()("a")["input_ids"]


def test_a_failed_export_leaves_no_folder(tmp_path):
    small, report = quantized(small_gguf.model(), mq.NF4)
    with pytest.raises(ValueError, match="no type stores"):
        mq.export(small, report, small_gguf.tokenizer(), tmp_path / "o", format="gguf")
    with as_learners_have_it(), pytest.raises(ValueError, match="is 'onnx'; choose"):
        mq.export(small, report, None, tmp_path / "o", format="onnx")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("tied", [False, True])
@pytest.mark.parametrize("kind", KINDS)
def test_floats_are_predicted_alike(kind, tied, tmp_path):
    model = small_gguf.model(kind, tie_word_embeddings=tied)
    path, tokenizer = tmp_path / "m.gguf", small_gguf.tokenizer()
    write_gguf(model, {}, tokenizer, path, floats="F32", embeddings="F32")
    apart, same = differences(path, model)
    assert apart.max() < 0.02 and same > 0.95  # its cache keeps keys in 16 bits


@pytest.mark.parametrize("name", GRIDS)
@pytest.mark.parametrize("kind", KINDS)
def test_codes_go_in_as_they_are(kind, name, tmp_path):
    small, report = quantized(small_gguf.model(kind), GRIDS[name])
    path = tmp_path / "m.gguf"
    plan = write_gguf(small, report, small_gguf.tokenizer(), path, embeddings="F32")
    assert plan.types["blk.0.ffn_gate.weight"] == name and not plan.replaced
    back, _ = load_gguf(path)
    for layer, q in report.items():
        W_hat = q.dequantize()
        room = W_hat.abs().max() / 1024 if name == "Q4_1" else 0  # its minimum: fp16
        assert (mq.weight_of(back.get_submodule(layer)) - W_hat).abs().max() <= room
    apart, _ = differences(path, back)
    assert (
        apart.mean() < 0.2
    )  # llama.cpp rounds the inputs to 8 bits, of a random model


@pytest.mark.parametrize(("bits", "name"), [(4, "Q4_0"), (5, "Q5_0")])
def test_gptqs_codes_on_the_signed_ruler_go_in_as_they_are(bits, name, tmp_path):
    ruler = {"grid": mq.signed(bits), "granularity": mq.per_group(32)}
    small, report = mq.quantize(
        small_gguf.model(),
        partial(mq.quantize_gptq, act_order=True, **ruler),
        calibration=[torch.arange(64).view(2, 32)],
        progress=False,
    )
    path = tmp_path / "m.gguf"
    plan = write_gguf(small, report, small_gguf.tokenizer(), path, embeddings="F32")
    assert plan.types["blk.0.ffn_gate.weight"] == name and not plan.replaced
    back, _ = load_gguf(path)
    for layer, q in report.items():
        assert (q.scales < 0).any()
        assert torch.equal(mq.weight_of(back.get_submodule(layer)), q.dequantize())
    apart, _ = differences(path, back)
    assert apart.mean() < 0.2  # as above: llama.cpp rounds the inputs to 8 bits


def test_packed_layers_are_written_as_well(tmp_path):
    small, report = quantized(small_gguf.model(), mq.symmetric_full(4))
    first, second = tmp_path / "a.gguf", tmp_path / "b.gguf"
    write_gguf(small, report, small_gguf.tokenizer(), first)
    write_gguf(mq.pack_(small, report), report, small_gguf.tokenizer(), second)
    assert first.read_bytes() == second.read_bytes()


def test_packed_layers_without_a_report_are_unpacked(tmp_path):
    small, report = quantized(small_gguf.model(), mq.NF4)
    packed = mq.pack_(small, report)
    write_gguf(packed, {}, small_gguf.tokenizer(), tmp_path / "m.gguf", floats="F32")
    back, _ = load_gguf(tmp_path / "m.gguf")
    for name, q in report.items():
        assert torch.equal(mq.weight_of(back.get_submodule(name)), q.dequantize())


def test_a_ruler_for_64_weights_is_repeated(tmp_path):
    small, report = quantized(small_gguf.model(), mq.symmetric_full(4), g=32)
    for name, q in report.items():
        if q.codes.shape[1] == 64:
            W = mq.weight_of(small_gguf.model().get_submodule(name))
            report[name] = mq.quantize_rtn(W, mq.symmetric_full(4), mq.per_group(64))
    write_gguf(small, report, small_gguf.tokenizer(), tmp_path / "m.gguf")
    back, _ = load_gguf(tmp_path / "m.gguf")
    for name, q in report.items():
        assert torch.equal(mq.weight_of(back.get_submodule(name)), q.dequantize())


@pytest.mark.parametrize("cutter", ["gpt-2", "smollm", "qwen2", "llama-bpe"])
def test_text_is_cut_into_the_same_tokens(cutter, tmp_path):
    tokenizer = small_gguf.tokenizer(cutter)
    model = small_gguf.model(vocab_size=len(tokenizer))
    write_gguf(model, {}, tokenizer, tmp_path / "m.gguf")
    _, back = load_gguf(tmp_path / "m.gguf")
    engine = Engine(tmp_path / "m.gguf")
    texts = [
        small_gguf.TEXT,
        "  two  spaces,\n\n\ttabs \n and  the end  ",
        "It's 12345 o'clock; they'LL say “Zoë” 量子 🙂 3.14",
        "<|start|>a<|end|><|start|>",
        "x" * 70,
    ]
    for text in texts:
        ids = tokenizer(text)["input_ids"]
        assert back(text)["input_ids"] == ids == engine.tokens(text)
        assert back.decode(ids) == tokenizer.decode(ids)
    engine.close()
    assert back.chat_template == tokenizer.chat_template
    assert (back.bos_token, back.eos_token) == ("<|start|>", "<|end|>")


def test_k_types_are_replaced_where_they_do_not_fit_and_this_is_said(tmp_path):
    model = small_gguf.model(intermediate_size=256)
    plan = write_gguf(
        model, {}, small_gguf.tokenizer(), tmp_path / "m.gguf", floats="Q4_K"
    )
    assert plan.types["blk.0.ffn_down.weight"] == "Q4_K"
    assert plan.types["blk.0.ffn_gate.weight"] == "Q5_0"
    said = plan.replaced["blk.0.ffn_gate.weight"]
    assert said.startswith("Q5_0 in the place of Q4_K: its rows have 64 weights")
    assert plan_gguf(model, {}, floats="Q4_K") == plan
    apart, _ = differences(tmp_path / "m.gguf", load_gguf(tmp_path / "m.gguf")[0])
    assert apart.mean() < 0.2


def test_a_row_of_no_whole_block_stays_a_float():
    plan = plan_gguf(small_gguf.model(intermediate_size=72), {}, floats="Q4_0")
    assert plan.types["blk.1.ffn_down.weight"] == "F16"
    assert "blk.1.ffn_down.weight" in plan.replaced


def test_codes_of_such_a_row_are_stored_as_what_they_stand_for(tmp_path):
    small, report = quantized(
        small_gguf.model(intermediate_size=72), mq.symmetric_full(4)
    )
    names = [f"blk.{i}.ffn_down.weight" for i in (0, 1)]
    said = "F16 in the place of its codes: its rows have 72 weights, no whole number of"
    for model in (small, mq.pack_(copy.deepcopy(small), report)):
        path = tmp_path / f"{type(model.model.layers[0].mlp.up_proj).__name__}.gguf"
        plan = write_gguf(model, report, small_gguf.tokenizer(), path)
        assert plan == plan_gguf(model, report)
        assert list(plan.replaced) == names
        assert all(why.startswith(said) for why in plan.replaced.values())
        back, _ = load_gguf(path)
        for layer, q in report.items():
            W_hat = q.dequantize()
            if layer.endswith("down_proj"):
                W_hat = W_hat.half().float()
            assert torch.equal(mq.weight_of(back.get_submodule(layer)), W_hat)
    apart, _ = differences(path, back)
    assert apart.mean() < 0.2


def test_importance_reaches_the_search(tmp_path):
    model, tokenizer = small_gguf.model(intermediate_size=256), small_gguf.tokenizer()
    layer = "model.layers.0.mlp.down_proj"
    counts = torch.ones(256)
    counts[::2] = 1000.0
    for name, importance in (("a", None), ("b", {layer: counts})):
        write_gguf(
            model, {}, tokenizer, tmp_path / name, floats="Q4_K", importance=importance
        )
    W = mq.weight_of(model.get_submodule(layer))
    errors = []
    for name in "ab":
        read = gguf.read(tmp_path / name).tensors["blk.0.ffn_down.weight"]
        errors.append((read.dequantize() - W).square()[:, ::2].mean())
    assert errors[1] < 0.97 * errors[0]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda m, r: (tiny.model("OPT"), {}), "model is of type 'opt'; GGUF files"),
        (lambda m, r: (m, quantized(m, mq.NF4)[1]), "cannot store: its grid is NF4"),
        (lambda m, r: (m, quantized(m, mq.absmax(4), 16)[1]), "have 16 weights"),
        (lambda m, r: (m, {"other": next(iter(r.values()))}), "other, which the model"),
        (
            lambda m, r: (
                small_gguf.model(
                    rope_parameters={
                        "rope_type": "linear",
                        "factor": 2.0,
                        "rope_theta": 1e4,
                    }
                ),
                {},
            ),
            "rotary",
        ),
    ],
)
def test_what_cannot_be_written_is_refused_before_anything_is(
    change, message, tmp_path
):
    model, report = quantized(small_gguf.model(), mq.symmetric_full(4))
    with pytest.raises(ValueError, match=message):
        write_gguf(*change(model, report), small_gguf.tokenizer(), tmp_path / "m.gguf")
    assert list(tmp_path.iterdir()) == []


def test_a_tokenizer_that_llama_cpp_does_not_have_is_refused(tmp_path):
    with pytest.raises(ValueError, match="of the kind WordLevel, which llama.cpp does"):
        write_gguf(small_gguf.model(), {}, tiny.tokenizer(), tmp_path / "m.gguf")
    assert list(tmp_path.iterdir()) == []
