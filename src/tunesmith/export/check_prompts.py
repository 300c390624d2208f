"""Fifty prompts that tokenizers of different programs easily read in different ways.

A certificate compares their token ids in transformers, onnxruntime-genai and llama.cpp: blanks and line breaks, contractions, digits,
signs, scripts without blanks, right-to-left text, combining marks, emoji with joiners, code, text that looks like markup, system turns,
several turns. A model with a template of its own is asked with the last user turn of each.
"""

from __future__ import annotations

from tunesmith.data.turns import Message

_SINGLE = (
    "Hello!",
    "What is the capital of France?",
    "  two blanks before, three behind   ",
    "a\nb\n\nc\n\n\nd",
    "\ttab\tin\tbetween\t",
    "Windows\r\nline\r\nbreaks",
    "a  b   c    d     e",
    "I'm sure they'll've said it's John's, isn't it? WE'RE DONE.",
    "1 12 123 1234 12345 1234567890 3.14159 1,000,000 -42 +7 1e-5 0x1F",
    "ALLCAPS camelCase snake_case kebab-case CONSTANT_NAME",
    "!@#$%^&*()_+-=[]{}|;':\",./<>?`~",
    "\"quotes\" 'single' “curly” ‘curly’ «guillemets» „low“",
    "em—dash en–dash hyphen-minus… ellipsis ... dots",
    "naïve façade Ærøskøbing Łódź Çatalhöyük smörgåsbord",
    "e\u0301 is not \u00e9, n\u0303 is not \u00f1",
    "Größe, Straße, Übergrößenträger, ẞ",
    "Всё хорошо, что хорошо кончается.",
    "Το γρήγορο αλεπού πηδάει",
    "שלום עולם, מה שלומך היום?",
    "مرحبا بالعالم، كيف حالك؟ ١٢٣",
    "English and עברית and العربية in one line (123).",
    "敏捷的棕色狐狸跳过了懒狗。",
    "いろはにほへと　ちりぬるを。カタカナ",
    "안녕하세요, 반갑습니다!",
    "สวัสดีชาวโลก",
    "नमस्ते दुनिया, आप कैसे हैं?",
    "😀 😃 🤖 🚀",
    "👩‍👩‍👧‍👦 👍🏽 🏳️‍🌈 🇩🇪 1️⃣",
    "∑ᵢ xᵢ² ≤ ∫₀^∞ e⁻ˣ dx ≈ 1 ± ε, ∀x∈ℝ: √x²=|x|",
    "zero\u200bwidth, no\u00a0break, soft\u00adhyphen, thin\u2009space",
    "𝔘𝔫𝔦𝔠𝔬𝔡𝔢 beyond the first plane: 𐍈 𝟘 🜁",
    'def f(x: int) -> str:\n    return f"{x!r:>10}"  # comment\n',
    '<html><body class="a">&lt;b&gt; &amp; </body></html>',
    '{"key": [1, 2.5, null, true], "nested": {"a\\n": "b"}}',
    "SELECT * FROM t WHERE a = 'b''c' -- comment",
    "C:\\Users\\me\\file.txt and /usr/local/bin and https://example.org/a?b=c&d=%20e#f",
    "| a | b |\n|---|---|\n| **bold** | `code` |",
    "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa",
    "Donaudampfschifffahrtselektrizitätenhauptbetriebswerkbauunterbeamtengesellschaft",
    "<|im_start|>, [INST] and </s> look like markup, <unk> too.",
)


def _turns(*contents: str, system: str | None = None) -> list[Message]:
    """Return a conversation: user and assistant in turn, behind a system message where there is one."""
    roles = ("user", "assistant")
    said: list[Message] = [{"role": roles[place % 2], "content": text} for place, text in enumerate(contents)]
    return said if system is None else [{"role": "system", "content": system}, *said]


_CONVERSATIONS = (
    _turns("Who are you?", system="You are a helpful assistant."),
    _turns("Say it.", system="Answer in one word.\nNever say more."),
    _turns("Antworte!", system="Sprich nur Deutsch – auch wenn's schwerfällt… 🙂"),
    _turns("ما اسمك؟", system="أجب بالعربية فقط."),
    _turns("Hi", "Hello! How can I help?", "Tell me a joke."),
    _turns("1+1?", "2", "2+2?", "4", "4+4?"),
    _turns("  blanks  ", "  around  ", "  everything  "),
    _turns("First\n\nparagraphs", "Second\n\nparagraphs\n", "Third\n"),
    _turns("שאלה ראשונה", "תשובה", "שאלה שנייה", system="ענה בקצרה."),
    _turns("🚀?", "🚀🚀!", "🚀🚀🚀…", system="Only emoji."),
)

#: The prompts, each a conversation that ends with the user.
PROMPTS: tuple[list[Message], ...] = (*(_turns(text) for text in _SINGLE), *_CONVERSATIONS)
