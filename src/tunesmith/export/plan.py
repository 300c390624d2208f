"""What an export is going to do, decided from the options before anything is built: targets to try, and how each is made."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from tunesmith.errors import UsageError
from tunesmith.export.decoder import check_builder, check_extra_options
from tunesmith.export.gguf_folder import gguf_target, ships_as_trained
from tunesmith.export.low_rank_nodes import AdapterPrecision
from tunesmith.export.on_grid import check_grid_options, precision_trained_on, ships_unmerged
from tunesmith.export.source import ExportSource
from tunesmith.export.targets import SMALLEST_FIRST, TARGETS, Recipe, Target, choose_target, recipe_for

BLOCK_SIZES = (16, 32, 64, 128, 256)
#: Formats of GGUF that are tried one after the other for ``--precision auto``.
_GGUF_SMALLEST_FIRST = ("q4_0", "q4_1", "q5_1", "q8_0", "f16")
FileFormat = Literal["onnx", "gguf"]


@dataclass(frozen=True)
class Request:
    """What a user asked for, of the options that say how a model is made.

    Attributes:
        file_format: ``onnx`` or ``gguf``.
        device, provider, precision: None for what suits; ``auto`` as precision is the same.
        use_ort_genai, use_model_builder, exporter: what makes the graph.
        block_size: weights that share one scale.
        dimensions: sizes of dimensions by name.
        extra_options: of the model builder.
        adapter_precision: of an adapter that stays beside the weights.
    """

    file_format: FileFormat = "onnx"
    device: str | None = None
    provider: str | None = None
    precision: str | None = None
    use_ort_genai: bool | None = None
    use_model_builder: bool | None = None
    exporter: str | None = None
    block_size: int | None = None
    dimensions: Mapping[str, int] = field(default_factory=dict)
    extra_options: Mapping[str, Any] = field(default_factory=dict)
    adapter_precision: AdapterPrecision | None = None


@dataclass(frozen=True)
class Plan:
    """One way to make the model.

    Attributes:
        target: what it is for.
        recipe: how it is made.
        adapter_precision: of an adapter that stays beside the weights; None where it is merged.
        dimensions: sizes of dimensions by name.
    """

    target: Target
    recipe: Recipe
    adapter_precision: AdapterPrecision | None = None
    dimensions: Mapping[str, int] = field(default_factory=dict)

    @property
    def file_format(self) -> FileFormat:
        """``onnx`` or ``gguf``."""
        return "gguf" if self.recipe.builder == "gguf" else "onnx"


def dimensions_of(names: Sequence[str] | None, values: Sequence[int] | None) -> dict[str, int]:
    """Return sizes by name.

    Raises:
        UsageError: when there are more of one than of the other, or a size below 1.
    """
    if len(names or ()) != len(values or ()):
        message = f"--dim_param names {len(names or ())} dimensions and --dim_value gives {len(values or ())} sizes"
        raise UsageError(message, fix="For example: --dim_param batch_size,sequence_length --dim_value 1,128")
    if any(value < 1 for value in values or ()):
        raise UsageError(f"--dim_value {', '.join(map(str, values or ()))}: a dimension has at least size 1")
    return dict(zip(names or (), values or (), strict=True))


def plans_for(source: ExportSource, request: Request, *, available: tuple[str, ...] = ()) -> list[Plan]:
    """Return the ways to try, the first that loses nothing ships: one where a precision is named, else the smallest first.

    Args:
        available: execution providers of this machine.

    Raises:
        UsageError: for a target that there is no recipe for, and for options that have no effect.
    """
    precision = None if request.precision == "auto" else request.precision
    if request.file_format == "gguf":
        names = _GGUF_SMALLEST_FIRST if request.precision == "auto" else (precision,)
        return [_gguf_plan(source, request, name) for name in names]
    _check_exporter(source, request)
    first = choose_target(source.kind, device=request.device, provider=request.provider, precision=precision, available=available)
    targets = [first]
    if precision is None:
        order = SMALLEST_FIRST[source.kind]
        trained = precision_trained_on(source)  # off its grid nothing smaller can be as good
        others = (Target(first.device, first.provider, name) for name in order[order.index(trained) if trained in order else 0 :])
        targets = [target for target in others if target in TARGETS[source.kind]]
    return [_plan(source, target, request, chosen=precision is not None) for target in targets]


def _plan(source: ExportSource, target: Target, request: Request, *, chosen: bool) -> Plan:
    options = _builder_options(source, target, request, chosen=chosen)
    recipe = recipe_for(source.kind, target, **options)
    unmerged = ships_unmerged(source, target.precision)
    if unmerged:
        check_grid_options(options)
    elif request.adapter_precision is not None and chosen:
        message = "--adapter_precision is for an adapter that stays beside the weights; this one is merged into them"
        raise UsageError(message, fix="Leave it out, or train on the grid: finetune --method qlora --quant_type onnx-int4")
    _check_dimensions(recipe, request.dimensions)
    precision = (request.adapter_precision or "int8") if unmerged else None
    return Plan(target, recipe, precision, request.dimensions)


def _builder_options(source: ExportSource, target: Target, request: Request, *, chosen: bool) -> dict[str, Any]:
    """Options for the builder, from flags and ``--extra_options``; what would have no effect is refused."""
    options, block_size = dict(request.extra_options), request.block_size
    if source.kind != "decoder":
        if options:
            raise UsageError(f"--extra_options are for the model builder, which makes no {source.kind} model", fix="Leave them out")
        if block_size is not None:
            raise UsageError(f"--block_size has no effect on a {source.kind} model: it is quantized by channel", fix="Leave it out")
        return options
    check_builder()
    check_extra_options(options)
    if block_size is None:
        return options
    if block_size not in BLOCK_SIZES:
        raise UsageError(f"--block_size {block_size} is not possible", fix=f"Possible: {', '.join(map(str, BLOCK_SIZES))}")
    if target.precision not in ("int4", "int8"):
        if chosen:
            raise UsageError(f"--block_size has no effect with --precision {target.precision}: nothing is quantized", fix="Leave it out")
        return options
    if str(options.setdefault("block_size", block_size)) != str(block_size):
        raise UsageError(f"--block_size {block_size} and --extra_options block_size={options['block_size']} differ", fix="Give one of them")
    return options


def _check_exporter(source: ExportSource, request: Request) -> None:
    decoder = source.kind == "decoder"
    for name in ("use_ort_genai", "use_model_builder"):
        value = getattr(request, name)
        if value is not None and value is not decoder:
            flag = f"--{name}" if value else f"--no-{name}"
            what = "onnxruntime-genai runs models that write text" if decoder else f"it runs no {source.kind} model"
            raise UsageError(f"{flag} is not possible: {what}", fix="Leave it out")
    usual = "model_builder" if decoder else "dynamo_exporter"
    if request.exporter is not None and request.exporter != usual:
        raise UsageError(f"--exporter {request.exporter} can't make a {source.kind} model", fix=f"Leave it out, or: --exporter {usual}")


def _gguf_plan(source: ExportSource, request: Request, precision: str | None) -> Plan:
    names = ("provider", "use_ort_genai", "use_model_builder", "exporter", "block_size", "extra_options", "adapter_precision")
    idle = {**{name: getattr(request, name) for name in names}, "dim_param": dict(request.dimensions)}
    target, recipe = gguf_target(source, device=request.device, precision=precision, without_effect=idle)
    return Plan(target, recipe, "fp32" if ships_as_trained(source, recipe.precision) else None)


def _check_dimensions(recipe: Recipe, dimensions: Mapping[str, int]) -> None:
    if dimensions and recipe.builder == "model_builder":
        fix = "Leave them out: prompts of any length are run"
        raise UsageError("--dim_param and --dim_value have no effect on a model that onnxruntime-genai runs", fix=fix)
