"""Base and adapter to one plain model folder, computed in float32."""

from __future__ import annotations

from pathlib import Path

from tunesmith.artifact import Manifest, hash_folder, installed_versions, new_folder, read_manifest, write_manifest
from tunesmith.data.task_file import write_task
from tunesmith.data.template_file import write_template
from tunesmith.errors import UsageError
from tunesmith.methods.adapters import load_adapter, merge_adapter
from tunesmith.models.load import load_model
from tunesmith.models.save import save_plain_model
from tunesmith.runtime.load import base_head, tokenizer_of
from tunesmith.runtime.places import find_places, run_folder, stored_task, stored_template


def merge(
    path: str,
    output_path: str,
    *,
    adapter_path: str | None = None,
    revision: str | None = None,
    token: str | None = None,
    trust_remote_code: bool = False,
    overwrite: bool = False,
) -> Path:
    """Write one plain model folder that answers as base and adapter do together.

    Args:
        path: a run's folder, or a base model together with ``adapter_path``.
        output_path: the folder to write; with ``overwrite`` it may replace an earlier result.

    Returns: the folder, with the template and stop tokens of the training in it.
    Raises:
        UsageError: when there is no adapter to merge.
        ModelError: when the parts don't fit, or the adapter is of a kind that can't be merged.
        OutputError: when the folder exists or can't be written.
    """
    places = find_places(path, adapter_path=adapter_path, revision=revision, token=token)
    if places.adapter is None:
        raise UsageError(
            f"{path} has no adapter to merge",
            fix="Name one: --adapter_path FOLDER (a run of --method full is one plain model already: OUT/model).",
        )
    if places.checkpoint is not None:
        raise UsageError(f"{path} is a checkpoint of a run", fix="Merge the finished run, or resume it first.")
    template = stored_template(places)
    tokenizer = tokenizer_of(places, trust_remote_code=trust_remote_code)
    task = stored_task(places)
    final = Path(output_path).expanduser()
    with new_folder(final, overwrite=overwrite) as folder:
        head = base_head(places, task, tokenizer)
        base = load_model(places.base, dtype="float32", device="cpu", trust_remote_code=trust_remote_code, task=head)
        save_plain_model(merge_adapter(load_adapter(base, places.adapter)), tokenizer, folder)
        if template is not None:
            write_template(folder, template)
        if task is not None:
            write_task(folder, task)
        run = run_folder(places.adapter)
        parent = read_manifest(run) if run else None
        write_manifest(
            folder,
            Manifest(
                kind="model",
                task=parent.task if parent else None,
                method=f"{parent.method}, merged" if parent else "merged",
                base=places.base.name,
                parent_hash=hash_folder(places.adapter),
                template=template.to_dict() if template else {},
                stop_tokens=template.stop_tokens if template else (),
                versions=installed_versions(),
            ),
        )
    return final
