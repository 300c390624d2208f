"""The options of ``tunesmith auto-opt`` (``optimize`` is the same), ``quantize`` and ``capture-onnx-graph``."""

from __future__ import annotations

from typing import Any, Literal

from tunesmith.config.certify import float_top1_option, grid_top1_option, merged_logits_option
from tunesmith.config.declare import option
from tunesmith.config.generate import adapter_path_option
from tunesmith.config.model import MODEL, SourceOptions

TARGET, BUILD, PROOF, SEARCH, RESULT = "Target", "Building", "Proof", "Searching a recipe", "Result"

Precision = Literal["auto", "fp32", "fp16", "bf16", "int8", "int4", "f32", "f16", "q8_0", "q5_1", "q5_0", "q4_1", "q4_0"]


class ExportOptions(SourceOptions):
    """What every export can be told."""

    adapter_path: str | None = adapter_path_option()
    model_script: str | None = option(
        None, "A PyTorch model by script: a function that returns the model and an example.", group=MODEL, metavar="FILE.py:FUNCTION"
    )
    device: Literal["cpu", "gpu", "npu"] | None = option(
        None, "Where the model will run.", group=TARGET, default_text="that of the provider, else cpu"
    )
    provider: str | None = option(
        None,
        "Execution provider of onnxruntime: CPUExecutionProvider, CUDAExecutionProvider, DmlExecutionProvider …",
        group=TARGET,
        metavar="NAME",
        default_text="the device's usual one that this machine has",
    )
    use_ort_genai: bool | None = option(
        None, "For onnxruntime-genai: always so for models that write text.", group=BUILD, default_text="by the model"
    )
    use_model_builder: bool | None = option(
        None,
        "Build with its model builder: always so for models that write text.",
        group=BUILD,
        default_text="by the model",
    )
    extra_options: dict[str, Any] | None = option(
        None, "Options of onnxruntime-genai's model builder, by its own names.", group=BUILD, metavar="KEY=VALUE"
    )
    proof: bool = option(True, "Score every stage of the export on the same rows, and ship only what lost nothing.", group=PROOF)
    data_files: tuple[str, ...] | None = option(
        None,
        "Rows to score on, with the columns of training and the right answers.",
        group=PROOF,
        metavar="FILE",
        default_text="the rows that the run held out, else text of the standard library",
    )
    limit: int = option(100, "Most rows to score on, spread evenly.", group=PROOF, at_least=1)
    task_drop: float | None = option(
        None, "Part of the task's metric that may be lost.", group=PROOF, at_least=0, at_most=1, default_text="0.01"
    )
    perplexity_rise: float = option(0.03, "Part by which the perplexity of the right answers may rise.", group=PROOF, at_least=0)
    merged_logits: float = merged_logits_option(PROOF)
    float_top1: float = float_top1_option(PROOF)
    grid_top1: float = grid_top1_option(PROOF)
    accept_loss: bool = option(False, "Ship it whatever was lost, and record the loss.", group=PROOF)
    output_path: str | None = option(None, "Folder for the exported model.", group=RESULT, short="o", metavar="FOLDER")
    overwrite: bool = option(False, "Replace --output_path when it is an earlier result.", group=RESULT)


class QuantizeOptions(ExportOptions):
    """What ``tunesmith quantize`` can be told."""

    precision: Literal["int4", "int8"] | None = option(None, "Precision of the weights.", group=TARGET, default_text="int4, of heads int8")
    block_size: int | None = option(
        None, "Weights that share one scale, of a quantized decoder: 16, 32, 64, 128 or 256.", group=BUILD, default_text="32"
    )


class CaptureOptions(ExportOptions):
    """What ``tunesmith capture-onnx-graph`` can be told."""

    precision: Literal["fp32", "fp16", "bf16"] | None = option(None, "Precision of the graph.", group=TARGET, default_text="fp32")


class OptimizeOptions(ExportOptions):
    """What ``tunesmith auto-opt`` can be told."""

    format: Literal["onnx", "gguf"] = option("onnx", "ONNX, or GGUF for llama.cpp and Ollama.", group=TARGET)
    precision: Precision | None = option(
        None,
        "Precision of the weights: fp32 to int4 for ONNX, f32 to q4_0 for GGUF.",
        group=TARGET,
        default_text="the smallest that loses nothing; of GGUF q8_0. auto: recipes between them are searched, too",
    )
    adapter_precision: Literal["fp32", "fp16", "int8"] | None = option(
        None, "Of an adapter that was trained on the int4 grid and stays beside its weights.", group=BUILD, default_text="int8"
    )
    recover: int | None = option(
        None,
        "First train the adapter of a run for this many steps on the grid that ships, taught by the run itself; the run made so goes "
        "beside --output_path, with -recovered behind its name.",
        group=BUILD,
        at_least=1,
        metavar="STEPS",
    )
    memory: str | None = option(
        None, "Memory of the device: the model has to fit into it. Bytes, or with a unit: 2GB.", group=TARGET, metavar="BYTES"
    )
    exporter: Literal["model_builder", "dynamo_exporter"] | None = option(
        None, "What makes the graph.", group=BUILD, default_text="model_builder for models that write text, dynamo_exporter for the others"
    )
    block_size: int | None = option(
        None, "Weights that share one scale, of a quantized decoder: 16, 32, 64, 128 or 256.", group=BUILD, default_text="32"
    )
    dim_param: tuple[str, ...] | None = option(
        None, "Names of dimensions to make static, for NPUs; with --dim_value.", group=BUILD, metavar="NAME"
    )
    dim_value: tuple[int, ...] | None = option(None, "Their sizes, in the same order.", group=BUILD, metavar="N")
    min_quality: float | None = option(
        None,
        "Part of the task's metric that has to be kept: another way to say --task_drop.",
        group=PROOF,
        at_least=0,
        at_most=1,
        default_text="0.99",
    )
    trials: int | None = option(
        None,
        "Recipes to try; all are shown, and the smallest that keeps the metric ships.",
        group=SEARCH,
        at_least=1,
        metavar="N",
        default_text="until one keeps the metric",
    )
    max_minutes: float | None = option(
        None, "Minutes in which further recipes are begun; with --trials, whatever ends first.", group=SEARCH, above=0, metavar="MINUTES"
    )
    max_size_mb: float | None = option(
        None, "Most megabytes of the model's files: the best quality within them is searched for.", group=SEARCH, above=0, metavar="MB"
    )
    max_latency_ms: float | None = option(
        None, "Most milliseconds for each token that is written, measured on this machine.", group=SEARCH, above=0, metavar="MS"
    )
    calibration_files: tuple[str, ...] | None = option(
        None,
        "Rows, with the columns of training, that recipes look at.",
        group=SEARCH,
        metavar="FILE",
        default_text="the run's training rows, else text of the standard library",
    )
