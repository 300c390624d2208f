"""A stand-in for ``tunesmith.api`` that records calls and loads nothing."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import pytest


@dataclass(frozen=True)
class Answer:
    text: str
    stopped: bool = True
    num_tokens: int = 2


@dataclass
class EchoRuntime:
    """Answers with the prompt in capitals."""

    calls: list[Mapping[str, Any]] = field(default_factory=list)

    def with_schema(self, schema: Mapping[str, Any] | None) -> EchoRuntime:
        self.calls.append({"schema": schema})
        return self

    def generate(self, prompts: Sequence[Any], **sampling: Any) -> list[Answer]:
        self.calls.append({"prompts": list(prompts), **sampling})
        return [Answer(str(prompt).upper()) for prompt in prompts]

    def stream(self, prompt: Any, **sampling: Any) -> Iterator[str]:
        self.calls.append({"prompts": [prompt], **sampling})
        yield from (word + " " for word in str(prompt).upper().split())


@dataclass
class FakeApi:
    """Records keyword arguments by function name; ``error`` is raised when one is called."""

    calls: dict[str, Mapping[str, Any]] = field(default_factory=dict)
    result: Any = None
    error: BaseException | None = None
    runtime: EchoRuntime = field(default_factory=EchoRuntime)
    rows: list[Mapping[str, Any]] = field(default_factory=list)

    def _call(self, name: str, **given: Any) -> None:
        self.calls[name] = given
        if self.error is not None:
            raise self.error

    def finetune(self, **given: Any) -> Any:
        self._call("finetune", **given)
        return self.result

    def load(self, path: str | None, **given: Any) -> EchoRuntime:
        self._call("load", path=path, **given)
        return self.runtime

    def chat(self, path: str | None, **given: Any) -> Any:
        self._call("chat", path=path, **given)
        return self.result

    def merge(self, path: str, output_path: str, **given: Any) -> str:
        self._call("merge", path=path, output_path=output_path, **given)
        return output_path

    def read_schema(self, file: str) -> Mapping[str, Any]:
        self._call("read_schema", file=file)
        return {"type": "integer"}

    def read_rows(self, files: Sequence[str], *, max_samples: int | None) -> list[Mapping[str, Any]]:
        self._call("read_rows", files=files, max_samples=max_samples)
        return self.rows[:max_samples]


@pytest.fixture
def fake_api(monkeypatch: pytest.MonkeyPatch) -> FakeApi:
    """A fake in the place of ``tunesmith.api``."""
    import tunesmith

    fake = FakeApi()
    monkeypatch.setitem(sys.modules, "tunesmith.api", fake)
    monkeypatch.setattr(tunesmith, "api", fake, raising=False)
    return fake
