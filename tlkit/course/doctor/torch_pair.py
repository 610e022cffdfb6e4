"""PyTorch と torchvision が読み込めて、組として合っているかを調べる。

版の番号が合っていても、片方だけ CPU 版という組は `nms` を呼ぶまで壊れていると分からない。だから実際に呼ぶ。
GPU については隣の `accelerator.py`。
"""

import functools
import importlib
import importlib.metadata as metadata
from types import ModuleType

from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet

from tlkit.course.doctor.commands import pip_install
from tlkit.course.doctor.finding import Finding, fault, ok

NAME = "PyTorch"
PAIR = "torchとtorchvisionの組"
# 配布情報が読めないときだけ使う、公開済みの組（torchvision の系列 → 必要な torch）。
KNOWN_PAIRS = {"0.26": "==2.11.*", "0.27": "==2.12.*", "0.28": "==2.13.*", "0.29": ">=2.14"}


@functools.cache
def load(module: str) -> ModuleType | Exception:
    """読み込んだモジュールか、そのときの例外。壊れた torch の読み込みは遅いので、診断 1 回につき 1 度だけ試す。"""
    try:
        return importlib.import_module(module)
    except Exception as error:
        return error


def torch_import() -> Finding:
    """本物の torch が読み込めるか。"""
    torch = load("torch")
    if isinstance(torch, Exception):
        seen, fix = explain_import_error(torch)
        return fault(NAME, seen, fix)
    if not hasattr(torch, "Tensor"):
        where = getattr(torch, "__file__", None) or "中身のない torch フォルダ"
        return fault(NAME, f"本物のtorchではなく{where}を読み込んだ", f"{where} の名前を torch 以外に変えてください。")
    return ok(NAME, str(torch.__version__))


def explain_import_error(error: Exception) -> tuple[str, str]:
    """読み込みの失敗を、（見えたもの、直し方）に言い換える。"""
    text = f"{type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''}"[:160]
    again = pip_install("torch", "torchvision", force=True)
    if isinstance(error, ModuleNotFoundError) and error.name == "torch":
        return "torchが入っていない", pip_install("torch", "torchvision")
    if isinstance(error, ModuleNotFoundError):
        part = (error.name or "").split(".")[0]
        return f"torchの使う部品 {part} がない（{text}）", pip_install(part, "torch") if part != "torch" else again
    if "WinError" in text or "DLL load failed" in text:
        return f"torchのDLLが読めない（{text}）", "Microsoft Visual C++ 再頒布可能パッケージ（x64）を入れてください。"
    if ".so" in text or ".dylib" in text:
        fix = f"{pip_install('torch', 'torchvision')}  （直らなければ {again}）"
        return f"torchの共有ライブラリが欠けている（途中で切れたインストール。{text}）", fix
    return f"torchのインストールが壊れている（{text}）", again


def torchvision_pair() -> Finding:
    """二つが組になっているか。最後に nms を実際に呼ぶ。"""
    torch, vision = load("torch"), load("torchvision")
    again = pip_install("torch", "torchvision", force=True)
    if isinstance(torch, Exception) or not hasattr(torch, "Tensor"):
        return ok(PAIR, "torchが読み込めないので調べていない")
    if isinstance(vision, ModuleNotFoundError) and vision.name == "torchvision":
        return fault(PAIR, "torchvisionが入っていない", pip_install("torchvision"))
    versions = _versions(torch)
    wanted = wanted_torch()
    if wanted is not None and not wanted.contains(versions[0], prereleases=True):
        return fault(
            PAIR, f"torch {versions[0]}とtorchvision {versions[1]}は組にならない（必要なtorchは{wanted}）", again
        )
    problem = f"{type(vision).__name__}: {vision}" if isinstance(vision, Exception) else _call_nms(torch, vision)
    if problem:
        first = problem.splitlines()[0][:120]
        return fault(PAIR, f"torch {versions[0]}、torchvision {versions[1]}{_flavour(*versions)}: {first}", again)
    return ok(PAIR, f"torch {versions[0]}、torchvision {versions[1]}、nmsが動く")


def wanted_torch() -> SpecifierSet | None:
    """入っている torchvision が必要とする torch の版。分からなければ None。"""
    try:
        lines = metadata.requires("torchvision") or []
        version = metadata.version("torchvision")
    except metadata.PackageNotFoundError:
        return None
    named = [item.specifier for item in map(Requirement, lines) if item.name == "torch"]
    if named and str(named[0]):
        return named[0]
    known = KNOWN_PAIRS.get(".".join(version.split(".")[:2]))
    return SpecifierSet(known) if known else None


def _versions(torch: ModuleType) -> tuple[str, str]:
    """（torch, torchvision）の版。torchvision は読み込めなくても分かるよう、配布情報から読む。"""
    vision = load("torchvision")
    seen = getattr(vision, "__version__", None)
    if seen is None:
        try:
            seen = metadata.version("torchvision")
        except metadata.PackageNotFoundError:
            seen = "不明"
    return str(torch.__version__), str(seen)


def _flavour(torch_version: str, vision_version: str) -> str:
    """CPU 版と GPU 版が混ざっているときの説明。"""
    torch_build, vision_build = (v.partition("+")[2] or "PyPI版" for v in (torch_version, vision_version))
    return f"（{torch_build}と{vision_build}が混ざっている）" if torch_build != vision_build else ""


def _call_nms(torch: ModuleType, vision: ModuleType) -> str:
    """重なる二つの箱から一つを選ばせる。失敗の説明を返し、動けば空。"""
    try:
        boxes = torch.tensor([[0.0, 0.0, 1.0, 1.0], [0.0, 0.0, 1.0, 1.0]])
        kept = vision.ops.nms(boxes, torch.tensor([0.9, 0.8]), 0.5).tolist()
    except Exception as error:
        return f"nmsが呼べない: {error}"
    return "" if kept == [0] else f"nmsの答えが違う: {kept}"
