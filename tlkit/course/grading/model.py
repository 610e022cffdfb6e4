"""採点の部品が受け渡す、素の形。手順は `pipeline.py` にある。

状態は五つ。点数を持つのは graded だけで、ほかを 0 点として数えることはない。
"""

from dataclasses import dataclass, field
from typing import Literal

from tlkit.course.checks.harness import Claim

State = Literal["graded", "needs_human", "limit", "infra_error", "missing"]
MEGABYTE = 1024 * 1024


@dataclass(frozen=True)
class Submission:
    """一人の提出。

    Attributes:
        student: 名簿の学籍番号（NFC）。
        name: 氏名。名簿になければ空。
        file: 採点するファイルの名前（提出フォルダからの相対）。なければ空。
        data: ファイルの中身。読めなければ空。
        state: 採点に進めるなら "graded"（まだ採点していない）。進めなければ "needs_human" か "missing"。
        reason: 進めない理由（日本語）。
        notes: 採点者への知らせ（日本語）。
        rivals: 違う中身の提出がいくつもあり、全部を採点するときの、それぞれの提出（古い順）。
    """

    student: str
    name: str = ""
    file: str = ""
    data: bytes = b""
    state: State = "graded"
    reason: str = ""
    notes: tuple[str, ...] = ()
    rivals: tuple["Submission", ...] = ()


@dataclass(frozen=True)
class Step:
    """檻の中で動かす一つのセル。

    Attributes:
        id: セルの id。
        source: 動かすコード。
        question: このセルまでで答えがそろう問題の id。なければ None。
    """

    id: str
    source: str
    question: str | None = None


@dataclass(frozen=True)
class Pace:
    """解答例を檻で動かしたときの時間。計っていなければ空。

    Attributes:
        cells: （セルの id, 時間 [秒]）の並び。
        probes: （問題の id, 答えを呼ぶ時間 [秒]）の並び。
    """

    cells: tuple[tuple[str, float], ...] = ()
    probes: tuple[tuple[str, float], ...] = ()


@dataclass(frozen=True)
class Limits:
    """一つの提出に許す量。時間は最低の上限で、解答例の時間が分かれば、`allowance.py` が延ばす。

    Attributes:
        cell_seconds: 一つのセルの時間 [秒]。
        probe_seconds: 一つの問題の答えを呼ぶ時間 [秒]。
        total_seconds: 全体の時間 [秒]。
        memory_mb: 子プロセスも合わせた記憶 [MB]。
        printed_bytes: 印字を残す量 [バイト]。
        disk_mb: 書ける場所の大きさ [MB]。
        processes: プロセスとスレッドの数。
        pace: 解答例の時間。
    """

    cell_seconds: float = 30.0
    probe_seconds: float = 30.0
    total_seconds: float = 180.0
    memory_mb: int = 3000
    printed_bytes: int = 1 * MEGABYTE
    disk_mb: int = 64
    processes: int = 128
    pace: Pace = Pace()


@dataclass(frozen=True)
class Outcome:
    """檻から出てきたもの。どれも「言い分」であり、正しいかどうかは檻の外で決める。

    Attributes:
        claims: 問題の id → 記録。答えが呼べなかった問題は入らない。
        reasons: 答えが呼べなかった問題の id → 理由（"missing"、"timeout"、"crash:SIGSEGV"、"refused" など）。
        limit: 途中で止めた理由（"wall"、"memory"、"crash"、"output" など）。最後まで動けば None。
        detail: 止めた理由の説明（日本語）。
        errors: 例外で終わったセルの id → 「型: 文」。
        notes: 採点者への知らせ（日本語）。
        seconds: かかった時間 [秒]。結果の同一性には含めない。
        peak_mb: 記憶の最大 [MB]。同上。
        cell_seconds: 終わったセルの id → 時間 [秒]。同上。
        probe_seconds: 答えを呼び終えた問題の id → 時間 [秒]。同上。
    """

    claims: dict[str, Claim] = field(default_factory=dict)
    reasons: dict[str, str] = field(default_factory=dict)
    limit: str | None = None
    detail: str = ""
    errors: dict[str, str] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    seconds: float = 0.0
    peak_mb: float = 0.0
    cell_seconds: dict[str, float] = field(default_factory=dict, compare=False)
    probe_seconds: dict[str, float] = field(default_factory=dict, compare=False)


@dataclass(frozen=True)
class Feedback:
    """一つの問題への返事。

    Attributes:
        code: 診断の名前（`checks/` と同じ）。
        message: 学習者が読む日本語。隠した入力の値を含まない。
    """

    code: str
    message: str


@dataclass(frozen=True)
class Result:
    """一つの提出の採点結果。同じ提出と同じ種からは、いつも同じものができる。

    Attributes:
        state: 状態。
        points: 問題の id → 点。判定できなかった問題は None。
        total: 合計。state が "graded" のときだけ数になる。
        feedback: 問題の id → 返事。
        reason: graded でないときの理由（日本語）。
        notes: 採点者への知らせ（日本語）。
    """

    state: State
    points: dict[str, int | None] = field(default_factory=dict)
    total: int | None = None
    feedback: dict[str, Feedback] = field(default_factory=dict)
    reason: str = ""
    notes: tuple[str, ...] = ()
