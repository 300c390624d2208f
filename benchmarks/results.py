"""The table in docs/results.md: real data, the sample model, every method, through the public command and the public library.

usage: python benchmarks/results.py DATA_FOLDER [NAME …] [--work FOLDER] [--write docs/results.md]

DATA_FOLDER holds banking77/, e2e_nlg/ and tldr_commands/ with train.jsonl and test.jsonl. NAMEs choose experiments (default: all);
what was measured before stays in WORK/results.jsonl, so the table can be made in pieces. Times are wall-clock times of this machine.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

CHAT = "<|im_start|>user\\n{text}<|im_end|>\\n<|im_start|>assistant\\n{label}<|im_end|>"
COMMON = ["--lora_r", "16", "--lora_alpha", "32"]
FREE_TEXT = ["--task", "text-generation", "--text_template", CHAT]  # as the figures so far were measured: any answer may be written
BANKING = [*FREE_TEXT, "--per_device_train_batch_size", "32", "--validation_fraction", "0", "--show_answers", "0"]


@dataclass(frozen=True)
class Experiment:
    """One row of the table: a data set, and the flags of ``tunesmith finetune``."""

    data: str
    flags: tuple[str, ...]
    max_new_tokens: int = 24
    test_rows: int | None = None


EXPERIMENTS = {
    "banking77-lora": Experiment(
        "banking77", (*BANKING, *COMMON, "--method", "lora", "--num_train_epochs", "2", "--learning_rate", "1e-3")
    ),
    "banking77-qlora": Experiment(
        "banking77", (*BANKING, *COMMON, "--method", "qlora", "--num_train_epochs", "1", "--learning_rate", "1e-3")
    ),
    "banking77-dora": Experiment(
        "banking77", (*BANKING, *COMMON, "--method", "dora", "--num_train_epochs", "1", "--learning_rate", "1e-3")
    ),
    "banking77-full": Experiment("banking77", (*BANKING, "--method", "full", "--num_train_epochs", "1")),
    "banking77-adapter": Experiment("banking77", (*BANKING, "--method", "adapter", "--num_train_epochs", "1")),
    "e2e_nlg-lora": Experiment("e2e_nlg", ("--method", "lora", "--num_train_epochs", "1", "--per_device_train_batch_size", "32"), 96),
    "tldr_commands-lora": Experiment(
        "tldr_commands", ("--method", "lora", "--num_train_epochs", "2", "--per_device_train_batch_size", "32"), 96
    ),
}


def run_experiment(name: str, experiment: Experiment, data: Path, work: Path) -> dict[str, Any]:
    """Train by the public command, then answer the whole test file with the public library, each in a process of its own."""
    out = work / name
    command = [
        "-m",
        "tunesmith",
        "finetune",
        "--data_name",
        str(data / experiment.data / "train.jsonl"),
        *experiment.flags,
        "--output_path",
        str(out),
        "--overwrite",
        "--json",
    ]
    started = time.perf_counter()
    done = subprocess.run([sys.executable, *command], stdout=subprocess.PIPE, text=True, check=True)
    seconds = time.perf_counter() - started
    result = json.loads(done.stdout)
    scored = subprocess.run(
        [sys.executable, __file__, "--score", str(out), str(data / experiment.data / "test.jsonl"), str(experiment.max_new_tokens)],
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    return {
        "name": name,
        "command": "tunesmith finetune " + " ".join(command[3:-3]),
        "wall_s": round(seconds, 1),
        "training_s": round(result["training_s"], 1),
        "peak_memory_gib": round(result["peak_memory_gib"], 2),
        "steps": result["steps"],
        **json.loads(scored.stdout),
    }


def score(run: Path, test: Path, max_new_tokens: int) -> dict[str, float]:
    """Share of exact answers and of answers that stop by themselves, over a whole test file.

    Args:
        run: folder of a finished run.
        test: JSON lines; ``refs`` or the template's answer column holds the reference or references.
        max_new_tokens: an answer that is longer counts as one that doesn't stop.
    """
    import tunesmith

    runtime = tunesmith.load(str(run))
    rows = [json.loads(line) for line in test.read_text(encoding="utf-8").splitlines()]
    column = runtime.template.answer_column
    prompts = [{**row, **({"ref": ""} if "refs" in row else {})} for row in rows]
    started = time.perf_counter()
    answers = runtime.generate(prompts, max_new_tokens=max_new_tokens)
    seconds = time.perf_counter() - started
    exact = 0
    for row, answer in zip(rows, answers, strict=True):
        references = row.get("refs") or [row[column]]
        exact += any(str(reference).strip() == answer.text.strip() for reference in references)
    return {
        "test_rows": len(rows),
        "exact": round(exact / len(rows), 4),
        "stopped": round(sum(answer.stopped for answer in answers) / len(rows), 4),
        "scoring_s": round(seconds, 1),
        "scoring_peak_gib": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20, 2),
    }


def table(rows: list[dict[str, Any]]) -> str:
    """Return the figures as a Markdown table."""
    lines = [
        "| run | steps | training | peak memory | test rows | exact answers | stop by themselves |",
        "|---|---|---|---|---|---|---|",
    ]
    for row in rows:
        minutes, seconds = divmod(round(row["training_s"]), 60)
        lines.append(
            f"| {row['name']} | {row['steps']} | {minutes} min {seconds} s | {row['peak_memory_gib']:.1f} GiB | {row['test_rows']:,} "
            f"| {row['exact']:.1%} | {row['stopped']:.1%} |"
        )
    return "\n".join(lines)


def main() -> None:
    """Run what was asked for and print the table of everything measured so far."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("names", nargs="*")
    parser.add_argument("--work", type=Path, default=Path("results"))
    parser.add_argument("--write", type=Path, help="replace the table between the markers in this file")
    parsed = parser.parse_args()
    parsed.work.mkdir(parents=True, exist_ok=True)
    log = parsed.work / "results.jsonl"
    for name in parsed.names or EXPERIMENTS:
        row = run_experiment(name, EXPERIMENTS[name], parsed.data, parsed.work)
        with log.open("a") as stream:
            stream.write(json.dumps(row) + "\n")
    measured = {row["name"]: row for row in map(json.loads, log.read_text().splitlines())} if log.exists() else {}
    text = table([measured[name] for name in EXPERIMENTS if name in measured])
    print(text)
    if parsed.write:
        begin, end = "<!-- table: benchmarks/results.py -->", "<!-- end of table -->"
        before, _, rest = parsed.write.read_text().partition(begin)
        parsed.write.write_text(f"{before}{begin}\n{text}\n{end}{rest.partition(end)[2]}")


if __name__ == "__main__":
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    if sys.argv[1:2] == ["--score"]:
        print(json.dumps(score(Path(sys.argv[2]), Path(sys.argv[3]), int(sys.argv[4]))))
    else:
        main()
