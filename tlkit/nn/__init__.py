"""ネットワークの部品。

gradient_reversal.py  勾配反転層（順伝播はそのまま、逆伝播で符号を変える）
dann_schedule.py      勾配反転層の係数 λ の予定
"""

from tlkit.nn.dann_schedule import dann_lambda
from tlkit.nn.gradient_reversal import GradientReversal, gradient_reversal

__all__ = ["GradientReversal", "dann_lambda", "gradient_reversal"]
