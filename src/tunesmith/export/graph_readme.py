"""How an exported head or encoder-decoder is run with onnxruntime alone, for its README: code that can be copied."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from tunesmith.data.head_inputs import PAIR_SEPARATOR, encode_for_head

if TYPE_CHECKING:
    from tunesmith.export.source import ExportSource

_RESULTS = {
    "text-classification": """labels = json.load(open("task.json"))["labels"]
print([labels[best] for best in found["logits"].argmax(-1)])""",
    "token-classification": """labels = json.load(open("task.json"))["labels"]
print([[labels[best] for best in row] for row in found["logits"].argmax(-1)])  # the tag of each token""",
    "similarity": """vectors = found["sentence_embedding"]  # of length 1
print(vectors @ vectors.T)  # cosines""",
}


def graph_sections(source: ExportSource, dimensions: Mapping[str, int] | None = None) -> str:
    """Return the sections on onnxruntime, in Python and in C#.

    Args:
        source: a model with a head, or an encoder-decoder.
        dimensions: those with a fixed size.
    """
    if source.kind == "encoder-decoder":
        return _encoder_decoder(source)
    return _head(source, dimensions or {})


def _head(source: ExportSource, dimensions: Mapping[str, int]) -> str:
    task: Any = source.task
    length, rows = dimensions.get("sequence_length"), dimensions.get("batch_size", 1)
    padding = f'padding="max_length", truncation=True, max_length={length}' if length else "padding=True"
    texts = ", ".join([_example(source)] * rows)
    fixed = f" The shapes are fixed: {rows} × {length or 'tokens'}." if dimensions else ""
    return f"""## In Python, with onnxruntime

```python
import json

import onnxruntime
from transformers import AutoTokenizer

tokenizer = AutoTokenizer.from_pretrained(".", padding_side="right")
tokenizer.pad_token = tokenizer.pad_token or tokenizer.eos_token
session = onnxruntime.InferenceSession("model.onnx")
read = tokenizer([{texts}], {padding}, return_tensors="np", return_token_type_ids=True)
inputs = {{item.name: read[item.name].astype("int64") for item in session.get_inputs()}}
found = dict(zip([item.name for item in session.get_outputs()], session.run(None, inputs)))
{_RESULTS[task.name]}
```

The inputs are int64, texts × tokens.{fixed}

## In C#

```bash
dotnet add package Microsoft.ML.OnnxRuntime
```

```csharp
using Microsoft.ML.OnnxRuntime;

using var session = new InferenceSession("model.onnx");
long[] ids = {{ {_ids(source)} }}; // of {_example(source)}, by tokenizer.json
long[] shape = {{ 1, ids.Length }};
var inputs = session.InputNames.ToDictionary(name => name, name => OrtValue.CreateTensorValueFromMemory(
    name == "input_ids" ? ids : Enumerable.Repeat(name == "attention_mask" ? 1L : 0L, ids.Length).ToArray(), shape));
using var outputs = session.Run(new RunOptions(), inputs, session.OutputNames);
float[] found = outputs[^1].GetTensorDataAsSpan<float>().ToArray(); // {"the embedding" if task.name == "similarity" else "logits"}
```
"""


def _encoder_decoder(source: ExportSource) -> str:
    start, end = _special_ids(source)
    return f"""## In Python, with onnxruntime

```python
import numpy
import onnxruntime
from transformers import AutoTokenizer


def named(session, inputs):
    return dict(zip([item.name for item in session.get_outputs()], session.run(None, inputs)))


tokenizer = AutoTokenizer.from_pretrained(".")
encoder, decoder = (onnxruntime.InferenceSession(f"{{half}}_model.onnx") for half in ("encoder", "decoder"))
read = tokenizer([{_prompt(source)!r}], return_tensors="np")
inputs = {{name: read[name].astype("int64") for name in ("input_ids", "attention_mask")}}
before = [item for item in decoder.get_inputs() if ".decoder." in item.name]
kept = {{item.name: numpy.zeros((1, item.shape[1], 0, item.shape[3]), "float32") for item in before}}
kept.update((name.replace("present", "past_key_values"), value) for name, value in named(encoder, inputs).items() if "present" in name)
token, answer = {start}, []
while token != {end} and len(answer) < 128:
    step = {{"input_ids": numpy.array([[token]]), "encoder_attention_mask": inputs["attention_mask"], **kept}}
    found = named(decoder, step)
    kept.update((name.replace("present", "past_key_values"), value) for name, value in found.items() if "present" in name)
    token = int(found["logits"][0, -1].argmax())
    answer.append(token)
print(tokenizer.decode(answer, skip_special_tokens=True))
```

The reading half gives keys and values of what was read, the writing half takes them and its own at every step. In C# the package
`Microsoft.ML.OnnxRuntime` runs the same two files.
"""


def _example(source: ExportSource) -> str:
    """One row as an argument of the tokenizer, two texts as training joined them."""
    if source.task is None or len(source.task.text_columns) < 2 or source.task.name == "similarity":
        return '"…"'
    joined = encode_for_head([("…", "…")], source.tokenizer) == encode_for_head([(f"…{PAIR_SEPARATOR}…",)], source.tokenizer)
    return repr(f"…{PAIR_SEPARATOR}…") if joined else '("…", "…")'


def _ids(source: ExportSource) -> str:
    return ", ".join(map(str, encode_for_head([("…",)], source.tokenizer)[0]))


def _prompt(source: ExportSource) -> str:
    columns = source.template.prompt_columns
    return source.template.prompt(dict.fromkeys(columns, "…") if columns else "…", source.tokenizer)


def _special_ids(source: ExportSource) -> tuple[int, int]:
    """What an answer begins with and what ends it; transformers keeps the first in one of two files."""
    folder = source.places.base.folder
    files = [folder / name for name in ("generation_config.json", "config.json") if (folder / name).is_file()]
    found = [json.loads(file.read_text(encoding="utf-8")).get("decoder_start_token_id") for file in files]
    start = next((number for number in found if number is not None), source.tokenizer.pad_token_id)
    return int(start), int(source.tokenizer.eos_token_id)
