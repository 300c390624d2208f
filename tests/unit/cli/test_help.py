"""The help is complete, fits the terminal and shows defaults."""

from __future__ import annotations

import pytest

from tunesmith.cli.help import command_help, training_help
from tunesmith.cli.main import COMMANDS, find_command
from tunesmith.config.training_arguments import training_arguments


@pytest.mark.parametrize("name", COMMANDS)
@pytest.mark.parametrize("columns", [50, 80, 200])
def test_every_option_is_shown_within_the_width(name: str, columns: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", str(columns))
    command = find_command(name)
    text = command_help(command)
    for option in command.all_options().values():
        flag = f"--no-{option.name}" if option.kind == "boolean" and option.default is True else f"--{option.name}"
        assert f"{flag} " in text or f"{flag}\n" in text
    body = text[: text.index("Examples:")].split("\n\n", 1)[1]
    assert max(len(line) for line in body.splitlines()) <= min(columns, 100)


def test_defaults_choices_and_short_flags_are_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    text = command_help(find_command("finetune"))
    assert "  -m, --model_name_or_path MODEL  " in text
    assert "One of auto, bfloat16, float16," in text
    assert "[default: lora]" in text
    assert "--device auto|cpu|cuda|mps" in text
    assert "--lora_r N " in text
    assert "[default: 16]" in text


def test_all_training_arguments_are_listed_with_type_and_default(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "100")
    text = training_help(find_command("finetune"))
    assert all(f"\n  --{name} " in text for name in training_arguments())
    assert "--learning_rate X" in text
    assert "[default: 5e-05]" in text
    assert "cosine_with_restarts" in text
    assert "--bf16 true|false" in text
    assert "--output_dir" not in text
