"""``--format gguf``: which formats there are, the folder with ``model.gguf`` in it, and how its README says to run it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tunesmith.errors import DataError, UsageError
from tunesmith.export.gguf_adapter import ADAPTER_FILE, write_gguf_adapter
from tunesmith.export.gguf_file import write_gguf
from tunesmith.export.gguf_tensors import check_quant
from tunesmith.export.ollama import write_modelfile
from tunesmith.export.targets import Recipe, Target
from tunesmith.methods.adapters import load_adapter
from tunesmith.models.load import load_model

if TYPE_CHECKING:
    from transformers import PreTrainedModel

    from tunesmith.export.source import ExportSource

MODEL_FILE = "model.gguf"
PROVIDER = "llama.cpp"
#: Near to lossless, and half the size of float16.
USUAL_PRECISION = "q8_0"
#: The grid of training (``--quant_type``) and the format that it is.
GRID, GRID_PRECISION = "gguf-q4_0", "q4_0"
#: What the precisions of ONNX are called in GGUF.
_SAME_AS = {"fp32": "f32", "fp16": "f16", "int8": "q8_0", "int4": "q4_0"}


def gguf_target(
    source: ExportSource, *, device: str | None, precision: str | None, without_effect: Mapping[str, Any]
) -> tuple[Target, Recipe]:
    """Return what a GGUF file is made for, and how.

    Args:
        source: a model that writes text.
        device: ``cpu`` or ``gpu``: llama.cpp runs the same file on both.
        precision: a format of GGUF, or one of ONNX's names for the like.
        without_effect: flags of ONNX exports with what was given; all should be None or empty.

    Raises:
        UsageError: for another kind of model, a format that can't be written, and flags that have no effect.
    """
    if source.kind != "decoder":
        raise UsageError(f"--format gguf is for models that write text, this is a {source.kind}", fix="Leave --format out: ONNX is for all")
    given = [f"--{name}" for name, value in without_effect.items() if value not in (None, (), [], {})]
    if given:
        verb = "have" if len(given) > 1 else "has"
        raise UsageError(f"{', '.join(given)} {verb} no effect with --format gguf", fix="Leave them out")
    if device == "npu":
        raise UsageError("--device npu is not possible with --format gguf: llama.cpp runs on cpu and gpu", fix="Leave --format out")
    usual = GRID_PRECISION if ships_as_trained(source, GRID_PRECISION) else USUAL_PRECISION
    quant = check_quant(_SAME_AS.get(precision or usual, precision or usual))
    target = Target(device or "cpu", PROVIDER, quant)
    return target, Recipe("gguf", quant, ran_here=target.device == "cpu")


def build_gguf(source: ExportSource, folder: Path, recipe: Recipe) -> None:
    """Write ``model.gguf``, ``Modelfile`` and the tokenizer's files into ``folder``.

    Args:
        source: a decoder; an adapter is merged in float32 first.
        folder: exists, empty.
        recipe: names the format.

    Raises:
        ModelError: when llama.cpp would compute the model otherwise.
    """
    from tunesmith.export.source import float_model

    unmerged = ships_as_trained(source, recipe.precision)
    model, name = base_model(source) if unmerged else float_model(source), _model_name(source)
    write_gguf(model, source.tokenizer, source.template, folder / MODEL_FILE, quant=recipe.precision, name=name)
    if unmerged and source.places.adapter is not None:
        write_gguf_adapter(load_adapter(model, source.places.adapter), folder / ADAPTER_FILE, name=name)
    adapter = ADAPTER_FILE if unmerged else None
    write_modelfile(folder, source.tokenizer, source.template, gguf=MODEL_FILE, adapter=adapter)
    source.tokenizer.save_pretrained(folder)


def ships_as_trained(source: ExportSource, precision: str) -> bool:
    """Whether base and adapter ship unmerged: trained on the grid that the format is, merged and rounded they would be something else."""
    return source.kind == "decoder" and precision == GRID_PRECISION and source.grid is not None and source.grid.get("quant_type") == GRID


def base_model(source: ExportSource) -> PreTrainedModel:
    """Return the base alone, in float32, with the values that it was trained on."""
    return load_model(source.places.base, dtype="float32", device="cpu", trust_remote_code=source.trust_remote_code)


def gguf_sections(source: ExportSource, name: str, precision: str) -> str:
    """Return how the README says to run the folder ``name`` with llama.cpp, Ollama, in Python and in C#."""
    prompt, unmerged = _prompt(source), ships_as_trained(source, precision)
    lora, beside = (f" --lora {ADAPTER_FILE}", f', lora_path="{ADAPTER_FILE}"') if unmerged else ("", "")
    csharp = "" if unmerged else _csharp(source, prompt)
    return f"""## With llama.cpp

```bash
llama-server -m model.gguf{lora} --jinja
```

The template and the stop tokens of training are in the file: its chat asks as training did, and answers end by themselves.

## With Ollama

```bash
ollama create {name} -f Modelfile
ollama run {name}
```

## In Python, with llama-cpp-python

```python
from llama_cpp import Llama

model = Llama("model.gguf"{beside}, n_ctx=0, verbose=False)
print(model({prompt}, max_tokens=256, temperature=0)["choices"][0]["text"])
```
{csharp}"""


def _csharp(source: ExportSource, prompt: str) -> str:
    stops = ", ".join(json.dumps(stop, ensure_ascii=False) for stop in source.template.stop_tokens)
    return f"""
## In C#

```bash
dotnet add package LLamaSharp
dotnet add package LLamaSharp.Backend.Cpu
```

```csharp
using LLama;
using LLama.Common;

var parameters = new ModelParams("model.gguf");
using var model = await LLamaWeights.LoadFromFileAsync(parameters);
var executor = new StatelessExecutor(model, parameters);
await foreach (var text in executor.InferAsync({prompt}, new InferenceParams {{ MaxTokens = 256, AntiPrompts = [{stops}] }}))
{{
    Console.Write(text);
}}
```
"""


def _model_name(source: ExportSource) -> str:
    return source.run.resolve().name if source.run is not None else source.places.base.name.rstrip("/").rsplit("/", 1)[-1]


def _prompt(source: ExportSource) -> str:
    """The prompt of training around ``…``, as a string literal that is right in Python and in C#."""
    columns = source.template.prompt_columns
    try:
        text = source.template.prompt(dict.fromkeys(columns, "…") if columns else "…", source.tokenizer)
    except DataError:
        text = "…"
    return json.dumps(text, ensure_ascii=False)
