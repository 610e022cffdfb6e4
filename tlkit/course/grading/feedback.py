"""学習者への返事の文。隠した入力から計算した値を、決して含めない。

決まり: 隠した入力で動かした檻から出た文字（例外の文、型の名前、数）は、一字も学習者に見せない。
学習者のコードは隠した入力を読み、どこにでも書けるためである。見せる文は、次の三つだけである。

1. 文の決まった診断（未着手、None が返った、時間切れなど）。
2. `check` と同じ、公開された種で、別の檻を使って動かし直したときの診断。値も例外の文もそのまま見せてよい。
3. 公開された種では合格するときの、どの診断にも共通の文。
"""

import re
import signal

from tlkit.course.checks.diagnoses import general
from tlkit.course.checks.harness import Claim
from tlkit.course.checks.question import Question, Verdict
from tlkit.course.grading.model import Feedback
from tlkit.course.grading.shown import shown

FIXED_STATES = ("untouched", "returned-none", "unfinished")
STOPPED = ("timeout", "memory", "crash", "not-reached")
MAX_MESSAGE = 2000
_CODE = re.compile(r"[a-z0-9][a-z0-9-]{0,59}")
_LIMITS = {
    "wall": "時間が上限を超えた",
    "memory": "記憶（メモリ）が上限を超えた",
    "crash": "Python が途中で終了した",
    "output": "出力が多すぎた",
    "processes": "プロセスとスレッドの数が上限を超えた",
    "disk": "ファイルの数が上限を超えた",
}
_FIX_SEED = (
    "乱数を使うときは、答えのセルの中で種を固定してください"
    "（`torch.manual_seed(0)`、`numpy.random.default_rng(0)`、`random.Random(0)` など）。"
)


def is_fixed(claim: Claim) -> bool:
    """提出の中身によらず、文が決まっている診断か。"""
    if claim.state == "untouched":
        return True
    return claim.state in FIXED_STATES and not claim.borrowed and not claim.mutated


def fixed(claim: Claim) -> Feedback:
    """文の決まった診断。例外の記録は渡さない。"""
    verdict = general(claim.state, None, [], [])
    return Feedback(claim.state, verdict.message if verdict else "")


def explained(verdict: Verdict) -> Feedback:
    """公開された種での診断。`check` が学習者の画面に出すものと同じである。"""
    return Feedback(code_of(verdict), readable(verdict.message))


def unexplained(question: Question, verdict: Verdict, *, passes_public: bool) -> Feedback:
    """隠した入力でだけ不合格だったか、公開された種での診断が得られなかったとき。"""
    if passes_public:
        message = (
            "`check` が使う入力では合格しますが、採点用の別の入力では不合格でした。"
            "決まった値や大きさでだけ動く書き方や、動かすたびに結果が変わる書き方がないか、入力を変えて確かめてください。"
        )
    else:
        message = (
            "採点用の入力で不合格でした。ノートブックを開き直して「再起動してすべて実行」を選び、"
            f'`check("{question.id}", {", ".join(question.answers)})` の診断を確かめてください。'
        )
    return Feedback(code_of(verdict), message)


def missing(question: Question, error: str) -> Feedback:
    """答えの名前が定義されなかったとき。error は、公開された種で動かしたときの、答えのセルの例外。"""
    names = "、".join(question.answers)
    why = f"答えのセルが例外で止まりました（{readable(error)}）。" if error else ""
    return Feedback(
        "missing", f"答え（{names}）が定義されていません。{why}答えのセルが最後まで動くか確かめてください。"
    )


def refused() -> Feedback:
    """記録を受け取れなかったとき。"""
    return Feedback("refused", "答えの返した値が大きすぎるか、扱えない形なので、受け取れませんでした。")


def unstable(question: str, counts: str) -> Feedback:
    """動かすたびに合否が変わったとき。点数は付かない。counts は「3 回のうち 1 回合格」など。"""
    return Feedback("unstable", f"{unstable_reason(question, counts)}{_FIX_SEED}")


def unstable_reason(question: str, counts: str) -> str:
    """人に回す理由。"""
    return f"{question} は、同じ入力でも、動かすたびに合否が変わります（不安定。{counts}）。"


def wobbling(reply: Feedback) -> Feedback:
    """どの回も不合格だが、動かすたびに結果が変わったとき。"""
    return Feedback(reply.code, f"{reply.message}\nまた、同じ入力でも、動かすたびに結果が変わります。{_FIX_SEED}")


def stopped(reason: str, limit: str | None, allowed: str = "上限") -> Feedback:
    """答えを呼び終えられなかったとき。点数は付かない。allowed は、答えを呼ぶ時間の上限の書き方。"""
    kind, _, signal_name = reason.partition(":")
    if kind == "timeout":
        return Feedback(
            "timeout", f"答えを呼ぶ時間が、{allowed}を超えました。終わらない繰り返しがないか確かめてください。"
        )
    if kind == "memory":
        return Feedback("memory", "答えを呼ぶ間に、使う記憶（メモリ）が上限を超えました。")
    if kind == "crash":
        known = f"（{signal_name}）" if signal_name in signal.Signals.__members__ else ""
        return Feedback("crash", f"答えを呼ぶ間に、Python が途中で終了しました{known}。")
    return Feedback(
        "not-reached", f"この問題まで進む前に、採点を止めました（{_LIMITS.get(limit or '', '上限を超えた')}ため）。"
    )


def code_of(verdict: Verdict) -> str:
    """診断の名前。名前の形でないものは伏せる。"""
    return verdict.code if _CODE.fullmatch(verdict.code) else "wrong"


def readable(text: str) -> str:
    """改行は残し、見えない符号は番号の形にし、長すぎれば略す。"""
    return "\n".join(shown(line, MAX_MESSAGE) for line in text[:MAX_MESSAGE].splitlines())
