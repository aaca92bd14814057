"""A report in a folder is the report, and nothing else is taken for one."""

import json
from functools import partial

import pytest
import torch
from helpers import tiny

import minquant as mq
from minquant.methods.awq import quantize_awq_shared
from minquant.models.report_folder import ReportFolder, fingerprint
from minquant.models.text import calibration_batches

SETTINGS = {"method": "gptq", "bits": 4, "damping": None}
BY16 = {"granularity": mq.per_group(16)}
METHODS = {
    "symmetric": partial(mq.quantize_rtn, grid=mq.symmetric_full(3), **BY16),
    "zero-point": partial(mq.quantize_rtn, grid=mq.zero_point(4), **BY16),
    "per tensor": partial(
        mq.quantize_rtn, grid=mq.absmax(8), granularity=mq.PER_TENSOR
    ),
    "double": partial(
        mq.quantize_rtn, grid=mq.NF4, scale_dtype=mq.DoubleQuantized.store, **BY16
    ),
    "float zeros": partial(mq.quantize_hqq, grid=mq.zero_point(4), **BY16),
    "bfloat16": partial(
        mq.quantize_rtn, grid=mq.absmax(4), scale_dtype=torch.bfloat16, **BY16
    ),
    "awq": partial(quantize_awq_shared, grid=mq.symmetric_full(4), **BY16),
}


def batches():
    """Some calibration text."""
    return calibration_batches(tiny.tokenizer(), tiny.texts_of("calibration", 8))


def numbers(quantized):
    """All tensors of a quantized matrix."""
    parts = [quantized.codes, quantized.zeros, quantized.input_scales]
    scales = quantized.scales
    parts += [scales] if isinstance(scales, torch.Tensor) else vars(scales).values()
    return [part for part in parts if part is not None]


@pytest.mark.parametrize("method", METHODS)
def test_what_was_entered_comes_back_bit_for_bit(method, tmp_path):
    report = ReportFolder(tmp_path / "work", tiny.model(), SETTINGS)
    _, entered = mq.quantize(
        tiny.model(),
        METHODS[method],
        calibration=batches(),
        report=report,
        progress=False,
    )
    again = ReportFolder(tmp_path / "work", tiny.model(), SETTINGS)
    assert dict(again).keys() == entered.keys() and len(again) == 14
    for name, quantized in entered.items():
        back = again[name]
        assert (back.grid, back.granularity) == (quantized.grid, quantized.granularity)
        assert back.dtype == quantized.dtype
        assert torch.equal(back.dequantize(), quantized.dequantize())
        for ours, theirs in zip(numbers(back), numbers(quantized), strict=True):
            assert ours.dtype == theirs.dtype and torch.equal(ours, theirs)


def test_layers_that_share_an_input_are_one_file_and_none_is_written_twice(tmp_path):
    report = ReportFolder(tmp_path, tiny.model(), SETTINGS)
    mq.quantize(
        tiny.model(),
        METHODS["awq"],
        calibration=batches(),
        report=report,
        progress=False,
    )
    files = sorted(path.name for path in tmp_path.glob("*.safetensors"))
    assert [name[:4] for name in files] == [f"{i:04}" for i in range(8)]  # q k v, o, …
    report.update(report)
    assert len(list(tmp_path.iterdir())) == 9


def test_every_way_of_entering_a_layer_writes_it(tmp_path):
    q = mq.quantize_rtn(torch.ones(2, 32), mq.absmax(4))
    report = ReportFolder(tmp_path, tiny.model(), SETTINGS)
    report["a"] = q
    report |= {"b": q}
    report.update([("c", q)])
    assert isinstance(report, ReportFolder)
    assert list(ReportFolder(tmp_path, tiny.model(), SETTINGS)) == ["a", "b", "c"]


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({**SETTINGS, "bits": 3}, "a report with bits 4, and now it is 3"),
        ({**SETTINGS, "damping": 0.1}, "with damping None, and now it is 0.1"),
        ({**SETTINGS, "text": "other"}, "with text None, and now it is 'other'"),
        ({"method": "gptq", "damping": None}, "with bits 4, and now it is None"),
    ],
)
def test_other_settings_are_refused_by_name(settings, words, tmp_path):
    ReportFolder(tmp_path, tiny.model(), SETTINGS)
    with pytest.raises(ValueError, match=words):
        ReportFolder(tmp_path, tiny.model(), settings)


