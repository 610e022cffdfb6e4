"""実験を種ごとに動かし、結果を experiments/results/NAME.json に書く。書く形を決めるのは、ここ一か所である。

読むのは `tlkit/results.py`。実験の中身は 01_*.py、共通の部品は `_vision.py` にある。
途中で止めても、済んだ種は .cache/experiments/ に残る。同じコマンドをもう一度動かすと、残りの種だけを測る。
"""

import argparse
import ast
import hashlib
import json
import multiprocessing
import os
import platform
import sys
import time
from collections.abc import Callable, Iterable
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
HERE = ROOT / "experiments"
RESULTS = HERE / "results"
PARTIAL = ROOT / ".cache" / "experiments"
SCHEMA = 1
PACKAGES = ("torch", "numpy", "scipy", "scikit-learn", "scikit-image", "mlxtend")

Row = dict[str, Any]
Settings = dict[str, Any]


@dataclass(frozen=True)
class Experiment:
    """一つの実験。

    Attributes:
        name: 結果のファイル名（拡張子なし）。
        title: 何の実験か（1 行）。
        description: 何と何を比べ、何を固定したか。測った数は書かない。
        run: （種, 設定）→ 行の一覧。行の "seed" は、書くときに足す。
        settings: 設定を返す関数。開発用の結果から選ぶときは、`chosen` を使う。
        seeds: 使う種。開発用と本番用で重ねない。
        option: この実験を選ぶ引数（"--dev" など）。空なら、引数なしで選ばれる。
        source: 記録するスクリプト。
        assets: 使う同梱の重み（tlkit/assets の中の名前）。変わったら、結果は古い。
        summarise: 全部の行から、種をまたぐ値（順位相関など）を計算する関数。
    """

    name: str
    title: str
    description: str
    run: Callable[[int, Settings], list[Row]]
    settings: Callable[[], Settings]
    source: Path
    seeds: tuple[int, ...] = tuple(range(10))
    option: str = ""
    assets: tuple[str, ...] = ()
    summarise: Callable[[list[Row]], list[Row]] | None = None


def main(*experiments: Experiment) -> None:
    """コマンドの引数に従って、実験を動かす。"""
    parser = argparse.ArgumentParser(description="、".join(e.title for e in experiments))
    parser.add_argument("--seeds", help="種の範囲（例: 0-9）。省けば、実験が決めた種")
    parser.add_argument("--jobs", type=int, default=1, help="同時に動かす数（1 本が 1 スレッド）")
    for experiment in experiments:
        if experiment.option:
            parser.add_argument(experiment.option, action="store_true", help=experiment.title)
    given = parser.parse_args()
    named = [e for e in experiments if e.option and getattr(given, e.option.strip("-").replace("-", "_"))]
    wanted = (named or [e for e in experiments if not e.option])[0]
    print(f"{wanted.name}: {wanted.title}", flush=True)
    path = perform(wanted, parse_seeds(given.seeds) if given.seeds else wanted.seeds, given.jobs)
    print(f"書きました: {path.relative_to(ROOT).as_posix()}")


def parse_seeds(text: str) -> tuple[int, ...]:
    """範囲の文字列（"0-9" や "3"）を、種の一覧にする。"""
    first, _, last = text.partition("-")
    return tuple(range(int(first), int(last or first) + 1))


def perform(experiment: Experiment, seeds: tuple[int, ...], jobs: int = 1) -> Path:
    """まだ測っていない種を測り、全部そろったら一つのファイルに書く。"""
    settings = experiment.settings()
    code = {"code": own_code(experiment.source), "assets": used_assets(experiment.assets)}
    package = package_code(experiment.source)
    folder = PARTIAL / experiment.name / _key(code, settings)
    left = [seed for seed in seeds if not (folder / f"{seed}.json").is_file()]
    if len(left) < len(seeds):
        print(f"  {len(seeds) - len(left)} 個の種は測定済みです。残りは {len(left)} 個です。", flush=True)
    if jobs == 1:
        for seed in left:
            _one_seed(experiment.run, settings, seed, folder)
    else:
        with ProcessPoolExecutor(jobs, mp_context=multiprocessing.get_context("spawn")) as pool:
            for done in as_completed([pool.submit(_one_seed, experiment.run, settings, seed, folder) for seed in left]):
                done.result()
    parts = [json.loads((folder / f"{seed}.json").read_text(encoding="utf-8")) for seed in seeds]
    path = RESULTS / f"{experiment.name}.json"
    if code["code"] != own_code(experiment.source):
        raise SystemExit(
            "測っている間にコードが変わりました。どのコードの値か言えないので、書きません。動かし直してください。"
        )
    write_json(path, {**_record(experiment, settings, seeds, parts), **code, "package": package})
    return path


def chosen(name: str, keys: Iterable[str], score: str = "score", **conditions: Any) -> Settings:
    """開発用の結果 name から、score の平均が最も高い設定を選ぶ。本番の値は見ない。

    同点なら、先に書いた設定を選ぶ。
    """
    record = json.loads((RESULTS / f"{name}.json").read_text(encoding="utf-8"))
    keys = list(keys)
    groups: dict[tuple[Any, ...], list[float]] = {}
    for row in record["rows"]:
        if all(row[key] == value for key, value in conditions.items()):
            groups.setdefault(tuple(row[key] for key in keys), []).append(row[score])
    best = max(groups, key=lambda group: sum(groups[group]) / len(groups[group]))
    return dict(zip(keys, best, strict=True))


