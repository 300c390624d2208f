"""A graph in a file, opened by onnxruntime and called with tensors; and graphs with a head called as models of transformers are."""

from __future__ import annotations

import importlib.util
from collections.abc import Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from tunesmith.errors import DependencyError, ModelError
from tunesmith.hardware import detect

if TYPE_CHECKING:
    from transformers import PreTrainedConfig

# Legend: B rows, T tokens; the graph may want a fixed number of either.


class Graph:
    """An ONNX file that is run.

    Args:
        file: with its data beside it, where it has any.
        provider: the execution provider that it was made for; where this machine hasn't got it, the CPU computes.
        threads: by default as many as there are physical cores.

    Raises:
        DependencyError: when onnxruntime isn't installed.
        ModelError: when the file is missing, damaged, or holds what this onnxruntime doesn't know.
    """

    def __init__(self, file: Path, *, provider: str | None = None, threads: int | None = None) -> None:
        if importlib.util.find_spec("onnxruntime") is None:
            raise DependencyError("onnxruntime", "cpu", purpose=f"running {file.name}")
        if not file.is_file():
            raise ModelError(f"{file.parent} has no {file.name}", fix="Export it again, or copy the whole folder")
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads or detect().cores
        options.log_severity_level = 3
        wanted = [name for name in (provider, "CPUExecutionProvider") if name in onnxruntime.get_available_providers()]
        try:
            self._session = onnxruntime.InferenceSession(file, options, providers=list(dict.fromkeys(wanted)))
        except Exception as error:  # the errors of onnxruntime share no class but this
            fix = "Export it again, or copy the whole folder"
            raise ModelError(f"{file} can't be run by onnxruntime: {_first_line(error)}", fix=fix) from error
        #: Shape of every input by name: numbers where fixed, names where open.
        self.inputs: dict[str, list[int | str]] = {item.name: list(item.shape) for item in self._session.get_inputs()}
        self.outputs: list[str] = [item.name for item in self._session.get_outputs()]
        self.size_bytes = sum(part.stat().st_size for part in file.parent.glob(f"{file.name}*"))

    def __call__(self, inputs: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Run the graph and return its outputs by name.

        Args:
            inputs: CPU tensors by name; what the graph doesn't ask for is left out.
        """
        given = {name: inputs[name].contiguous().numpy() for name in self.inputs}
        return {name: torch.from_numpy(array) for name, array in zip(self.outputs, self._session.run(None, given), strict=True)}


class GraphModel(nn.Module):
    """A graph with a head in the place of a model of transformers.

    Args:
        graph: takes ``input_ids`` and ``attention_mask``, both ``(B, T)``, perhaps ``token_type_ids``.
        config: of the model that it was exported from.
    """

    def __init__(self, graph: Graph, config: PreTrainedConfig) -> None:
        super().__init__()
        self.graph, self.config = graph, config
        rows, tokens = graph.inputs["input_ids"]
        self._rows = rows if isinstance(rows, int) else None
        #: The tokens that every row is filled up to, None where any number will do.
        self.length = tokens if isinstance(tokens, int) else None
        self.place = nn.Parameter(torch.empty(0), requires_grad=False)  # says where inputs belong; the weights are in the graph

    @classmethod
    def open(cls, file: Path, *, provider: str | None = None, threads: int | None = None) -> GraphModel:
        """Open a graph that lies beside its model's ``config.json``.

        Raises:
            ModelError: when a part is missing or damaged, or the graph is not one with a head.
        """
        graph = Graph(file, provider=provider, threads=threads)
        if missing := [name for name in ("input_ids", "attention_mask") if name not in graph.inputs]:
            message = f"{file} has no input {missing[0]}; it has: {', '.join(graph.inputs)}"
            raise ModelError(message, fix="Is it the graph that belongs to this folder? Copy the whole folder")
        return cls(graph, config_of(file.parent))

    @property
    def size_bytes(self) -> int:
        """Of the file."""
        return self.graph.size_bytes

    def forward(self, input_ids: Tensor, attention_mask: Tensor, token_type_ids: Tensor | None = None) -> Any:
        """Return the graph's outputs by name: ``logits``, or ``last_hidden_state`` and ``sentence_embedding``."""
        num_rows, num_tokens = input_ids.shape
        types = torch.zeros_like(input_ids) if token_type_ids is None else token_type_ids
        step = self._rows or num_rows
        parts = [
            self._run(*(each[start : start + step] for each in (input_ids, attention_mask, types))) for start in range(0, num_rows, step)
        ]
        joined = {name: torch.cat([part[name] for part in parts])[:num_rows] for name in parts[0]}
        if self.length is not None:  # of outputs with a value for each token those for the filling are cut off
            of_tokens = {name for name, value in joined.items() if value.dim() == 3}
            joined.update({name: joined[name][:, :num_tokens] for name in of_tokens})
        return SimpleNamespace(**joined)

    def _run(self, ids: Tensor, mask: Tensor, types: Tensor) -> dict[str, Tensor]:
        """Run some rows, filled up to the shape that the graph wants."""
        missing_rows = (self._rows or len(ids)) - len(ids)
        missing_tokens = (self.length or ids.shape[1]) - ids.shape[1]
        if missing_rows or missing_tokens:
            room = (0, missing_tokens, 0, missing_rows)
            ids = nn.functional.pad(ids, room, value=self.config.get_text_config().pad_token_id or 0)
            mask, types = nn.functional.pad(mask, room), nn.functional.pad(types, room)
            mask[len(mask) - missing_rows :, :1] = 1  # attention to nothing at all is no number in some models
        return self.graph({"input_ids": ids, "attention_mask": mask, "token_type_ids": types})


def config_of(folder: Path) -> PreTrainedConfig:
    """Return the configuration of the model that was exported.

    Raises:
        ModelError: for one that transformers doesn't understand.
    """
    from transformers import AutoConfig

    try:
        config: PreTrainedConfig = AutoConfig.from_pretrained(folder)
    except (OSError, ValueError, TypeError, AttributeError) as error:
        raise ModelError(f"{folder}/config.json can't be used: {_first_line(error)}", fix="Restore the folder from a copy") from error
    return config


def _first_line(error: Exception) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return (lines[0] if lines else type(error).__name__).rstrip(".")
