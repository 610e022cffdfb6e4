"""置いてある結果のファイルの決まり: 作り方がすべて書かれ、今のスクリプトから出たものである。"""

import json
import re
import shlex
from pathlib import Path

import _record
import pytest

ROOT = Path(__file__).resolve().parents[2]
FILES = sorted((ROOT / "experiments" / "results").glob("*.json"))
CONFIRMED = [path for path in FILES if not path.stem.endswith("_dev")]
KEYS = {
    "schema", "name", "title", "description", "command", "script", "script_sha256", "code", "assets", "package",
    "seeds", "settings", "versions", "hardware", "seconds", "rows", "summary",
}  # fmt: skip
JAPANESE = re.compile(r"[ぁ-んァ-ヶ一-龠]")
SIZED = re.compile(
    r"[0-9０-９.]+\s*(?:%|％|ポイント|点)|±|0\.[0-9]"
)  # 説明に測った数を書かない（信頼水準の 95 % は除く）


def read(path: Path) -> dict:
    return json.loads(path.read_text(encoding="utf-8"))


def script_of(path: Path) -> str:
    """結果を書いたスクリプトの名前（結果の名前と違うことがある）。"""
    return Path(read(path)["script"]).stem


def test_there_are_results() -> None:
    scripts = {path.stem for path in (ROOT / "experiments").glob("[0-9]*.py")}
    assert scripts == {script_of(path) for path in CONFIRMED}


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
class TestEachFile:
    def test_keys_and_form(self, path: Path) -> None:
        record = read(path)
        assert set(record) == KEYS
        assert record["name"] == path.stem
        assert path.read_bytes().decode("utf-8") == (
            json.dumps(record, ensure_ascii=False, sort_keys=True, indent=1) + "\n"
        )

    def test_the_command_names_the_script_and_the_seeds(self, path: Path) -> None:
        record = read(path)
        words = shlex.split(record["command"])
        assert words[:2] == ["python", record["script"]]
        assert ("--dev" in words) == path.stem.endswith("_dev")
        assert list(_record.parse_seeds(words[-1])) == record["seeds"]

    def test_the_code_has_not_changed_since(self, path: Path) -> None:
        record = read(path)
        script = ROOT / record["script"]
        stale = f"{record['script']} か部品が変わりました。`{record['command']}` で測り直してください。"
        assert record["script_sha256"] == _record.text_sha256(script), stale
        assert record["code"] == _record.own_code(script), stale
        assert record["assets"] == _record.used_assets(record["assets"]), "同梱の重みが変わりました。" + stale

    def test_every_seed_has_the_same_conditions(self, path: Path) -> None:
        record = read(path)
        assert len(set(record["seeds"])) == len(record["seeds"])
        names = [key for key in record["rows"][0] if isinstance(record["rows"][0][key], str | int) and key != "seed"]
        per_seed = [
            [[row.get(name) for name in names] for row in record["rows"] if row["seed"] == seed]
            for seed in record["seeds"]
        ]
        assert per_seed[0]
        assert all(conditions == per_seed[0] for conditions in per_seed)

    def test_machine_and_versions(self, path: Path) -> None:
        record = read(path)
        assert {"python", *_record.PACKAGES} == set(record["versions"])
        assert record["hardware"]["cpu"] and record["hardware"]["threads"] == 1
        assert record["seconds"]["cpu"] > 0

    def test_texts_are_japanese_without_measured_numbers(self, path: Path) -> None:
        record = read(path)
        for text in (record["title"], record["description"]):
            assert JAPANESE.search(text) and not SIZED.search(text.replace("95 %", ""))


@pytest.mark.parametrize("path", CONFIRMED, ids=lambda path: path.stem)
def test_at_least_five_seeds_that_were_not_used_to_choose(path: Path) -> None:
    seeds = set(read(path)["seeds"])
    assert len(seeds) >= 5
    development = path.with_name(path.stem + "_dev.json")
    if development.exists():
        assert not seeds & set(read(development)["seeds"])


@pytest.mark.parametrize("path", CONFIRMED, ids=lambda path: path.stem)
def test_settings_are_those_the_development_run_chooses(path: Path, script) -> None:
    """開発用の結果だけから、今の設定が決まる（人が選び直していない）。"""
    assert json.loads(json.dumps(script(script_of(path)).settings())) == read(path)["settings"]
