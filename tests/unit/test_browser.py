"""The browser that pages are tested with notices what it is there for; clean pages prove nothing to one that sees nothing."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from browser import find_program

if TYPE_CHECKING:
    from browser import Browser

PAGE = """<!doctype html><meta name="viewport" content="width=device-width"><title>bad</title>
<p style="width: 900px">wide</p><img src="http://example.com/x.png"><script>console.error("told"); missing();</script>"""


def test_a_bad_page_is_noticed(browser: Browser, tmp_path: Path) -> None:
    page = tmp_path / "bad.html"
    page.write_text(PAGE)
    browser.resize(390)
    browser.open(page)
    assert browser.wait_for("document.title") == "bad"
    assert browser.outside_requests() == ["http://example.com/x.png"]
    errors = browser.console_errors()
    assert any("told" in error for error in errors)
    assert any("missing is not defined" in error for error in errors)
    assert browser.width_beyond() >= 510
    browser.dark()
    assert browser.driver.execute_script("return matchMedia('(prefers-color-scheme: dark)').matches")
    picture = browser.screenshot(tmp_path / "bad.png")
    assert picture.read_bytes().startswith(b"\x89PNG")

    browser.forget()
    assert (browser.console_errors(), browser.requests()) == ([], [])
    assert not browser.driver.execute_script("return matchMedia('(prefers-color-scheme: dark)').matches")


def test_programs_are_found_by_the_first_name_that_is_there(tmp_path: Path) -> None:
    program = tmp_path / "chromium"
    program.write_text("#!/bin/sh\n")
    program.chmod(0o755)
    assert find_program(("no-such-program", str(program))) == str(program)
    assert find_program(("no-such-program",)) is None
