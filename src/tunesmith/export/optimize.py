"""From a model to a folder that runs on a device: find it, choose the target, build, prove, and only then give it its name."""

from __future__ import annotations

import logging
import re
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tunesmith.artifact import check_output_folder, new_folder
from tunesmith.errors import OutputError, UsageError
from tunesmith.export.decoder import build_decoder, check_builder, check_extra_options
from tunesmith.export.folder import model_sizes, write_extras
from tunesmith.export.gguf_folder import build_gguf, gguf_target
from tunesmith.export.source import ExportSource, read_source
from tunesmith.export.targets import Recipe, Target, choose_target, recipe_for
from tunesmith.hardware import detect

log = logging.getLogger(__name__)

BLOCK_SIZES = (16, 32, 64, 128, 256)
_UNITS = {"": 1, "b": 1, "kb": 10**3, "mb": 10**6, "gb": 10**9, "kib": 2**10, "mib": 2**20, "gib": 2**30}


@dataclass(frozen=True)
class Optimized:
    """What an export brought.

    Attributes:
        folder: the exported model.
        target: what it was made for.
        size_bytes: of the model's files.
        seconds: that building took, without the proof.
        words: sentences for people.
    """

    folder: Path
    target: Target
    size_bytes: int
    seconds: float
    words: tuple[str, ...]


def optimize(
    path: str | None,
    output_path: str,
    *,
    adapter_path: str | None = None,
    revision: str | None = None,
    token: str | None = None,
    trust_remote_code: bool = False,
    device: str | None = None,
    provider: str | None = None,
    precision: str | None = None,
    use_ort_genai: bool | None = None,
    use_model_builder: bool | None = None,
    exporter: str | None = None,
    block_size: int | None = None,
    memory: str | int | None = None,
    dim_param: Sequence[str] | None = None,
    dim_value: Sequence[int] | None = None,
    extra_options: Mapping[str, Any] | None = None,
    format: str = "onnx",  # noqa: A002 - the flag's name
    overwrite: bool = False,
) -> Optimized:
    """Write a folder that runs on the target.

    Args:
        path: the folder of a run, a model folder, a GGUF file, a hub id; None for the sample model.
        output_path: the folder to write; it appears when it is whole.
        device, provider, precision: see :func:`tunesmith.export.targets.choose_target`.
        use_ort_genai, use_model_builder, exporter: what makes the graph; refused where the model can't be made that way.
        block_size: weights that share one scale.
        memory: bytes that the model has to fit into.
        dim_param, dim_value: dimensions with a fixed size.
        extra_options: of the model builder.
        format: ``onnx``, or ``gguf`` for llama.cpp, where ``precision`` is one of GGUF's.
        overwrite: replace an earlier result.

    Raises:
        UsageError: for options that have no effect or contradict each other, and for targets that there is no recipe for.
        ModelError: when the model can't be read or built.
        OutputError: when the folder exists, can't be written, or the model is larger than ``memory``.
    """
    final = Path(output_path).expanduser()
    limit = parse_memory(memory)
    _check_dims(dim_param, dim_value)
    check_output_folder(final, overwrite=overwrite)
    source = read_source(path, adapter_path=adapter_path, revision=revision, token=token, trust_remote_code=trust_remote_code)
    if format == "gguf":
        of_onnx = {"provider": provider, "use_ort_genai": use_ort_genai, "use_model_builder": use_model_builder, "exporter": exporter}
        of_onnx |= {"block_size": block_size, "dim_param": dim_param, "extra_options": extra_options}
        target, recipe = gguf_target(source, device=device, precision=precision, without_effect=of_onnx)
    else:
        available = detect(providers=True).providers if device not in (None, "cpu") and provider is None else ()
        target = choose_target(source.kind, device=device, provider=provider, precision=precision, available=available)
        _check_graph_options(source, use_ort_genai=use_ort_genai, use_model_builder=use_model_builder, exporter=exporter)
        fixed = {"dimensions": dict(zip(dim_param, dim_value or (), strict=True))} if dim_param else {}
        recipe = recipe_for(source.kind, target, **_builder_options(source, target, block_size, extra_options or {}), **fixed)
        _check_shapes(recipe, dim_param)
    started = time.monotonic()
    with new_folder(final, overwrite=overwrite) as folder:
        _build(source, folder, recipe)
        size = sum(model_sizes(folder).values())
        seconds = time.monotonic() - started
        _check_memory(size, limit, target)
        write_extras(source, folder, target, recipe, name=final.resolve().name, file_format=format)
    return Optimized(final, target, size, seconds, _words(target, recipe, size))


