"""Chat templates by name (Jinja, as transformers reads them), for models that bring none or for a turn style of one's own."""

from __future__ import annotations

import json
from pathlib import Path

from tunesmith.errors import DataError, nearest

_SYSTEM_AS_USER = "{% if message['role'] == 'system' %}{{ message['content'] | trim + '\\n\\n' }}"

CHAT_TEMPLATES: dict[str, str] = {
    "chatml": (
        "{% for message in messages %}"
        "{{ '<|im_start|>' + message['role'] + '\\n' + message['content'] + '<|im_end|>' + '\\n' }}{% endfor %}"
        "{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}"
    ),
    "llama3": (
        "{{ bos_token or '' }}{% for message in messages %}"
        "{{ '<|start_header_id|>' + message['role'] + '<|end_header_id|>\\n\\n' + message['content'] | trim + '<|eot_id|>' }}{% endfor %}"
        "{% if add_generation_prompt %}{{ '<|start_header_id|>assistant<|end_header_id|>\\n\\n' }}{% endif %}"
    ),
    "zephyr": (
        "{% for message in messages %}{{ '<|' + message['role'] + '|>\\n' + message['content'] + (eos_token or '') + '\\n' }}{% endfor %}"
        "{% if add_generation_prompt %}{{ '<|assistant|>\\n' }}{% endif %}"
    ),
    "gemma": (
        "{{ bos_token or '' }}{% set lead = messages[0]['content'] | trim + '\\n\\n' if messages[0]['role'] == 'system' else '' %}"
        "{% for message in messages if message['role'] != 'system' %}"
        "{{ '<start_of_turn>' + ('model' if message['role'] == 'assistant' else message['role']) + '\\n' + (lead if loop.first else '')"
        " + message['content'] | trim + '<end_of_turn>\\n' }}{% endfor %}"
        "{% if add_generation_prompt %}{{ '<start_of_turn>model\\n' }}{% endif %}"
    ),
    "phi3": (
        "{% for message in messages %}{{ '<|' + message['role'] + '|>\\n' + message['content'] + '<|end|>\\n' }}{% endfor %}"
        "{% if add_generation_prompt %}{{ '<|assistant|>\\n' }}{% endif %}"
    ),
    "mistral": (
        "{{ bos_token or '' }}{% set lead = messages[0]['content'] | trim + '\\n\\n' if messages[0]['role'] == 'system' else '' %}"
        "{% for message in messages if message['role'] != 'system' %}{% if message['role'] == 'user' %}"
        "{{ '[INST] ' + (lead if loop.first else '') + message['content'] | trim + ' [/INST]' }}"
        "{% else %}{{ ' ' + message['content'] | trim + (eos_token or '') }}{% endif %}{% endfor %}"
    ),
    "alpaca": (
        "{% for message in messages %}" + _SYSTEM_AS_USER + "{% elif message['role'] == 'assistant' %}"
        "{{ '### Response:\\n' + message['content'] | trim + (eos_token or '') + '\\n\\n' }}"
        "{% else %}{{ '### Instruction:\\n' + message['content'] | trim + '\\n\\n' }}{% endif %}{% endfor %}"
        "{% if add_generation_prompt %}{{ '### Response:\\n' }}{% endif %}"
    ),
    "plain": (
        "{% for message in messages %}" + _SYSTEM_AS_USER + "{% elif message['role'] == 'assistant' %}"
        "{{ 'Assistant: ' + message['content'] | trim + (eos_token or '') + '\\n' }}"
        "{% else %}{{ 'User: ' + message['content'] | trim + '\\n' }}{% endif %}{% endfor %}"
        "{% if add_generation_prompt %}{{ 'Assistant:' }}{% endif %}"
    ),
}


def find_chat_template(name_or_file: str) -> str:
    """Return the Jinja text of a chat template given by name, by file, or as Jinja itself.

    Raises:
        DataError: when there is neither such a name nor such a file, naming the known ones.
    """
    if name_or_file in CHAT_TEMPLATES:
        return CHAT_TEMPLATES[name_or_file]
    if "{%" in name_or_file or "{{" in name_or_file:
        return name_or_file
    path = Path(name_or_file).expanduser()
    if path.is_file():
        try:
            text = path.read_text(encoding="utf-8")
            # chat_template.json and tokenizer_config.json hold it under this key.
            return str(json.loads(text)["chat_template"]) if path.suffix == ".json" else text
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise DataError(f"the chat template can't be read: {error}", file=name_or_file) from error
    known = ", ".join(sorted(CHAT_TEMPLATES))
    fix = f"{nearest(name_or_file, CHAT_TEMPLATES)} Give one of these names, or a file with Jinja in it".strip()
    raise DataError(f"there is no chat template '{name_or_file}': it is no file, and the names known are {known}", fix=fix)
