"""Generating with tiny models: the answers of transformers' own loop, alone and in batches, at once and as a stream."""

from __future__ import annotations

import logging
import warnings

import pytest
import torch
from peft import LoraConfig, get_peft_model

from tiny_models import FAMILIES, MAX_LENGTH, tiny_model, tiny_tokenizer
from tunesmith.data.templates import Template
from tunesmith.errors import DataError, UsageError
from tunesmith.runtime.torch_runtime import TorchRuntime
from tunesmith.train.fast import accelerate_model

TOKENIZER = tiny_tokenizer()
PLAIN = Template(kind="text", text="{text}", answer_column="text")
PROMPTS = ["The train", "Could you send me the report by Friday? ", "a", "Label: happy. Text: what", "Thank you very much"]


def runtime_of(family: str = "llama", template: Template = PLAIN) -> TorchRuntime:
    return TorchRuntime(tiny_model(family), TOKENIZER, template)


def greedy_by_transformers(runtime: TorchRuntime, prompt: str, num_tokens: int) -> str:
    ids = torch.tensor([runtime.template.encode_prompt(prompt, TOKENIZER)])
    with torch.no_grad():
        output = runtime.model.generate(
            input_ids=ids,
            attention_mask=torch.ones_like(ids),
            max_new_tokens=num_tokens,
            do_sample=False,
            eos_token_id=TOKENIZER.eos_token_id,
            pad_token_id=TOKENIZER.pad_token_id,
        )
    text: str = TOKENIZER.decode(output[0, ids.shape[1] :], skip_special_tokens=True, clean_up_tokenization_spaces=False)
    return text.removeprefix(" ")


@pytest.mark.parametrize("family", FAMILIES)
def test_greedy_answers_are_those_of_transformers(family: str) -> None:
    runtime = runtime_of(family)
    answers = runtime.generate(PROMPTS, max_new_tokens=24)
    assert [answer.text for answer in answers] == [greedy_by_transformers(runtime, prompt, 24) for prompt in PROMPTS]


@pytest.mark.parametrize("family", ["llama", "gemma3", "gpt2"])
@pytest.mark.parametrize("sampling", [{}, {"temperature": 0.9, "top_p": 0.8, "seed": 4}], ids=["greedy", "sampled"])
def test_batch_single_and_stream_give_the_same_answers(family: str, sampling: dict[str, float]) -> None:
    runtime = runtime_of(family)
    together = runtime.generate(PROMPTS, max_new_tokens=24, **sampling)
    assert runtime.generate(PROMPTS, max_new_tokens=24, batch_size=2, **sampling) == together
    assert [runtime.generate([prompt], max_new_tokens=24, **sampling)[0] for prompt in PROMPTS] == together
    assert ["".join(runtime.stream(prompt, max_new_tokens=24, **sampling)) for prompt in PROMPTS] == [answer.text for answer in together]
    assert len({answer.text for answer in together}) > 1


def test_a_beginning_that_all_prompts_share_changes_no_answer() -> None:
    runtime = runtime_of()
    prompts = ["Could you send me the report by Friday? Thank you very much for the help! " + prompt for prompt in PROMPTS]
    assert runtime.generate(prompts, max_new_tokens=16) == [runtime.generate([prompt], max_new_tokens=16)[0] for prompt in prompts]


def test_answers_stop_at_a_stop_token_and_leave_it_out() -> None:
    runtime = runtime_of()
    unstopped = runtime.generate(PROMPTS, max_new_tokens=24)
    assert not any(answer.stopped for answer in unstopped)
    assert {answer.num_tokens for answer in unstopped} == {24}
    stop = unstopped[0].text[4:7]
    stopped = runtime_of(template=Template(kind="text", text="{text}", answer_column="text", stop_tokens=("<|im_start|>", stop)))
    for answer, free in zip(stopped.generate(PROMPTS, max_new_tokens=24), unstopped, strict=True):
        assert answer.stopped == (stop in free.text)
        assert answer.text == free.text.split(stop)[0]
    assert "".join(stopped.stream(PROMPTS[0], max_new_tokens=24)) == unstopped[0].text.split(stop)[0]


