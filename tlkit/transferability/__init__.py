"""転移可能性の指標: 転移学習を実際に行う前に、うまくいきそうかを見積もる。

一つの指標に一つのファイル。要るものと出るものは、次のように違う。
logme.py、h_score.py  ターゲットの特徴とラベル       leep.py、nce.py  ソース側の予測とターゲットのラベル
cka.py、proxy_a.py    二つの特徴（ラベルは要らない）  naive.py、published.py  やってはいけない例、公開された誤り
"""

from tlkit.transferability.cka import linear_cka
from tlkit.transferability.h_score import h_score
from tlkit.transferability.leep import leep
from tlkit.transferability.logme import logme
from tlkit.transferability.naive import spearman_mmd_score
from tlkit.transferability.nce import nce
from tlkit.transferability.proxy_a import proxy_a_distance

__all__ = ["h_score", "leep", "linear_cka", "logme", "nce", "proxy_a_distance", "spearman_mmd_score"]
