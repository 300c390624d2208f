"""A PyTorch model by script: ``file.py:function`` returns the model and an example of what it reads, torch.onnx follows it.

What such a model is for isn't known here, so rows can't be asked. Its outputs for the example are compared instead.
"""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from tunesmith.errors import ExportHarm, ModelError, UsageError
from tunesmith.export.graph import check_exporter, quiet_exporter
from tunesmith.export.int8 import quantize_int8
from tunesmith.export.simplified import fix_dimensions, simplify
from tunesmith.user_code import load_function

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt
    from torch import Tensor, nn

MODEL_FILE = "model.onnx"
#: The first dimension of every input stays open under this name.
BATCH = "batch_size"
_OPSET = 20
#: Outputs in float32 may differ by so much of the largest.
_FLOAT_ERROR = 1e-3


def load_script(script: str) -> tuple[nn.Module, dict[str, Tensor]]:
    """Run ``file.py:function`` and return the model and the example.

    Args:
        script: the function takes nothing and returns ``(nn.Module, {name: tensor})``; names are those of ``forward``, the first dimension
            of each tensor is the batch and has at least two rows.

    Raises:
        UsageError: when the file or the function is missing, raises, or returns something else.
    """
    import torch

    function = load_function(script, f"--model_script {script}")
    try:
        found = function()
    except Exception as error:
        raise UsageError(f"--model_script {script} raised {type(error).__name__}: {error}", fix="Mend the function") from error
    fix = "Return the model and an example: return net, {'x': torch.randn(2, 8)}"
    if not isinstance(found, tuple) or len(found) != 2 or not isinstance(found[0], torch.nn.Module):
        raise UsageError(f"--model_script {script} returned {_what(found)}, not a model and an example", fix=fix)
    model, inputs = found
    if not isinstance(inputs, Mapping) or not inputs or not all(isinstance(value, torch.Tensor) for value in inputs.values()):
        raise UsageError(f"--model_script {script}: the example is {_what(inputs)}, not tensors by name", fix=fix)
    rows = {value.shape[0] if value.dim() else 0 for value in inputs.values()}
    if len(rows) > 1 or min(rows) < 2:
        raise UsageError(f"--model_script {script}: the example needs two rows or more in every tensor", fix=fix)
    return model.eval(), dict(inputs)


def build_scripted(script: str, folder: Path, precision: str, dimensions: Mapping[str, int]) -> None:
    """Write ``model.onnx`` of a scripted model into ``folder``, and compare it with the model.

    Args:
        script: see :func:`load_script`.
        folder: exists, empty.
        precision: ``fp32`` or ``int8``.
        dimensions: a fixed ``batch_size``; without, it stays open.

    Raises:
        UsageError: for dimensions that the graph hasn't.
        ModelError: when torch.onnx can't follow the model.
        ExportHarm: when the graph computes something else.
    """
    check_exporter()
    if unknown := [name for name in dimensions if name != BATCH]:
        raise UsageError(f"--dim_param {unknown[0]} is no dimension of the model's inputs", fix=f"There is: {BATCH}")
    model, inputs = load_script(script)
    expected = _outputs(model, inputs)
    with tempfile.TemporaryDirectory(prefix=".graph-", dir=folder) as temporary:
        raw, simple = Path(temporary) / "raw.onnx", Path(temporary) / "simple.onnx"
        _export(model, inputs, raw)
        simplify(raw, simple)
        _compare(simple, inputs, expected)
        fix_dimensions(simple, dimensions)
        if precision == "int8":
            quantize_int8(simple, folder / MODEL_FILE)
        else:
            simplify(simple, folder / MODEL_FILE)


def _what(value: object) -> str:
    return "nothing" if value is None else type(value).__name__


def _outputs(model: nn.Module, inputs: Mapping[str, Tensor]) -> list[npt.NDArray[np.float32]]:
    import torch

    try:
        with torch.inference_mode():
            found = model(**inputs)
    except Exception as error:
        raise UsageError(f"the scripted model can't read its own example: {type(error).__name__}: {error}", fix="Mend it") from error
    tensors = [found] if isinstance(found, torch.Tensor) else list(found.values() if isinstance(found, Mapping) else found)
    return [tensor.detach().numpy() for tensor in tensors if isinstance(tensor, torch.Tensor)]


def _export(model: nn.Module, inputs: Mapping[str, Tensor], file: Path) -> None:
    import torch

    try:
        with quiet_exporter():
            program = torch.onnx.export(
                model,
                kwargs=dict(inputs),
                input_names=list(inputs),
                dynamic_shapes={name: {0: BATCH} for name in inputs},
                opset_version=_OPSET,
                dynamo=True,
                verbose=False,
            )
    except torch.onnx.OnnxExporterError as error:
        cause: BaseException = error
        while cause.__cause__ is not None:
            cause = cause.__cause__
        first = next((line.strip() for line in str(cause).splitlines() if line.strip()), "no reason given")
        raise ModelError(f"torch.onnx can't export {type(model).__name__}: {type(cause).__name__}: {first}") from error
    assert program is not None
    program.save(file)


def _compare(file: Path, inputs: Mapping[str, Tensor], expected: list[npt.NDArray[np.float32]]) -> None:
    import numpy as np
    import onnxruntime

    session = onnxruntime.InferenceSession(file, providers=["CPUExecutionProvider"])
    found = session.run(None, {item.name: inputs[item.name].numpy() for item in session.get_inputs()})
    for name, ours, theirs in zip([item.name for item in session.get_outputs()], found, expected, strict=False):
        distance = float(np.abs(np.asarray(ours, np.float64) - theirs).max(initial=0.0))
        if not distance <= _FLOAT_ERROR * max(1.0, float(np.abs(theirs).max(initial=0.0))):
            raise ExportHarm(f"the graph's output {name} is {distance:.3g} off the model's for the example")
