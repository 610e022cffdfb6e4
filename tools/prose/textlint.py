"""textlint を 1 回だけ起動し、指摘を元の位置に戻す。

文章は一時フォルダの .md（本文）と .txt（短い文）に書き出す。短い文には、用語と全角半角の規則だけを当てる。
動かすのにネットワークは要らない（辞書も規則も node_modules にある）。
"""

import json
import subprocess
import tempfile
from pathlib import Path
from typing import Any

from prose.document import Document, Finding, Kind, locate
from prose.install import FOLDER, node

_LIGHT_RULES = {
    "prh",
    "jtf-style/1.2.2.ピリオド(.)とカンマ(,)",
    "jtf-style/2.1.5.カタカナ",
    "jtf-style/2.1.8.算用数字",
    "jtf-style/2.1.9.アルファベット",
    "ja-technical-writing/no-hankaku-kana",
    "ja-technical-writing/no-nfd",
    "ja-technical-writing/no-invalid-control-character",
    "ja-technical-writing/no-zero-width-spaces",
}
# 設問は「〜として最も適切なものはどれか。」、選択肢は体言止めがあるので、文末の規則を当てない。
_NOT_FOR_QUESTIONS = {"ja-technical-writing/no-mix-dearu-desumasu", "ja-technical-writing/ja-no-mixed-period"}


class TextlintError(Exception):
    """textlint そのものが動かなかった。"""


def check(documents: list[Document]) -> list[Finding]:
    """すべての文章を 1 回の textlint で調べる。"""
    if not documents:
        return []
    with tempfile.TemporaryDirectory(prefix="prose-") as made:
        folder = Path(made)
        written = {_write(folder, i, document): document for i, document in enumerate(documents)}
        reports = _run(folder)
    return [finding for report in reports for finding in _findings(report, written)]


def _write(folder: Path, index: int, document: Document) -> str:
    path = folder / f"{index:04d}{'.md' if document.markdown else '.txt'}"
    path.write_text(document.text(), encoding="utf-8")
    return path.name


def _run(folder: Path) -> list[dict[str, Any]]:
    script = FOLDER / "node_modules" / "textlint" / "bin" / "textlint.js"
    config = FOLDER / ".textlintrc.json"
    command = [node(), str(script), "--config", str(config), "--format", "json", f"{folder.as_posix()}/*"]
    done = subprocess.run(command, cwd=FOLDER, capture_output=True, text=True, encoding="utf-8", check=False)
    if done.returncode not in (0, 1):
        raise TextlintError(f"textlint が終了コード {done.returncode} で止まりました。\n{done.stderr or done.stdout}")
    try:
        reports: list[dict[str, Any]] = json.loads(done.stdout)
    except json.JSONDecodeError as error:
        raise TextlintError(f"textlint の出力を読めません。\n{done.stdout[:500]}\n{done.stderr[:2000]}") from error
    return reports


def _findings(report: dict[str, Any], written: dict[str, Document]) -> list[Finding]:
    document = written[Path(report["filePath"]).name]
    return [
        locate(document, m["line"], m["column"], _one_line(m["message"]), m["ruleId"])
        for m in report["messages"]
        if _applies(m["ruleId"], document.origin(m["line"]).kind)
    ]


def _applies(rule: str, kind: Kind) -> bool:
    if kind is Kind.LIGHT:
        return rule in _LIGHT_RULES
    return not (kind is Kind.QUESTION and rule in _NOT_FOR_QUESTIONS)


def _one_line(message: str) -> str:
    first, *rest = [line for line in message.splitlines() if line.strip()]
    return f"{first}（{rest[0]}）" if "=>" in first and rest else first
