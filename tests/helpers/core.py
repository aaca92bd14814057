"""What the package computes, as tensors by name, under a global setting of torch.

    python tests/helpers/core.py SETTING FILE

writes them to a safetensors file: in a process of its own, where nothing was imported
or cached under another setting before. SETTING: a dtype, which is then the default one;
or "meta", which is then the default device of whatever is made without a device.
"""

import sys
from functools import partial

import torch
from safetensors.torch import save_file

SETTING = sys.argv[1]
if SETTING != "meta":
    torch.set_default_dtype(getattr(torch, SETTING))
else:
    torch.set_default_device("meta")

import minquant as mq  # noqa: E402  under the setting
from minquant import almanac  # noqa: E402
from minquant.almanac import questions  # noqa: E402
from minquant.files import gguf_blocks, pack_quantized  # noqa: E402
from minquant.kernels import matmul, packed_words  # noqa: E402
from minquant.layers import lora  # noqa: E402
from minquant.measure import evaluate  # noqa: E402
from minquant.methods import (  # noqa: E402
    awq,
    catalog,
    codebooks,
    gptq_derivation,
    llm_int8,
    rotation,
    smoothquant,
)
from minquant.models import kv_cache, rotate_model  # noqa: E402
from minquant.models.w8a8 import w8a8  # noqa: E402
from minquant.numerics.scales import scale_values  # noqa: E402
from minquant.planning import mixed_precision  # noqa: E402
from minquant.training import adapters, finetune, qat  # noqa: E402

found = {}
GROUP = mq.per_group(64)
ON_CPU = {"dtype": torch.float32, "device": "cpu"}
DRAW = {**ON_CPU, "generator": torch.Generator("cpu").manual_seed(0)}
W, X = torch.randn(64, 256, **DRAW), torch.randn(300, 256, **DRAW)
X[:, 5] *= 30
H = X.T @ X


def keep(name, *values):
    """Enter tensors, numbers, or what a method returned."""
    for place, value in enumerate(values):
        key = f"{name} {place}"
        if isinstance(value, mq.QuantizedTensor):
            parts = [value.codes, scale_values(value.scales), value.dequantize()]
            parts += [x for x in (value.zeros, value.input_scales) if x is not None]
            keep(key, *parts)
        elif isinstance(value, torch.Tensor):
            found[key] = value.detach().clone().contiguous()
        elif isinstance(value, dict):
            keep(key, *value.values())
        elif isinstance(value, list | tuple):
            keep(key, *value)
        else:
            found[key] = torch.tensor(value, dtype=torch.float64, device="cpu")


def matrices():
    """Every method, layout and block on one matrix."""
    grids = [mq.absmax(4), mq.symmetric_full(3), mq.zero_point(4), mq.TERNARY]
    for grid in [*grids, mq.NF4, mq.FP4, mq.FP8_E4M3, mq.FP8_E5M2]:
        for clip in (None, "mse"):
            q = mq.quantize_rtn(W, grid, GROUP, clip=clip)
            keep(f"rtn {grid.name} {clip}", q)
        layer = mq.QuantLinear(q)
        keep(f"layer {grid.name}", layer(X), *layer.buffers())
        keep(f"gptq {grid.name}", mq.quantize_gptq(W, H, grid, GROUP))
        keep(f"awq {grid.name}", mq.quantize_awq(W, X, grid, GROUP))
    for n, kind in enumerate(
        (mq.E8M0.store, catalog.scale_type("E4M3", W, mq.FP4), torch.float32)
    ):
        keep(f"scales {n}", mq.quantize_rtn(W, mq.FP4, GROUP, scale_dtype=kind))
    keep("hqq", mq.quantize_hqq(W, mq.zero_point(4)))
    nf4 = lora.nf4(W)
    keep("nf4", nf4, nf4.scales.codes, nf4.scales.absmax, nf4.scales.mean)
    keep("nf4 mse", mq.quantize_rtn(
        W, mq.NF4, GROUP, scale_dtype=mq.DoubleQuantized.store, clip="mse"
    ))  # fmt: skip
    layer = mq.LoraLinear(mq.QuantLinear(nf4), rank=4)
    keep("lora", layer.A, layer(X), layer.merge().weight)
    keep("smooth", mq.quantize_smooth(W, X, mq.absmax(8)))
    keep("smooth scales", smoothquant.smoothing_scales(X.abs().amax(0), W))
    keep("llm.int8", mq.llm_int8(X, W), llm_int8.quantize_rows(W))
    keep("int8 layer", mq.Int8Linear.quantize(W)(X))
    keep("lloyd", codebooks.lloyd(W[:4].flatten(), mq.NF4.levels, rounds=50))
    keep("usage", codebooks.usage(nf4), codebooks.error_by_code(W, nf4))
    keep("carried", codebooks.carried(codebooks.usage(nf4)))
    scores = catalog.at_equal_bits([W], 4.5)
    keep("catalog", [[s.bits_per_weight, s.error] for s in scores.values()])
    turn = rotation.Rotation.random(256)
    keep("rotation", turn.signs, turn.matrix(), turn.apply(X), rotation.hadamard(8))
    keep("salient", awq.salient(X.abs().mean(0)))
    rulers = gptq_derivation.column_rulers(
        mq.quantize_rtn(W[:, :32], mq.absmax(4)), torch.float32
    )
    keep("lazy", gptq_derivation.lazy_batches(W[:, :32], H[:32, :32], rulers))
    packed = mq.pack_matrix(mq.quantize_rtn(W, mq.zero_point(4), GROUP))
    keep("packed", packed.words, packed_words.dequantize(packed))
    for dtype in (torch.float32, torch.bfloat16):
        keep(f"matmul {dtype}", matmul.matmul(X.to(dtype), packed))
    for name in gguf_blocks.TYPES:
        blocks = gguf_blocks.quantize_blocks(W, name)
        keep(f"gguf {name}", blocks, gguf_blocks.dequantize_blocks(blocks, name))
    word_codes = mq.quantize_rtn(W, mq.symmetric_full(4), GROUP)
    keep("words", pack_quantized.tensors_of(word_codes, torch.float16))
    keep("layer error", evaluate.layer_error(W, nf4.dequantize(), X))
    keep("bootstrap", mq.bootstrap(X[:, 0]), mq.wilson(3, 10))


