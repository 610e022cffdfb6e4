"""温める: 提出ごとに繰り返さずに済むことを、学習者のコードより前に一度だけ行う。

読み込みと、最初の一歩にだけかかる準備（torch の最適化器は、初めて使うときに多くのモジュールを読み込む）である。
乱数の状態は元に戻し、写しを取ったあとで、檻の中で始めた Python と同じように作り直す。
"""

import gc
import importlib
import os
import sys
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

from tlkit.course.grading.inside.huge_pages import collapse


def warm_up(questions: Iterable[str], modules: Iterable[str]) -> None:
    """問題の定義と、演習のノートブックが読み込むモジュールを読み込み、計算を一歩動かす。

    torch の最適化器は、初めて使うときに 1 秒ほどかけて多くのモジュールを読み込む。
    配布版が使わない演習でも、学習者の答えは使うことがあるので、いつも先に使っておく。

    Args:
        questions: 問題の id。
        modules: モジュールの名前。読み込めないものは、そのままにする（学習者のセルが同じ誤りを出す）。
    """
    from tlkit.course.checks import registry
    from tlkit.course.grading.inside import probe, shell  # noqa: F401  IPython と、答えを呼ぶ側

    settings = dict(os.environ)
    for name in questions:
        registry.question(name)
    for module in modules:
        with suppress(Exception):
            importlib.import_module(module)
    _take_a_step()
    os.environ.clear()
    os.environ.update(settings)  # 読み込んだモジュールが足した環境変数を消す
    gc.collect()
    gc.freeze()  # 写しの中でごみ集めが動いても、ここまでのものに触れない。触れると、記憶の全部が写される
    collapse()


def freshen() -> None:
    """写しを、始まったばかりの Python の状態にする。"""
    import numpy
    import torch

    numpy.random.seed()  # 読み込んだときと同じく、機械の乱数から作り直す（random は fork のときに自分で作り直す）
    torch.seed()  # 同上
    sys.argv = [str(Path(__file__).with_name("__main__.py"))]


def _take_a_step() -> None:
    import torch

    with torch.random.fork_rng(devices=[]):
        model = torch.nn.Sequential(torch.nn.Conv2d(1, 2, 3), torch.nn.Flatten(), torch.nn.Linear(72, 2))
        loss = torch.nn.functional.cross_entropy(model(torch.zeros(2, 1, 8, 8)), torch.zeros(2, dtype=torch.long))
        loss.backward()  # type: ignore[no-untyped-call]
        for kind in (torch.optim.SGD, torch.optim.Adam):
            kind(list(model.parameters()), lr=0.1).step()
