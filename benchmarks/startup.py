"""How long the command line takes to answer when nothing has to be computed, as a ratio to starting Python at all.

Each command is run in turns with ``python -c pass`` in one run, so that both meet the same machine. Peers are measured when installed
(here or in the environment that ``--peers FOLDER`` names):

    python benchmarks/startup.py --rounds 15 --peers /path/to/venv

The limit is held against the best round: on a busy machine the others measure the neighbours.
"""

from __future__ import annotations

import argparse
import shutil
import statistics
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

LIMIT_S = 0.3

OURS = {
    "tunesmith --help": ["--help"],
    "tunesmith finetune --help": ["finetune", "--help"],
    "tunesmith generate --help": ["generate", "--help"],
    "tunesmith chat --help": ["chat", "--help"],
    "tunesmith merge --help": ["merge", "--help"],
    "tunesmith finetune --help_training": ["finetune", "--help_training"],
    "tunesmith, misspelt flag": ["finetune", "data.jsonl", "--learning_rat", "1e-4"],
}
PEERS = {"trl --help": ["trl", "--help"], "trl sft --help": ["trl", "sft", "--help"], "olive --help": ["olive", "--help"]}


def seconds(command: Sequence[str]) -> float:
    """Run a command with its output thrown away; return how long it took."""
    start = time.perf_counter()
    subprocess.run(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, check=False)
    return time.perf_counter() - start


def peer_commands(folder: Path | None) -> dict[str, list[str]]:
    """Return the peers that are installed, in ``folder`` or on the path."""
    found = {}
    for title, (program, *words) in PEERS.items():
        where = shutil.which(program, path=str(folder / "bin")) if folder else shutil.which(program)
        if where:
            found[title] = [where, *words]
    return found


def measure(commands: Mapping[str, Sequence[str]], rounds: int) -> dict[str, list[float]]:
    """Return the seconds of every round by command; a first round only warms the file cache."""
    taken: dict[str, list[float]] = {title: [] for title in commands}
    for number in range(rounds + 1):
        for title, command in commands.items():
            spent = seconds(command)
            if number:
                taken[title].append(spent)
    return taken


def main() -> int:
    """Print a table; the exit status is 1 when one of ours takes longer than the limit."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=11)
    parser.add_argument("--peers", type=Path, default=None, help="virtual environment with peers")
    given = parser.parse_args()
    commands = {"python -c pass": [sys.executable, "-c", "pass"]}
    commands |= {title: [sys.executable, "-m", "tunesmith", *words] for title, words in OURS.items()}
    commands |= peer_commands(given.peers)
    taken = measure(commands, given.rounds)
    bare = taken["python -c pass"]
    print("| command | best s | median s | best / python -c pass |\n|---|---|---|---|")
    for title, spent in taken.items():
        print(f"| {title} | {min(spent):.3f} | {statistics.median(spent):.3f} | {min(spent) / min(bare):.1f} |")
    slow = [title for title in OURS if min(taken[title]) > LIMIT_S]
    print(f"Over {LIMIT_S} s: {', '.join(slow) or 'none'}")
    return 1 if slow else 0


if __name__ == "__main__":
    sys.exit(main())
