"""build の検査の共通の準備。"""

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))


@pytest.fixture
def course(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """空に近い教材。環境変数で、ここを教材の根にする。"""
    from build_course import make_course

    root = make_course(tmp_path / "course")
    monkeypatch.setenv("TLKIT_COURSE", str(root))
    monkeypatch.delenv("TLKIT_WORK", raising=False)
    monkeypatch.delenv("TLKIT_CHECK", raising=False)
    monkeypatch.delenv("TLKIT_CHECK_LOG", raising=False)
    return root.resolve()
