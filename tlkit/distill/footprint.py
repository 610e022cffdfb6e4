"""モデルの圧縮を測る: パラメータ数、計算量、保存の大きさ、CPU での時間。"""

import io
import statistics
import time
from collections.abc import Mapping
from contextlib import ExitStack
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from tlkit._modes import evaluating


class Latency(NamedTuple):
    """1 回の順伝播の時間 [ミリ秒]。

    Attributes:
        median: 中央値。
        lower: 第 1 四分位数。
        upper: 第 3 四分位数。
        batch: 一度に通した件数。時間はこの全件の分である。
        threads: 計算に使ったスレッドの数。
        rounds: 測った回数。
    """

    median: float
    lower: float
    upper: float
    batch: int
    threads: int
    rounds: int


class Footprint(NamedTuple):
    """モデルの大きさ。

    Attributes:
        parameters: パラメータの数。
        flops: 1 件あたりの計算量 [FLOP]。積和 1 回を 2 と数える。
        stored_bytes: 保存した重みの大きさ [バイト]。
    """

    parameters: int
    flops: int
    stored_bytes: int


def footprint(model: nn.Module, example: Tensor) -> Footprint:
    """パラメータ数、1 件あたりの計算量、保存の大きさ。時間は `latency` で測る。

    Args:
        model: 測るモデル。
        example: 入力の例 (N, …)。N は 1 以上。

    Raises:
        ValueError: example が空のとき。
    """
    return Footprint(count_parameters(model), count_flops(model, example), stored_bytes(model))


def count_parameters(model: nn.Module) -> int:
    """パラメータの数。共有されたものは 1 回だけ数える。枝刈りで 0 になった要素も数える。

    整数に量子化した層は重みを nn.Parameter として持たないので、数えられない。そのモデルは `stored_bytes` で比べる。
    """
    return sum(parameter.numel() for parameter in model.parameters())


def count_flops(model: nn.Module, example: Tensor) -> int:
    """順伝播 1 件あたりの計算量 [FLOP]。

    PyTorch の FlopCounterMode が知っている演算（畳み込み、行列積、注意機構）だけを、積和 1 回 = 2 FLOP として数える。
    活性化関数、バッチ正規化、プーリングは数えない。MAC で書かれた値と比べるときは、2 で割る。

    Args:
        model: 測るモデル。評価モードで動かし、終わると状態を戻す。
        example: 入力の例 (N, …)。N 件の合計を N で割る。

    Raises:
        ValueError: example が空のとき。
    """
    _require_rows(example)
    with evaluating(model), torch.no_grad(), FlopCounterMode(display=False) as counter:
        model(example)
    return int(counter.get_total_flops()) // len(example)


def stored_bytes(model: nn.Module) -> int:
    """`torch.save(model.state_dict())` のバイト数。移動統計などのバッファも、形式の見出しも含む。"""
    buffer = io.BytesIO()
    torch.save(model.state_dict(), buffer)
    return buffer.getbuffer().nbytes


def latency(
    models: Mapping[str, nn.Module], example: Tensor, *, rounds: int = 50, warmup: int = 5
) -> dict[str, Latency]:
    """モデルごとの、順伝播 1 回の時間。モデルを順に 1 回ずつ動かすことをくり返す。

    交互に動かすのは、機械の混み具合が途中で変わっても、モデルの間の比が変わりにくいようにするためである。
    評価モード、勾配なしで測る。スレッドの数は、今の `torch.get_num_threads()` である。

    Args:
        models: 名前 → モデル。example と同じ装置にあること。
        example: 入力 (N, …)。N が、一度に通す件数になる。
        rounds: 測る回数。4 以上。
        warmup: 測る前に動かす回数。初めの数回は、メモリの確保などで遅い。

    Returns:
        名前 → 中央値と四分位数 [ミリ秒]。

    Raises:
        ValueError: models か example が空か、rounds が 4 に満たないか、warmup が負のとき。
    """
    _require_rows(example)
    if not models or rounds < 4 or warmup < 0:
        raise ValueError(
            f"models が {len(models)} 個、rounds={rounds}、warmup={warmup} です。"
            "models は 1 個以上、rounds は 4 以上（四分位数を求めるため）、warmup は 0 以上にしてください。"
        )
    seconds: dict[str, list[float]] = {name: [] for name in models}
    with ExitStack() as stack, torch.inference_mode():
        for model in models.values():
            stack.enter_context(evaluating(model))
        for step in range(warmup + rounds):
            for name, model in models.items():
                took = _seconds(model, example)
                if step >= warmup:
                    seconds[name].append(took)
    return {name: _summary(times, len(example)) for name, times in seconds.items()}


def _seconds(model: nn.Module, example: Tensor) -> float:
    _wait(example)
    start = time.perf_counter()
    model(example)
    _wait(example)
    return time.perf_counter() - start


def _wait(example: Tensor) -> None:
    """GPU に頼んだ計算が終わるまで待つ。待たずに測ると、頼むのにかかった時間になる。"""
    if example.is_cuda:
        torch.cuda.synchronize(example.device)


def _summary(seconds: list[float], batch: int) -> Latency:
    lower, median, upper = (1e3 * value for value in statistics.quantiles(seconds, n=4, method="inclusive"))
    return Latency(median, lower, upper, batch, torch.get_num_threads(), len(seconds))


def _require_rows(example: Tensor) -> None:
    if example.ndim == 0 or example.numel() == 0:
        raise ValueError(f"example の形が {tuple(example.shape)} です。1 件以上の入力 (N, …) を渡してください。")
