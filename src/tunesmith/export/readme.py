"""The README of an exported folder: what it is, and how it is run in Python, in C# and on the command line."""

from __future__ import annotations

import json
from pathlib import Path

from tunesmith.errors import DataError
from tunesmith.export.decoder import GENAI_CONFIG
from tunesmith.export.gguf_folder import gguf_sections
from tunesmith.export.graph_readme import graph_sections
from tunesmith.export.plan import Plan
from tunesmith.export.source import ExportSource
from tunesmith.export.targets import Target

_PACKAGES = {
    "CUDAExecutionProvider": ("onnxruntime-genai-cuda", "Microsoft.ML.OnnxRuntimeGenAI.Cuda"),
    "DmlExecutionProvider": ("onnxruntime-genai-directml", "Microsoft.ML.OnnxRuntimeGenAI.DirectML"),
}
_PLAIN = ("onnxruntime-genai", "Microsoft.ML.OnnxRuntimeGenAI")


def readme(source: ExportSource, folder: Path, plan: Plan, *, name: str) -> str:
    """Return the text of ``README.md``.

    Args:
        source: what was exported.
        folder: with the model in it.
        plan: what it was made for, and how.
        name: the folder's final name.
    """
    parts = [_head(source, plan, name)]
    if plan.file_format == "gguf":
        parts.append(gguf_sections(source, name, plan.target.precision))
    elif (folder / GENAI_CONFIG).is_file():
        parts += [_genai(source, plan.target), _csharp(source, plan.target), _foundry(name)]
    else:
        parts.append(graph_sections(source, plan.dimensions))
    return "\n".join(parts)


def _head(source: ExportSource, plan: Plan, name: str) -> str:
    run, target = source.manifest, plan.target
    base = run.base if run else source.places.base.name
    tuned = f", fine-tuned ({run.method})" if run else ""
    beside = plan.adapter_precision is not None
    words = "\nThe adapter stays beside the weights, which are those that it was trained on.\n" if beside else ""
    return f"""# {name}

{base}{tuned}, as {target.precision} for {target.provider} on {target.device}, made by tunesmith.
{words}
`manifest.json` says how it was made and what was measured; `template.json` how prompts become text and where answers stop.

## On the command line

```bash
tunesmith generate -m {name} --prompt "…"
tunesmith evaluate {name} test.jsonl
```

## In Python, with tunesmith

```python
import tunesmith

model = tunesmith.load("{name}")
print(model.generate(["…"]))
```
"""


def _prompt(source: ExportSource) -> str:
    """The prompt of training around ``…``, as a string literal that is right in Python and in C#."""
    columns = source.template.prompt_columns
    try:
        text = source.template.prompt(dict.fromkeys(columns, "…") if columns else "…", source.tokenizer)
    except DataError:
        text = "…"
    return json.dumps(text, ensure_ascii=False)


def _genai(source: ExportSource, target: Target) -> str:
    package = _PACKAGES.get(target.provider, _PLAIN)[0]
    return f"""## In Python, with onnxruntime-genai

```bash
pip install {package}
```

```python
import onnxruntime_genai as og

model = og.Model(".")
tokenizer = og.Tokenizer(model)
params = og.GeneratorParams(model)
params.set_search_options(max_length=512)
generator = og.Generator(model, params)
generator.append_tokens(tokenizer.encode({_prompt(source)}))
stream = tokenizer.create_stream()
while not generator.is_done():
    generator.generate_next_token()
    print(stream.decode(generator.get_next_tokens()[0]), end="", flush=True)
```

Answers end by themselves: the stop tokens of training are in `genai_config.json`.
"""


def _csharp(source: ExportSource, target: Target) -> str:
    package = _PACKAGES.get(target.provider, _PLAIN)[1]
    return f"""## In C#

```bash
dotnet add package {package}
```

```csharp
using Microsoft.ML.OnnxRuntimeGenAI;

using var model = new Model(".");
using var tokenizer = new Tokenizer(model);
using var parameters = new GeneratorParams(model);
parameters.SetSearchOption("max_length", 512);
using var generator = new Generator(model, parameters);
using var sequences = tokenizer.Encode({_prompt(source)});
generator.AppendTokenSequences(sequences);
using var stream = tokenizer.CreateStream();
while (!generator.IsDone())
{{
    generator.GenerateNextToken();
    Console.Write(stream.Decode(generator.GetSequence(0)[^1]));
}}
```
"""


def _foundry(name: str) -> str:
    return f"""## With Foundry Local

`inference_model.json` names the model and its prompt. Copy this folder into Foundry Local's cache (`foundry cache location`), then:

```bash
foundry model run {name}
```
"""