def parse_memory(memory: str | int | None) -> int | None:
    """Return bytes from a number or a text like ``2GB`` or ``512 MiB``.

    Raises:
        UsageError: for anything else.
    """
    if memory is None:
        return None
    found = re.fullmatch(r"\s*([0-9]+(?:\.[0-9]+)?)\s*([a-zA-Z]*)\s*", str(memory))
    if found is None or found[2].lower() not in _UNITS or float(found[1]) <= 0:
        raise UsageError(f"--memory {memory} is no number of bytes", fix="For example: --memory 2GB")
    return int(float(found[1]) * _UNITS[found[2].lower()])


def _build(source: ExportSource, folder: Path, recipe: Recipe) -> None:
    if recipe.builder == "gguf":
        build_gguf(source, folder, recipe)
        return
    if recipe.builder == "model_builder":
        build_decoder(source, folder, recipe)
        return
    from tunesmith.export.graph import build_graph

    build_graph(source, folder, recipe)


def _builder_options(source: ExportSource, target: Target, block_size: int | None, extra: Mapping[str, Any]) -> dict[str, Any]:
    """Options for the builder, from flags and ``--extra_options``; what would have no effect is refused."""
    options = dict(extra)
    if source.kind != "decoder":
        if extra:
            raise UsageError(
                f"--extra_options are those of the model builder, which a {source.kind} model is not built with", fix="Leave them out"
            )
        if block_size is not None:
            raise UsageError(f"--block_size has no effect on a {source.kind} model: it is quantized by channel", fix="Leave it out")
        return options
    check_builder()
    check_extra_options(extra)
    if block_size is None:
        return options
    if target.precision not in ("int4", "int8"):
        raise UsageError(f"--block_size has no effect with --precision {target.precision}: nothing is quantized", fix="Leave it out")
    if block_size not in BLOCK_SIZES:
        raise UsageError(f"--block_size {block_size} is not possible", fix=f"Possible: {', '.join(map(str, BLOCK_SIZES))}")
    if str(options.setdefault("block_size", block_size)) != str(block_size):
        raise UsageError(f"--block_size {block_size} and --extra_options block_size={options['block_size']} differ", fix="Give one of them")
    return options


def _check_graph_options(source: ExportSource, *, use_ort_genai: bool | None, use_model_builder: bool | None, exporter: str | None) -> None:
    decoder = source.kind == "decoder"
    wanted = {"use_ort_genai": use_ort_genai, "use_model_builder": use_model_builder}
    for name, value in wanted.items():
        if value is not None and value is not decoder:
            flag = f"--{name}" if value else f"--no-{name}"
            what = (
                "onnxruntime-genai runs models that write text" if decoder else f"a {source.kind} model writes no text by onnxruntime-genai"
            )
            raise UsageError(f"{flag} is not possible: {what}", fix="Leave it out")
    usual = "model_builder" if decoder else "dynamo_exporter"
    if exporter is not None and exporter != usual:
        raise UsageError(f"--exporter {exporter} can't make a {source.kind} model", fix=f"Leave it out, or: --exporter {usual}")


def _check_dims(names: Sequence[str] | None, values: Sequence[int] | None) -> None:
    if len(names or ()) != len(values or ()):
        message = f"--dim_param names {len(names or ())} dimensions and --dim_value gives {len(values or ())} sizes"
        raise UsageError(message, fix="For example: --dim_param batch_size,sequence_length --dim_value 1,128")
    if any(value < 1 for value in values or ()):
        raise UsageError(f"--dim_value {', '.join(map(str, values or ()))}: a dimension has at least size 1")


def _check_shapes(recipe: Recipe, names: Sequence[str] | None) -> None:
    if names and recipe.builder == "model_builder":
        fix = "Leave them out: prompts of any length are run"
        raise UsageError("--dim_param and --dim_value have no effect on a model that onnxruntime-genai runs", fix=fix)


def _check_memory(size: int, limit: int | None, target: Target) -> None:
    if limit is not None and size > limit:
        smaller = "A smaller --precision, or a smaller model" if target.precision != "int4" else "Take a smaller model"
        raise OutputError(f"the model takes {size / 1e6:.0f} MB as {target.precision}, --memory allows {limit / 1e6:.0f} MB", fix=smaller)


def _words(target: Target, recipe: Recipe, size: int) -> tuple[str, ...]:
    said = [f"{target.precision} for {target.provider} on {target.device}: {size / 1e6:.0f} MB."]
    if recipe.words:
        said.append(f"This recipe was {recipe.words}.")
    return tuple(said)
