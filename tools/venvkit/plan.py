"""何を、どの順で、どれくらいの大きさで入れるかを決める。実際に入れるのは隣の install.py。

大きなパッケージは一つずつ先に入れる。途中で切れても、済んだものは次に数え直さずに済むから。
"""

from dataclasses import dataclass

from venvkit.messages import BootstrapError
from venvkit.project import Pin
from venvkit.venv import Facts

TOOLS = ("pip", "setuptools")
PAIR = ("torch", "torchvision")
# 名前: (受け取る MB, 展開後の MB)。Linux x86_64 での実測を丸めた目安で、空き容量の確認と表示にだけ使う。
BIG = {
    "torch": (540, 1200),
    "torchvision": (10, 20),
    "triton": (290, 1050),
    "scipy": (36, 115),
    "nvidia-cublas": (410, 570),
    "nvidia-cuda-cupti": (15, 50),
    "nvidia-cuda-nvrtc": (50, 125),
    "nvidia-cudnn-cu13": (520, 890),
    "nvidia-cufft": (220, 300),
    "nvidia-cusolver": (230, 280),
    "nvidia-cusparse": (150, 170),
    "nvidia-cusparselt-cu13": (170, 240),
    "nvidia-nccl-cu13": (200, 260),
    "nvidia-nvjitlink": (40, 120),
    "nvidia-nvshmem-cu13": (140, 210),
}
CUDA_ONLY = ("nvidia-", "cuda-", "triton")
SMALL_TORCH = (210, 800)  # CUDA を含まない torch
REST_COUNT = {"lab": 140, "dev": 180}  # 残りの小さなパッケージの数の目安
REST_EACH = (2, 7)  # 一つあたりの平均（MB）


@dataclass(frozen=True)
class Plan:
    """今回の仕事。big は一つずつ、残りはまとめて入れる。"""

    profile: str
    variant: str
    big: tuple[Pin, ...]
    download_mb: int
    unpacked_mb: int
    largest_mb: int


def existing_variant(installed: dict[str, str]) -> str:
    """入っている torch から、今の種類（cpu か default）を知る。"""
    return "cpu" if installed.get("torch", "").endswith("+cpu") else "default"


def choose_variant(asked: str, platform: str, now: str) -> tuple[str, str]:
    """今回の種類と、添える一言を返す。何も言われなければ、今のままを守る。

    Raises:
        BootstrapError: `CPU=` の値が 1 でも 0 でもないとき。
    """
    value = asked.strip()
    if value not in ("", "0", "1"):
        raise BootstrapError(
            f"CPU={asked} は分かりません。CPU=1（CPU 専用）か CPU=0（通常版へ戻す）を指定してください。"
        )
    if value == "1" and platform != "linux":
        return (
            "default",
            "CPU=1 は Linux でだけ意味があります。この OS の PyTorch はもともと小さいので、そのまま進めます。",
        )
    if value == "1":
        return "cpu", ""
    if value == "0":
        return "default", ""
    return now, "CPU 専用の PyTorch を使い続けます（通常版へ戻すには CPU=0）。" if now == "cpu" else ""


def wanted_version(pin: Pin, variant: str) -> str:
    """その種類で入れる版。torch の組だけ `+cpu` が付く。"""
    return pin.version + "+cpu" if variant == "cpu" and pin.name in PAIR else pin.version


def in_place(pin: Pin, variant: str, installed: dict[str, str]) -> bool:
    """ちょうどその版が、その種類で入っているか。"""
    present = installed.get(pin.name, "")
    if pin.name in PAIR:
        return present.partition("+")[0] == pin.version and present.endswith("+cpu") == (variant == "cpu")
    return present.partition("+")[0] == pin.version


def make(facts: Facts, profile: str, variant: str, installed: dict[str, str]) -> Plan:
    """仮想環境の今の状態から、残りの仕事と大きさを決める。"""
    big = [pin for pin in facts.pins if pin.name in BIG and not (variant == "cpu" and is_cuda(pin.name))]
    big.sort(key=lambda pin: pin.name not in PAIR)  # torch の組を先に。種類が手に入らないなら、早く分かるほうがよい
    todo = [pin for pin in big if not in_place(pin, variant, installed)]
    sizes = [size_of(pin, facts.platform, variant) for pin in todo]
    matched = sum(in_place(pin, variant, installed) for pin in facts.pins if pin not in big)
    rest = max(0, REST_COUNT[profile] - matched)
    return Plan(
        profile,
        variant,
        tuple(big),
        sum(size[0] for size in sizes) + rest * REST_EACH[0],
        sum(size[1] for size in sizes) + rest * REST_EACH[1],
        max((size[0] for size in sizes), default=50),
    )


def size_of(pin: Pin, platform: str, variant: str) -> tuple[int, int]:
    """そのパッケージの（受け取る MB, 展開後の MB）の目安。"""
    if pin.name == "torch" and (platform != "linux" or variant == "cpu"):
        return SMALL_TORCH
    return BIG[pin.name]


def is_cuda(name: str) -> bool:
    """CUDA のためだけのパッケージか。"""
    return name.startswith(CUDA_ONLY)


def leftovers(variant: str, installed: dict[str, str]) -> list[str]:
    """CPU 専用に替えた後に要らなくなる、CUDA のパッケージ。"""
    return sorted(name for name in installed if is_cuda(name)) if variant == "cpu" else []
