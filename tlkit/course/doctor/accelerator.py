"""GPU（CUDA・MPS）が使えるか、使えないならなぜかを調べる。

教材は CPU で最後まで動く。だから、GPU を「使えない」ことは note で、「使おうとして落ちる」ことだけを fault とする。
"""

import os
import platform
import re
import shutil
import warnings
from pathlib import Path
from typing import Any

from tlkit.course.doctor.commands import pip_install
from tlkit.course.doctor.finding import Finding, fault, note, ok
from tlkit.course.doctor.torch_pair import load

NAME = "GPU"
# Linux で、読み込まれたドライバーの版が書かれている場所。
PROC = Path("/proc/driver/nvidia/version")
_HIDE = "環境変数 CUDA_VISIBLE_DEVICES=-1 を設定すると、CPUで動きます。"


def accelerator() -> Finding:
    """計算に使える装置。"""
    torch = load("torch")
    if isinstance(torch, Exception) or not hasattr(torch, "cuda"):
        return ok(NAME, "torchが読み込めないので調べていない")
    available, warned = cuda_available(torch)
    if available:
        return _cuda(torch)
    if torch.backends.mps.is_available():
        return _try(torch, "mps", "MPS（Apple GPU）", "環境変数 PYTORCH_ENABLE_MPS_FALLBACK=1 を設定してください。")
    if torch.backends.mps.is_built():
        return note(
            NAME, f"MPSが使えない（macOS {platform.mac_ver()[0]}）", "macOS 14以降で使えます。CPUでも全章が動きます。"
        )
    return _no_gpu(torch, warned)


def cuda_available(torch: Any) -> tuple[bool, str]:
    """CUDA が使えるかと、そのとき torch が出した警告の文。"""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        available = bool(torch.cuda.is_available())
    return available, " ".join(str(item.message) for item in caught)


def supported(capability: tuple[int, int], arch_list: list[str]) -> bool:
    """この GPU の世代で動くコードが、torch に入っているか。

    sm_XY は同じ X で Y 以上の GPU、compute_XY（PTX）はそれ以降の GPU すべてで動く。末尾が a のものは同じ世代だけ。
    """
    for arch in arch_list:
        match = re.fullmatch(r"(sm|compute)_(\d+)(\d)([af]?)", arch)
        if not match:
            continue
        built = (int(match[2]), int(match[3]))
        same_family = built[0] == capability[0] and built <= capability
        if match[4] == "a":
            runs = built == capability
        else:
            runs = same_family or (match[1] == "compute" and not match[4] and built <= capability)
        if runs:
            return True
    return False


def nvidia_driver() -> str | None:
    """NVIDIA のドライバーの手がかり。torch の種類によらず分かるところだけを見る。"""
    if PROC.is_file():
        found = re.search(r"\d+\.\d+(\.\d+)?", PROC.read_text(encoding="utf-8", errors="replace"))
        return f"ドライバー {found[0]}" if found else "ドライバーあり"
    windows = Path(os.environ.get("SYSTEMROOT", r"C:\Windows")) / "System32" / "nvcuda.dll"
    return "ドライバーあり" if windows.is_file() or shutil.which("nvidia-smi") else None


def _cuda(torch: Any) -> Finding:
    title = str(torch.cuda.get_device_name(0))
    if torch.version.hip:
        return _try(torch, "cuda", title, _HIDE)
    major, minor = torch.cuda.get_device_capability(0)
    if not supported((major, minor), torch.cuda.get_arch_list()):
        seen = f"{title}の世代 sm_{major}{minor} は、このtorchに含まれない（{'、'.join(torch.cuda.get_arch_list())}）"
        return fault(NAME, seen, _HIDE)
    return _try(torch, "cuda", f"{title}（CUDA {torch.version.cuda}、sm_{major}{minor}）", _HIDE)


def _try(torch: Any, device: str, title: str, fix: str) -> Finding:
    """小さな計算を一つさせる。見つかった GPU が実際に動くとは限らない。"""
    try:
        total = float(torch.ones(2, device=device).sum().item())
    except Exception as error:
        return fault(NAME, f"{title}で計算できない: {str(error).splitlines()[0][:120]}", fix)
    return ok(NAME, title) if total == 2.0 else fault(NAME, f"{title}の計算が誤り: 1+1={total}", fix)


def _no_gpu(torch: Any, warned: str) -> Finding:
    driver = nvidia_driver()
    hidden = os.environ.get("CUDA_VISIBLE_DEVICES")
    if driver is None:
        return ok(NAME, "なし（CPUで全章が動く）")
    if hidden in ("", "-1"):
        return ok(NAME, f"CUDA_VISIBLE_DEVICES={hidden} で隠している（CPUで動く）")
    if torch.version.cuda is None:
        fix = f"CPUでも全章が動きます。GPUを使うなら {pip_install('torch', 'torchvision', force=True)}"
        return note(NAME, f"NVIDIAのGPUがある（{driver}）が、torchはCPU版（{torch.__version__}）", fix)
    if "too old" in warned:
        fix = "CPUでも全章が動きます。GPUを使うならNVIDIAのドライバーを新しくしてください。"
        return note(NAME, f"{driver}が古く、CUDA {torch.version.cuda}のtorchから使えない", fix)
    fix = "CPUでも全章が動きます。`nvidia-smi` がエラーを出すなら、機械の再起動かドライバーの入れ直しを試してください。"
    return note(NAME, f"{driver}があるが、torchから使えない（{warned[:100] or '理由は不明'}）", fix)
