"""Targets: what is filled up from the machine, and what is refused with what there is."""

from __future__ import annotations

import pytest

from tunesmith.errors import UsageError
from tunesmith.export.targets import DECODERS, GRAPHS, Target, choose_target, provider_name, recipe_for, table_rows

CPU, CUDA, DML = "CPUExecutionProvider", "CUDAExecutionProvider", "DmlExecutionProvider"


@pytest.mark.parametrize(
    ("text", "full"), [("CPUExecutionProvider", CPU), ("cpu", CPU), ("cudaexecutionprovider", CUDA), ("DirectML", DML), ("CUDA", CUDA)]
)
def test_providers_by_full_or_short_name(text: str, full: str) -> None:
    assert provider_name(text) == full


def test_an_unknown_provider_names_the_nearest() -> None:
    with pytest.raises(UsageError, match=r"--provider CUDAExecutionProvder is not known.*Did you mean 'CUDAExecutionProvider'"):
        provider_name("CUDAExecutionProvder")


def test_nothing_said_is_the_cpu_and_the_smallest() -> None:
    assert choose_target("decoder") == Target("cpu", CPU, "int4")
    assert choose_target("head") == Target("cpu", CPU, "int8")


def test_a_gpu_takes_the_provider_that_this_machine_has() -> None:
    assert choose_target("decoder", device="gpu").provider == CUDA
    assert choose_target("decoder", device="gpu", available=(DML, CPU)).provider == DML


def test_a_provider_brings_its_device() -> None:
    assert choose_target("decoder", provider="CUDAExecutionProvider", precision="bf16") == Target("gpu", CUDA, "bf16")
    assert choose_target("head", provider="qnn").device == "npu"


@pytest.mark.parametrize(
    ("kind", "asked", "words"),
    [
        ("decoder", {"device": "cpu", "precision": "fp16"}, "there is --precision fp32, int8, int4"),
        ("decoder", {"device": "cpu", "provider": "CUDA"}, "There is: --device cpu --provider CPUExecutionProvider"),
        ("decoder", {"device": "npu", "provider": "QNN"}, "There is: --device cpu"),
        ("head", {"precision": "int4"}, "there is --precision fp32, int8"),
        ("head", {"device": "tpu"}, "--device tpu is not known; there are: cpu, gpu, npu"),
    ],
)
def test_an_impossible_pair_names_the_possible_ones(kind: str, asked: dict[str, str], words: str) -> None:
    with pytest.raises(UsageError) as refused:
        choose_target(kind, **asked)  # type: ignore[arg-type]
    assert words in str(refused.value)


def test_the_table_says_what_was_run_and_what_only_built() -> None:
    assert all(recipe.ran_here == (target.device == "cpu") for table in (DECODERS, GRAPHS) for target, recipe in table.items())
    assert all(recipe.words for table in (DECODERS, GRAPHS) for recipe in table.values() if not recipe.ran_here)
    assert ("cpu", CPU, "fp32, int8, int4", "run") in table_rows("decoder")


def test_npus_need_static_shapes() -> None:
    assert all(recipe.static_shapes == (target.device == "npu") for target, recipe in GRAPHS.items())


def test_a_recipe_takes_more_options() -> None:
    recipe = recipe_for("decoder", Target("cpu", CPU, "int4"), block_size=64)
    assert dict(recipe.options) == {"execution_provider": "cpu", "block_size": 64}
