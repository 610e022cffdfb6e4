"""検査をすべて動かす: `make test`（毎日の仕事には `make test-fast`）。

段階は、前の段階が失敗しても最後まで動く。終わりに、段階ごとの秒と、省いたものとその理由を表で示す。
環境変数 CI=true のときは、cuda の検査のほかに省いたものが 1 つでもあれば失敗にする。
"""

import argparse
import importlib.util
import os
import sys
import time
from pathlib import Path

from pipeline import suites
from pipeline.notebooks import notebooks
from pipeline.outcome import LeftOut, Outcome, Run
from pipeline.report import show
from pipeline.suites import Context, Stage

_ROOT = Path(__file__).resolve().parents[1]
_STAGES: dict[str, Stage] = {
    "lint": suites.lint,
    "lock": suites.lock,
    "tests": suites.tests,
    "browser": suites.browser,
    "build-check": suites.build_check,
    "notebooks": notebooks,
    "prose": suites.prose,
}
_FAST = ("lint", "tests", "build-check")
_NEEDED = ("pytest", "xdist", "nbval", "mypy", "ruff", "psutil", "rich", "tlkit")


def main(arguments: list[str]) -> int:
    """コマンドラインの入口。終了コードは、合格 0、不合格 1、動かせない 2、中断 130。"""
    options = _parser().parse_args(arguments)
    if missing := [name for name in _NEEDED if importlib.util.find_spec(name) is None]:
        print(f"仮想環境に {'、'.join(missing)} がありません。`make test` で作り直してください。", file=sys.stderr)
        return 2
    chosen = options.only or (_FAST if options.fast else tuple(_STAGES))
    run = Run([], ci=os.environ.get("CI", "").lower() == "true", preparation=_preparation())
    code = _perform(chosen, Context(_ROOT, fast=options.fast), run)
    why = "[選択] --only の指定" if options.only else "[fast] --fast では省きます"
    run.outcomes += [_unchosen(name, why) for name in _STAGES if name not in chosen]
    show(run)
    return code or bool(run.faults())


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="stages.py", description="検査の段階を動かし、結果を表にします。")
    parser.add_argument("--fast", action="store_true", help=f"毎日の仕事に要るものだけ（{'、'.join(_FAST)}）")
    parser.add_argument("--only", nargs="+", choices=tuple(_STAGES), metavar="段階", help="、".join(_STAGES))
    return parser


def _perform(chosen: tuple[str, ...], context: Context, run: Run) -> int:
    """選ばれた段階を順に動かす。Ctrl-C では、そこまでの結果を残して 130 を返す。"""
    for name in (n for n in _STAGES if n in chosen):
        print(f"\n==== {name}: {(_STAGES[name].__doc__ or '').strip()}", flush=True)
        try:
            run.outcomes.append(_STAGES[name](context))
        except KeyboardInterrupt:
            run.outcomes.append(Outcome(name, ok=False, notes=["Ctrl-C で止めました"]))
            return 130
    return 0


def _unchosen(name: str, why: str) -> Outcome:
    return Outcome(name, ok=True, left_out=[LeftOut(f"段階 {name}", why)])


def _preparation() -> float:
    """`.ci/run` が始まってから、ここまでの秒（道具を入れる時間）。"""
    started = os.environ.get("TLKIT_STARTED_AT", "")
    return max(time.time() - float(started), 0.0) if started.replace(".", "", 1).isdigit() else 0.0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
