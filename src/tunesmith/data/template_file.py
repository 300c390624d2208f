"""Where a template is kept: ``template.json``, beside the weights that were trained with it."""

from __future__ import annotations

import json
from pathlib import Path

from tunesmith.data.templates import Template
from tunesmith.json_record import read_record

TEMPLATE_FILE = "template.json"


def write_template(folder: Path, template: Template) -> None:
    """Keep the template and its stop tokens in ``folder``."""
    (folder / TEMPLATE_FILE).write_text(json.dumps(template.to_dict(), indent=2, ensure_ascii=False), encoding="utf-8")


def read_template(folder: Path) -> Template | None:
    """Return the template kept in ``folder``, None where there is none.

    Raises:
        ModelError: for one that can't be read.
    """
    return read_record(folder / TEMPLATE_FILE, Template.from_dict)
