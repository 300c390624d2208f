"""A step is the same however its rows are cut up, and a run goes on as if it had never stopped."""

from __future__ import annotations

import random
import re
from pathlib import Path
from typing import Any

import pytest
import torch
from datasets import Dataset

from tiny_models import VOCAB_SIZE, tiny_model
from tunesmith.data.prepare import Prepared
from tunesmith.methods import build_method
from tunesmith.train import checkpoints
from tunesmith.train.fast import accelerate_model
from tunesmith.train.metrics_log import read_metrics
from tunesmith.train.session import Outcome, train
from tunesmith.train.settings import make_plan
from tunesmith.train.trainer import NonFiniteLoss, StepSettings


def rows(count: int, seed: int = 0) -> Dataset:
    draw = random.Random(seed)
    made = []
    for number in range(count):
        length = draw.randint(4, 30)
        ids = [draw.randrange(4, VOCAB_SIZE) for _ in range(length)]
        start = draw.randint(1, length - 1)
        made.append({"input_ids": ids, "labels": [-100] * start + ids[start:], "length": length, "row": number})
    return Dataset.from_list(made)


def prepared(data: Dataset) -> Prepared:
    return Prepared(data, source=data, max_seq_len=30, num_tokens=sum(data["length"]), num_supervised=0)


def run(
    folder: Path,
    *,
    model: torch.nn.Module | None = None,
    resume: Path | None = None,
    settings: dict[str, Any] | None = None,
    **training: Any,
) -> tuple[torch.nn.Module, Outcome]:
    model = model or tiny_model("llama")
    (folder / "checkpoints").mkdir(parents=True, exist_ok=True)
    arguments = {"per_device_train_batch_size": 8, "max_steps": 6, "logging_steps": 1, "report_to": "none", **training}
    validation = rows(12, seed=1)
    plan = make_plan(
        arguments,
        checkpoints=folder / "checkpoints",
        num_rows=64,
        num_validation=len(validation),
        learning_rate=1e-3,
        patience=0,
        use_cpu=True,
    )
    outcome = train(
        model,
        prepared(rows(64)),
        prepared(validation),
        plan,
        StepSettings(**{"max_tokens": 4096, "pad_token_id": 0, **(settings or {})}),
        run_folder=folder,
        logging_dir=folder / "logs",
        resume_from=resume,
        command="",
    )
    return model, outcome


def losses(folder: Path) -> list[float]:
    return [row["loss"] for row in read_metrics(folder / "metrics.jsonl") if "loss" in row]


def test_accumulation_1x8_equals_8x1(tmp_path: Path) -> None:
    whole, _ = run(tmp_path / "whole", settings={"group_by_length": False})
    parts, _ = run(tmp_path / "parts", per_device_train_batch_size=1, gradient_accumulation_steps=8, settings={"group_by_length": False})
    torch.testing.assert_close(losses(tmp_path / "whole"), losses(tmp_path / "parts"), rtol=1e-5, atol=1e-6)
    for (name, one), (_, other) in zip(whole.named_parameters(), parts.named_parameters(), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-3, atol=1e-5, msg=lambda text, name=name: f"{name}: {text}")


def test_a_token_budget_changes_nothing_but_memory(tmp_path: Path) -> None:
    run(tmp_path / "whole")
    run(tmp_path / "parts", settings={"max_tokens": 40})
    torch.testing.assert_close(losses(tmp_path / "whole"), losses(tmp_path / "parts"), rtol=1e-5, atol=1e-6)


def test_loss_is_the_mean_over_supervised_tokens_of_plain_transformers(tmp_path: Path) -> None:
    model = tiny_model("llama")
    data = rows(64)
    logged: list[float] = []
    run(tmp_path, model=tiny_model("llama"), max_steps=1, per_device_train_batch_size=64)
    total, count = 0.0, 0
    with torch.no_grad():
        for row in data:
            ids, labels = torch.tensor([row["input_ids"]]), torch.tensor([row["labels"]])
            supervised = int((labels[:, 1:] != -100).sum())
            total += float(model(input_ids=ids, labels=labels).loss) * supervised
            count += supervised
    logged = losses(tmp_path)
    assert logged == pytest.approx([total / count], rel=1e-5)


