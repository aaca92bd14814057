"""minquant: quantize language models, every method written from scratch.

    import minquant as mq

    model, tokenizer = mq.load()
    small, report = mq.quantize(model, partial(mq.quantize_rtn, grid=mq.absmax(4)))

These are the names that a learner types. Each is loaded when it is first used, so that
importing minquant costs little. All else is found by its place: README.md shows the
rooms.
"""

import importlib
from typing import Any

NAMES = {  # the module, and the names of it that stand here
    "models.load": "load",
    "models.quantize": "quantize quantize_",
    "models.linear_layers": "linear_layers weight_of size Report",
    "models.text": "documents_from calibration_batches encode generate",
    "models.folds": "fold fold_ plant_outliers",
    "models.packed_model": "pack_ unpack_ packed_size int8_",
    "models.packed_folder": "load_exported_",
    "models.report_folder": "ReportFolder",
    "numerics.grids": "absmax symmetric_full signed zero_point TERNARY Codebook NF4 "
    "FP4 FP8_E4M3 FP8_E5M2",
    "numerics.groups": "PER_TENSOR PER_CHANNEL per_group",
    "numerics.scales": "E4M3 E8M0",
    "numerics.double_quant": "DoubleQuantized",
    "numerics.ruler": "Ruler",
    "numerics.tensor": "QuantizedTensor",
    "methods.rtn": "quantize_rtn quantize_with fake_quantize",
    "methods.llm_int8": "llm_int8",
    "methods.smoothquant": "quantize_smooth quantize_smooth_shared",
    "methods.gptq": "quantize_gptq",
    "methods.awq": "quantize_awq quantize_awq_shared",
    "methods.hqq": "quantize_hqq",
    "kernels.packed_words": "pack_matrix",
    "kernels.matmul": "matmul",
    "layers.linear": "QuantLinear Int8Linear",
    "layers.lora": "LoraLinear",
    "measure.evaluate": "perplexity compare kl_and_flips accuracy compare_accuracy "
    "layer_error",
    "measure.exam": "exam compare_exams",
    "measure.measured": "measured",
    "measure.intervals": "bootstrap wilson won_back",
    "serving.export": "export check_export",
    "serving.compress": "compress",
    "course.progress": "predict reveal progress clear_progress",
}
MODULES = {"almanac": "almanac", "checks": "course.checks"}  # these stand here whole
_PLACES = {name: module for module, names in NAMES.items() for name in names.split()}

__all__ = sorted([*_PLACES, *MODULES])


def __getattr__(name: str) -> Any:
    """A public name, from the module that holds it (PEP 562)."""
    if name in MODULES:
        return importlib.import_module(f"minquant.{MODULES[name]}")
    if name in _PLACES:
        value = getattr(importlib.import_module(f"minquant.{_PLACES[name]}"), name)
        globals()[name] = value
        return value
    raise AttributeError(f"minquant has no {name!r}; it has {', '.join(__all__)}")


def __dir__() -> list[str]:
    """What completion offers."""
    return __all__
