"""Options -> method: defaults, what has no effect, what is out of range; and the default learning rates."""

from __future__ import annotations

import subprocess
import sys

import pytest

from tunesmith.errors import UsageError
from tunesmith.methods import METHODS, build_method
from tunesmith.methods.bottleneck import Bottleneck
from tunesmith.methods.full import Full
from tunesmith.methods.lora import Dora, Lora


def test_importing_the_room_imports_no_torch() -> None:
    code = "import sys, tunesmith.methods; assert not {'torch', 'transformers', 'peft'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_defaults() -> None:
    assert build_method("lora") == Lora(rank=16, alpha=32, dropout=0.0, target_modules="all-linear")
    assert build_method("dora") == Dora()
    assert build_method("full") == Full()
    assert build_method("adapter") == Bottleneck(reduction_factor=16, placement="houlsby")


def test_names_and_layers_as_they_come_from_a_shell() -> None:
    method = build_method("lora", target_modules="q_proj, v_proj", modules_to_save="lm_head", layers_to_transform="2,0,2")
    assert method == Lora(target_modules=("q_proj", "v_proj"), modules_to_save=("lm_head",), layers_to_transform=(0, 2))


def test_names_and_layers_as_they_come_from_a_file() -> None:
    method = build_method("lora", target_modules=["all-linear"], layers_to_transform=[1])
    assert method == Lora(target_modules="all-linear", layers_to_transform=(1,))
    assert build_method("lora", layers_to_transform=1) == method


def test_all_options_without_effect_are_named_at_once() -> None:
    with pytest.raises(UsageError, match=r"--adapter_placement, --quant_type have no effect with --method lora"):
        build_method("lora", quant_type="nf4", adapter_placement="houlsby")
    with pytest.raises(UsageError, match=r"--lora_r has no effect with --method full"):
        build_method("full", lora_r=8)


def test_an_option_that_nobody_gave_is_left_out() -> None:
    assert build_method("full", lora_r=8, explicit=frozenset()) == Full()
    with pytest.raises(UsageError, match="lora_r"):
        build_method("full", lora_r=8, lora_alpha=16, explicit=frozenset({"lora_r", "learning_rate"}))


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"lora_r": 0}, "--lora_r must be 1 or more, found 0"),
        ({"lora_alpha": 0}, "--lora_alpha must be above 0"),
        ({"lora_dropout": 1.0}, "--lora_dropout must be at least 0 and below 1"),
        ({"init_lora_weights": "eva"}, "eva is not supported: it needs passes over the data"),
        ({"init_lora_weights": "gausian"}, "gausian is unknown; known: true, false, gaussian"),
        ({"target_modules": "q_proj,,v_proj"}, "--target_modules has an empty name"),
        ({"modules_to_save": []}, "--modules_to_save has an empty name"),
        ({"layers_to_transform": "first"}, "--layers_to_transform takes numbers of decoder blocks, found 'first'"),
    ],
)
def test_values_out_of_range(options: dict[str, object], words: str) -> None:
    with pytest.raises(UsageError) as error:
        build_method("lora", **options)  # type: ignore[arg-type]
    assert words in str(error.value)


def test_all_values_out_of_range_are_named_at_once() -> None:
    with pytest.raises(UsageError, match=r"--lora_r .*; --lora_dropout"):
        build_method("lora", lora_r=-1, lora_dropout=2)
    with pytest.raises(UsageError, match=r"--adapter_reduction_factor .*; --adapter_placement .*found houlsbi.*Did you mean 'houlsby'"):
        build_method("adapter", adapter_reduction_factor=0, adapter_placement="houlsbi")


def test_dora_refuses_a_start_that_changes_the_base() -> None:
    with pytest.raises(UsageError, match="pissa takes from the weights"):
        build_method("dora", init_lora_weights="pissa")


def test_an_unknown_method_names_the_nearest() -> None:
    with pytest.raises(UsageError, match=r"unknown method 'lorra'.*Did you mean 'lora'"):
        build_method("lorra")


def test_learning_rates_fall_with_size_and_never_rise_above_the_measured_one() -> None:
    lora = build_method("lora")
    assert lora.learning_rate(1_000) == lora.learning_rate(134_515_008) == 1e-3
    assert lora.learning_rate(7_000_000_000) == pytest.approx(2.7e-4)
    assert build_method("full").learning_rate(7_000_000_000) == pytest.approx(2.7e-5)


@pytest.mark.parametrize("name", ["lora", "dora", "full", "adapter"])
def test_every_method_says_what_it_is(name: str) -> None:
    method = build_method(name)
    assert method.name == name
    assert name in METHODS.names()
    assert method.grid() is None
    assert method.saves_adapter == (name != "full")
