"""The schema that an extraction's answers are held to: a given one that fits the training rows, or what these show."""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from tunesmith.data.answer_grammar import keep_to, schema_grammar
from tunesmith.data.inferred_schema import fixed_sets, infer_schema
from tunesmith.data.json_answers import read_schema
from tunesmith.data.placeholders import as_text
from tunesmith.data.provenance import place_of
from tunesmith.errors import DataError

if TYPE_CHECKING:
    from datasets import Dataset

    from tunesmith.data.templates import Template

log = logging.getLogger(__name__)


def answer_schema(file: str | None, template: Template, rows: Dataset) -> dict[str, Any]:
    """Return the schema of the answers.

    Args:
        file: a JSON schema; None to infer one.
        template: knows where answers and prompts are.
        rows: the training rows.

    Raises:
        UsageError: for a file that holds no schema, or one that answers can't be held to.
        DataError: for a training answer that doesn't fit the given schema.
    """
    answers = [(number, answer.strip()) for number, row in enumerate(rows) for answer in template.answers(row)]
    if file is None:
        asked = [_asked(template, row) for row in rows]
        schema = infer_schema((answer for _, answer in answers), (asked[number] for number, _ in answers))
        for field, count in fixed_sets(schema):
            log.info("Answers: '%s' is one of the %d texts that the rows have. Other ones: --answer_schema FILE", field, count)
    else:
        schema = read_schema(file)
    _check(answers, schema, "the schema" if file is None else f"--answer_schema {file}", rows)
    return schema


def _check(answers: list[tuple[int, str]], schema: Mapping[str, Any], name: str, rows: Dataset) -> None:
    """Refuse training answers that don't fit; say how many fit and are written in a way that no answer will be written in."""
    from jsonschema.validators import validator_for

    kept = keep_to(schema_grammar(schema, name=name), [answer for _, answer in answers])
    validator, otherwise = validator_for(schema)(schema), []
    for (number, answer), is_kept in zip(answers, kept, strict=True):
        error = None if is_kept else next(validator.iter_errors(json.loads(answer)), None)
        if error is not None:
            file, row = place_of(rows, number)
            where = f" at {'.'.join(map(str, error.absolute_path))}" if error.absolute_path else ""
            fix = "Mend the row, or the schema."
            raise DataError(f"the answer doesn't fit {name}{where}: {error.message[:200]}", file=file, row=row, fix=fix)
        if not is_kept:
            otherwise.append(number)
    if otherwise:
        file, row = place_of(rows, otherwise[0])
        words = "%d of %d training answers fit %s but write it in another way, such as fields in another order (%s, row %d); answers won't."
        log.warning(words, len(otherwise), len(answers), name, file or "the first", row)


def _asked(template: Template, row: Mapping[str, Any]) -> str:
    """Return all that a row says beside its answer, as far as that is known."""
    names = template.prompt_columns or tuple(row)
    return "\n".join(as_text(row.get(name)) for name in names)
