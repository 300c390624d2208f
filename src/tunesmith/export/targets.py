"""Where a model can go: device, execution provider and precision, and the recipe that makes the files for it.

The table is what the exporters can do, no more: a pair that is not in it is refused, with those that are.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from tunesmith.errors import UsageError, nearest

Kind = Literal["decoder", "head", "encoder-decoder"]
Builder = Literal["model_builder", "torch.onnx", "gguf"]

DEVICES = ("cpu", "gpu", "npu")
PRECISIONS = ("fp32", "fp16", "bf16", "int8", "int4")
#: Execution providers by the short names that the model builder, Olive's users and we write.
PROVIDERS = {
    "cpu": "CPUExecutionProvider",
    "cuda": "CUDAExecutionProvider",
    "dml": "DmlExecutionProvider",
    "webgpu": "WebGpuExecutionProvider",
    "nvtensorrtrtx": "NvTensorRTRTXExecutionProvider",
    "openvino": "OpenVINOExecutionProvider",
    "qnn": "QNNExecutionProvider",
    "vitisai": "VitisAIExecutionProvider",
    "tensorrt": "TensorrtExecutionProvider",
    "rocm": "ROCMExecutionProvider",
    "migraphx": "MIGraphXExecutionProvider",
    "coreml": "CoreMLExecutionProvider",
}
_ALSO = {"directml": "dml", "trt-rtx": "nvtensorrtrtx", "js": "webgpu"}


@dataclass(frozen=True)
class Target:
    """What a model is made for."""

    device: str
    provider: str
    precision: str


@dataclass(frozen=True)
class Recipe:
    """How the files for a target are made.

    Attributes:
        builder: the exporter.
        precision: of the weights.
        options: for the builder, by its own names; ``execution_provider`` among them.
        ran_here: whether the result was run on such hardware by the tests; the others were built only.
        static_shapes: whether every dimension has to be given a value.
        words: what a user should know.
    """

    builder: Builder
    precision: str
    options: Mapping[str, Any] = field(default_factory=dict)
    ran_here: bool = False
    static_shapes: bool = False
    words: str = ""


def _decoder(provider: str, precision: str, *, ran_here: bool = False, words: str = "", **options: Any) -> Recipe:
    return Recipe("model_builder", precision, {"execution_provider": provider, **options}, ran_here=ran_here, words=words)


def _static(precision: str, words: str) -> Recipe:
    return Recipe("torch.onnx", precision, static_shapes=True, words=words)


_BUILT = "built here, but never run on such hardware"
_STOOD_IN = "built here and run by OpenVINO on a CPU, but never on an NPU"
#: What the model builder of onnxruntime-genai builds; every row is built by the tests on a tiny model.
DECODERS: dict[Target, Recipe] = {
    **{Target("cpu", PROVIDERS["cpu"], name): _decoder("cpu", name, ran_here=True) for name in ("fp32", "int8", "int4")},
    **{Target("gpu", PROVIDERS["cuda"], name): _decoder("cuda", name, words=_BUILT) for name in PRECISIONS},
    **{Target("gpu", PROVIDERS["dml"], name): _decoder("dml", name, words=_BUILT) for name in ("fp16", "int4")},
    **{Target("gpu", PROVIDERS["webgpu"], name): _decoder("webgpu", name, words=_BUILT) for name in ("fp16", "int8", "int4")},
    **{Target("gpu", PROVIDERS["nvtensorrtrtx"], name): _decoder("NvTensorRtRtx", name, words=_BUILT) for name in ("fp16", "bf16")},
    # it wants quantize and dequantize as nodes of their own, in which the builder can't share a quantized embedding with the output layer
    Target("gpu", PROVIDERS["nvtensorrtrtx"], "int4"): _decoder("NvTensorRtRtx", "int4", words=_BUILT, shared_embeddings=False),
}
#: What torch.onnx exports: heads, encoders, encoder-decoders.
GRAPHS: dict[Target, Recipe] = {
    **{Target("cpu", PROVIDERS["cpu"], name): Recipe("torch.onnx", name, ran_here=True) for name in ("fp32", "int8")},
    **{Target("gpu", PROVIDERS[name], "fp32"): Recipe("torch.onnx", "fp32", words=_BUILT) for name in ("cuda", "dml")},
    **{Target("npu", PROVIDERS[name], "fp32"): _static("fp32", _BUILT) for name in ("qnn", "vitisai")},
    **{Target("npu", PROVIDERS["openvino"], name): _static(name, _STOOD_IN) for name in ("fp32", "int8")},
}
TARGETS: dict[Kind, dict[Target, Recipe]] = {"decoder": DECODERS, "head": GRAPHS, "encoder-decoder": GRAPHS}
#: Tried in this order when nobody names a precision: the smallest first.
SMALLEST_FIRST: dict[Kind, tuple[str, ...]] = {
    "decoder": ("int4", "int8", "fp16", "fp32"),
    "head": ("int8", "fp32"),
    "encoder-decoder": ("int8", "fp32"),
}
_USUAL_PROVIDER = {"cpu": ("cpu",), "gpu": ("cuda", "dml", "webgpu"), "npu": ("openvino", "qnn", "vitisai")}


def provider_name(text: str) -> str:
    """Return the full name of an execution provider, from its full or short name in any spelling of case.

    Raises:
        UsageError: for one that isn't known; the nearest is named.
    """
    short = text.strip().lower().removesuffix("executionprovider")
    short = _ALSO.get(short, short)
    if short not in PROVIDERS:
        known = ", ".join(PROVIDERS.values())
        raise UsageError(
            f"--provider {text} is not known; there are: {known}", fix=nearest(text, [*PROVIDERS.values(), *PROVIDERS]) or None
        )
    return PROVIDERS[short]


def choose_target(
    kind: Kind, *, device: str | None = None, provider: str | None = None, precision: str | None = None, available: tuple[str, ...] = ()
) -> Target:
    """Return the target that the user named, filled up with what this machine has.

    Args:
        kind: of model.
        device: ``cpu``, ``gpu`` or ``npu``; by default that of the provider, else the CPU.
        provider: an execution provider; by default the first of the device's usual ones that ``available`` names.
        precision: by default the smallest that the exporter makes for it.
        available: execution providers of this machine.

    Raises:
        UsageError: for a pair that no recipe is for; it names those that there are.
    """
    table = TARGETS[kind]
    chosen = provider_name(provider) if provider else None
    if device is None:
        of_provider = [target.device for target in table if target.provider == chosen]
        device = of_provider[0] if of_provider else "cpu"
    if device not in DEVICES:
        raise UsageError(f"--device {device} is not known; there are: {', '.join(DEVICES)}")
    if chosen is None:
        usual = [
            PROVIDERS[name] for name in _USUAL_PROVIDER[device] if any(t.device == device and t.provider == PROVIDERS[name] for t in table)
        ]
        chosen = next((name for name in usual if name in available), usual[0] if usual else PROVIDERS[_USUAL_PROVIDER[device][0]])
    if precision is None:
        precision = next((name for name in SMALLEST_FIRST[kind] if Target(device, chosen, name) in table), "fp32")
    target = Target(device, chosen, precision)
    if target not in table:
        raise UsageError(f"a {kind} model can't be made for {_shown(target)}", fix=_possible(kind, target))
    return target


def recipe_for(kind: Kind, target: Target, **options: Any) -> Recipe:
    """Return the recipe for a target of the table, with more options for its builder."""
    recipe = TARGETS[kind][target]
    return replace(recipe, options={**recipe.options, **options})


def table_rows(kind: Kind) -> list[tuple[str, str, str, str]]:
    """Return the table for people: device, provider, precisions, and whether it was run or only built."""
    found: dict[tuple[str, str, bool], list[str]] = {}
    for target, recipe in TARGETS[kind].items():
        found.setdefault((target.device, target.provider, recipe.ran_here), []).append(target.precision)
    return [(device, provider, ", ".join(names), "run" if ran else "built only") for (device, provider, ran), names in found.items()]


def _possible(kind: Kind, target: Target) -> str:
    """The pairs nearest to what was asked: other precisions of the same provider, else other providers of the device, else everything."""
    table = TARGETS[kind]
    same = [found for found in table if found.provider == target.provider and found.device == target.device]
    if same:
        return f"For {target.provider} on {target.device} there is --precision {', '.join(found.precision for found in same)}"
    rows = [row for row in table_rows(kind) if row[0] == target.device] or table_rows(kind)
    return "There is: " + "; ".join(f"--device {device} --provider {provider} --precision {names}" for device, provider, names, _ in rows)


def _shown(target: Target) -> str:
    return f"--device {target.device} --provider {target.provider} --precision {target.precision}"
