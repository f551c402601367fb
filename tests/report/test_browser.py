"""Reports in a real browser: nothing is fetched, nothing fails, everything is seen."""

from __future__ import annotations

import pytest

from p2p_sac_jax.config import TrainConfig
from p2p_sac_jax.report import write_report
from tests.helpers.browser import CHROMIUM, open_browser
from tests.helpers.runs import write_run
from tests.helpers.sweeps import write_sweep

pytestmark = pytest.mark.skipif(
    CHROMIUM is None, reason="no program named chromium on PATH: apt install chromium"
)

DESKTOP, PHONE = 1280, 390
FOLDED = "document.querySelectorAll('details').forEach(d => d.open = true)"
CHOICES = "document.querySelectorAll('input[type=radio]').length"
CHOOSE = "document.querySelectorAll('input[type=radio]')[{}].click()"
# Index and size of every figure on the page, 0 for those that are not shown.
FIGURES = """[...document.querySelectorAll('svg')].map(svg => {
  const box = svg.getBoundingClientRect();
  return [box.width, box.height];
})"""
# What reaches over the right edge, but for what scrolls by itself.
TOO_WIDE = """[...document.querySelectorAll('body *')].filter(e =>
  e.getBoundingClientRect().right > document.documentElement.clientWidth + 1
  && !e.closest('.scroll, svg')).map(e => e.tagName)"""
# Of every table scrolled to its end: how far, and whether its first column and its
# head stay, and it keeps to the page.
SCROLLED = """[...document.querySelectorAll('.scroll')].map(table => {
  table.scrollTo(1e6, 1e6);
  const box = table.getBoundingClientRect();
  const near = (cell, side) => Math.abs(cell.getBoundingClientRect()[side] - box[side]);
  return [table.scrollLeft, box.right <= document.documentElement.clientWidth
    && [...table.querySelectorAll('tr > :first-child')].every(c => near(c, 'left') < 2)
    && [...table.querySelectorAll('thead th')].every(c => near(c, 'top') < 2)];
})"""
WIDTH = "document.documentElement.scrollWidth"
GROUND = "getComputedStyle(document.body).backgroundColor"
INK = "getComputedStyle(document.querySelector('svg text')).fill"

PANES = "[...document.querySelectorAll('.pane')].filter(p => p.offsetHeight).length"


@pytest.fixture(scope="module")
def browser():
    with open_browser() as opened:
        yield opened


@pytest.fixture(scope="module", params=["run", "sweep"])
def page(request, tmp_path_factory):
    folder = tmp_path_factory.mktemp("reports") / request.param
    if request.param == "run":
        return write_report(write_run(folder))
    swept = {"population.peers": [2, 4], "exchange.topology": ["complete", "ring"]}
    config = TrainConfig(steps=52, evaluate_every=4)
    return write_report(write_sweep(folder, swept, seeds=2, config=config))


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
@pytest.mark.parametrize("width", [DESKTOP, PHONE])
def test_page_asks_for_nothing_and_shows_everything(browser, page, width, dark):
    browser.show(page, width, dark)
    browser.ask(FOLDED)
    shown = [size > (0, 0) for size in map(tuple, browser.ask(FIGURES))]
    assert shown
    for choice in range(browser.ask(CHOICES)):
        browser.ask(CHOOSE.format(choice))
        sizes = browser.ask(FIGURES)
        now = [min(size) > 100 for size in sizes]
        assert sum(now) > 1
        shown = [before or after for before, after in zip(shown, now, strict=True)]
        assert browser.ask(WIDTH) == width
        assert browser.ask(TOO_WIDE) == []
    assert all(shown)
    assert browser.ask(WIDTH) == width
    assert browser.ask(TOO_WIDE) == []
    tables = browser.ask(SCROLLED)
    assert all(stays for _, stays in tables)
    assert any(moved > 0 for moved, _ in tables)
    requests = [event["request"]["url"] for event in browser.seen(
        "Network.requestWillBeSent")]  # fmt: skip
    assert requests == [page.resolve().as_uri()]
    for trouble in ("Runtime.exceptionThrown", "Runtime.consoleAPICalled"):
        assert browser.seen(trouble) == []
    assert browser.seen("Log.entryAdded") == []


def test_dark_turns_ground_and_ink_around(browser, page):
    colours = []
    for dark in (False, True):
        browser.show(page, DESKTOP, dark)
        colours.append([browser.ask(GROUND), browser.ask(INK)])
    (ground, ink), (dark_ground, dark_ink) = [
        [sum(map(int, colour[4:-1].split(","))) for colour in pair] for pair in colours
    ]
    assert ground > ink
    assert dark_ground < dark_ink


def test_one_pane_is_seen_at_a_time(browser, page):
    browser.show(page, DESKTOP, False)
    for choice in range(browser.ask(CHOICES)):
        browser.ask(CHOOSE.format(choice))
        assert browser.ask(PANES) == 1


def test_a_request_would_be_seen(browser, tmp_path):
    """What the other tests rest on: that a fetch and an error do not go unnoticed."""
    page = tmp_path / "bad.html"
    page.write_text(
        "<body><img src='missing.png'><script>undefined_name()</script></body>"
    )
    browser.show(page, PHONE, False)
    urls = [event["request"]["url"] for event in browser.seen(
        "Network.requestWillBeSent")]  # fmt: skip
    assert len(urls) == 2
    assert browser.seen("Runtime.exceptionThrown")
    assert browser.seen("Log.entryAdded")
