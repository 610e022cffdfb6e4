"""すべての probe を動かし、表か JSON にする。

probe は一つも診断全体を止めない。途中で例外を出した probe は、それ自体が fault の 1 行になる。
"""

import importlib
import json
import os
import sys
import unicodedata
from collections.abc import Callable
from dataclasses import asdict

from tlkit.course.doctor.commands import python_command
from tlkit.course.doctor.finding import Finding, fault

# （例外を出したときの項目名, 調べる関数）。部品がなくて読み込めない probe も 1 行になるよう、名前で書く。
PROBES = (
    ("Python", "packages:python_version"),
    ("実行中のPython", "kernel:interpreter"),
    ("PyTorch", "torch_pair:torch_import"),
    ("torchとtorchvisionの組", "torch_pair:torchvision_pair"),
    ("GPU", "accelerator:accelerator"),
    ("必要なパッケージ", "packages:required_packages"),
    ("版の固定", "packages:lock_agreement"),
    ("邪魔なパッケージ", "packages:stray_packages"),
    ("JupyterLab", "kernel:jupyterlab"),
    ("カーネルpython3", "kernel:kernelspec"),
    ("文字コード", "kernel:encoding"),
    ("日本語フォント", "fonts:fonts"),
    ("同梱のデータ", "embedded:data"),
    ("同梱の重み", "embedded:weights"),
    ("教材のフォルダ", "folders:course"),
    ("作業フォルダ", "folders:work"),
    ("学習の記録", "folders:progress"),
    ("キャッシュ", "folders:cache"),
    ("空きメモリ", "machine:memory"),
    ("空きディスク", "machine:disk"),
    ("ネットワーク", "machine:network"),
)
MARKS = {"ok": "OK  ", "note": "注意", "fault": "異常"}
PLACEHOLDER = "（ここに診断結果が表示されます）"


def examine() -> list[Finding]:
    """すべてを調べる。"""
    _forget_failed_imports()
    return [_guarded(name, where) for name, where in PROBES]


def doctor() -> None:
    """この環境で教材が動くかを調べ、表にして印字する。

    教材の build の中では、機械によらない 1 行だけを印字する（実行結果を保存するため）。
    """
    print_safely(PLACEHOLDER if os.environ.get("TLKIT_BUILD") == "1" else as_table(examine()))


def run(*, as_json: bool = False) -> int:
    """`tlkit doctor` の本体。異常があれば 1、なければ（注意だけなら）0 を返す。"""
    findings = examine()
    if as_json:
        print_safely(json.dumps([asdict(item) for item in findings], ensure_ascii=True, indent=2))
    else:
        print_safely(as_table(findings))
    return 1 if any(item.state == "fault" for item in findings) else 0


def as_table(findings: list[Finding]) -> str:
    """状態、項目、見えたものを並べ、直し方を次の行に添える。"""
    width = max(_columns(item.name) for item in findings)
    lines = []
    for item in findings:
        lines.append(f"{MARKS[item.state]}  {item.name}{' ' * (width - _columns(item.name))}  {item.seen}")
        if item.fix:
            lines.append(f"      → {item.fix}")
    faults, notes = (sum(item.state == state for item in findings) for state in ("fault", "note"))
    summary = (
        f"異常が{faults}件あります。→の行を上から順に試してください。"
        if faults
        else "異常はありません。教材を始められます。"
    )
    return "\n".join([*lines, "", summary + (f"（注意{notes}件）" if notes else "")])


def print_safely(text: str) -> None:
    """画面の文字コードで表せない文字があっても、例外を出さずに印字する。"""
    codec = getattr(sys.stdout, "encoding", None) or "ascii"
    print(text.encode(codec, errors="replace").decode(codec))


def _guarded(name: str, where: str) -> Finding:
    module, function = where.split(":")
    try:
        probe: Callable[[], Finding] = getattr(importlib.import_module(f"tlkit.course.doctor.{module}"), function)
        return probe()
    except ModuleNotFoundError as error:
        part = (error.name or "?").split(".")[0]
        return fault(name, f"パッケージ {part} がないので調べられない", python_command("-m", "pip", "install", part))
    except Exception as error:
        seen = f"診断が途中で止まった（{type(error).__name__}: {error}）".replace("\n", " ")[:200]
        return fault(name, seen, "この行を添えて、教材の作者に知らせてください。ほかの行の診断はそのまま有効です。")


def _forget_failed_imports() -> None:
    """前の診断で覚えた読み込みの成否を忘れる（直した後にもう一度調べられるように）。"""
    torch_pair = sys.modules.get("tlkit.course.doctor.torch_pair")
    if torch_pair is not None:
        torch_pair.load.cache_clear()


def _columns(text: str) -> int:
    """等幅の画面での幅。全角は 2 と数える。"""
    return sum(2 if unicodedata.east_asian_width(char) in "WFA" else 1 for char in text)
