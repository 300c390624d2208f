"""The fields of ``transformers.TrainingArguments`` read from its source file, without importing transformers.

Importing that class takes seconds (it brings torch, accelerate, bitsandbytes); refusing a misspelt flag or printing a help must not.
A test holds that what is read here is what the class declares.
"""

from __future__ import annotations

import ast
import importlib.util
import typing
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

# The class itself, and the files of the enumerations that its annotations name.
FILES = ("training_args.py", "trainer_utils.py", "debug_utils.py")


class Unsupported:
    """Stands for a type that text can't become."""


@dataclass(frozen=True)
class TrainingArgument:
    """One field of ``TrainingArguments``: its type, default and help."""

    name: str
    annotation: Any
    default: object
    description: str


def read_training_arguments() -> dict[str, TrainingArgument]:
    """Return the fields by name in the order of the source; empty when the source isn't where it is looked for."""
    trees = [ast.parse(file.read_text(encoding="utf-8")) for file in _source_files()]
    if not trees:
        return {}
    types = _Types({node.name: _enum_values(node) for tree in trees for node in tree.body if _is_enum(node)})
    declared = next((n for n in trees[0].body if isinstance(n, ast.ClassDef) and n.name == "TrainingArguments"), None)
    if declared is None:
        return {}
    variables = dict(_assigned_constants(declared))
    found = {}
    for node in declared.body:
        if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name) and isinstance(node.value, ast.Call):
            name = node.target.id
            found[name] = TrainingArgument(name, types.read(node.annotation), _default(node.value, variables), _help(node.value))
    return found


def _source_files() -> list[Path]:
    spec = importlib.util.find_spec("transformers")
    folders = list(spec.submodule_search_locations or ()) if spec else []
    files = [Path(folders[0]) / name for name in FILES] if folders else []
    return files if all(file.is_file() for file in files) else []


def _is_enum(node: ast.stmt) -> typing.TypeGuard[ast.ClassDef]:
    return isinstance(node, ast.ClassDef) and any(isinstance(base, ast.Name) and base.id.endswith("Enum") for base in node.bases)


def _enum_values(node: ast.ClassDef) -> Any:
    """Return the values of an enumeration as a Literal type."""
    values = [item.value.value for item in node.body if isinstance(item, ast.Assign) and isinstance(item.value, ast.Constant)]
    return typing.Literal[tuple(values)] if values else Unsupported


class _Types:
    """Reads annotations: names, ``A | B``, ``list[A]``, ``dict[A, B]``, ``Literal[…]``, ``Optional[A]``, ``Union[A, B]``."""

    def __init__(self, enums: dict[str, Any]) -> None:
        plain = {"bool": bool, "int": int, "float": float, "str": str, "list": list, "dict": dict, "tuple": tuple, "Any": Any}
        self.names: dict[str, Any] = {**plain, **enums}

    def read(self, node: ast.expr) -> Any:
        if isinstance(node, ast.Constant):
            return self.read(ast.parse(node.value, mode="eval").body) if isinstance(node.value, str) else type(None)
        if isinstance(node, ast.Name):
            return self.names.get(node.id, Unsupported)
        if isinstance(node, ast.BinOp):
            return typing.Union[self.read(node.left), self.read(node.right)]  # noqa: UP007  the members are known at run time only
        if isinstance(node, ast.Subscript) and isinstance(node.value, ast.Name):
            return self._generic(node.value.id, node.slice.elts if isinstance(node.slice, ast.Tuple) else [node.slice])
        return Unsupported

    def _generic(self, name: str, arguments: list[ast.expr]) -> Any:
        if name == "Literal":
            return typing.Literal[tuple(item.value for item in arguments if isinstance(item, ast.Constant))]
        members = tuple(self.read(item) for item in arguments)
        if name == "Optional":
            members = (*members, type(None))
        if name in ("Optional", "Union"):
            return typing.Union[members]  # noqa: UP007
        origin = self.names.get(name)
        return origin[members if len(members) > 1 else members[0]] if origin in (list, dict, tuple) else Unsupported


def _assigned_constants(declared: ast.ClassDef) -> Iterator[tuple[str, object]]:
    """Yield the plain variables of the class body, with the last constant that is assigned (the one for an up-to-date torch)."""
    for node in ast.walk(declared):
        if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name) and isinstance(node.value, ast.Constant):
            yield node.targets[0].id, node.value.value


def _default(call: ast.Call, variables: dict[str, object]) -> object:
    given = {keyword.arg: keyword.value for keyword in call.keywords}
    node = given.get("default")
    if isinstance(node, ast.Name):
        return variables.get(node.id)
    if node is None:
        return [] if "default_factory" in given else None
    try:
        return ast.literal_eval(node)
    except ValueError:
        return ast.unparse(node)


def _help(call: ast.Call) -> str:
    metadata = next((keyword.value for keyword in call.keywords if keyword.arg == "metadata"), None)
    if isinstance(metadata, ast.Dict):
        for key, value in zip(metadata.keys, metadata.values, strict=True):
            if isinstance(key, ast.Constant) and key.value == "help":
                try:
                    return " ".join(str(ast.literal_eval(value)).split())
                except ValueError:
                    return ""
    return ""