def models():
    """The bundled model: quantized, folded, rotated, measured and trained."""
    network, tokenizer = mq.load()
    texts = almanac.documents("test", 3)
    batches = mq.calibration_batches(tokenizer, almanac.documents("calibration", 4))
    quiet, judge = {"progress": False}, partial(evaluate.perplexity, progress=False)

    def measured(name, made):
        own = judge(made, tokenizer, texts)
        away = evaluate.kl_and_flips(network, made, tokenizer, texts, **quiet)
        keep(name, own.document_nats, own.interval(), away.document_kl, away.kl)
        return own

    start = measured("float", network)
    best = mq.compare(evaluate.perfect_reader(texts), start)
    keep("best", best.mean, best.low, best.high)
    keep("probes", mq.accuracy(network, tokenizer, questions.probes("fact", 10)).mean)
    methods = {
        "rtn": partial(mq.quantize_rtn, grid=mq.NF4, granularity=mq.per_group(32)),
        "gptq": partial(mq.quantize_gptq, grid=mq.zero_point(3)),
        "awq": partial(mq.quantize_awq_shared, grid=mq.absmax(3)),
        "smooth": partial(mq.quantize_smooth_shared, grid=mq.absmax(8)),
    }
    for name, method in methods.items():
        made, report = mq.quantize(network, method, calibration=batches, **quiet)
        keep(f"report {name}", report)
        measured(name, made)
        if name in ("awq", "smooth"):
            folded, _ = mq.fold(made, report)
            measured(f"folded {name}", folded)
        if name == "gptq":
            measured("packed", mq.pack_(made, report))
    for kind in ("absmax", "vector_wise", "llm_int8"):
        with w8a8(network, kind):
            measured(kind, network)
    with kv_cache.rounding(network, kv_cache.Rounding(3, 3, group=8, window=8)):
        measured("cache", network)
    measured("rotated", rotate_model.rotate(network))
    measured("planted", mq.plant_outliers(network, batches, channels=2)[0])
    costs = mixed_precision.sensitivities(
        network, tokenizer, almanac.documents("calibration", 1),
        {3: partial(mq.quantize_rtn, grid=mq.absmax(3))}, **quiet,
    )  # fmt: skip
    keep("costs", [[c.nats for c in options.values()] for options in costs.values()])
    pairs = [(ids, ids) for ids in batches[:2]]
    for way in finetune.WAYS:
        student = finetune.prepared(network, way)
        keep(f"train {way}", finetune.train_(student, pairs))
        keep(f"trained {way}", list(student.model.parameters())[-1])
    with adapters.checkpointed(student.model):
        finetune.batch_loss(student.model, *pairs[0]).backward()
    lessons = qat.one_by_one(tokenizer, almanac.documents("train", 2))
    keep("qat", qat.train(network, lessons, mq.absmax(4), **quiet).losses)


matrices()
models()
save_file(found, sys.argv[2])