def test_no_answer_is_longer_than_the_context_and_that_is_said(caplog: pytest.LogCaptureFixture) -> None:
    runtime = runtime_of()
    long_prompt = "a " * (MAX_LENGTH - 10)
    num_tokens = len(runtime.template.encode_prompt(long_prompt, TOKENIZER))
    assert MAX_LENGTH - 30 < num_tokens < MAX_LENGTH
    with caplog.at_level(logging.INFO):
        answers = runtime.generate([long_prompt, "a"], max_new_tokens=30)
    assert [answer.num_tokens for answer in answers] == [MAX_LENGTH - num_tokens, 30]
    assert not answers[0].stopped
    assert "1 of 2 answers have less room than 30 tokens" in caplog.text


@pytest.mark.parametrize(
    ("prompts", "message"),
    [(["a", "b " * MAX_LENGTH], f"prompt 2 has .* tokens, but the model's context is {MAX_LENGTH}"), (["a", ""], "prompt 2 is empty")],
)
def test_prompts_that_cannot_be_answered_are_named(prompts: list[str], message: str) -> None:
    with pytest.raises(DataError, match=message):
        runtime_of().generate(prompts)


@pytest.mark.parametrize("settings", [{"max_new_tokens": 0}, {"temperature": -1.0}, {"top_p": 2.0}, {"batch_size": 0}])
def test_settings_out_of_range_are_refused(settings: dict[str, float]) -> None:
    with pytest.raises(UsageError):
        runtime_of().generate(["a"], **settings)  # type: ignore[arg-type]


def test_no_prompts_no_answers() -> None:
    assert runtime_of().generate([]) == []


def test_a_seed_repeats_and_no_seed_does_not() -> None:
    runtime = runtime_of()
    prompts = ["The train"] * 3

    def texts(seed: int | None) -> list[str]:
        return [answer.text for answer in runtime.generate(prompts, max_new_tokens=12, temperature=1.5, seed=seed)]

    assert texts(3) == texts(3) != texts(4)
    assert len(set(texts(3))) == 3
    assert texts(None) != texts(None)


def test_a_model_in_training_stays_in_training_with_its_dropout() -> None:
    model = get_peft_model(tiny_model("llama"), LoraConfig(r=4, lora_dropout=0.5, init_lora_weights=False, target_modules=["q_proj"]))
    model.train()
    model.base_model.model.lm_head.eval()
    runtime = TorchRuntime(model, TOKENIZER, PLAIN)
    assert runtime.generate(PROMPTS, max_new_tokens=8) == runtime.generate(PROMPTS, max_new_tokens=8)
    assert model.training
    assert all(module.training for name, module in model.named_modules() if "dropout" in name)
    assert not model.base_model.model.lm_head.training
    assert all(parameter.grad is None for parameter in model.parameters())
    model(input_ids=torch.tensor([[5, 6, 7]])).logits.sum().backward()


@pytest.mark.parametrize("family", ["llama", "gemma2", "gemma3", "gpt2"])
def test_a_model_with_the_tricks_of_training_on_it_answers_alike(family: str) -> None:
    model = get_peft_model(tiny_model(family), LoraConfig(r=4, init_lora_weights=False, target_modules="all-linear"))
    expected = TorchRuntime(model, TOKENIZER, PLAIN).generate(PROMPTS, max_new_tokens=12)
    accelerate_model(model.train())
    runtime = TorchRuntime(model, TOKENIZER, PLAIN)
    assert runtime.generate(PROMPTS, max_new_tokens=12) == expected
    assert ["".join(runtime.stream(prompt, max_new_tokens=12)) for prompt in PROMPTS] == [answer.text for answer in expected]


