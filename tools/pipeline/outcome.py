"""段階の結果の形と、全体の合否。

CI（環境変数 CI=true）では、cuda の検査のほかは何も省けない。省いたものは必ず理由とともに残す。
"""

from dataclasses import dataclass, field

CUDA = "cuda: "  # tests/conftest.py が付ける、cuda の印の理由の書き出し
TOTAL_LIMIT_SECONDS = 45 * 60


@dataclass(frozen=True)
class LeftOut:
    """省いたもの。

    Attributes:
        what: 何を。
        why: なぜ。印による省略は `印: ` で始まる（cuda だけが CI でも許される）。
    """

    what: str
    why: str

    @property
    def allowed_in_ci(self) -> bool:
        """CI で省いてよいか。"""
        return self.why.startswith(CUDA)


@dataclass
class Outcome:
    """1 つの段階の結果。"""

    stage: str
    ok: bool
    seconds: float = 0.0
    passed: int = 0
    failed: int = 0
    skipped: int = 0
    left_out: list[LeftOut] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    @property
    def ran(self) -> bool:
        """少しでも動いたか（丸ごと省いた段階は False）。"""
        return not (self.ok and self.left_out and not self.seconds)


@dataclass
class Run:
    """全体の結果。"""

    outcomes: list[Outcome]
    ci: bool
    preparation: float = 0.0

    @property
    def seconds(self) -> float:
        """準備を含む合計の秒。"""
        return self.preparation + sum(o.seconds for o in self.outcomes)

    @property
    def left_out(self) -> list[LeftOut]:
        """すべての段階で省いたもの。"""
        return [item for outcome in self.outcomes for item in outcome.left_out]

    def faults(self) -> list[str]:
        """合格でない理由。空なら合格。"""
        found = [f"段階 {o.stage} が失敗しました" for o in self.outcomes if not o.ok]
        if self.ci:
            found += [f"CI で省かれました: {x.what}（{x.why}）" for x in self.left_out if not x.allowed_in_ci]
            if self.seconds > TOTAL_LIMIT_SECONDS:
                found.append(f"合計 {self.seconds / 60:.1f} 分です。上限は {TOTAL_LIMIT_SECONDS // 60} 分です")
        return found

    def closing_line(self) -> str:
        """CI が読む最後の 1 行。pytest の段階の検査を合計する。"""
        passed, failed, skipped = (sum(getattr(o, n) for o in self.outcomes) for n in ("passed", "failed", "skipped"))
        return f"{passed} passed, {failed} failed" + (f", {skipped} skipped" if skipped else "")
