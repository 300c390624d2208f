"""ONNX graphs made simpler by onnxruntime, and with dimensions of a fixed size."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

#: Beyond this onnxruntime puts weights into a file beside the graph.
_MOST_BYTES_INSIDE = 1_900_000_000


def simplify(source: Path, destination: Path) -> None:
    """Write ``source`` without what can be computed beforehand, as onnxruntime simplifies it.

    Only its basic level: it stays plain ONNX, which other engines read too. What is made for one processor (fused attention and the like)
    onnxruntime does itself each time it loads the file. MatMul and Add stay two, since only MatMul is quantized.

    Args:
        source: an ONNX file, with data beside it or not.
        destination: the file to write; large weights go into ``destination.data``.
    """
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_BASIC
    options.optimized_model_filepath = str(destination)
    options.log_severity_level = 3
    if _size(source) > _MOST_BYTES_INSIDE:
        options.add_session_config_entry("session.optimized_model_external_initializers_file_name", f"{destination.name}.data")
        options.add_session_config_entry("session.optimized_model_external_initializers_min_size_in_bytes", "1024")
    onnxruntime.InferenceSession(source, options, providers=["CPUExecutionProvider"], disabled_optimizers=["MatMulAddFusion"])


def fix_dimensions(file: Path, sizes: Mapping[str, int]) -> None:
    """Give open dimensions of a graph's inputs and outputs the sizes that are named, in place.

    Args:
        file: an ONNX file.
        sizes: size by name of the dimension.
    """
    if not sizes:
        return
    import onnx
    from onnxruntime.tools.onnx_model_utils import make_dim_param_fixed

    model = onnx.load(file, load_external_data=False)
    for name, size in sizes.items():
        make_dim_param_fixed(model.graph, name, size)
    onnx.save(model, file)


def _size(file: Path) -> int:
    return sum(other.stat().st_size for other in file.parent.iterdir() if other.name in (file.name, f"{file.name}.data"))
