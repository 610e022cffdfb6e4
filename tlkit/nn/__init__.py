"""ネットワークの部品。

gradient_reversal.py  勾配反転層（順伝播はそのまま、逆伝播で符号を変える）
dann_schedule.py      勾配反転層の係数 λ の予定
batch_statistics.py   バッチ正規化を、渡した集合の統計だけで動かす
"""

from tlkit.nn.batch_statistics import batch_statistics
from tlkit.nn.dann_schedule import dann_lambda
from tlkit.nn.gradient_reversal import GradientReversal, gradient_reversal

__all__ = ["GradientReversal", "batch_statistics", "dann_lambda", "gradient_reversal"]
