import shutil
from dataclasses import replace

import pytest
from grading_kit import ASSIGNMENT, SECRET

import tlkit
from tlkit.course.grading import versions as module
from tlkit.course.grading.available import package
from tlkit.course.grading.model import Limits
from tlkit.course.grading.versions import environment_version, grader_version, versions


@pytest.mark.parametrize("field", ["assignment", "grader", "environment", "secret", "limits"])
def test_the_key_depends_on_everything_that_decides_the_result(field):
    version = versions(ASSIGNMENT, SECRET, Limits())
    keys = {
        one.key(student, data)
        for one in (version, replace(version, **{field: "x"}))
        for student in "ab"
        for data in "cd"
    }
    assert len(keys) == 8


def test_the_key_is_the_same_in_every_run():
    version = module.Versions("01_basics:1", "g", "e", "s", "l")
    assert version.key("s001", "0" * 64) == "815fd8f365d4027d885a7e513be2be099f335f7858ab573b32d32bb0e7842ba6"


@pytest.fixture
def copied(tmp_path, monkeypatch):
    """tlkit の写しの版を調べる関数。"""
    root = shutil.copytree(package(), tmp_path / "tlkit", ignore=shutil.ignore_patterns("__pycache__", "assets"))
    monkeypatch.setattr(tlkit, "__file__", str(root / "__init__.py"))
    return root, grader_version.__wrapped__


@pytest.mark.parametrize("name", ["course/checks/c01/mmd2_judge.py", "course/grading/judging.py", "losses/mmd.py"])
def test_the_version_of_the_grader_follows_the_code_that_decides(copied, name):
    root, version = copied
    before = version()
    with (root / name).open("a", encoding="utf-8") as file:
        file.write("\n")
    assert version() != before


@pytest.mark.parametrize("name", ["course/quiz/__init__.py", "course/build/__init__.py"])
def test_the_version_of_the_grader_does_not_follow_other_tools(copied, name):
    root, version = copied
    before = version()
    (root / name).write_text("# changed", encoding="utf-8")
    assert version() == before


def test_a_renamed_module_changes_the_version(copied):
    root, version = copied
    before = version()
    (root / "losses" / "mmd.py").rename(root / "losses" / "mmd_.py")
    assert version() != before


def test_the_environment_has_a_version():
    assert len(environment_version()) == 64
