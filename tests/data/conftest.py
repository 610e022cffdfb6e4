"""データの検査の共通の用意: 自分だけのキャッシュと、ループバックの配布元。"""

from collections.abc import Iterator
from pathlib import Path

import pytest
from data_mirror import Mirror


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("TLKIT_DATA", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def mirror(monkeypatch: pytest.MonkeyPatch) -> Iterator[Mirror]:
    """小さな公式形式のファイルを配るサーバー。torchvision の表を、このサーバーに向ける。"""
    for name in ("http_proxy", "HTTP_PROXY"):
        monkeypatch.delenv(name, raising=False)
    with Mirror() as server:
        server.stand_in_for_the_official_ones(monkeypatch)
        yield server
