"""仮想環境の pip を呼ぶ。出力は控えに残し、失敗したら、原因を日本語で言い直す。

索引の場所は決して渡さない。利用者の pip.conf と PIP_* の設定が、そのまま効く。
例外は環境変数 TLKIT_TORCH_INDEX で、指定されたときだけ、その索引を追加する。
"""

import os
import re
import subprocess
from collections import deque
from collections.abc import Callable
from pathlib import Path

from venvkit import venv
from venvkit.messages import BootstrapError
from venvkit.project import LOCK

LOG = "tlkit-bootstrap.log"
_PROGRESS = re.compile(r"^Progress (\d+) of (\d+)")
_NETWORK = re.compile(
    r"NewConnectionError|ConnectionError|ConnectTimeout|Read ?Timeout|Max retries|name resolution|getaddrinfo"
    r"|Network is unreachable|Connection (?:refused|reset|broken|aborted)|IncompleteRead|SSLError|ProxyError|timed out"
)


class Pip:
    """一つの仮想環境の pip。どの呼び出しにも requirements.lock を制約として渡す。"""

    def __init__(self, root: Path, folder: Path, detail: Callable[[str], None]) -> None:
        self.root = root
        self.folder = folder
        self.detail = detail
        self.tail: deque[str] = deque(maxlen=400)

    def install(self, *arguments: str) -> None:
        """固定された版だけを入れる。

        Raises:
            BootstrapError: pip が失敗したとき。
        """
        self.run("install", "--constraint", LOCK, "--no-build-isolation", "--no-warn-script-location", *arguments)

    def install_big(self, *arguments: str) -> None:
        """大きなものを一つ、依存を広げずに入れる。切れた受け取りは pip が続きから受け取り直す。"""
        extra = os.environ.get("TLKIT_TORCH_INDEX", "")
        index = ["--extra-index-url", extra] if extra else []
        self.install("--no-deps", "--resume-retries", "5", "--progress-bar", "raw", *index, *arguments)

    def run(self, *arguments: str) -> None:
        """Pip を動かす。途中で Ctrl-C が来たら、子も止めてから上へ知らせる。"""
        full = venv.command(self.folder, "-m", "pip", "--no-input", "--disable-pip-version-check", *arguments)
        self.tail.clear()
        child = subprocess.Popen(
            full,
            cwd=self.root,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            encoding="utf-8",
            errors="replace",
        )
        try:
            self._follow(child)
        except BaseException:
            _stop(child)
            raise
        if child.wait():
            raise BootstrapError(self._explain(arguments))

    def _follow(self, child: "subprocess.Popen[str]") -> None:
        with (self.folder / LOG).open("a", encoding="utf-8") as log:
            for line in child.stdout or ():
                moved = _PROGRESS.match(line)
                if moved:
                    self.detail(f"{int(moved[1]) // 1_000_000}/{int(moved[2]) // 1_000_000} MB")
                    continue
                log.write(line)
                self.tail.append(line.rstrip())
                self.detail(line.strip())

    def _explain(self, arguments: tuple[str, ...]) -> str:
        text = "\n".join(self.tail)
        shown = "\n".join(f"  | {line}" for line in list(self.tail)[-12:])
        return f"{diagnose(text, arguments)}\npip の最後の出力（全体は {self.folder / LOG}）:\n{shown}"


def diagnose(text: str, arguments: tuple[str, ...]) -> str:
    """Pip の出力から、いちばんありそうな原因と直し方を選ぶ。"""
    if "No space left" in text or "Errno 28" in text or "WinError 112" in text:
        return "ディスクがいっぱいになりました。空きを増やしてから、同じコマンドをもう一度実行してください。続きから再開します。"
    if _NETWORK.search(text):
        return (
            "通信に失敗しました。ネットワーク（社内ならプロキシの設定 HTTPS_PROXY や pip.conf）を確かめて、"
            "同じコマンドをもう一度実行してください。済んだところは残っているので、続きから再開します。"
        )
    missing = "No matching distribution" in text or "ResolutionImpossible" in text
    if missing and any("+cpu" in argument for argument in arguments):
        return (
            "CPU 専用の PyTorch（版の末尾が +cpu のもの）が、いまの pip の設定では見つかりません。\n"
            "PyTorch の公式サイトの Install ページで Linux / Pip / CPU を選ぶと、CPU 用の索引の URL が表示されます。それを\n"
            "  TLKIT_TORCH_INDEX=<その URL> make lab CPU=1\n"
            "のように渡すか、PIP_EXTRA_INDEX_URL か pip.conf の extra-index-url に書いてください。\n"
            "容量に余裕があれば、CPU=1 を付けない通常版でも、GPU の無い機械でそのまま動きます。"
        )
    if missing:
        return (
            "固定された版のパッケージが見つかりません。この OS と CPU が対応外か、pip の索引の設定が古い写しを指しています。\n"
            "対応するのは Linux x86_64、Windows x86_64、macOS 14 以降（Apple シリコン）と Python 3.11〜3.13 です。"
        )
    return "パッケージを入れる途中で失敗しました。下の出力を確かめてから、同じコマンドをもう一度実行してください。"


def _stop(child: "subprocess.Popen[str]") -> None:
    """子を止める。端末の Ctrl-C は子にも届いているので、まず自分で終わるのを少し待つ。"""
    for end in (None, child.terminate, child.kill):
        if end:
            end()
        try:
            child.wait(timeout=3)
        except subprocess.TimeoutExpired:
            continue
        return
