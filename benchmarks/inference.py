"""How fast an int4 export of the sample model runs, as a ratio to llama.cpp with Q4_1 of the same model, both in one run.

Two processes hold one model each and take turns, so that both meet the same machine:

    python benchmarks/inference.py --threads 2 --repeats 7

Needs onnxruntime-genai (extra 'cpu') and llama-cpp-python (extra 'gguf'). Exports are made into ``--folder``, or taken from there.
The limits: decode at least 1.1 times llama.cpp's tokens a second, prefill at least 1.3 times.
"""

from __future__ import annotations

import argparse
import json
import os
import tempfile
from pathlib import Path

from tunesmith import api
from tunesmith.evaluate.bench import BenchResult

DECODE_LIMIT, PREFILL_LIMIT = 1.1, 1.3
#: The prompt of the measurement that the limits were set by has 486 tokens.
PROMPT_TOKENS, NEW_TOKENS = 486, 64


def exported(model: str, folder: Path, name: str, **options: str) -> Path:
    """Return an export of ``model``, made now unless it is there."""
    path = folder / name
    if not path.is_dir():
        api.optimize(model, str(path), proof=False, **options)  # type: ignore[arg-type]
    return path


def table(ours: BenchResult, peer: BenchResult) -> str:
    """Return the figures of both, and what the one is of the other."""
    lines = [f"{'':24}{'onnxruntime-genai':>20}{'llama.cpp':>12}{'ratio':>8}{'limit':>7}"]
    for name, one, other, limit in (
        ("prefill, tokens/s", ours.prefill_tokens_per_s, peer.prefill_tokens_per_s, PREFILL_LIMIT),
        ("decode, tokens/s", ours.decode_tokens_per_s or 0.0, peer.decode_tokens_per_s or 1.0, DECODE_LIMIT),
    ):
        lines.append(f"{name:24}{one:20.1f}{other:12.1f}{one / other:8.2f}{limit:7.1f}")
    lines.append(f"{'size, MB':24}{ours.size_mb or 0:20.1f}{peer.size_mb or 0:12.1f}")
    return "\n".join(lines)


def main() -> None:
    """Measure, print the table, and say how busy the machine was."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="sample:smollm2-135m")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--prompt_tokens", type=int, default=PROMPT_TOKENS)
    parser.add_argument("--new_tokens", type=int, default=NEW_TOKENS)
    parser.add_argument("--folder", type=Path, help="where the exports are, or are to stay; by default they are removed")
    parser.add_argument("--json", action="store_true")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder = given.folder or Path(temporary)
        paths = [
            exported(given.model, folder, "int4", precision="int4"),
            exported(given.model, folder, "gguf", format="gguf", precision="q4_1"),
        ]
        busy = os.getloadavg()[0]
        ours, peer = api.bench(
            paths, prompt_tokens=given.prompt_tokens, new_tokens=given.new_tokens, repeats=given.repeats, threads=given.threads
        )
    if given.json:
        print(json.dumps({"ours": vars(ours), "llama.cpp": vars(peer), "load_before": busy}))
        return
    print(table(ours, peer))
    print(f"Load of the machine before: {busy:.1f}. {given.prompt_tokens} + {given.new_tokens} tokens, {given.repeats} times in turn.")


if __name__ == "__main__":
    main()
