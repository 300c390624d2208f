"""The page of a run and of several, seen in Chromium: on a phone, in the dark, without a network."""

from __future__ import annotations

import itertools
from pathlib import Path

import pytest

from browser import Browser
from finished_run import write_rating, write_run
from tunesmith import api

pytestmark = pytest.mark.integration

#: The least contrast of any text with what is behind it (WCAG 2.2, success criterion 1.4.3: 4.5 to 1), and which text that is.
CONTRAST = """(() => {
  const parts = text => {
    const found = text.match(/[\\d.]+/g).map(Number), scale = text.startsWith('color(') ? 255 : 1;
    return [...found.slice(0, 3).map(value => value * scale), found.length > 3 ? found[3] : 1];
  };
  const light = rgb => {
    const [r, g, b] = rgb.map(value => value / 255).map(value => value <= 0.04045 ? value / 12.92 : ((value + 0.055) / 1.055) ** 2.4);
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  const behind = element => {
    let layers = [];
    for (let at = element; at; at = at.parentElement) {
      const color = parts(getComputedStyle(at).backgroundColor);
      layers.push(color);
      if (color[3] === 1) break;
    }
    return layers.reverse().reduce((under, over) => [0, 1, 2].map(i => over[i] * over[3] + under[i] * (1 - over[3])), [255, 255, 255]);
  };
  let worst = [99, ''];
  for (const element of document.body.querySelectorAll('*')) {
    const own = [...element.childNodes].some(node => node.nodeType === 3 && node.textContent.trim());
    if (!own || !element.getClientRects().length) continue;
    const style = getComputedStyle(element), ink = parts(element.tagName === 'text' ? style.fill : style.color).slice(0, 3);
    const [a, b] = [light(ink), light(behind(element))].sort((x, y) => y - x);
    const ratio = (a + 0.05) / (b + 0.05);
    const name = element.tagName + '.' + (element.getAttribute('class') || '');
    if (ratio < worst[0]) worst = [ratio, name + ': ' + element.textContent.trim().slice(0, 40)];
  }
  return worst;
})()
"""


@pytest.fixture(scope="module")
def pages(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A page of one run with everything on it, one of a run about which nothing is known, and one of several runs."""
    folder = tmp_path_factory.mktemp("runs")
    full = write_run(folder / "letters", first_input="a very_long_word_" + "x" * 300 + " <script>alert(1)</script> 日本語 🙂")
    bare = write_run(folder / "bare", answers=False, train=(), validation=())
    other = write_run(folder / "other", tuned_right=12, options={"lora_r": 64, "text_template": "{text}" * 60})
    ratings = [write_rating(folder / "pairs", (str(other), str(full))), write_rating(folder / "scores", ("a", "b", "c"), scale="1-5")]
    return {
        "run": api.report(full, ratings=ratings),
        "bare": api.report(bare),
        "runs": api.report(full, bare, other, ratings=ratings[:1], output_path=folder / "runs.html"),
    }


@pytest.mark.parametrize("name", ["run", "bare", "runs"])
@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
def test_a_page_is_quiet_and_can_be_read(name: str, dark: bool, pages: dict[str, Path], browser: Browser, tmp_path: Path) -> None:
    browser.resize(390)
    browser.dark(dark)
    browser.open(pages[name])
    assert browser.console_errors() == []
    assert [address for address in browser.requests() if address != pages[name].resolve().as_uri()] == []
    assert browser.width_beyond() == 0, "a phone has to scroll sideways"
    ratio, where = browser.driver.execute_script(f"return {CONTRAST}")
    assert ratio >= 4.5, where
    assert browser.screenshot(tmp_path / "page.png", whole_page=True).stat().st_size > 10_000


def test_pictures_follow_the_colours_of_the_page(pages: dict[str, Path], browser: Browser) -> None:
    line = "getComputedStyle(document.querySelector('figure svg path[style*=series-1]')).stroke"
    found = []
    for dark in (False, True):
        browser.dark(dark)
        browser.open(pages["run"])
        found.append(browser.driver.execute_script(f"return [{line}, getComputedStyle(document.body).backgroundColor]"))
    assert found == [["rgb(10, 88, 184)", "rgb(255, 255, 255)"], ["rgb(125, 184, 255)", "rgb(16, 20, 24)"]]


def test_what_a_screen_reader_finds(pages: dict[str, Path], browser: Browser) -> None:
    browser.open(pages["run"])
    script = "return [...document.querySelectorAll('%s')].map(element => %s)"
    levels = browser.driver.execute_script(script % ("h1,h2,h3,h4", "Number(element.tagName[1])"))
    assert levels[0] == 1
    assert levels.count(1) == 1
    assert all(later <= earlier + 1 for earlier, later in itertools.pairwise(levels)), "no level of headings is left out"
    captions = browser.driver.execute_script(script % ("figure", "element.querySelector('figcaption').textContent.length"))
    assert len(captions) >= 6
    assert min(captions) > 20, "every picture is told in words"
    assert browser.driver.execute_script("return document.documentElement.lang") == "en"
    assert browser.driver.execute_script("return document.scripts.length") == 0
