"""どの Python で動いているか、JupyterLab がそれを使うかを調べる。"""

import os
import re
import sys
from pathlib import Path

from tlkit.course.doctor.commands import pip_install, python_command
from tlkit.course.doctor.finding import Finding, fault, note, ok
from tlkit.course.doctor.packages import installed, requirements_of_tlkit
from tlkit.course.errors import CourseError
from tlkit.course.paths import course_root


def in_kernel() -> bool:
    """Jupyter のカーネルの中で動いていれば True。"""
    ipython = sys.modules.get("IPython")
    shell = ipython.get_ipython() if ipython else None
    return shell is not None and hasattr(shell, "kernel")


def interpreter() -> Finding:
    """動いている Python が、教材のために作ったものか。"""
    name = "カーネル" if in_kernel() else "実行中のPython"
    here = "Jupyterの中" if in_kernel() else "端末"
    venv = _project_venv()
    ours = venv is None or _same(Path(sys.prefix), venv) or sys.prefix == os.environ.get("CONDA_PREFIX")
    if ours:
        return ok(name, f"{sys.prefix}（{here}）")
    fix = "カーネルの選択で「Python 3」を選び直すか、`make lab` で開き直してください。"
    return note(name, f"{sys.prefix}（{here}）。教材の.venvではない", fix)


def kernelspec() -> Finding:
    """カーネル `python3` が、今の Python を指しているか。"""
    from jupyter_client.kernelspec import KernelSpecManager, NoSuchKernel

    name = "カーネルpython3"
    try:
        command = KernelSpecManager().get_kernel_spec("python3").argv[0]
    except NoSuchKernel:
        return fault(name, "見つからない", pip_install("ipykernel"))
    # "python" とだけ書かれたカーネルは、JupyterLab が自分の Python に読み替える。
    if re.fullmatch(r"python(3(\.\d+)?)?(\.exe)?", command) or _same(Path(command).parent, Path(sys.executable).parent):
        return ok(name, "今のPython")
    fix = python_command("-m", "jupyter", "kernelspec", "remove", "-f", "python3")
    return fault(name, f"別のPythonを指している（{command}）", fix)


def jupyterlab() -> Finding:
    """JupyterLab と日本語の言語パックがあり、版が合っているか。"""
    name = "JupyterLab"
    lab, pack = installed("jupyterlab"), installed("jupyterlab-language-pack-ja-JP")
    wanted = {item.name: item.specifier for item in requirements_of_tlkit() if _for_lab(str(item.marker))}
    if lab is None:
        fix = pip_install("jupyterlab", "jupyterlab-language-pack-ja-JP")
        return (
            note(name, "なし（いまの画面はそのまま使える）", fix) if in_kernel() else fault(name, "入っていない", fix)
        )
    if "jupyterlab" in wanted and not wanted["jupyterlab"].contains(lab, prereleases=True):
        return fault(
            name, f"{lab}（必要なのは{wanted['jupyterlab']}）", pip_install(f"jupyterlab{wanted['jupyterlab']}")
        )
    if pack is None:
        return note(
            name, f"{lab}、日本語の言語パックなし（画面が英語になる）", pip_install("jupyterlab-language-pack-ja-JP")
        )
    return ok(name, f"{lab}、日本語の言語パック {pack}")


def encoding() -> Finding:
    """印字で使う文字が、この画面に出せるか。"""
    name = "文字コード"
    codec = getattr(sys.stdout, "encoding", None) or "ascii"
    try:
        "転移学習 髙﨑 ⏳✅❌⏭".encode(codec)
    except (UnicodeEncodeError, LookupError):
        fix = "端末で set PYTHONUTF8=1" if os.name == "nt" else "端末で export PYTHONUTF8=1 LC_ALL=C.UTF-8"
        return fault(
            name, f"{codec}では日本語や印（⏳✅❌）を印字できない", f"{fix} を実行してから、もう一度始めてください。"
        )
    return ok(name, codec)


def _for_lab(marker: str) -> bool:
    return 'extra == "lab"' in marker


def _project_venv() -> Path | None:
    try:
        venv = course_root() / ".venv"
    except CourseError:
        return None
    return venv if venv.is_dir() else None


def _same(one: Path, other: Path) -> bool:
    """同じ場所か。実行ファイルは .venv の外へのシンボリックリンクなので、フォルダどうしを比べる。"""
    return one.exists() and other.exists() and one.samefile(other)
