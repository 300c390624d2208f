"""Models with a head, encoders and encoder-decoders as ONNX, by torch's own exporter: any number of rows and tokens.

An adapter is merged in float32 first. Batch and length stay open, named ``batch_size`` and ``sequence_length``; for devices that need fixed
shapes they are given values.
"""

from __future__ import annotations

import contextlib
import hashlib
import importlib.util
import logging
import tempfile
import warnings
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from tunesmith.errors import DependencyError, ModelError, UsageError
from tunesmith.export.graph_modules import DecoderGraph, EmbeddingGraph, EncoderGraph, ScoringGraph
from tunesmith.export.int8 import quantize_int8
from tunesmith.export.simplified import fix_dimensions, simplify
from tunesmith.export.source import ExportSource, float_model
from tunesmith.models.quiet import quiet_libraries
from tunesmith.models.structure import is_causal, max_positions

if TYPE_CHECKING:
    from tunesmith.export.targets import Recipe

log = logging.getLogger(__name__)

MODEL_FILE, ENCODER_FILE, DECODER_FILE = "model.onnx", "encoder_model.onnx", "decoder_model.onnx"
BATCH, LENGTH, WRITTEN, BEFORE = "batch_size", "sequence_length", "decoder_sequence_length", "past_sequence_length"
#: Has LayerNormalization and Gelu as operators of their own, and every execution provider reads it.
_OPSET = 20
#: Rows and tokens of the example that the exporter follows: more than one of each, as one row would be taken for a constant.
_ROWS, _TOKENS = 2, 8
#: A file of ONNX holds less than 2 GiB; beyond, weights lie in a file beside it.
_MOST_BYTES_INSIDE = 1_900_000_000


def check_exporter() -> None:
    """Check that what exports graphs is installed.

    Raises:
        DependencyError: when it isn't.
    """
    for package in ("onnx", "onnxscript", "onnxruntime"):
        if importlib.util.find_spec(package) is None:
            raise DependencyError(package, "cpu", purpose="exporting a model to ONNX")


def build_graph(source: ExportSource, folder: Path, recipe: Recipe, dimensions: Mapping[str, int] | None = None) -> None:
    """Write the ONNX files of a model that is not a plain decoder, its configuration and its tokenizer into ``folder``.

    Args:
        source: a model with a head, or an encoder-decoder.
        folder: exists, empty.
        recipe: precision, and whether every dimension needs a size.
        dimensions: fixed sizes by name, of ``batch_size`` and ``sequence_length``; without, they stay open.

    Raises:
        ModelError: when the exporter can't follow the model.
        UsageError: for dimensions that the model hasn't, or that the device needs and nobody gave.
        DependencyError: when the exporter isn't installed.
    """
    check_exporter()
    sizes = dict(dimensions or {})
    _check_dimensions(source, recipe, sizes)
    model = exportable(float_model(source))
    _check_length(model, sizes)
    with quiet_libraries():
        model.config.save_pretrained(folder)
        source.tokenizer.save_pretrained(folder)
        if source.kind == "encoder-decoder":
            model.generation_config.save_pretrained(folder)
    by_block = source.kind == "encoder-decoder" or is_causal(model)
    export = _export_halves if source.kind == "encoder-decoder" else _export_head
    with tempfile.TemporaryDirectory(prefix=".graph-", dir=folder) as temporary:
        for file in export(source, model, Path(temporary)):
            _finish(file, folder / file.name, recipe, sizes, by_block=by_block)


def exportable(model: nn.Module) -> Any:
    """Return the model with attention spelled out: torch's fused one has results laid out in memory as the exporter doesn't expect."""
    changed: Any = model
    changed.set_attn_implementation("eager")
    return changed.eval()


def _finish(raw: Path, final: Path, recipe: Recipe, sizes: Mapping[str, int], *, by_block: bool) -> None:
    """Fix dimensions, simplify, quantize: in this order, as shapes that are known let whole parts of a graph be computed beforehand."""
    fix_dimensions(raw, sizes)
    if recipe.precision != "int8":
        simplify(raw, final)
        return
    simple = raw.with_name(f"simple-{raw.name}")
    simplify(raw, simple)
    quantize_int8(simple, final, by_block=by_block)