def test_another_model_is_refused(tmp_path):
    ReportFolder(tmp_path, tiny.model(), SETTINGS)
    other = tiny.model()
    next(other.parameters())[0, 0] += 0.5
    with pytest.raises(ValueError, match="a report with model '"):
        ReportFolder(tmp_path, other, SETTINGS)


def test_a_fingerprint_sees_names_dtypes_and_bits():
    prints = {
        fingerprint(tiny.model()),
        fingerprint(tiny.model("Qwen2")),
        fingerprint(tiny.model(dtype=torch.bfloat16)),
        fingerprint(tiny.model(seed=1)),
    }
    assert len(prints) == 4 and fingerprint(tiny.model()) in prints


def begun(folder):
    """A folder with one layer in it, and the layer's file."""
    report = ReportFolder(folder, tiny.model(), SETTINGS)
    report["a"] = mq.quantize_rtn(torch.randn(4, 32), mq.absmax(4))
    (file,) = folder.glob("*.safetensors")
    return file


@pytest.mark.parametrize("change", ["cut", "flip", "empty", "renamed"])
def test_a_damaged_file_is_seen(change, tmp_path):
    file = begun(tmp_path)
    data = bytearray(file.read_bytes())
    if change == "cut":
        file.write_bytes(data[:-5])
    elif change == "flip":
        data[-1] ^= 1
        file.write_bytes(data)
    elif change == "empty":
        file.write_bytes(b"")
    else:
        file.rename(file.with_name(f"0000-{'0' * 16}.safetensors"))
    with pytest.raises(ValueError, match=r"0000-.* is damaged.*delete it"):
        ReportFolder(tmp_path, tiny.model(), SETTINGS)


def test_a_file_of_another_program_is_not_read(tmp_path):
    import hashlib

    from safetensors.torch import save

    begun(tmp_path)
    data = save({"a.codes": torch.zeros(3)})
    digest = hashlib.sha256(data).hexdigest()[:16]
    (tmp_path / f"0001-{digest}.safetensors").write_bytes(data)
    with pytest.raises(ValueError, match="0001-.* is damaged, or not of this report"):
        ReportFolder(tmp_path, tiny.model(), SETTINGS)


def test_a_folder_with_other_things_in_it_is_left_alone(tmp_path):
    (tmp_path / "notes.txt").write_text("mine", encoding="utf-8")
    with pytest.raises(ValueError, match=r"holds notes\.txt, which no report does"):
        ReportFolder(tmp_path, tiny.model(), SETTINGS)
    assert [path.name for path in tmp_path.iterdir()] == ["notes.txt"]


def test_a_damaged_description_is_seen(tmp_path):
    begun(tmp_path)
    (tmp_path / "about.json").write_text('{"kind":', encoding="utf-8")
    with pytest.raises(ValueError, match=r"about\.json is missing or damaged"):
        ReportFolder(tmp_path, tiny.model(), SETTINGS)
    (tmp_path / "about.json").unlink()
    with pytest.raises(ValueError, match=r"about\.json is missing or damaged"):
        ReportFolder(tmp_path, tiny.model(), SETTINGS)


def test_a_file_that_was_not_finished_is_not_there(tmp_path):
    file = begun(tmp_path)
    half = tmp_path / "0001-0123456789abcdef.safetensors.unfinished"
    half.write_bytes(file.read_bytes()[:40])
    assert list(ReportFolder(tmp_path, tiny.model(), SETTINGS)) == ["a"]
    assert not half.exists()


def test_a_grid_that_is_too_wide_is_refused_before_it_is_entered(tmp_path):
    report = ReportFolder(tmp_path, tiny.model(), SETTINGS)
    with pytest.raises(ValueError, match="has 12 bits"):
        report["a"] = mq.quantize_rtn(torch.ones(2, 32), mq.absmax(12))
    assert not report and len(list(tmp_path.iterdir())) == 1
    assert json.loads((tmp_path / "about.json").read_text("utf-8"))["bits"] == 4


def test_what_became_of_layers_is_still_named(tmp_path):
    work = tmp_path / "work"
    report = ReportFolder(work, tiny.model(), SETTINGS)
    made, other = (
        mq.quantize_rtn(torch.randn(4, 32), mq.symmetric_full(4)) for _ in range(2)
    )
    report.rounded_to_nearest["few"] = "too little text"
    report.fell_back["many"] = "groups of 64 do not divide rows of 32"
    report.update({"few": made, "many": other})
    again = ReportFolder(work, tiny.model(), SETTINGS)
    assert again.rounded_to_nearest == report.rounded_to_nearest
    assert again.fell_back == report.fell_back
