"""What an answer may be, as a grammar: JSON that fits a schema, or a list of known labels.

Grammars are written in the Lark of llguidance (https://github.com/guidance-ai/llguidance/blob/main/docs/syntax.md). One text serves every
engine: `tunesmith.runtime.constraints` compiles it for PyTorch, onnxruntime-genai takes it as ``set_guidance("lark_grammar", …)``.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from tunesmith.errors import UsageError

if TYPE_CHECKING:
    from tunesmith.data.task_file import TaskRecord

#: A template may have a blank or a line break before the answer, which training moves from the prompt's end to the answer's front.
_START = "start: /[ \\n]?/ answer\n"
#: Blanks inside JSON: as ``json.dumps`` writes them, compact or indented. Without a bound a weak model writes blanks for ever.
_JSON_STYLE = {"whitespace_pattern": r" ?|\n {0,16}|\n\t{0,8}", "json_allow_general_unicode_escapes": True}


def grammar_of(task: TaskRecord) -> str | None:
    """Return the grammar of a task's answers; None where any text is an answer.

    Raises:
        UsageError: for a schema that answers can't be held to.
    """
    if task.schema is not None:
        return schema_grammar(task.schema, name="the schema in task.json", fix="Mend it there, or use --no-constrain")
    if task.name == "text-classification" and task.multi_label and task.labels and not task.head:
        return label_list_grammar(task.labels)
    return None


def schema_grammar(schema: Mapping[str, Any], *, name: str = "the schema", fix: str = "Write the schema without it") -> str:
    """Return the grammar of JSON that fits a schema.

    Fields come in the order in which ``properties`` names them; numbers, strings and blanks are written as JSON allows.

    Args:
        schema: a JSON schema.
        name: what messages call it.
        fix: what can be done about a schema that is too much to ask.

    Raises:
        UsageError: for a schema that can't be turned into a grammar, naming the keyword.
    """
    from llguidance import LLMatcher

    try:
        grammar = f"{_START}answer: %json {json.dumps({**schema, 'x-guidance': _JSON_STYLE})}\n"
    except (TypeError, ValueError) as error:
        raise UsageError(f"{name} is no JSON schema: {error}", fix='It says what type an answer has: {"type": "object", …}') from error
    failed, messages = LLMatcher.validate_grammar_with_warnings(grammar)
    if failed:
        raise UsageError(f"answers can't be held to {name}: {_reason(messages[0])}", fix=fix)
    return grammar


def keep_to(grammar: str, texts: Iterable[str]) -> list[bool]:
    """Return for each text whether it is, to the letter, an answer that the grammar allows."""
    from llguidance import LLMatcher, LLTokenizer

    characters = LLTokenizer("byte")
    start = LLMatcher(characters, grammar)
    found = []
    for text in texts:
        matcher, ids = start.deep_copy(), characters.tokenize_str(text)
        found.append(bool(matcher.try_consume_tokens(ids) == len(ids) and matcher.is_accepting()))
    return found


def label_list_grammar(labels: Sequence[str]) -> str:
    """Return the grammar of a JSON list of labels, each at most once, in their order.

    Args:
        labels: at least one.

    Every label has a rule for the rest of a list behind it, so that the grammar grows with their number and not with its square.
    """
    names = [_terminal(json.dumps(label, ensure_ascii=False)) for label in labels]
    rules = [f'{_START}answer: "[" first_0? "]"']
    for number, name in enumerate(names):
        is_last = number + 1 == len(names)
        later = "" if is_last else f" | first_{number + 1}"
        more = "" if is_last else f" next_{number + 1}"
        rules.append(f"first_{number}: {name}{more}{later}")
        if number:
            rules.append(f'next_{number}: (", " {name})?{more}')
    return "\n".join(rules) + "\n"


def _terminal(text: str) -> str:
    """Return a text as Lark writes it: a JSON string, whose quotes and backslashes are escaped."""
    return json.dumps(text, ensure_ascii=False)


def _reason(message: str) -> str:
    """Return one line that says what llguidance refuses, without the grammar around it."""
    text = message.split("failed to compile JSON schema: ", 1)[-1]
    keys = re.match(r"Unimplemented keys: \[(.*?)\]", text)
    if keys:
        names = keys[1].replace('"', "'")
        return f"the {'keywords' if ',' in names else 'keyword'} {names} can't be checked while an answer is written"
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    if lines[0].startswith("regex parse error"):
        said = next((line.removeprefix("error: ") for line in lines if line.startswith("error: ")), "")
        return f"the keyword 'pattern' has {lines[1]!r}: {said}"
    return lines[0].split(". Enable '")[0]
