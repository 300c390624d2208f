"""From a model to a folder that runs on a device: find it, choose the target, build, prove, and only then give it its name."""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from tunesmith.artifact import check_output_folder, new_folder
from tunesmith.errors import ExportHarm, UsageError
from tunesmith.evaluate.test_set import read_test_set
from tunesmith.export.bare_graph import optimize_graph
from tunesmith.export.certificate import Certificate, Examination
from tunesmith.export.decoder import build_decoder
from tunesmith.export.folder import model_sizes, write_extras
from tunesmith.export.gguf_folder import build_gguf
from tunesmith.export.graph import build_graph
from tunesmith.export.on_grid import build_on_grid
from tunesmith.export.onnx_input import is_onnx
from tunesmith.export.plan import Plan, Request, plans_for
from tunesmith.export.proof import prove, runs_here
from tunesmith.export.result import Optimized, check_memory, parse_memory
from tunesmith.export.search.flow import search as search_recipes
from tunesmith.export.search.options import SearchOptions, is_searched
from tunesmith.export.search.result import SearchResult
from tunesmith.export.source import ExportSource, read_source
from tunesmith.export.tolerances import Tolerances
from tunesmith.hardware import detect

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Proof:
    """How an export is to be proven.

    Attributes:
        wanted: whether at all.
        data_files: rows to score on; the run's held-out rows by default.
        max_rows: most rows.
        tolerances: what may be lost.
        accept_loss: ship it all the same, and record what was lost.
    """

    wanted: bool = True
    data_files: tuple[str, ...] | None = None
    max_rows: int = 100
    tolerances: Tolerances = field(default_factory=Tolerances)
    accept_loss: bool = False


@dataclass(frozen=True)
class _Wanted:
    """Where an export goes and what it has to keep to.

    Attributes:
        final: the folder to write.
        limit: bytes that the model has to fit into.
        overwrite: replace an earlier result.
        search: recipes that were tried before, in vain.
    """

    final: Path
    limit: int | None
    overwrite: bool
    search: SearchResult | None = None


class _Lost(Exception):
    """Leaves the folder of an export that lost too much, so that it is removed."""

    def __init__(self, certificate: Certificate) -> None:
        super().__init__()
        self.certificate = certificate


def optimize(
    path: str | None,
    output_path: str,
    request: Request,
    proof: Proof,
    *,
    adapter_path: str | None = None,
    revision: str | None = None,
    token: str | None = None,
    trust_remote_code: bool = False,
    model_script: str | None = None,
    memory: str | int | None = None,
    overwrite: bool = False,
    search: SearchOptions | None = None,
) -> Optimized:
    """Write a folder that runs on the target.

    Args:
        path: the folder of a run, a model folder, a GGUF file, a hub id, an ONNX model; None: the sample model, or ``model_script``.
        output_path: the folder to write; it appears when it is whole and proven.
        request: the target, and how the model is made.
        proof: how it is proven.
        model_script: a PyTorch model by ``file.py:function``.
        memory: bytes that the model has to fit into.
        overwrite: replace an earlier result.
        search: budget and limits of a search for a recipe.

    Raises:
        UsageError: for options that have no effect or contradict each other, and for targets that there is no recipe for.
        ModelError: when the model can't be read or built.
        OutputError: when the folder exists, can't be written, or the model is larger than ``memory``.
        ExportHarm: when more was lost than may be; nothing has the final name then.
    """
    final = Path(output_path).expanduser()
    options = search or SearchOptions()
    wanted = _Wanted(final, parse_memory(memory), overwrite)
    bare = Path(path).expanduser() if path is not None else None
    if model_script is not None or (bare is not None and is_onnx(bare)):
        _check_alone(bare, model_script, adapter_path, proof, options)
        return optimize_graph(bare, model_script, final, request, limit=wanted.limit, overwrite=overwrite)
    check_output_folder(final, overwrite=overwrite)
    source = read_source(path, adapter_path=adapter_path, revision=revision, token=token, trust_remote_code=trust_remote_code)
    searched = is_searched(source, request, options, proven=proof.wanted)
    asks_machine = request.device not in (None, "cpu") and request.provider is None
    plans = plans_for(source, request, available=detect(providers=True).providers if asks_machine else ())
    rows = _rows(source, proof)
    with Examination(rows, tolerances=proof.tolerances, max_rows=proof.max_rows) as examination:
        if searched:
            return _searched(source, wanted, plans, request, options, proof, examination)
        return _first_that_ships(source, wanted, plans, proof, examination)


def _searched(
    source: ExportSource,
    wanted: _Wanted,
    plans: Sequence[Plan],
    request: Request,
    options: SearchOptions,
    proof: Proof,
    examination: Examination,
) -> Optimized:
    """Ship the best recipe; without quantization where none loses little enough."""
    found = search_recipes(
        source,
        wanted.final,
        options,
        options.limits(wanted.limit),
        examination,
        block_size=request.block_size,
        accept_loss=proof.accept_loss,
        overwrite=wanted.overwrite,
    )
    if found.made is not None:
        return replace(found.made, words=(*found.words, *found.made.words))
    last = [plan for plan in plans if plan.target.precision == "fp32"]
    made = _first_that_ships(source, replace(wanted, search=found.result), last, proof, examination)
    return replace(made, words=(*found.words, *made.words), search=found.result)


