"""``tunesmith rate`` as people use it: the command in a process of its own, the page in headless Chromium, rated by keyboard."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from commands import command, environment, take_interrupts

if TYPE_CHECKING:
    from browser import Browser

pytestmark = pytest.mark.integration

HOSTILE = "<script>document.title = 'broken into'</script><img src=http://evil.example/x.png onerror=alert(1)> & \"quotes\""
PROMPTS = ["What is the capital of France?", "Write a line about rain.", "Name three primes."]
ENTER, LEFT, RIGHT, ESCAPE = "\ue007", "\ue012", "\ue014", "\ue00c"

Start = Callable[..., tuple["subprocess.Popen[str]", str]]


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    """Start ``tunesmith rate`` and return the process and the link that it prints."""
    processes: list[subprocess.Popen[str]] = []

    def run(*arguments: object) -> tuple[subprocess.Popen[str], str]:
        words = [sys.executable, "-m", "tunesmith", "rate", *map(str, arguments)]
        process = subprocess.Popen(
            words,
            cwd=tmp_path,
            env=environment(),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
            preexec_fn=take_interrupts,
        )
        processes.append(process)
        assert process.stdout is not None
        line = process.stdout.readline()
        found = re.fullmatch(r"Rate here: (http://127\.0\.0\.1:\d+/\?token=\S+)\n", line)
        assert found, f"{line!r}\n{process.communicate(timeout=300)[1]}"
        return process, found[1]

    yield run
    for process in processes:
        process.kill()
        process.communicate()


def answers(folder: Path) -> list[object]:
    """Two files of answers and how to name them; the second model is hostile."""
    for name in ("calm", "wild"):
        texts = [f"The {name} answer to prompt {number}." + (f"\n{HOSTILE}" if name == "wild" else "") for number in range(3)]
        pairs = zip(PROMPTS, texts, strict=True)
        lines = (json.dumps({"row": row, "input": prompt, "references": [], "output": text}) for row, (prompt, text) in enumerate(pairs))
        (folder / f"{name}.jsonl").write_text("\n".join(lines) + "\n")
    return ["--answers", "calm.jsonl,wild.jsonl"]


def end(process: subprocess.Popen[str]) -> tuple[str, str]:
    """Press Ctrl-C; returns what was printed and said."""
    process.send_signal(signal.SIGINT)
    printed = process.communicate(timeout=300)
    assert process.returncode == 0, printed
    return printed


def enter(browser: Browser, link: str, name: str) -> None:
    """Open the link and say who rates."""
    browser.open(link)
    browser.wait_for("!document.getElementById('welcome').hidden && document.activeElement.id === 'name'")
    browser.press(name, ENTER)
    browser.wait_for("!document.getElementById('screen').hidden")


def at_screen(browser: Browser, number: int) -> None:
    """Wait for a screen by its number."""
    browser.wait_for(f"/ {number} of /.test(document.getElementById('where').textContent) && !busy")


def votes(folder: Path) -> list[dict[str, object]]:
    return [json.loads(line) for line in (folder / "votes.jsonl").read_text(encoding="utf-8").splitlines()]


@pytest.mark.skipif(os.name == "nt", reason="Ctrl-C is sent as a POSIX signal")
def test_rating_by_keyboard(browser: Browser, start: Start, tmp_path: Path) -> None:
    given = answers(tmp_path)
    process, link = start(*given, "-o", "ratings", "--seed", 1)
    enter(browser, link, "Ada")
    at_screen(browser, 1)
    shown = browser.driver.execute_script("return [...document.querySelectorAll('.answer .text')].map((one) => one.textContent)")
    assert sorted(text.split()[1] for text in shown) == ["calm", "wild"]
    assert any(HOSTILE in text for text in shown), "a hostile answer is shown as the text that it is"
    assert browser.driver.execute_script("return document.querySelectorAll('.answer img, .answer script').length") == 0

    browser.press("c")
    browser.wait_for("document.activeElement.id === 'comment'")
    browser.press("1 is t better", ESCAPE, "2")
    at_screen(browser, 2)
    first = votes(tmp_path / "ratings")
    assert len(first) == 1, "saved at once"
    assert first[0]["comment"] == "1 is t better", "keys in a comment are letters"
    assert first[0]["winner"] == ("calm" if "calm" in shown[1].split() else "wild")

    browser.driver.refresh()
    at_screen(browser, 2)
    browser.press("t")
    at_screen(browser, 3)
    browser.press(LEFT)
    at_screen(browser, 2)
    assert browser.driver.execute_script("return document.querySelector('#choices [aria-pressed=true]').textContent").startswith("Tie")
    browser.press("1")
    at_screen(browser, 3)
    browser.press("t")
    browser.wait_for("!document.getElementById('finished').hidden")

    assert browser.console_errors() == []
    assert browser.outside_requests() == []
    assert any(address.endswith("/vote") for address in browser.requests()), "requests are seen at all"
    assert browser.driver.title == "Rate answers"
    assert [vote["winner"] is None for vote in votes(tmp_path / "ratings")] == [False, True, False, True]
    printed, said = end(process)
    assert "3 votes on 3 prompts; rated so far: Ada 3 of 3." in printed
    assert link.partition("token=")[2] not in said


@pytest.mark.skipif(os.name == "nt", reason="Ctrl-C is sent as a POSIX signal")
def test_killed_and_gone_on_with_by_a_second_rater(browser: Browser, start: Start, tmp_path: Path) -> None:
    process, link = start(*answers(tmp_path), "-o", "ratings", "--scale", "1-5")
    enter(browser, link, "Ada")
    at_screen(browser, 1)
    browser.press("4")
    browser.press("2")
    at_screen(browser, 2)
    process.kill()
    process.wait()
    with (tmp_path / "ratings" / "votes.jsonl").open("ab") as file:
        file.write(b'{"rater": "Ada", "item": 2, "sho')
    browser.press("1")
    browser.press("1")
    browser.wait_for("!document.getElementById('trouble').hidden")
    assert "not saved" in browser.driver.execute_script("return document.getElementById('trouble').textContent")

    process, link = start("-o", "ratings")
    browser.forget()
    enter(browser, link, "ada")
    at_screen(browser, 2)
    for number in (3, 4):
        browser.press("5")
        browser.press("5")
        browser.wait_for(f"document.getElementById('bar').value === {number - 1} && !busy")
    browser.wait_for("!document.getElementById('finished').hidden")
    browser.forget()
    enter(browser, link, "Bob")
    browser.press("3")
    browser.press("3")
    at_screen(browser, 2)
    assert browser.console_errors() == []
    printed, said = end(process)
    assert "only half written" in said
    assert "calm: mean score" in printed
    assert "rated so far: Ada 3 of 3, Bob 1 of 3." in printed

    result = command("rate", "-o", "ratings", "--summary", "--json", cwd=tmp_path)
    assert result.returncode == 0, result.stderr
    assert json.loads(result.stdout)["agreement"]["num_units"] == 2
    rows = [json.loads(line) for line in (tmp_path / "ratings" / "export.jsonl").read_text(encoding="utf-8").splitlines()]
    assert [sorted(vote["rater"] for vote in row["votes"]) for row in rows].count(["Ada", "Bob"]) == 1


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
def test_a_phone_and_a_screen_reader(dark: bool, browser: Browser, start: Start, tmp_path: Path) -> None:
    _, link = start(*answers(tmp_path), "-o", "ratings")
    browser.resize(390, 844)
    browser.dark(dark)
    enter(browser, link, "Ada")
    at_screen(browser, 1)
    assert browser.width_beyond() == 0, "nothing has to be scrolled sideways"
    low = browser.driver.execute_script(CONTRAST)
    assert low == [], "text that is hard to read"
    unnamed = browser.driver.execute_script(
        "return [...document.querySelectorAll('button, input, textarea, progress')].filter((one) => one.checkVisibility() &&"
        " !(one.textContent.trim() || one.getAttribute('aria-label') || one.labels?.length)).map((one) => one.outerHTML)"
    )
    assert unnamed == []
    small = browser.driver.execute_script(
        "return [...document.querySelectorAll('button')].filter((one) => one.checkVisibility() && one.getBoundingClientRect().height < 44)"
        ".map((one) => one.outerHTML)"
    )
    assert small == [], "buttons that a thumb misses"
    browser.driver.execute_script("document.querySelector('#choices button').click()")
    at_screen(browser, 2)
    assert "Saved." in browser.driver.execute_script("return document.querySelector('[aria-live=polite]').textContent")
    assert browser.driver.execute_script("return document.activeElement.id") == "where"


#: Elements with text of their own whose colours have less than WCAG's 4.5 : 1; relative luminance as in WCAG 2.2, "contrast ratio".
CONTRAST = """
const parts = (colour) => colour.match(/[\\d.]+/g).map(Number);
const luminance = (colour) => parts(colour).slice(0, 3).map((one) => one / 255)
  .map((one) => (one <= 0.04045 ? one / 12.92 : ((one + 0.055) / 1.055) ** 2.4))
  .reduce((sum, one, index) => sum + one * [0.2126, 0.7152, 0.0722][index], 0);
