"""The table of recipes in docs/results.md: one tuned model, its weights stored in many ways, each asked a whole test file.

usage: python benchmarks/shipping.py RUN TEST_FILE [NAME …] --work FOLDER [--also NAME=RUN …] [--write docs/results.md]

RUN is a run of ``tunesmith finetune`` that was tuned in floating point and answers with a label. Each NAME of the table (default: all) is
exported to WORK/NAME unless it is there, by the very code that ``auto-opt --precision auto`` searches with, and writes its answers to all
rows freely; an answer counts when it is the label, letter for letter. ``--also`` adds runs that ``auto-opt --precision int4`` exports as
they are: one tuned on the grid, one that was recovered. What was measured stays in WORK/shipping.jsonl, so the table can be made in pieces.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

BEGIN, END = "<!-- table: benchmarks/shipping.py -->", "<!-- end of table: benchmarks/shipping.py -->"
FLOAT = "float32, PyTorch"
#: Name in the table -> method, bits, block size, symmetric, output layer.
RECIPES: dict[str, tuple[str, int, int, bool, str]] = {
    "int4 rtn, as everybody ships": ("rtn", 4, 32, True, "same"),
    "int4 gptq, the same format": ("gptq", 4, 32, True, "same"),
    "int4 awq+gptq, the same format": ("awq+gptq", 4, 32, True, "same"),
    "int4 rtn, zero points": ("rtn", 4, 32, False, "same"),
    "int4 hqq, zero points": ("hqq", 4, 32, False, "same"),
    "int4 k_quant, zero points": ("k_quant", 4, 32, False, "same"),
    "int4 awq, zero points": ("awq", 4, 32, False, "same"),
    "int4 gptq, zero points": ("gptq", 4, 32, False, "same"),
    "int4 gptq, zero points, output layer int8": ("gptq", 4, 32, False, "int8"),
    "int4 gptq, blocks of 64, zero points": ("gptq", 4, 64, False, "same"),
    "int8 rtn": ("rtn", 8, 32, True, "same"),
}


def export(run: Path, name: str, folder: Path) -> None:
    """Write the run as ONNX, its weights stored by one recipe of the table."""
    from tunesmith.export.certificate import Examination
    from tunesmith.export.folder import write_extras
    from tunesmith.export.recipes.blocks import BlockFormat
    from tunesmith.export.recipes.recipe import WeightRecipe
    from tunesmith.export.search.built import Workshop, plan_of
    from tunesmith.export.search.calibration_rows import calibration_rows
    from tunesmith.export.search.records import Records
    from tunesmith.export.search.trials import Laboratory
    from tunesmith.export.source import read_source

    method, bits, size, symmetric, head = RECIPES[name]
    recipe = WeightRecipe(method, BlockFormat(bits, size, symmetric), head=head)
    source = read_source(str(run))
    laboratory = Laboratory(source, Examination(), Records(folder.parent), calibration_rows(source, None, ()))
    folder.mkdir()
    with Workshop(laboratory, folder.parent) as workshop:
        workshop.build(recipe, folder)
    write_extras(source, folder, plan_of(recipe), name=folder.name)


def score(artifact: str, test: Path, size_of: Path | None, limit: int | None) -> dict[str, Any]:
    """Share of exact answers and of answers that stop by themselves, written freely, and the perplexity of the right ones."""
    import tunesmith
    from tunesmith.data.task_file import TaskRecord

    options = {"dtype": "float32"} if size_of is None else {}
    runtime = tunesmith.load(artifact, **options)
    free = runtime.with_template(runtime.template, TaskRecord("text-generation"))
    rows = [json.loads(line) for line in test.read_text(encoding="utf-8").splitlines()][:limit]
    started = time.perf_counter()
    answers = free.generate(rows, max_new_tokens=24)
    seconds = time.perf_counter() - started
    column = runtime.template.answer_column
    exact = sum(str(row[column]).strip() == answer.text.strip() for row, answer in zip(rows, answers, strict=True))
    asked = rows[:: max(1, len(rows) // 500)]
    likelihoods = free.log_likelihoods([(row, str(row[column])) for row in asked])
    loss = -sum(one.log_prob for one in likelihoods) / sum(one.num_tokens for one in likelihoods)
    files = [] if size_of is None else [file for file in size_of.iterdir() if file.suffix in (".onnx", ".data")]
    return {
        "rows": len(rows),
        "exact": exact / len(rows),
        "stopped": sum(answer.stopped for answer in answers) / len(rows),
        "loss": loss,
        "size_mb": sum(file.stat().st_size for file in files) / 1e6 or None,
        "seconds": round(seconds, 1),
    }


def table(rows: list[dict[str, Any]]) -> str:
    """Return the figures as a Markdown table."""
    import math

    lines = ["| weights | MB | test rows | exact answers | stop by themselves | perplexity of right answers |", "|---|---|---|---|---|---|"]
    for row in rows:
        size = f"{row['size_mb']:.1f}" if row["size_mb"] else ""
        lines.append(
            f"| {row['name']} | {size} | {row['rows']:,} | {row['exact']:.1%} | {row['stopped']:.1%} | {math.exp(row['loss']):.4f} |"
        )
    return "\n".join(lines)


def measure(run: str, name: str, folder: Path | None, test: Path, limit: int | None) -> dict[str, Any]:
    """Measure one artifact in a process of its own."""
    command = [sys.executable, __file__, "--score", str(folder or run), str(test), str(folder or ""), str(limit or "")]
    return {"name": name, **json.loads(subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True).stdout)}


def exported(run: str, name: str, work: Path, *, as_it_is: bool) -> Path:
    """Return the folder of an export, made unless it is there."""
    from tunesmith import api

    folder = work / "".join(letter if letter.isalnum() else "_" for letter in name)
    if folder.is_dir():
        return folder
    if as_it_is:
        api.optimize(run, str(folder), precision="int4", proof=False)
    else:
        export(Path(run), name, folder)
    return folder


def main() -> None:
    """Export and measure what was asked for, and print the table of everything measured so far."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run")
    parser.add_argument("test", type=Path)
    parser.add_argument("names", nargs="*")
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--also", nargs="*", default=[], metavar="NAME=RUN")
    parser.add_argument("--rows", type=int, help="only the first rows of the test file")
    parser.add_argument("--write", type=Path, help="replace the table between the markers in this file")
    given = parser.parse_intermixed_args()
    given.work.mkdir(parents=True, exist_ok=True)
    also = dict(one.split("=", 1) for one in given.also)
    log = given.work / "shipping.jsonl"
    for name in given.names or [FLOAT, *RECIPES, *also]:
        folder = None if name.startswith(FLOAT) else exported(also.get(name, given.run), name, given.work, as_it_is=name in also)
        run = also.get(name.removeprefix(f"{FLOAT}: "), given.run)
        with log.open("a") as stream:
            stream.write(json.dumps(measure(run, name, folder, given.test, given.rows)) + "\n")
    measured = {row["name"]: row for row in map(json.loads, log.read_text().splitlines())} if log.exists() else {}
    ordered = [FLOAT, *RECIPES, *(name for name in measured if name not in (FLOAT, *RECIPES))]
    text = table([measured[name] for name in ordered if name in measured])
    print(text)
    if given.write:
        before, _, rest = given.write.read_text().partition(BEGIN)
        given.write.write_text(f"{before}{BEGIN}\n{text}\n{END}{rest.partition(END)[2]}")


if __name__ == "__main__":
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    if sys.argv[1:2] == ["--score"]:
        _, _, artifact, test, folder, rows = sys.argv
        print(json.dumps(score(artifact, Path(test), Path(folder) if folder else None, int(rows) if rows else None)))
    else:
        main()