def write_json(path: Path, record: dict[str, Any]) -> None:
    """鍵の順をそろえた JSON を書く。別名で書いてから置き換えるので、半端なファイルは残らない。"""
    path.parent.mkdir(parents=True, exist_ok=True)
    text = json.dumps(record, ensure_ascii=False, sort_keys=True, indent=1, allow_nan=False) + "\n"
    part = path.with_name(f"{path.name}.{os.getpid()}.part")
    part.write_text(text, encoding="utf-8", newline="\n")
    part.replace(path)


def own_code(script: Path) -> dict[str, str]:
    """スクリプトと、experiments/ の中の部品の sha256（名前 → 値）。変わったら、結果は古い。

    記録係（このファイル）は、値を左右しないので入れない。
    """
    return {_relative(file): text_sha256(file) for file in sorted(_own_files(script))}


def package_code(script: Path) -> dict[str, str]:
    """スクリプトが使う tlkit のモジュールの sha256（名前 → 値）。

    注釈を直しただけでも変わるので、古さの判定には使わない。値が変わっていないことは、検査が 1 行を測り直して確かめる。
    """
    from tlkit.course.build.modules import PACKAGE, module_files

    files = module_files([file.read_text(encoding="utf-8") for file in _own_files(script)])
    return {file.relative_to(PACKAGE.parent).as_posix(): text_sha256(file) for file in files}


def used_assets(names: Iterable[str]) -> dict[str, str]:
    """同梱の重みの sha256（名前 → 値）。"""
    from tlkit.course.build.modules import PACKAGE
    from tlkit.data.files import sha256_of

    return {name: sha256_of(PACKAGE / "assets" / name) for name in names}


def text_sha256(path: Path) -> str:
    """改行の違いを除いた sha256。"""
    return hashlib.sha256(path.read_bytes().replace(b"\r\n", b"\n")).hexdigest()


def _one_seed(run: Callable[[int, Settings], list[Row]], settings: Settings, seed: int, folder: Path) -> None:
    import torch

    torch.set_num_threads(1)
    wall, cpu = time.perf_counter(), _cpu_seconds()
    rows = [{"seed": seed, **_rounded(row)} for row in run(seed, settings)]
    seconds = {"wall": round(time.perf_counter() - wall, 1), "cpu": round(_cpu_seconds() - cpu, 1)}
    write_json(folder / f"{seed}.json", {"rows": rows, "seconds": seconds})
    print(f"  種 {seed}: {seconds['cpu']} 秒（CPU）", flush=True)


def _cpu_seconds() -> float:
    """このプロセスと、終わった子プロセスの CPU の秒数（Windows では、このプロセスだけ）。"""
    return sum(os.times()[:4])


def _record(experiment: Experiment, settings: Settings, seeds: tuple[int, ...], parts: list[Any]) -> dict[str, Any]:
    rows = [row for part in parts for row in part["rows"]]
    option = f" {experiment.option}" if experiment.option else ""
    return {
        "schema": SCHEMA,
        "name": experiment.name,
        "title": experiment.title,
        "description": experiment.description,
        "command": f"python experiments/{experiment.source.name}{option} --seeds {seeds[0]}-{seeds[-1]}",
        "script": _relative(experiment.source),
        "script_sha256": text_sha256(experiment.source),
        "seeds": list(seeds),
        "settings": settings,
        "versions": {"python": platform.python_version(), **{name: version(name) for name in PACKAGES}},
        "hardware": _hardware(),
        "seconds": {kind: round(sum(part["seconds"][kind] for part in parts), 1) for kind in ("cpu", "wall")},
        "rows": rows,
        "summary": [_rounded(row) for row in experiment.summarise(rows)] if experiment.summarise else [],
    }


def _key(code: dict[str, Any], settings: Settings) -> str:
    """途中の結果の置き場所。コードか設定が変われば、別の場所になり、古い種と混ざらない。"""
    text = json.dumps([code, settings], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def _own_files(script: Path) -> set[Path]:
    """スクリプトと、そこから（奥まで）読み込む experiments/ の部品。"""
    found, pending = set(), [script.resolve()]
    while pending:
        file = pending.pop()
        found.add(file)
        tree = ast.parse(file.read_text(encoding="utf-8"))
        names = [node.module for node in ast.walk(tree) if isinstance(node, ast.ImportFrom) and node.module]
        parts = {file for name in names if (file := HERE / f"{name}.py").is_file()}
        pending += parts - found - {Path(__file__).resolve()}
    return found


def _rounded(row: Row) -> Row:
    return {key: round(value, 6) if isinstance(value, float) else value for key, value in row.items()}


def _relative(path: Path) -> str:
    return path.resolve().relative_to(ROOT).as_posix()


def _hardware() -> dict[str, Any]:
    return {
        "cpu": _cpu_model(),
        "cores": os.cpu_count(),
        "threads": 1,
        "system": f"{sys.platform} {platform.machine()}",
    }


def _cpu_model() -> str:
    info = Path("/proc/cpuinfo")
    lines = info.read_text(encoding="utf-8").splitlines() if info.is_file() else []
    named = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return named[0] if named else platform.processor() or platform.machine()
