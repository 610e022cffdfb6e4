"""注意の一覧。（注入、項目、見えたもの、直し方）"""

from types import SimpleNamespace as Namespace

from doctor_broken import GB, Inject, fake_cuda, socket_that, without

from tlkit.course.doctor import accelerator, kernel, machine, packages

NOTES: dict[str, tuple[Inject, str, str, str]] = {
    "cut network": (
        lambda p, _: p.setattr(machine.socket, "socket", socket_that(OSError(101, "Network is unreachable"))),
        "ネットワーク",
        "つながっていない",
        "ネットワークなしでも全章が動きます。",
    ),
    "modest memory": (
        lambda p, _: p.setattr(machine.psutil, "virtual_memory", lambda: Namespace(available=2 * GB)),
        "空きメモリ",
        "2.0 GB（3 GB以上が目安）",
        "閉じてください",
    ),
    "cpu build beside a gpu": (
        lambda p, _: (
            fake_cuda(p, available=False, cuda=None, name="2.15.0+cpu"),
            p.setattr(accelerator, "nvidia_driver", lambda: "ドライバー 550.54"),
        ),
        "GPU",
        "torchはCPU版（2.15.0+cpu）",
        "GPUを使うなら",
    ),
    "driver too old": (
        lambda p, _: (
            fake_cuda(p, available=False),
            p.setattr(accelerator, "cuda_available", lambda _: (False, "The NVIDIA driver on your system is too old")),
            p.setattr(accelerator, "nvidia_driver", lambda: "ドライバー 470.82"),
        ),
        "GPU",
        "ドライバー 470.82が古く",
        "ドライバーを新しく",
    ),
    "driver without a usable gpu": (
        lambda p, _: (
            fake_cuda(p, available=False),
            p.setattr(accelerator, "nvidia_driver", lambda: "ドライバー 580.1"),
        ),
        "GPU",
        "ドライバー 580.1があるが、torchから使えない（理由は不明）",
        "nvidia-smi",
    ),
    "mps not available": (
        lambda p, _: fake_cuda(p, available=False, mps_built=True),
        "GPU",
        "MPSが使えない",
        "macOS 14以降",
    ),
    "language pack missing": (
        lambda p, _: without(p, kernel, "jupyterlab-language-pack-ja-JP"),
        "JupyterLab",
        "言語パックなし",
        "jupyterlab-language-pack-ja-JP",
    ),
    "version differs from the lock": (
        lambda p, _: without(p, packages, "click", "7.0.0"),
        "版の固定",
        "click 7.0.0（lockは",
        "pip install",
    ),
    "another python than the venv": (
        lambda _, t: (t / "course" / ".venv").mkdir(),
        "実行中のPython",
        "教材の.venvではない",
        "make lab",
    ),
}
