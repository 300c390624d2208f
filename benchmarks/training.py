"""Training beside TRL on the same work, machine and run: examples per second, peak memory, and the equality of the loss curves.

usage: python benchmarks/training.py MODEL_DIR DATA.jsonl --peer VENV/bin/python [--rounds 3] [--steps 10] [--targets NAMES …]
                                     [--no-curve] [--json FILE]

The work: LoRA (rank 64, alpha 16, float32 adapters) of a small instruction model on the first 2,000 rows of DATA (columns text and label,
as banking77), loss on the answer only, batches of 32, bfloat16. MODEL_DIR is a plain Hugging Face folder; the peer has a virtual
environment of its own (python -m venv VENV && VENV/bin/pip install torch==2.13.0 trl peft). Every round runs TRL, then tunesmith, each in
a process of its own through its public interface, so that both see the machine in the same state; medians are compared. Examples per
second are counted from the third step on. NAMES are comma lists of modules, or all-linear; both variants by default.

The loss curves: 30 steps with the same rows in the same order, adapters drawn from the same seed and a constant learning rate; printed is
the largest difference of the means over five steps (a single step's loss differs by the rounding of bfloat16).
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

HERE = Path(__file__).parent
CURVE_STEPS, CURVE_WINDOW = 30, 5


def main() -> None:
    options = _options()
    found: dict[str, Any] = {}
    for targets in options.targets:
        runs: dict[str, list[dict[str, Any]]] = {"trl": [], "ours": []}
        for _ in range(options.rounds):
            for name in runs:
                runs[name].append(_run(name, options, "--steps", str(options.steps), "--targets", targets))
                print(f"{targets:16} {name:5} {_line(runs[name][-1])}", file=sys.stderr, flush=True)
        found[targets] = {name: _median(measured) for name, measured in runs.items()}
    _print_table(found)
    if not options.no_curve:
        found["curve"] = _curve(options)
    if options.json:
        options.json.write_text(json.dumps(found, indent=1))


def _run(name: str, options: argparse.Namespace, *arguments: str) -> dict[str, Any]:
    """One process; its last line of output is what it measured."""
    python = options.peer if name == "trl" else sys.executable
    command = [python, str(HERE / f"training_{name}.py"), options.model, str(options.data), *arguments]
    environment = {**os.environ, "HF_HUB_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "false"}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        sys.exit(f"{name} ended with status {done.returncode}:\n{done.stderr[-2000:]}")
    result: dict[str, Any] = json.loads(done.stdout.strip().splitlines()[-1])
    return result


def _median(runs: list[dict[str, Any]]) -> dict[str, float]:
    return {key: statistics.median(run[key] for run in runs) for key in ("examples_per_s", "peak_gb")}


def _line(run: dict[str, Any]) -> str:
    return f"{run['examples_per_s']:6.2f} examples/s  {run['peak_gb']:.2f} GB"


def _print_table(found: dict[str, Any]) -> None:
    print("| adapters on | TRL, examples/s | tunesmith, examples/s | times | TRL, peak GB | tunesmith, peak GB | share |")
    print("|---|---|---|---|---|---|---|")
    for targets, row in found.items():
        trl, ours = row["trl"], row["ours"]
        speed = f"{trl['examples_per_s']:.2f} | {ours['examples_per_s']:.2f} | {ours['examples_per_s'] / trl['examples_per_s']:.2f}"
        print(f"| {targets} | {speed} | {trl['peak_gb']:.2f} | {ours['peak_gb']:.2f} | {ours['peak_gb'] / trl['peak_gb']:.2f} |")


def _curve(options: argparse.Namespace) -> dict[str, Any]:
    """Run both with everything that moves a loss curve fixed, and compare."""
    with tempfile.TemporaryDirectory() as folder:
        arguments = ("--steps", str(CURVE_STEPS), "--targets", "all-linear", "--order", str(Path(folder) / "order.json"))
        losses = {name: _run(name, options, *arguments)["losses"] for name in ("ours", "trl")}
    means = {
        name: [statistics.fmean(values[start : start + CURVE_WINDOW]) for start in range(0, CURVE_STEPS, CURVE_WINDOW)]
        for name, values in losses.items()
    }
    differences = [abs(ours / trl - 1) for ours, trl in zip(means["ours"], means["trl"], strict=True)]
    print(f"\n| mean loss of steps | {' | '.join(f'{i + 1}-{i + CURVE_WINDOW}' for i in range(0, CURVE_STEPS, CURVE_WINDOW))} |")
    print("|---|" + "---|" * len(differences))
    for name, values in means.items():
        print(f"| {name} | {' | '.join(f'{value:.4f}' for value in values)} |")
    print(f"| difference | {' | '.join(f'{difference:.2%}' for difference in differences)} |")
    return {"losses": losses, "largest_difference": max(differences)}


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("model")
    parser.add_argument("data", type=Path)
    parser.add_argument("--peer", required=True, help="python of the virtual environment with TRL")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--steps", type=int, default=10)
    parser.add_argument("--targets", nargs="+", default=["q_proj,v_proj", "all-linear"])
    parser.add_argument("--no-curve", action="store_true")
    parser.add_argument("--json", type=Path, help="also write what was measured to this file")
    return parser.parse_args()


if __name__ == "__main__":
    main()
