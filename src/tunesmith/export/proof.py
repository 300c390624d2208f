"""The proof of an export: its stages, from the tuned model in PyTorch to the folder that was just built, scored and compared.

The reference is the tuned model in float32 with its adapter beside the weights, as it was trained; all that follows has to be that model.
"""

from __future__ import annotations

import logging
import tempfile
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tunesmith.artifact import hash_file, model_files
from tunesmith.errors import UserError
from tunesmith.export.blame import audit_onnx
from tunesmith.export.certificate import Certificate, Examination
from tunesmith.export.decoder import MODEL_FILE, build_decoder
from tunesmith.export.folder import model_sizes, write_extras
from tunesmith.export.gguf_audit import audit_gguf
from tunesmith.export.gguf_folder import MODEL_FILE as GGUF_FILE
from tunesmith.export.gguf_folder import PROVIDER as LLAMA_CPP
from tunesmith.export.on_grid import unmerged_model
from tunesmith.export.plan import Plan
from tunesmith.export.source import ExportSource, float_model
from tunesmith.export.stages import Stage
from tunesmith.export.targets import PROVIDERS, Recipe, Target
from tunesmith.export.tolerances import Judged
from tunesmith.hardware import detect
from tunesmith.methods.adapters import load_adapter
from tunesmith.models.load import load_model
from tunesmith.runtime.load import base_head, load, runtime_around

if TYPE_CHECKING:
    from tunesmith.runtime.protocol import Runtime

log = logging.getLogger(__name__)

#: A graph in float32 is built beside what ships, to tell what the graph lost from what rounding lost, while it takes less than this.
MOST_FLOAT_BYTES = 4_000_000_000
_FLOATS = ("fp32", "f32", "fp16", "f16", "bf16")


def runs_here(plan: Plan) -> bool:
    """Return whether what a plan makes can be run on this machine."""
    return plan.target.provider == LLAMA_CPP or plan.target.provider in detect(providers=True).providers


def prove(source: ExportSource, folder: Path, plan: Plan, examination: Examination) -> Certificate:
    """Score an exported folder beside what it was made from.

    Args:
        source: what was exported.
        folder: the result, complete: its runtime is loaded from it.
        plan: how it was made; see :func:`runs_here`.
        examination: the rows and tolerances; what it measured for earlier plans of the same source is not measured again.

    Raises:
        UserError: when a stage can't be loaded or asked.
    """
    return prove_stage(source, folder, plan, examination, exported_stage(source, folder, plan, has_rows=bool(examination.rows)))


def prove_stage(source: ExportSource, folder: Path, plan: Plan, examination: Examination, stage: Stage) -> Certificate:
    """Score an exported folder as :func:`prove` does, as the stage that is given."""
    with ExitStack() as stack:
        found = examination.certify([*stages_before(source, plan), *_float_stage(source, folder, plan, stack), stage])
    return replace(found, files={file.name: hash_file(file) for file in model_files(folder)})


def exported_stage(source: ExportSource, folder: Path, plan: Plan, *, has_rows: bool = True) -> Stage:
    """Return the stage of an exported folder: what it is called, how it is judged, and how its weights are compared.

    What was trained on the grid is asked for the very same choices only on rows of its task: on any text most choices are near ties, which
    activations in 8 bits turn over. Its weights have to be the trained ones either way.
    """
    on_grid, is_float = plan.adapter_precision is not None, plan.target.precision in _FLOATS
    # half precision rounds, and llama.cpp keeps keys and values in it whatever the weights are: the task decides there
    exact = plan.target.precision == "fp32" and plan.file_format == "onnx"
    judged: Judged = "grid" if on_grid and has_rows else "float" if exact else "quantized"

    def tuned() -> Any:
        return unmerged_model(source) if on_grid else float_model(source)

    if plan.file_format == "gguf":
        file = folder / GGUF_FILE
        return Stage("gguf", lambda: load(folder), judged, file, lambda: audit_gguf(file, tuned))
    file = folder / MODEL_FILE
    rounded = not any("algo" in name for name in plan.recipe.options)  # others than the usual algorithm move weights on purpose
    # a recipe that was searched for may move what stays in floating point, too; its folder was compared with its codes when it was made
    comparable = file.is_file() and "recipe" not in plan.recipe.options
    audit = (lambda: audit_onnx(file, tuned, rounded=rounded, on_grid=on_grid)) if comparable else None
    return Stage(f"onnx-{plan.target.precision}" if is_float else "quantized", lambda: load(folder), judged, folder, audit)


def _float_stage(source: ExportSource, folder: Path, plan: Plan, stack: ExitStack) -> list[Stage]:
    """The graph of a quantized decoder in float32, built when its turn comes, beside what ships and only for the comparison."""
    is_quantized = plan.recipe.builder == "model_builder" and plan.target.precision not in _FLOATS
    if not is_quantized or plan.adapter_precision is not None or 8 * sum(model_sizes(folder).values()) > MOST_FLOAT_BYTES:
        return []
    scratch = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix=".fp32-", dir=folder)))
    return [Stage("onnx-fp32", lambda: _float_graph(source, scratch), files=scratch, shared=True)]


def _float_graph(source: ExportSource, scratch: Path) -> Runtime:
    plan = Plan(Target("cpu", PROVIDERS["cpu"], "fp32"), Recipe("model_builder", "fp32", {"execution_provider": "cpu"}))
    build_decoder(source, scratch, plan.recipe)
    write_extras(source, scratch, plan, name=scratch.name)
    return load(scratch)


def stages_before(source: ExportSource, plan: Plan) -> list[Stage]:
    """Return base, tuned model and, where an adapter was merged, the merged model: the same for every plan of a source."""
    places = source.places
    tuned = Stage("tuned", lambda: _unmerged(source), shared=True)
    if places.adapter is None:
        return [*_base_of_full_run(source), tuned]
    base = [Stage("base", lambda: _base(source), shared=True)] if source.task is None or not source.task.head else []
    merged = [] if plan.adapter_precision is not None else [Stage("merged", lambda: _around(source, float_model(source)), shared=True)]
    return [*base, tuned, *merged]


def _around(source: ExportSource, model: Any) -> Runtime:
    return runtime_around(model.eval(), source.tokenizer, source.template, source.task)


def _base(source: ExportSource) -> Runtime:
    head = base_head(source.places, source.task, source.tokenizer)
    trusted = source.trust_remote_code
    return _around(source, load_model(source.places.base, dtype="float32", device="cpu", trust_remote_code=trusted, task=head))


def _unmerged(source: ExportSource) -> Runtime:
    """The tuned model as it was trained: the adapter beside the weights, all of it in float32."""
    runtime: Any = _base(source)
    if source.places.adapter is None:
        return _around(source, runtime.model)
    return _around(source, load_adapter(runtime.model, source.places.adapter))


def _base_of_full_run(source: ExportSource) -> list[Stage]:
    """The model that a full fine-tuning started from, where it can still be found; a head's base can't do its task."""
    manifest = source.manifest
    if manifest is None or not manifest.base or (source.task is not None and source.task.head):
        return []
    named = manifest.base
    try:
        from tunesmith.runtime.places import find_places

        find_places(named)
    except UserError as error:
        log.info("The base model is not scored: %s", error)
        return []
    return [Stage("base", lambda: load(named, dtype="float32", device="cpu").with_template(source.template, source.task), shared=True)]
