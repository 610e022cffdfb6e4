"""本物のブラウザで見る報告: 何も動かない、はみ出さない、キーボードで開ける。"""

import os

import pytest
from playwright.sync_api import sync_playwright
from report_kit import evil_class, report, small_class

from tlkit.course.grading.report.as_html import to_html
from tlkit.course.grading.report.feedback_files import feedback_files

pytestmark = pytest.mark.browser
CHROMIUM = os.environ.get("TLKIT_CHROMIUM", "/usr/bin/chromium")
WIDTHS = (1280, 390)


@pytest.fixture(scope="module")
def browser():
    with sync_playwright() as playwright:
        opened = playwright.chromium.launch(
            executable_path=CHROMIUM, args=["--headless", "--no-sandbox", "--disable-gpu"]
        )
        yield opened
        opened.close()


def opened(browser, path, data, width=1280):
    """開いた頁と、そこで起きたこと（警告、窓、通信）。"""
    path.write_bytes(data)
    page, said = browser.new_page(viewport={"width": width, "height": 800}), []
    page.on("console", lambda message: said.append(message.text))
    page.on("dialog", lambda dialog: (said.append(dialog.message), dialog.dismiss()))
    page.on("request", lambda request: said.append(request.url) if request.url != path.as_uri() else None)
    page.goto(path.as_uri())
    return page, said


@pytest.mark.parametrize("width", WIDTHS)
def test_pages_run_nothing_and_fit_the_screen(browser, tmp_path, width):
    returned = [data for _, data in feedback_files(report(evil_class()))]
    pages = [to_html(report(small_class() + evil_class())), returned[0], returned[-1]]
    for data in pages:
        page, said = opened(browser, tmp_path / "a.html", data, width)
        page.evaluate("document.querySelectorAll('details').forEach(one => one.open = true)")
        assert said == []
        assert page.evaluate("document.documentElement.scrollWidth") <= width
        page.close()


def test_style_is_applied_and_a_foreign_style_or_script_is_not(browser, tmp_path):
    data = to_html(report())
    color = "getComputedStyle(document.querySelector('svg rect')).fill"
    page, _ = opened(browser, tmp_path / "a.html", data)
    assert page.evaluate(color) == "rgb(47, 127, 193)"
    evil = data.replace(b"</main>", b"<style>svg rect{fill:#f00}</style><script>alert(1)</script><img src=x></main>")
    page, said = opened(browser, tmp_path / "b.html", evil)
    assert page.evaluate(color) == "rgb(47, 127, 193)"
    assert len([text for text in said if "Content Security Policy" in text]) == 3


def test_a_student_is_reached_and_opened_by_keyboard_alone(browser, tmp_path):
    page, _ = opened(browser, tmp_path / "a.html", to_html(report()), 390)
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.textContent") == "本文へ進む"
    for _ in range(40):
        page.keyboard.press("Tab")
        if page.evaluate("document.activeElement.textContent") == "s006":
            break
    page.keyboard.press("Enter")
    page.keyboard.press("Enter")
    assert page.evaluate("document.querySelector('summary:target').parentElement.open")
    assert page.evaluate("document.activeElement.matches('summary:target')")
