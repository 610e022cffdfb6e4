"""`tlkit lab`: 作業フォルダ `work/` を、日本語の JupyterLab で開く。

設定は教材の `.jupyter/` にあり、利用者の `~/.jupyter` には何も書かない。ノートブックを `work/` に写すのは
隣の `work/` パッケージ（fill）で、ここは JupyterLab を起動し、アドレスを知らせ、終わりを見届けるだけである。
"""

import importlib.util
import json
import os
import secrets
import signal
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
import webbrowser
from pathlib import Path
from typing import Any

from tlkit.course.errors import CourseError
from tlkit.course.paths import course_root, work_root
from tlkit.course.work import fill

FIRST = "chapters/00_start.ipynb"
_START_SECONDS = 90.0


def launch(port: int | None = None, browser: bool = True) -> int:
    """作業フォルダを用意し、JupyterLab を開き、終わるまで待つ。終了コードを返す。

    Args:
        port: 使いたい番号。ふさがっていれば、その次から空きを探す。None なら 8888 から。
        browser: ブラウザを開くか。画面が無いときは、True でもアドレスの表示だけにする。

    Raises:
        CourseError: JupyterLab が無い、作業フォルダに書けない、起動できないとき。
    """
    _require_jupyterlab()
    fill()
    root = work_root()
    _require_writable(root)
    opens = browser and _has_browser()
    token = secrets.token_hex(24)
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # 外から止められたときも、サーバーを残さない
    # 標準入力を渡さないのは、Ctrl-C のたびに英語の確認（Shut down? y/n）を出させないため
    server = subprocess.Popen(_command(root, port, opens), env=_environment(token), stdin=subprocess.DEVNULL)
    try:
        _announce(server, token, port, opens)
        code = server.wait()
    except KeyboardInterrupt:
        _stop(server)
        print("\nJupyterLab を終わりました。書いたものは work フォルダに残っています。おつかれさまでした。", flush=True)
        return 0
    if code:
        raise CourseError(f"JupyterLab が終了コード {code} で終わりました。上の表示に原因があります。")
    return 0


def _require_jupyterlab() -> None:
    missing = [name for name in ("jupyterlab", "ipykernel") if importlib.util.find_spec(name) is None]
    if missing:
        raise CourseError(
            f"{'、'.join(missing)} が、この Python（{sys.executable}）に入っていません。\n"
            "教材のフォルダで `make lab` を実行してください。必要なものを入れてから開きます。"
        )


def _require_writable(root: Path) -> None:
    """書けない場所や、いっぱいのディスクで、保存のときになって困らないよう、先に確かめる。"""
    try:
        root.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=root) as probe:
            probe.write(b"0" * 65536)
            probe.flush()
    except OSError as error:
        raise CourseError(
            f"作業フォルダ {root} に書き込めません: {error.strerror}\n"
            "フォルダの権限とディスクの空きを確かめてください。別の場所を使うには、環境変数 TLKIT_WORK で指定できます。"
        ) from error


def _has_browser() -> bool:
    """窓を開けるブラウザがあるか。文字だけのブラウザが端末をふさぐのを避ける。"""
    desktop = any(os.environ.get(name) for name in ("DISPLAY", "WAYLAND_DISPLAY", "BROWSER"))
    if sys.platform.startswith("linux") and not desktop:
        return False
    try:
        webbrowser.get()
    except webbrowser.Error:
        return False
    return True


def _command(root: Path, port: int | None, opens: bool) -> list[str]:
    """起動の引数。見た目の設定は `.jupyter/labconfig/` にある。"""
    first = f"/lab/tree/{FIRST}" if (root / FIRST).is_file() else "/lab"
    command = [
        sys.executable,
        "-m",
        "jupyterlab",
        "--ip=127.0.0.1",
        f"--ServerApp.root_dir={root}",
        f"--LabApp.default_url={first}",
        f"--ServerApp.open_browser={opens}",
        "--Application.log_level=ERROR",  # 英語の記録や警告で、アドレスの行を埋もれさせない
        "--KernelSpecManager.ensure_native_kernel=True",
        "--LabApp.check_for_updates_class=jupyterlab.NeverCheckForUpdate",
        "--LabApp.news_url=None",
        "--LabApp.extension_manager=readonly",
    ]
    if _has_curve():
        command.append("--KernelManager.transport_encryption=auto")  # 無いと、カーネルごとに英語の警告が出る
    if port is not None:
        command.append(f"--ServerApp.port={port}")
    if hasattr(os, "geteuid") and os.geteuid() == 0:
        command.append("--allow-root")
    return command


