"""The site in a browser: every page, at a desk and on a phone, and nothing asked of the network."""

from __future__ import annotations

import functools
import http.server
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

pytestmark = [pytest.mark.browser, pytest.mark.slow]

SITE = Path(__file__).resolve().parents[2] / "dist" / "site"
PAGES = sorted(path.relative_to(SITE).as_posix() for path in SITE.rglob("[!_]*/**/*.html"))


class Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture(scope="module")
def address() -> Iterator[str]:
    if not PAGES:
        pytest.skip("no dist/site: make site builds it")
    handler = functools.partial(Quiet, directory=str(SITE))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


@pytest.mark.timeout(900)
@pytest.mark.parametrize("width", [1280, 390])
def test_every_page_is_whole_fits_the_screen_and_loads_nothing_from_outside(
    browser, address, width
):
    page = browser.new_page(viewport={"width": width, "height": 900})
    requests, problems = [], []
    page.on("request", lambda request: requests.append(request.url))
    page.on("requestfailed", lambda request: problems.append(f"{request.url} failed"))
    page.on("pageerror", lambda error: problems.append(f"{page.url}: {error}"))
    page.on("response", lambda r: r.status >= 400 and problems.append(f"{r.url}: {r.status}"))
    for name in PAGES:
        page.goto(f"{address}/{name}")
        page.evaluate("window.MathJax?.startup?.promise")
        wide = page.evaluate("document.documentElement.scrollWidth")
        wrong = page.locator("mjx-merror, article img:not([alt]), article img[alt='']").count()
        if wide > width or wrong:
            problems.append(f"{name}: {wide} pixels wide, {wrong} formulas or figures wrong")
    page.close()
    assert len(requests) > len(PAGES)
    assert [url for url in requests if not url.startswith((address, "data:"))] == []
    assert [each for each in problems if "favicon" not in each] == []


def test_search_finds_the_zero_order_hold_in_lesson_02(browser, address):
    page = browser.new_page()
    page.goto(f"{address}/search.html?q=zero-order+hold")
    hit = page.locator("#search-results a[href*='02_s5_from_first_principles.html']").first
    hit.wait_for()
    lessons = page.locator("#search-results li a").evaluate_all("all => all.map(a => a.pathname)")
    place = [path.startswith("/notebooks/0") for path in lessons]
    assert place == sorted(place, reverse=True), "lessons come first"
    hit.click()
    assert page.locator("h1").first.inner_text().startswith("02")
    page.close()