def _check_dimensions(source: ExportSource, recipe: Recipe, sizes: Mapping[str, int]) -> None:
    known = (BATCH, LENGTH)
    for name in sizes:
        if name not in known:
            raise UsageError(f"--dim_param {name} is no dimension of the model's inputs", fix=f"They are: {', '.join(known)}")
    if source.kind == "encoder-decoder" and (sizes or recipe.static_shapes):
        message = "an encoder-decoder can't have fixed dimensions: what it has written grows with every token"
        raise UsageError(message, fix="Leave --dim_param out, and export it for a CPU or GPU")
    if recipe.static_shapes and (missing := [name for name in known if name not in sizes]):
        raise UsageError(
            f"this device needs fixed shapes, but no size is given for {' and '.join(missing)}",
            fix="For example: --dim_param batch_size,sequence_length --dim_value 1,128",
        )


def _check_length(model: nn.Module, sizes: Mapping[str, int]) -> None:
    longest = max_positions(model)
    if longest is not None and sizes.get(LENGTH, 0) > longest:
        raise UsageError(f"{LENGTH} {sizes[LENGTH]} is more than the model's {longest} positions", fix=f"Give at most {longest}")


def _export_head(source: ExportSource, model: nn.Module, folder: Path) -> list[Path]:
    task, config = source.task, getattr(model, "config", None)
    if getattr(config, "is_encoder_decoder", False):
        raise ModelError(f"a head on an encoder-decoder ({type(model).__name__}) can't be exported", fix="Train the head on an encoder")
    if task is not None and task.name == "similarity":
        graph: ScoringGraph | EmbeddingGraph = EmbeddingGraph(model, task.pooling or "mean")
    else:
        graph = ScoringGraph(model)
    inputs = {"input_ids": _example_ids(model), "attention_mask": torch.ones(_ROWS, _TOKENS, dtype=torch.long)}
    if _takes_token_types(source, config):
        inputs["token_type_ids"] = torch.zeros(_ROWS, _TOKENS, dtype=torch.long)
    shapes = {name: {0: BATCH, 1: LENGTH} for name in inputs}
    _export(graph, inputs, shapes, list(inputs), graph.outputs, folder / MODEL_FILE)
    return [folder / MODEL_FILE]


def _takes_token_types(source: ExportSource, config: Any) -> bool:
    """What was tuned here without the second kind of token has no input for it: it would only be a way to get other answers."""
    told = source.task is not None and source.task.token_types
    return told or (source.run is None and getattr(config, "type_vocab_size", 0) > 1)