def _has_curve() -> bool:
    """カーネルとの通信を、同じ機械のほかの利用者から暗号で守れるか。"""
    import zmq

    return bool(zmq.has("curve"))


def _environment(token: str) -> dict[str, str]:
    """教材の設定と、この Python のカーネルが、利用者の設定より先に見つかるようにする。"""
    environment = dict(os.environ)
    environment["JUPYTER_CONFIG_PATH"] = _prepend(course_root() / ".jupyter", "JUPYTER_CONFIG_PATH")
    environment["JUPYTER_PATH"] = _prepend(Path(sys.prefix) / "share" / "jupyter", "JUPYTER_PATH")
    environment["JUPYTER_PREFER_ENV_PATH"] = "1"
    environment["JUPYTER_TOKEN"] = token
    return environment


def _prepend(folder: Path, name: str) -> str:
    before = os.environ.get(name)
    return os.pathsep.join([str(folder), before]) if before else str(folder)


def _announce(server: "subprocess.Popen[bytes]", token: str, port: int | None, opens: bool) -> None:
    """受け付けが始まるのを待ち、実際のアドレスを知らせる。"""
    print("JupyterLab を起動しています …", flush=True)
    info = _wait_for_info(server, token)
    if info is None:
        return
    if port is not None and info["port"] != port:
        print(f"ポート {port} は使われているので、空いている {info['port']} を使います。", flush=True)
    lead = "ブラウザで開きます。開かないときは、次の" if opens else "ブラウザで、次の"
    first = f"lab/tree/{FIRST}" if (work_root() / FIRST).is_file() else "lab"
    print(f"{lead}アドレスを開いてください。終わるときは、ここで Ctrl-C を押します。", flush=True)
    print(f"  {info['url']}{first}?token={token}", flush=True)


def _wait_for_info(server: "subprocess.Popen[bytes]", token: str) -> dict[str, Any] | None:
    """Jupyter が書く起動情報のうち、この合言葉（token）のものを待つ。先に終わってしまったら None。

    情報のファイルは、受け付けが始まる少し前に書かれる。その間の Ctrl-C は英語の追跡情報になるので、返事が来るまで待つ。
    """
    from jupyter_core.paths import jupyter_runtime_dir

    deadline = time.monotonic() + _START_SECONDS
    while server.poll() is None:
        for path in Path(jupyter_runtime_dir()).glob("jpserver-*.json"):
            info = _read(path)
            if info.get("token") == token and _answers(info["url"]):
                return info
        if time.monotonic() > deadline:
            _stop(server)
            raise CourseError(
                f"JupyterLab が {_START_SECONDS:.0f} 秒たっても始まりません。\n"
                "ほかの重い処理を終えてから、もう一度試してください。`tlkit doctor` で機械の状態を確かめられます。"
            )
        time.sleep(0.1)
    return None


def _answers(url: str) -> bool:
    """サーバーが返事をするか（断りの返事でもよい）。proxy の設定は、同じ機械の中では使わない。"""
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        opener.open(f"{url}api", timeout=2).close()
    except urllib.error.HTTPError:
        return True
    except OSError:
        return False
    return True


def _read(path: Path) -> dict[str, Any]:
    try:
        return dict(json.loads(path.read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError):
        return {}  # 書きかけか、今まさに消されたもの


def _stop(server: "subprocess.Popen[bytes]") -> None:
    """止める。端末の Ctrl-C は子にも届いているので、まず自分で終わるのを待つ。"""
    for end, seconds in ((None, 1), (server.terminate, 10), (server.kill, 5)):
        if end:
            end()
        try:
            server.wait(timeout=seconds)
        except subprocess.TimeoutExpired:
            continue
        except KeyboardInterrupt:  # もう一度 Ctrl-C: 待つのをやめて次の手段へ
            continue
        return
