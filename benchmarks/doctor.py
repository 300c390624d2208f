"""The data doctor over many rows: rows a second, seconds of CPU and peak memory, in a process of its own.

    python benchmarks/doctor.py [--rows 1000000] [--checks fields,labels]

Rows are those of ``benchmarks/data_memory.py`` (a question of 5 to 25 words, one of 77 labels), with a defect in every thousandth. The
file is made in a temporary folder and removed. CPU seconds are given beside the time on the wall because other programs may be running.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

from data_memory import peak_gib, rows

DEFECT_EVERY = 1000


def defective(count: int) -> Iterator[str]:
    """Yield the rows as lines, every thousandth one broken, empty, or with an address."""
    for number, row in enumerate(rows(count)):
        line = json.dumps(row)
        if number % DEFECT_EVERY == 0:
            broken = (line[:-4], json.dumps({**row, "label": ""}), json.dumps({**row, "text": f"write to jo{number}@gmail.com"}))
            line = broken[number // DEFECT_EVERY % 3]
        yield line + "\n"


def main() -> None:
    """Make the file, examine it, print one line of JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--checks", default=None, help="names with commas; all by default")
    chosen = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        os.environ["TUNESMITH_CACHE"] = str(Path(folder) / "cache")
        path = Path(folder) / "train.jsonl"
        with path.open("w") as file:
            file.writelines(defective(chosen.rows))
        from tunesmith.data.doctor.examine import examine

        # A few rows first: what is loaded once (detectors, tables of languages) is no matter of rows.
        few = Path(folder) / "few.jsonl"
        few.write_text("".join(defective(2 * DEFECT_EVERY + 1)))
        examine({"train": [few]})
        before, wall, cpu = peak_gib(), time.perf_counter(), time.process_time()
        report = examine({"train": [path]}, checks=chosen.checks.split(",") if chosen.checks else None)
        wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
        found = {check: count for (check, _), count in report.counts.items()}
        print(
            json.dumps(
                {
                    "rows": report.num_rows,
                    "checks": chosen.checks or "all",
                    "wall_s": round(wall, 1),
                    "cpu_s": round(cpu, 1),
                    "rows_per_cpu_s": round(report.num_rows / cpu),
                    "peak_gib": round(peak_gib(), 3),
                    "peak_gib_before": round(before, 3),
                    "bytes_a_row": round((peak_gib() - before) * 2**30 / report.num_rows),
                    "found": found,
                }
            )
        )


if __name__ == "__main__":
    main()