const ground = (one) => {
  for (let at = one; at; at = at.parentElement) {
    const colour = getComputedStyle(at).backgroundColor;
    if ((parts(colour)[3] ?? 1) > 0) return colour;
  }
  return "rgb(255, 255, 255)";
};
const own = (one) => [...one.childNodes].some((node) => node.nodeType === 3 && node.data.trim());
return [...document.body.querySelectorAll("*")].filter((one) => own(one) && one.checkVisibility() && !one.disabled).map((one) => {
  const pair = [luminance(getComputedStyle(one).color), luminance(ground(one))].sort((a, b) => b - a);
  return [one.outerHTML.slice(0, 80), (pair[0] + 0.05) / (pair[1] + 0.05)];
}).filter(([, ratio]) => ratio < 4.5);
"""


def test_real_models_answer(tiny_folder: Path, start: Start, tmp_path: Path) -> None:
    import shutil

    other = tmp_path / "other"
    shutil.copytree(tiny_folder, other)
    (tmp_path / "prompts.jsonl").write_text('{"prompt": "say hi"}\n{"prompt": "say no"}\n')
    words = ["--data_files", "prompts.jsonl", "--models", f"{tiny_folder},{other}", "--max_new_tokens", 4, "--scale", "1-5"]
    start(*words, "-o", "ratings")
    lines = [json.loads(line) for line in (tmp_path / "ratings" / "answers.jsonl").read_text(encoding="utf-8").splitlines()]
    assert [(line["model"], line["item"]) for line in lines] == [(str(model), item) for model in (tiny_folder, other) for item in (1, 2)]
    assert lines[0]["text"] == lines[2]["text"]
    assert lines[0]["stopped"] is False or len(lines[0]["text"]) > 0


BAD: dict[str, tuple[list[str], str]] = {
    "nothing named": ([], "there is no rating in ratings"),
    "no prompts": (["--data_files", "empty.jsonl", "--models", "a,b"], "empty"),
    "missing file": (["--data_files", "none.jsonl", "--models", "a,b"], "none.jsonl"),
    "a blank prompt": (["--data_files", "blank.jsonl", "--models", "a,b"], "row 1: the prompt is empty"),
    "columns that say nothing": (["--data_files", "strange.jsonl", "--models", "a,b"], "--text_field COLUMN"),
    "one model": (["--data_files", "good.jsonl", "--models", "a"], "--models names one model"),
    "one model twice": (["--data_files", "good.jsonl", "--models", "a,a"], "names a twice"),
    "a model that is none": (["--data_files", "good.jsonl", "--models", "./a,./b"], "./a"),
    "unknown scale": (["--answers", "calm.jsonl,wild.jsonl", "--scale", "1-7"], "--scale"),
    "one file of answers": (["--answers", "calm.jsonl"], "--answers names one file"),
    "answers to other prompts": (["--answers", "calm.jsonl,other.jsonl"], "the prompt is another one"),
    "answers that are none": (["--answers", "calm.jsonl,good.jsonl"], "has no answer"),
    "an idle option": (["--answers", "calm.jsonl,wild.jsonl", "--temperature", "1"], "--temperature has no effect"),
    "a port that is none": (["--answers", "calm.jsonl,wild.jsonl", "--port", "99999"], "--port is 99999"),
    "a host that is not here": (["--answers", "calm.jsonl,wild.jsonl", "--host", "192.0.2.1"], "192.0.2.1 is no address of this machine"),
    "the folder is a file": (["--answers", "calm.jsonl,wild.jsonl", "-o", "good.jsonl"], "good.jsonl"),
    "the folder holds other things": (["--answers", "calm.jsonl,wild.jsonl", "-o", "full"], "exists and is not empty"),
    "a rating that can't be read": (["-o", "spoilt"], "is no rating that can be read"),
    "a summary of nothing": (["--summary", "-o", "full"], "there is no rating in this folder"),
    "a summary with a page's option": (["--summary", "--port", "80"], "--port has no effect with --summary"),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_inputs(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    from tunesmith.cli.main import main

    words, expected = BAD[name]
    answers(tmp_path)
    files = {
        "good.jsonl": '{"prompt": "a"}\n',
        "empty.jsonl": "",
        "blank.jsonl": '{"prompt": " "}\n',
        "strange.jsonl": '{"foo": "a", "bar": "b"}\n',
        "other.jsonl": '{"input": "x", "output": "y"}\n' * 3,
        "full/thesis.txt": "mine",
        "spoilt/rating.json": "{",
    }
    for file, content in files.items():
        (tmp_path / file).parent.mkdir(exist_ok=True)
        (tmp_path / file).write_text(content)
    monkeypatch.chdir(tmp_path)
    assert main(["rate", *words]) == 2
    printed = capsys.readouterr()
    last = printed.err.strip().splitlines()[-1]
    assert last.startswith("tunesmith: error: ")
    assert expected in last
    assert printed.out == ""
    assert (tmp_path / "full" / "thesis.txt").read_text() == "mine"


def test_a_port_in_use(start: Start, tmp_path: Path) -> None:
    _, link = start(*answers(tmp_path), "-o", "ratings")
    port = link.partition("127.0.0.1:")[2].partition("/")[0]
    done = command("rate", "--answers", "calm.jsonl,wild.jsonl", "-o", "second", "--port", port, cwd=tmp_path)
    assert (done.returncode, done.stdout) == (2, "")
    assert f"port {port} is in use" in done.stderr
    done = command("rate", "-o", "ratings", cwd=tmp_path)
    assert done.returncode == 2
    assert "another tunesmith rate is at work in ratings" in done.stderr
