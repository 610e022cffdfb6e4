"""小さな教材と、そこから写した作業フォルダ。"""

import pytest
from course_samples import make_course

from tlkit.course.work import fill


@pytest.fixture
def course(tmp_path, monkeypatch):
    root = make_course(tmp_path / "course")
    monkeypatch.setenv("TLKIT_COURSE", str(root))
    monkeypatch.setenv("TLKIT_WORK", str(tmp_path / "work"))
    return root


@pytest.fixture
def work(course, tmp_path):
    fill()
    return tmp_path / "work"
