"""A run killed anywhere goes on as if nothing had happened; one that is another run is refused."""

from __future__ import annotations

import json
import random
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from safetensors.torch import load_file

from commands import command, environment, take_interrupts

pytestmark = pytest.mark.integration

KILLS = 10


def arguments(model: Path, data: Path, out: Path) -> list[str]:
    return [
        *(
            "finetune",
            str(data),
            "--model_name_or_path",
            str(model),
            "--output_path",
            str(out),
            "--method",
            "lora",
            "--torch_dtype",
            "float32",
        ),
        *("--max_steps", "240", "--save_steps", "3", "--logging_steps", "1", "--eval_steps", "24", "--early_stopping_patience", "0"),
        *("--per_device_train_batch_size", "4", "--lora_dropout", "0.1", "--show_answers", "0"),
    ]


def metrics(out: Path) -> dict[tuple[int, str], float]:
    rows: list[dict[str, Any]] = [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]
    return {(row["step"], name): row[name] for row in rows for name in ("loss", "eval_loss", "grad_norm") if name in row}


def test_killed_ten_times_equals_uninterrupted(tmp_path: Path, tiny_folder: Path, colours: Path) -> None:
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    done = command(*arguments(tiny_folder, colours, whole))
    assert done.returncode == 0, done.stderr
    draw, kills = random.Random(7), 0
    started = False
    while True:
        process = subprocess.Popen(
            [sys.executable, "-m", "tunesmith", *arguments(tiny_folder, colours, killed), *(["--resume"] if started else [])],
            env=environment(),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
        )
        if kills < KILLS:
            before = last_step(killed)
            while process.poll() is None and last_step(killed) < before + 4:
                time.sleep(0.01)
            time.sleep(draw.random() * 0.2)
            process.send_signal(signal.SIGKILL)
        status = process.wait()
        started = (killed / "checkpoints" / "run.json").exists()
        if status == -signal.SIGKILL:
            kills += 1
            continue
        assert status == 0, process.stderr.read() if process.stderr else ""
        break
    assert kills == KILLS
    assert metrics(killed) == metrics(whole)
    one, other = (load_file(out / "adapter" / "adapter_model.safetensors") for out in (whole, killed))
    assert one.keys() == other.keys()
    assert all((one[name] == other[name]).all() for name in one)
    assert not [path for path in killed.rglob("*") if path.name.startswith(".") and path.is_dir() and any(path.iterdir())]


def last_step(out: Path) -> int:
    file = out / "metrics.jsonl"
    lines = file.read_text().splitlines() if file.exists() else []
    try:
        return int(json.loads(lines[-1])["step"]) if lines else 0
    except ValueError:  # the line is being written
        return int(json.loads(lines[-2])["step"]) if len(lines) > 1 else 0


def test_ctrl_c_saves_and_says_how_to_go_on(tmp_path: Path, tiny_folder: Path, colours: Path) -> None:
    out = tmp_path / "run"
    process = subprocess.Popen(
        [sys.executable, "-m", "tunesmith", *arguments(tiny_folder, colours, out)],
        env=environment(),
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=take_interrupts,
    )
    while process.poll() is None and last_step(out) < 5:
        time.sleep(0.01)
    process.send_signal(signal.SIGINT)
    _, said = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "Traceback" not in said
    assert f"tunesmith finetune --resume --output_path {out}" in said.splitlines()[-1]
    again = command("finetune", "--resume", "--output_path", out)
    assert again.returncode == 0, again.stderr
    assert (out / "manifest.json").is_file()


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (["--learning_rate", "5e-4"], "learning_rate was not given, is now 0.0005"),
        (["--lora_r", "4"], "lora_r was not given, is now 4"),
        (["--weight_decay", "0.1"], "weight_decay was not given, is now 0.1"),
    ],
)
def test_another_configuration_is_refused(stopped_run: tuple[list[str], Path], change: list[str], words: str) -> None:
    given, _ = stopped_run
    done = command(*given, "--resume", *change)
    assert done.returncode == 2
    assert words in done.stderr
    assert len(done.stderr.strip().splitlines()) <= 3


@pytest.fixture(scope="module")
def stopped_run(tmp_path_factory: pytest.TempPathFactory, tiny_folder: Path, colours: Path) -> tuple[list[str], Path]:
    """A run that was killed after some steps."""
    out = tmp_path_factory.mktemp("runs") / "stopped"
    given = arguments(tiny_folder, colours, out)
    process = subprocess.Popen([sys.executable, "-m", "tunesmith", *given], env=environment(), stderr=subprocess.DEVNULL)
    while process.poll() is None and last_step(out) < 5:
        time.sleep(0.01)
    process.kill()
    process.wait()
    return given, out


def test_changed_data_is_refused(stopped_run: tuple[list[str], Path], tmp_path: Path, colours: Path) -> None:
    given, _ = stopped_run
    changed = tmp_path / colours.name
    changed.write_text(colours.read_text().replace("shop", "store"))
    done = command(*[str(changed) if argument == str(colours) else argument for argument in given], "--resume")
    assert done.returncode == 2
    assert "the data has changed" in done.stderr


def test_resuming_nothing_is_refused(tmp_path: Path, tiny_folder: Path, colours: Path) -> None:
    done = command(*arguments(tiny_folder, colours, tmp_path / "none"), "--resume")
    assert done.returncode == 2
    assert "no run to resume" in done.stderr
