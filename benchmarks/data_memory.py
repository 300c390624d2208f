"""A million rows prepared for training: peak memory and rows a second, measured in a process of its own.

    python benchmarks/data_memory.py [--rows 1000000] [--shape lines|list|csv|chat] [--tokenizer FOLDER]

The file is made in a temporary folder, read, split and tokenized as ``tunesmith finetune`` does, and removed. Peak memory is the
largest resident set, pages of memory-mapped files included.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import resource
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

LIMIT_GIB = 2.0
WORDS = (
    "account", "balance", "card", "payment", "transfer", "refund", "pending", "arrived", "late", "charged", "twice", "cancel", "order",
    "exchange", "rate", "fee", "limit", "my", "the", "a", "is", "was", "has", "not", "why", "how", "when", "can", "could", "please",
    "help", "still", "waiting", "week", "since", "yesterday", "again", "today",
)  # fmt: skip
LABELS = [f"intent_{number}" for number in range(77)]
SUFFIXES = {"lines": "jsonl", "chat": "jsonl", "list": "json", "csv": "csv"}


def rows(count: int) -> Iterator[dict[str, str]]:
    """Yield rows like banking77's: a question of 5 to 25 words and one of 77 labels."""
    draw = random.Random(0)
    for number in range(count):
        yield {"text": " ".join(draw.choices(WORDS, k=draw.randint(5, 25))) + f" {number}?", "label": draw.choice(LABELS)}


def write_rows(path: Path, count: int, shape: str) -> None:
    """Write the file: JSON lines, one JSON list, CSV, or JSON lines of conversations."""
    with path.open("w", encoding="utf-8") as file:
        if shape == "list":
            file.write("[")
        if shape == "csv":
            file.write("text,label\n")
        for number, row in enumerate(rows(count)):
            if shape == "csv":
                file.write(f'"{row["text"]}",{row["label"]}\n')
            elif shape == "chat":
                turns = [{"role": "user", "content": row["text"]}, {"role": "assistant", "content": row["label"]}]
                file.write(json.dumps({"messages": turns}) + "\n")
            else:
                file.write((",\n" if shape == "list" and number else "") + json.dumps(row) + ("" if shape == "list" else "\n"))
        if shape == "list":
            file.write("]")


def peak_gib() -> float:
    """Return the largest resident set of this process so far."""
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 2**30


def measure(path: Path, tokenizer_folder: str | None) -> None:
    """Prepare the file as a run does, and print time and memory after each step."""
    from transformers import AutoTokenizer

    from tunesmith.data.formats import recognize
    from tunesmith.data.prepare import prepare
    from tunesmith.data.provenance import data_columns
    from tunesmith.data.sources import load_splits
    from tunesmith.data.splits import hold_out
    from tunesmith.data.templates import choose_template

    if tokenizer_folder is None:
        from tunesmith.models.sample import sample_model_folder

        tokenizer_folder = str(sample_model_folder())
    tokenizer = AutoTokenizer.from_pretrained(tokenizer_folder)
    print(f"{'imports and tokenizer':<28}{'':>10}{peak_gib():>8.2f} GiB")
    start = begun = time.perf_counter()

    def say(step: str) -> None:
        nonlocal begun
        now = time.perf_counter()
        print(f"{step:<28}{now - begun:>8.1f} s{peak_gib():>8.2f} GiB", flush=True)
        begun = now

    splits = load_splits(data_name=str(path))
    say("read")
    form = recognize(splits.train)
    template = choose_template(form, data_columns(splits.train), tokenizer)
    label = template.answer_column if template.task == "text-classification" else None
    train, validation = hold_out(splits.train, label_column=label, text_columns=template.prompt_columns)
    say("held out")
    prepared = prepare(train, template, tokenizer)
    if validation is not None:
        prepare(validation, template, tokenizer, max_seq_len=prepared.max_seq_len, allow_truncation=True)
    say("tokenized")
    elapsed = time.perf_counter() - start
    count = len(splits.train)
    print(f"{count:,} rows, {prepared.num_tokens:,} tokens: {count / elapsed:,.0f} rows/s, peak {peak_gib():.2f} GiB (limit {LIMIT_GIB})")
    begun = time.perf_counter()
    prepare(train, template, tokenizer)
    say("again, from the cache")


def main() -> int:
    """Make the file, measure, and return 1 when the limit is passed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--shape", choices=SUFFIXES, default="lines")
    parser.add_argument("--tokenizer", help="a folder with a tokenizer; the sample model's by default")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        os.environ["TUNESMITH_CACHE"] = folder
        path = Path(folder) / f"rows.{SUFFIXES[options.shape]}"
        write_rows(path, options.rows, options.shape)
        print(f"{path.name}: {options.rows:,} rows, {path.stat().st_size / 2**20:,.0f} MiB")
        measure(path, options.tokenizer)
    return int(peak_gib() > LIMIT_GIB)


if __name__ == "__main__":
    sys.exit(main())