def _first_that_ships(source: ExportSource, wanted: _Wanted, plans: Sequence[Plan], proof: Proof, examination: Examination) -> Optimized:
    """Make one plan after the other until one loses nothing."""
    proven = proof.wanted and runs_here(plans[0])
    lost: list[str] = []
    for number, plan in enumerate(plans if proven else plans[:1], 1):
        try:
            made = _make(source, wanted, plan, proof if proven else replace(proof, wanted=False), examination)
        except _Lost as found:
            if number == len(plans):
                found.certificate.check()
            log.warning(
                "%s loses too much: %s. Trying %s.", plan.target.precision, found.certificate.failures[0], plans[number].target.precision
            )
            lost.append(f"{plan.target.precision} lost too much: {found.certificate.failures[0]}.{_way_back(source, plan)}")
            continue
        return replace(made, words=(*lost, *made.words, *_unproven(plan, proof)))
    raise AssertionError("the last plan ships or raises")


def _way_back(source: ExportSource, plan: Plan) -> str:
    """Return what can be done about what 4 bits cost a model that was tuned in floating point."""
    manifest = source.manifest
    if plan.target.precision != "int4" or source.kind != "decoder" or source.grid is not None:
        return ""
    ways = [" --precision auto searches recipes between int4 and int8."] if plan.target.device == "cpu" else []
    if manifest is not None and manifest.method == "lora" and source.places.adapter is not None:
        ways.append(" --recover 100 trains its adapter on that grid.")
    return "".join(ways)


def _check_alone(path: Path | None, script: str | None, adapter_path: str | None, proof: Proof, search: SearchOptions) -> None:
    """Refuse what can't stand beside a graph."""
    if search.given:
        raise UsageError(f"{', '.join(search.given)}: recipes are searched for models that write text, not for a graph", fix="Leave it out")
    if path is not None and script is not None:
        raise UsageError(f"--model_script and {path} both name a model", fix="Leave one of them out")
    what = str(path) if script is None else "--model_script"
    if adapter_path is not None:
        raise UsageError(f"--adapter_path has no effect with {what}", fix="Name the model that the adapter was trained on")
    if proof.data_files is not None:
        raise UsageError(f"--data_files has no effect with {what}: what it is for isn't known, so rows can't be asked", fix="Leave it out")


def _rows(source: ExportSource, proof: Proof) -> Sequence[Mapping[str, Any]]:
    if proof.data_files is None:
        return source.rows
    if not proof.wanted:
        raise UsageError("--data_files has no effect with --no-proof", fix="Leave one of them out")
    return list(read_test_set(list(proof.data_files), None))


def _make(source: ExportSource, wanted: _Wanted, plan: Plan, proof: Proof, examination: Examination) -> Optimized:
    name, final = wanted.final.resolve().name, wanted.final
    search = wanted.search.to_dict() if wanted.search is not None else None
    certificate = None
    started = time.monotonic()
    with new_folder(final, overwrite=wanted.overwrite) as folder:
        log.info("Building %s for %s.", plan.target.precision, plan.target.provider)
        _build(source, folder, plan)
        size = sum(model_sizes(folder).values())
        seconds = time.monotonic() - started
        check_memory(size, wanted.limit, plan.target)
        write_extras(source, folder, plan, name=name, search=search)
        if proof.wanted:
            log.info("Scoring every stage of the export on the same rows.")
            certificate = _proven(prove(source, folder, plan, examination), proof)
            write_extras(source, folder, plan, name=name, certificate=certificate.to_dict(), search=search)
    return Optimized(final, plan.target, size, seconds, certificate, _words(plan, size, seconds))


def _proven(certificate: Certificate, proof: Proof) -> Certificate:
    try:
        return certificate.check(accept_loss=proof.accept_loss)
    except ExportHarm as error:
        raise _Lost(certificate) from error


def _build(source: ExportSource, folder: Path, plan: Plan) -> None:
    recipe = plan.recipe
    if recipe.builder == "gguf":
        build_gguf(source, folder, recipe)
    elif recipe.builder == "torch.onnx":
        build_graph(source, folder, recipe, plan.dimensions)
    elif plan.adapter_precision is not None:
        build_on_grid(source, folder, recipe, adapter_precision=plan.adapter_precision)
    else:
        build_decoder(source, folder, recipe)


def _words(plan: Plan, size: int, seconds: float) -> tuple[str, ...]:
    target = plan.target
    said = [f"{target.precision} for {target.provider} on {target.device}: {size / 1e6:.1f} MB, built in {seconds:.0f} s."]
    if plan.adapter_precision is not None:
        said.append(f"Base and adapter ship as they were trained: the adapter stays beside the weights, as {plan.adapter_precision}.")
    if plan.recipe.words:
        said.append(f"This recipe was {plan.recipe.words}.")
    return tuple(said)


def _unproven(plan: Plan, proof: Proof) -> tuple[str, ...]:
    if not proof.wanted:
        return ("Nothing was proven, as asked.",)
    return () if runs_here(plan) else (f"Nothing is proven: this machine can't run {plan.target.provider}.",)
