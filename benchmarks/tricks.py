"""What each trick of tunesmith.train.fast brings: seconds a training step with all of them on, and with one of them off.

usage: python benchmarks/tricks.py MODEL_DIR DATA.jsonl [--targets all-linear] [--rank 64] [--batch 32] [--rounds 5] [--threads 1]
                                   [--only NAME,…]

The rows of DATA have the columns text and label (banking77). For every trick the two variants take turns on the same batches in one
process, and the medians of the processor time are compared, so that a machine with other work on it slows both alike. Wall-clock time
beside TRL is what benchmarks/training.py measures.
"""

from __future__ import annotations

import argparse
import random
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor, nn

from tunesmith.methods.lora import Lora
from tunesmith.models.load import load_model, load_tokenizer
from tunesmith.models.sources import resolve_model
from tunesmith.train.batching import collate
from tunesmith.train.fast import TRICKS, accelerate_model, restore_model, supervised_loss
from work import load_examples

Loss = Callable[[nn.Module, Tensor, Tensor], Tensor]


def main() -> None:
    options = _options()
    torch.set_num_threads(options.threads)
    model, batches = _work(options)
    wanted = options.only.split(",") if options.only else ["logits", *TRICKS, "all of them"]
    print(f"{'trick':18} {'on, s':>8} {'off, s':>8} {'off/on':>7}   ({options.targets}, rank {options.rank}, batch {options.batch})")
    for name in wanted:
        on, off, ratio = _compare(model, batches, options.rounds, name)
        print(f"{name:18} {on:8.3f} {off:8.3f} {ratio:7.3f}", flush=True)


def _compare(model: nn.Module, batches: list[list[dict[str, list[int]]]], rounds: int, name: str) -> tuple[float, float, float]:
    """Median seconds of a step with everything on and with the trick ``name`` off, and the median of their ratio batch by batch."""
    off = frozenset(TRICKS) if name == "all of them" else frozenset({name} & TRICKS.keys())
    off_loss: Loss = _loss_of_all_logits if name in ("logits", "all of them") else _loss
    seconds: tuple[list[float], list[float]] = ([], [])
    for round_number in range(rounds + 1):
        for i, (disabled, loss) in enumerate(((frozenset(), _loss), (off, off_loss))):
            accelerate_model(model, disable=disabled)
            took = _step(model, batches[round_number % len(batches)], loss)
            if round_number:  # the first round warms up
                seconds[i].append(took)
    restore_model(model)
    ratios = [without / with_it for with_it, without in zip(*seconds, strict=True)]
    return statistics.median(seconds[0]), statistics.median(seconds[1]), statistics.median(ratios)


def _step(model: nn.Module, batch: list[dict[str, list[int]]], loss: Loss) -> float:
    rows = collate(batch, pad_token_id=0)
    start = time.process_time()
    loss(model, rows["input_ids"], rows["labels"]).backward()
    model.zero_grad()
    return time.process_time() - start


def _loss(model: nn.Module, input_ids: Tensor, labels: Tensor) -> Tensor:
    return supervised_loss(model, input_ids, labels).loss_sum


def _loss_of_all_logits(model: nn.Module, input_ids: Tensor, labels: Tensor) -> Tensor:
    """What transformers does: float32 logits at every position."""
    logits = model(input_ids=input_ids, use_cache=False).logits[:, :-1].float()
    return nn.functional.cross_entropy(logits.flatten(0, 1), labels[:, 1:].flatten(), reduction="sum")


def _work(options: argparse.Namespace) -> tuple[nn.Module, list[list[dict[str, list[int]]]]]:
    source = resolve_model(options.model)
    tokenizer = load_tokenizer(source)
    examples = load_examples(Path(options.data), tokenizer)
    random.Random(0).shuffle(examples)
    batches = [examples[i : i + options.batch] for i in range(0, len(examples), options.batch)]
    torch.manual_seed(0)
    targets = options.targets if options.targets == "all-linear" else tuple(options.targets.split(","))
    model = Lora(rank=options.rank, alpha=16, target_modules=targets).apply(load_model(source))
    return model.train(), batches


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("model")
    parser.add_argument("data")
    parser.add_argument("--targets", default="q_proj,v_proj")
    parser.add_argument("--rank", type=int, default=64)
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--only", default="", help="comma list of rows")
    return parser.parse_args()


if __name__ == "__main__":
    main()