def test_resumed_equals_uninterrupted(tmp_path: Path) -> None:
    whole, _ = run(tmp_path / "whole", save_steps=2)
    stopped = tmp_path / "stopped"
    run(stopped, save_steps=2)
    for later in checkpoints.checkpoints_of(stopped / "checkpoints")[1:]:
        assert checkpoints.step_of(later) == 6
    resumed, outcome = run(stopped, model=tiny_model("llama", seed=5), resume=stopped / "checkpoints" / "checkpoint-4", save_steps=2)
    assert outcome.steps == 6
    assert losses(stopped) == losses(tmp_path / "whole")
    for one, other in zip(whole.parameters(), resumed.parameters(), strict=True):
        assert torch.equal(one, other)


def test_the_best_weights_are_the_ones_kept(tmp_path: Path) -> None:
    model, outcome = run(tmp_path, learning_rate=0.5, lr_scheduler_type="constant", eval_steps=1, max_steps=8)
    seen = {int(row["step"]): row["eval_loss"] for row in read_metrics(tmp_path / "metrics.jsonl") if "eval_loss" in row and row["step"]}
    assert outcome.kept_step == min(seen, key=seen.__getitem__) != 8
    best = tmp_path / "checkpoints" / "best"
    kept = {name: parameter.clone() for name, parameter in model.named_parameters()}
    checkpoints.load_trainable(model, best)
    assert all(torch.equal(kept[name], parameter) for name, parameter in model.named_parameters())


def test_a_loss_that_is_not_a_number_names_the_rows(tmp_path: Path) -> None:
    model = tiny_model("llama")
    with torch.no_grad():
        model.get_output_embeddings().weight[3] = float("nan")
    with pytest.raises(NonFiniteLoss, match="at step 1") as caught:
        run(tmp_path, model=model)
    assert re.search(r"\(the data, rows (\d+, ){7}\d+\)", caught.value.message)
    assert checkpoints.last_checkpoint(tmp_path / "checkpoints") is None


def test_tensorboard_logs_can_be_read(tmp_path: Path) -> None:
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    run(tmp_path, report_to="tensorboard", eval_steps=3)
    events = EventAccumulator(str(tmp_path / "logs"))
    events.Reload()
    tags = set(events.Tags()["scalars"])
    assert {"train/loss", "train/learning_rate", "train/tokens_per_s", "train/memory_gib", "eval/loss"} <= tags
    assert [event.step for event in events.Scalars("train/loss")] == [1, 2, 3, 4, 5, 6]
    torch.testing.assert_close([event.value for event in events.Scalars("train/loss")], losses(tmp_path), rtol=1e-6, atol=0)


@pytest.mark.parametrize("family", ["llama", "qwen3", "gemma2", "gemma3", "gpt2"])
def test_the_fast_path_trains_as_the_plain_one(tmp_path: Path, family: str) -> None:
    """Whole runs, with an optimizer that changes weights behind autograd's back: what is fast must see every change."""

    def lora(fast: bool) -> torch.nn.Module:
        torch.manual_seed(0)
        base = tiny_model(family, **({"attn_pdrop": 0.0, "resid_pdrop": 0.0, "embd_pdrop": 0.0} if family == "gpt2" else {}))
        model = build_method("lora", lora_r=4).apply(base)
        if fast:
            assert accelerate_model(model)
        return model

    plain, _ = run(tmp_path / "plain", model=lora(False), optim="adamw_torch_fused", learning_rate=1e-2)
    fast, _ = run(tmp_path / "fast", model=lora(True), optim="adamw_torch_fused", learning_rate=1e-2)
    torch.testing.assert_close(losses(tmp_path / "plain"), losses(tmp_path / "fast"), rtol=1e-4, atol=1e-5)
    assert losses(tmp_path / "fast")[-1] != losses(tmp_path / "fast")[0]
    for one, other in zip(plain.parameters(), fast.parameters(), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-2, atol=1e-4)