def test_a_stream_that_is_closed_computes_no_more() -> None:
    runtime = runtime_of()
    calls: list[int] = []
    runtime.model.register_forward_hook(lambda *_: calls.append(1))
    stream = runtime.stream("The train", max_new_tokens=100)
    next(stream)
    stream.close()
    assert len(calls) < 20
    assert torch.is_grad_enabled()
    assert not torch.is_inference_mode_enabled()


def test_a_conversation_computes_only_what_is_new() -> None:
    runtime = runtime_of()
    widths: list[int] = []
    runtime.model.register_forward_pre_hook(lambda _, __, kwargs: widths.append(kwargs["input_ids"].shape[1]), with_kwargs=True)
    first = "The train to the city leaves at seven in the morning"
    answer = "".join(runtime.stream(first, max_new_tokens=8))
    assert widths[0] > 10
    del widths[:]
    following = f"{first}{answer[:3]} and arrives"
    second = "".join(runtime.stream(following, max_new_tokens=8))
    assert widths[0] < 10
    assert second == runtime.generate([following], max_new_tokens=8)[0].text


def test_nothing_is_warned_of(caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        runtime_of().generate(PROMPTS, max_new_tokens=4, temperature=0.5, seed=1)
        list(runtime_of().stream("a", max_new_tokens=4))
    assert not caplog.records
    assert capfd.readouterr() == ("", "")


def test_a_template_with_columns_is_filled_from_rows() -> None:
    template = Template(kind="text", text="Text: {text} Label: {label}", answer_column="label", columns=(("prompt", "text"),))
    runtime = runtime_of(template=template)
    by_text, by_row = runtime.generate(["happy", {"text": "happy", "label": "ignored"}], max_new_tokens=5)
    assert by_text == by_row
    assert by_text.text == runtime_of().generate(["Text: happy Label:"], max_new_tokens=5)[0].text


def test_messages_are_rendered_by_the_chat_template() -> None:
    runtime = runtime_of(template=Template(kind="chat", chat_template=TOKENIZER.chat_template, stop_tokens=("<|im_end|>",)))
    by_text, by_messages = runtime.generate(["happy", [{"role": "user", "content": "happy"}]], max_new_tokens=5)
    assert by_text == by_messages
    assert by_text.text == runtime_of().generate(["<|im_start|>user\nhappy<|im_end|>\n<|im_start|>assistant\n"], max_new_tokens=5)[0].text


@pytest.mark.parametrize("family", ["llama", "gemma3", "gpt2"])
def test_logits_behind_every_token_are_those_of_the_model(family: str) -> None:
    runtime = runtime_of(family)
    rows = [runtime.token_ids(prompt) for prompt in PROMPTS]
    for row, logits in zip(rows, runtime.token_logits(rows), strict=True):
        with torch.no_grad():
            expected = runtime.model(torch.tensor([row])).logits[0]
        assert logits.dtype == "float32"
        assert torch.equal(torch.from_numpy(logits), expected)


def test_logits_leave_a_model_in_training_as_it_was() -> None:
    runtime = runtime_of()
    runtime.model.train()
    for _ in runtime.token_logits([[5, 6], [7]]):
        assert runtime.model.training
    assert runtime.model.training


def test_prompts_become_ids_with_special_tokens_and_one_bos() -> None:
    runtime = TorchRuntime(tiny_model("llama"), tiny_tokenizer(adds_bos=True), PLAIN)
    ids = runtime.token_ids("a<|im_end|>")
    assert ids[0] == TOKENIZER.bos_token_id
    assert ids[-1] == TOKENIZER.eos_token_id
    assert runtime.token_ids("<|startoftext|>a<|im_end|>") == ids


@pytest.mark.parametrize(("rows", "words"), [([[1], []], "row 2 of the token ids is empty"), ([[1] * 257], "row 1 has 257 tokens, but")])
def test_rows_that_no_model_reads(rows: list[list[int]], words: str) -> None:
    with pytest.raises(DataError, match=words):
        next(runtime_of().token_logits(rows))
