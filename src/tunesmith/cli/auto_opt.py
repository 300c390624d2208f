"""``tunesmith auto-opt`` and ``tunesmith optimize``, which are the same; ``quantize`` and ``capture-onnx-graph``, their narrow forms."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from tunesmith.cli.command import Command, Given
from tunesmith.cli.output import print_json
from tunesmith.config.optimize import CaptureOptions, ExportOptions, OptimizeOptions, QuantizeOptions
from tunesmith.config.resolve import FLAG, resolve
from tunesmith.errors import ConfigError, ExportHarm

if TYPE_CHECKING:
    from tunesmith.export.result import Optimized


def run(given: Given, as_json: bool) -> int:
    """Export, and print what came of it."""
    return _run(OptimizeOptions, given, as_json, "auto-opt")


def run_quantize(given: Given, as_json: bool) -> int:
    """Quantize, and print what came of it."""
    return _run(QuantizeOptions, given, as_json, "quantize")


def run_capture(given: Given, as_json: bool) -> int:
    """Make the graph in floating point, and print what came of it."""
    return _run(CaptureOptions, {"precision": "fp32", **given}, as_json, "capture-onnx-graph")


def _run(declared: type[ExportOptions], given: Given, as_json: bool, name: str) -> int:
    from tunesmith import api

    options = resolve(declared, [(FLAG, given)]).options
    if options.output_path is None:
        raise ConfigError(["--output_path is needed"], fix=f"For example: tunesmith {name} RUN -o FOLDER")
    chosen = {field: getattr(options, field) for field in declared.model_fields if field not in ("model_name_or_path", "output_path")}
    try:
        made = api.optimize(options.model_name_or_path, options.output_path, **chosen)
    except ExportHarm as harm:  # what every stage scored is a result, too
        if not as_json:
            print(harm.table)
        raise
    _print(made, as_json)
    return 0


def _print(made: Optimized, as_json: bool) -> None:
    if as_json:
        print_json(made)
        return
    if made.search is not None:
        print(made.search.table())
        rows = made.search.calibrated_on
        for sentence in (*((f"Calibrated on {rows}.",) if rows else ()), *made.search.words):
            print(sentence)
        print()
    if made.certificate is not None:
        print(made.certificate.table())
    for sentence in made.words:
        print(sentence)
    print(f"Model: {made.folder}")


def _usage(name: str) -> tuple[str, ...]:
    return (f"tunesmith {name} RUN -o FOLDER [options]", f"tunesmith {name} -m MODEL [-a ADAPTER] -o FOLDER [options]")


_DESCRIPTION = (
    "Make the files that run on a device: an adapter is merged, the graph built, the weights quantized, and the result proven unharmed."
)
_EXAMPLES = (
    "tunesmith {name} out -o onnx",
    "tunesmith {name} -m out/model -a out/adapter --device cpu --provider CPUExecutionProvider --precision int4 -o onnx",
)

COMMAND = Command(
    name="auto-opt",
    description=_DESCRIPTION,
    usage=_usage("auto-opt"),
    options=OptimizeOptions,
    run=run,
    positionals={1: ("model_name_or_path",)},
    examples=tuple(example.format(name="auto-opt") for example in _EXAMPLES),
)
OPTIMIZE = replace(
    COMMAND, name="optimize", usage=_usage("optimize"), examples=tuple(example.format(name="optimize") for example in _EXAMPLES)
)
QUANTIZE = Command(
    name="quantize",
    description="Make the files of a quantized model; auto-opt does the same, and more.",
    usage=_usage("quantize"),
    options=QuantizeOptions,
    run=run_quantize,
    positionals={1: ("model_name_or_path",)},
    examples=("tunesmith quantize out --precision int8 -o onnx",),
)
CAPTURE = Command(
    name="capture-onnx-graph",
    description="Make the ONNX graph of a model in floating point; auto-opt does the same, and more.",
    usage=_usage("capture-onnx-graph"),
    options=CaptureOptions,
    run=run_capture,
    positionals={1: ("model_name_or_path",)},
    examples=("tunesmith capture-onnx-graph out -o onnx",),
)
