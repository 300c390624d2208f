"""Training beside TRL's SFTTrainer, in one run on the same rows: examples a second, peak memory, and the loss curve.

usage: python benchmarks/training.py MODEL_DIR DATA.jsonl --trl_python ENVIRONMENT/bin/python [--steps 10] [--curve 30] [--only speed|curve]

DATA has the columns text and label (the first 2,000 rows of banking77). TRL lives in an environment of its own (pip install trl peft). Both
train LoRA in bfloat16 with batches of 32, the loss on the label alone; ours runs through the public command, with float32 adapters. The
runs take turns, so that a machine that slows down slows both. Memory is the peak of the whole process, as the system counts it.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from tunesmith.train.batching import LengthGroupedBatches

PROMPT, COMPLETION = "<|im_start|>user\n{text}<|im_end|>\n<|im_start|>assistant\n", "{label}<|im_end|>"
BATCH, WARM_UP, SEED = 32, 2, 42
TARGETS = {"q_proj,v_proj": (64, 16), "all-linear": (64, 16)}


def main() -> None:
    """Measure and print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=Path)
    parser.add_argument("data", type=Path)
    parser.add_argument("--trl_python", required=True)
    parser.add_argument("--steps", type=int, default=10)
    parser.add_argument("--curve", type=int, default=30)
    parser.add_argument("--only", choices=["speed", "curve"])
    options = parser.parse_args()
    rows = [json.loads(line) for line in options.data.read_text(encoding="utf-8").splitlines()[:2000]]
    with tempfile.TemporaryDirectory() as folder:
        if options.only != "curve":
            print("| layers | who | examples/s | peak memory, GiB |\n|---|---|---|---|")
            for targets, (rank, alpha) in TARGETS.items():
                speed(options, rows, targets, rank, alpha, Path(folder))
        if options.only != "speed":
            curve(options, rows, Path(folder))


def speed(options: argparse.Namespace, rows: list[dict[str, str]], targets: str, rank: int, alpha: int, folder: Path) -> None:
    """TRL and tunesmith in turns; the ratio is that of the medians."""
    peer, ours = [], []
    for _ in range(2):
        peer.append(run_trl(options, rows, options.steps, targets, rank, alpha, folder))
        ours.append(run_tunesmith(options, rows, options.steps * 2, targets, rank, alpha, folder))
    for name, results in (("TRL", peer), ("tunesmith", ours)):
        print(f"| {targets} | {name} | {median(results, 'examples_per_s'):.1f} | {median(results, 'peak_gib'):.2f} |", flush=True)
    faster = median(ours, "examples_per_s") / median(peer, "examples_per_s")
    smaller = median(ours, "peak_gib") / median(peer, "peak_gib")
    print(f"| {targets} | ratio | {faster:.2f} | {smaller:.2f} |", flush=True)


def curve(options: argparse.Namespace, rows: list[dict[str, str]], folder: Path) -> None:
    """Losses of the same steps: same rows in the same order, same start, same learning rate."""
    order = [row for batch in LengthGroupedBatches([1] * len(rows), BATCH, seed=SEED, group_by_length=False) for row in batch]
    peer = run_trl(options, [rows[index] for index in order], options.curve, "all-linear", 16, 32, folder)["losses"]
    ours = run_tunesmith(options, rows, options.curve, "all-linear", 16, 32, folder, "--no-group_by_length")["losses"]
    differences = [abs(a - b) / b for a, b in zip(ours, peer, strict=True)]
    print("\n| step | TRL | tunesmith | difference |\n|---|---|---|---|")
    for step, (theirs, our, difference) in enumerate(zip(peer, ours, differences, strict=True), start=1):
        print(f"| {step} | {theirs:.4f} | {our:.4f} | {difference:.2%} |")
    total = abs(sum(ours) - sum(peer)) / sum(peer)
    print(f"\nmean loss over {len(ours)} steps: {total:.2%} apart; median difference of a step {statistics.median(differences):.2%}")


def run_trl(
    options: argparse.Namespace, rows: list[dict[str, str]], steps: int, targets: str, rank: int, alpha: int, folder: Path
) -> dict[str, Any]:
    """Run TRL's trainer in its own environment."""
    data = folder / "trl.jsonl"
    made = [{"prompt": PROMPT.format(**row), "completion": COMPLETION.format(**row)} for row in rows]
    data.write_text("".join(json.dumps(row) + "\n" for row in made), encoding="utf-8")
    script = Path(__file__).parent / "peers" / "trl_sft.py"
    arguments = [options.trl_python, script, options.model, data, steps, targets, rank, alpha, "2e-4"]
    output, peak = measured([str(argument) for argument in arguments], folder)
    return {**json.loads(output.splitlines()[-1]), "peak_gib": peak}


def run_tunesmith(
    options: argparse.Namespace, rows: list[dict[str, str]], steps: int, targets: str, rank: int, alpha: int, folder: Path, *more: str
) -> dict[str, Any]:
    """Run ``tunesmith finetune`` on the same rows."""
    data, out = folder / "ours.jsonl", folder / "ours"
    data.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    settings = {
        "model_name_or_path": options.model,
        "text_template": PROMPT + COMPLETION,
        "target_modules": targets,
        "lora_r": rank,
        "lora_alpha": alpha,
        "max_steps": steps,
        "per_device_train_batch_size": BATCH,
        "learning_rate": "2e-4",
        "lr_scheduler_type": "constant",
        "warmup_steps": 0,
        "logging_steps": 1,
        "seed": SEED,
        "validation_fraction": 0,
        "show_answers": 0,
        "report_to": "none",
        "max_seq_len": 256,
        "output_path": out,
    }
    flags = [part for name, value in settings.items() for part in (f"--{name}", str(value))]
    _, peak = measured([sys.executable, "-m", "tunesmith", "finetune", str(data), *flags, "--overwrite", *more], folder)
    logged = [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]
    steps_logged = [row for row in logged if "loss" in row]
    seconds = sum(BATCH / row["examples_per_s"] for row in steps_logged[WARM_UP:])
    return {
        "examples_per_s": BATCH * len(steps_logged[WARM_UP:]) / seconds,
        "losses": [row["loss"] for row in steps_logged],
        "peak_gib": peak,
    }


def measured(command: list[str], folder: Path) -> tuple[str, float]:
    """Run a program; returns what it printed and the most memory it held, in GiB."""
    output = folder / "output.txt"
    with output.open("w") as stream:
        process = subprocess.Popen(command, stdout=stream, stderr=subprocess.PIPE, text=True, cwd=folder)
        said = process.stderr.read() if process.stderr else ""
        _, status, usage = os.wait4(process.pid, 0)
    if status:
        raise SystemExit(f"{' '.join(command)}\n{said[-2000:]}")
    return output.read_text(), usage.ru_maxrss / 2**20


def median(results: list[dict[str, Any]], name: str) -> float:
    """Median of one figure over several runs."""
    return statistics.median(result[name] for result in results)


if __name__ == "__main__":
    main()