def _export_halves(source: ExportSource, model: nn.Module, folder: Path) -> list[Path]:
    """One graph reads, the other writes; names are those that Optimum gives, so that programs made for its exports know them."""
    ids, mask = _example_ids(model), torch.ones(_ROWS, _TOKENS, dtype=torch.long)
    encoder = EncoderGraph(model)
    with torch.inference_mode():
        encoded = [tensor.clone() for tensor in encoder(ids, mask)[1:]]
    open_both = {0: BATCH, 1: LENGTH}
    read, written = _key_value_names(len(encoded) // 2, "encoder"), _key_value_names(len(encoded) // 2, "decoder")
    _export(
        encoder,
        {"input_ids": ids, "attention_mask": mask},
        {"input_ids": open_both, "attention_mask": open_both},
        ["input_ids", "attention_mask"],
        ["last_hidden_state", *(f"present.{name}" for name in read)],
        folder / ENCODER_FILE,
    )
    past = [torch.randn(*tensor.shape[:2], 3, tensor.shape[3]) for tensor in encoded]
    _export(
        DecoderGraph(model),
        {"input_ids": ids[:, :4], "encoder_attention_mask": mask, "past": past, "encoded": encoded},
        {
            "input_ids": {0: BATCH, 1: WRITTEN},
            "encoder_attention_mask": open_both,
            "past": [{0: BATCH, 2: BEFORE}] * len(past),
            "encoded": [{0: BATCH, 2: LENGTH}] * len(encoded),
        },
        ["input_ids", "encoder_attention_mask", *(f"past_key_values.{name}" for name in (*written, *read))],
        ["logits", *(f"present.{name}" for name in written)],
        folder / DECODER_FILE,
    )
    return [folder / ENCODER_FILE, folder / DECODER_FILE]


def _key_value_names(num_blocks: int, half: str) -> list[str]:
    return [f"{block}.{half}.{kind}" for block in range(num_blocks) for kind in ("key", "value")]


def _export(
    graph: nn.Module, inputs: Mapping[str, Any], shapes: Mapping[str, Any], names: Sequence[str], outputs: Sequence[str], file: Path
) -> None:
    """Follow ``graph`` through an example and write what it did.

    Raises:
        ModelError: when it can't be followed.
    """
    size = sum(parameter.numel() * parameter.element_size() for parameter in graph.parameters())
    try:
        with quiet_exporter():
            program = torch.onnx.export(
                graph.eval(),
                kwargs=dict(inputs),
                input_names=list(names),
                output_names=list(outputs),
                dynamic_shapes=dict(shapes),
                opset_version=_OPSET,
                dynamo=True,
                verbose=False,
            )
    except torch.onnx.OnnxExporterError as error:
        raise ModelError(f"torch.onnx can't export {_architecture(graph)}: {_cause(error)}") from error
    assert program is not None
    _forget_origins(program.model)
    _name_weights(program.model.graph, graph)
    program.save(file, external_data=size > _MOST_BYTES_INSIDE)


def _forget_origins(model: Any) -> None:
    """The exporter notes at every node the lines of Python it comes from, with their places on this machine: as much as a small model."""
    model.metadata_props.clear()
    model.graph.metadata_props.clear()
    for node in model.graph.all_nodes():
        node.metadata_props.clear()
        for value in node.outputs:
            value.metadata_props.clear()
    for value in (*model.graph.inputs, *model.graph.initializers.values()):
        value.metadata_props.clear()


def _name_weights(exported: Any, graph: Any) -> None:
    """Give weights the names that transformers has for them, the transposed ones too, which the exporter only numbers."""
    transposed = {_digest(weight.detach().t().numpy()): name for name, weight in graph.model.named_parameters() if weight.dim() == 2}
    for value in list(exported.initializers.values()):
        name = value.name.removeprefix("model.")
        if name.startswith("val_"):
            name = transposed.get(_digest(value.const_value.numpy()), name)
        if name not in exported.initializers:
            value.name = name


def _digest(array: Any) -> bytes:
    return hashlib.blake2b(array.tobytes(), digest_size=16).digest()


def _example_ids(model: nn.Module) -> Tensor:
    """Ids that every vocabulary has, and that are no padding: a decoder's head is read at the last token that is not."""
    config: Any = model.config
    pad = config.get_text_config().pad_token_id
    ids = [number for number in range(_TOKENS + 1) if number != pad][:_TOKENS]
    return torch.tensor([ids] * _ROWS)


def _architecture(graph: Any) -> str:
    return type(graph.model).__name__


def _cause(error: BaseException) -> str:
    """The first line of what went wrong at the bottom: the exporter puts pages of advice on top."""
    while error.__cause__ is not None:
        error = error.__cause__
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return f"{type(error).__name__}: {lines[0] if lines else 'no reason given'}"


@contextlib.contextmanager
def quiet_exporter() -> Iterator[None]:
    """Inside the block torch's exporter doesn't log what other packages it misses, nor warn of its own ways."""
    loggers = [logging.getLogger(name) for name in ("torch.onnx", "torch.export", "onnxscript", "onnx_ir")]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings(), quiet_libraries():
            warnings.simplefilter("ignore")
            yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)
