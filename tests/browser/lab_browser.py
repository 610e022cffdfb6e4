"""本物のブラウザで JupyterLab を動かす道具。open_lab → open_notebook → run_all の順に使う。"""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from lab_session import LabSession
from playwright.sync_api import Page, expect, sync_playwright

CHROMIUM = os.environ.get("TLKIT_CHROMIUM", "/usr/bin/chromium")
# 検査は閉じた機械でも動く。外へ出ようとする飾りの機能は、はじめから止めておく
FLAGS = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]


@contextmanager
def open_lab(session: LabSession, path: str = "lab") -> Iterator[Page]:
    """新しい利用者のブラウザで Lab を開き、画面が整うのを待つ。"""
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        page = browser.new_page(viewport={"width": 1280, "height": 900}, locale="en-US")  # 日本語は設定の力で出ること
        page.goto(f"{session.base}{path}?token={session.token}")
        page.locator("#jp-main-dock-panel").wait_for(timeout=60_000)
        page.locator("#jupyterlab-splash").wait_for(state="detached", timeout=60_000)
        yield page
        browser.close()


def menu_titles(page: Page) -> list[str]:
    """上のメニューの見出し。"""
    return page.locator("#jp-MainMenu .lm-MenuBar-itemLabel").all_inner_texts()


def open_notebook(page: Page, session: LabSession, path: str) -> None:
    """作業フォルダの中のノートブックを開き、カーネルの準備ができるまで待つ。"""
    page.goto(f"{session.base}lab/tree/{path}?token={session.token}")
    notebook(page).wait_for(timeout=60_000)
    page.locator("#jupyterlab-splash").wait_for(state="detached", timeout=60_000)
    _wait_for_kernel(page, session, path)


def _wait_for_kernel(page: Page, session: LabSession, path: str, seconds: int = 60) -> None:
    """つながる前に動かすと「カーネルを選択」の窓が出る。画面の印は早すぎるので、サーバーに聞く。"""
    for _ in range(seconds * 2):
        kernels = [each["kernel"] for each in session.json("api/sessions") if each["path"] == path]
        if any(kernel["connections"] and kernel["execution_state"] == "idle" for kernel in kernels):
            page.wait_for_timeout(500)
            return
        page.wait_for_timeout(500)
    raise AssertionError(f"{path} のカーネルが {seconds} 秒たっても始まりません")


def notebook(page: Page):
    """今見えているノートブック。"""
    return page.locator(".jp-NotebookPanel:not(.lm-mod-hidden) .jp-Notebook")


def run_all(page: Page, cells: int, seconds: float = 120) -> None:
    """メニュー「実行」から、すべてのセルを動かし、終わるのを待つ。cells はコードのセルの数。"""
    page.locator("#jp-MainMenu .lm-MenuBar-item", has_text="実行").click()
    page.locator(".lm-Menu-item[data-command='runmenu:run-all']").click()
    # 画面の外のセルは描かれないことがあるので、数は保存された中身で見る
    page.wait_for_function(
        """expected => {
            const panel = [...document.querySelectorAll('.jp-NotebookPanel')].find(p => !p.classList.contains('lm-mod-hidden'));
            const prompts = [...panel.querySelectorAll('.jp-CodeCell .jp-InputPrompt')].map(p => p.innerText);
            return prompts.filter(p => /\\[\\d+\\]/.test(p)).length >= expected && !prompts.some(p => p.includes('*'));
        }""",
        arg=cells,
        timeout=seconds * 1000,
    )


def prompts(page: Page) -> list[str]:
    """コードのセルの番号。"""
    return [text.strip() for text in notebook(page).locator(".jp-CodeCell .jp-InputPrompt").all_inner_texts()]


def errors(page: Page) -> list[str]:
    """例外や標準エラーの出力。"""
    kinds = "application/vnd.jupyter.error", "application/vnd.jupyter.stderr"
    return [text for kind in kinds for text in notebook(page).locator(f"[data-mime-type='{kind}']").all_inner_texts()]


def save(page: Page) -> None:
    """保存し、書き終わるのを待つ。"""
    notebook(page).click(position={"x": 5, "y": 5})
    page.keyboard.press("Control+s")
    expect(page.locator(".lm-DockPanel-tabBar .lm-mod-current.jp-mod-dirty")).to_have_count(0, timeout=30_000)


def screenshot(page: Page, name: str) -> None:
    """TLKIT_SCREENSHOTS がフォルダを指すときだけ、画面を残す。"""
    folder = os.environ.get("TLKIT_SCREENSHOTS")
    if folder:
        Path(folder).mkdir(parents=True, exist_ok=True)
        page.screenshot(path=Path(folder) / f"{name}.png")


def run_all_long(page: Page, session: LabSession, path: str, seconds: float = 300) -> None:
    """長いノートブックの「すべて実行」。画面の外のセルは描かれないので、終わったかどうかはサーバーに聞く。"""
    page.locator("#jp-MainMenu .lm-MenuBar-item", has_text="実行").click()
    page.locator(".lm-Menu-item[data-command='runmenu:run-all']").click()
    quiet = 0
    for _ in range(round(seconds * 2)):
        page.wait_for_timeout(500)
        (kernel,) = [each["kernel"] for each in session.json("api/sessions") if each["path"] == path]
        waiting = notebook(page).locator(".jp-InputPrompt", has_text="*").count()
        quiet = quiet + 1 if kernel["execution_state"] == "idle" and not waiting else 0
        if quiet == 4:
            return
    raise AssertionError(f"{path} の実行が {seconds} 秒たっても終わりません")
