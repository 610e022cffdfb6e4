"""tools/prose: 誤りを、元のファイルの行で見つけること。正しい文を責めないこと。

textlint は 1 度だけ起動し、わざと誤りを入れた小さな教材をまとめて調べる。
"""

import os
import subprocess
import sys
from pathlib import Path

import jupytext
import offline
import pytest
from prose import install, lint, markdown_checks, sources, textlint
from prose.document import Document, Kind, Line
from prose.python_text import light_lines

LONG = (
    "この文は、"
    + "とても長い説明を続けて、読み手が途中で主語を忘れてしまうほどの量の情報を、" * 4
    + "一つに詰めています。"
)

CHAPTER = """# ---
# jupyter: {}
# ---

# %% [markdown]
# # 転移学習
#
# ファイン・チューニングを学びます。

# %%
学生モデル = 1
label = f"{学生モデル} 学生モデルの精度"  # 破滅的忘却を測る

# %% [markdown]
# **最大平均不一致度（MMD）**は距離です。
#
# この手法は有効です。しかし、これは仮定である。
#
# 精度が混在してる。
#
# 負の転移は必ず起きる。
"""

QUIZ = """- id: q01-01
  stem: 破滅的忘却の説明として最も適切なものはどれか。
  choices:
    a: 学生モデルの重みを凍結すること
    b: 新しい課題を学ぶと古い課題の精度が落ちること
  why:
    a: 凍結は別の話です。
    b: |
      そのとおりです。
      **定義（要点）**は本文にあります。
"""

MODULE = '''"""部品の説明。

学生モデルを読む。
"""


def f() -> str:
    """終了コード 2 で終わる、句点のない説明"""
    message = (
        "`学生モデル` は名前なので責めない。"
        f"{f} 擬似ラベルを作れません。"
    )
    return message  # １０ 件だけ
'''

CLEAN = """# 転移学習の基礎

**最大平均不一致度**（MMD）は、2つの分布の離れ具合を測る量です。値が0に近いほど、分布は似ています。

次の式で定めます。

$$
\\mathrm{MMD}^2 = \\| \\mu_X - \\mu_Y \\|^2, \\quad a ** b ** c
学生モデル
$$

線形カーネル $k(a, b) = a \\cdot b$ の値と $x$ の平均を比べます。$f(x)$の値は、$x + x + x + x + x + x + x + x + x + x + x + x + x + x + x + x + x + x + x + x + x + x + x + x + x + x + x + x + x + x + x + x + x + x + x + x + x + x + x + x + x$より小さくなります。

ここで $\\mu_X$ は平均埋め込み、`学生モデル = 1` はコードです。`a ** b`も太字ではありません。

```python
学生モデル = x ** 2  # 破滅的忘却
```

- 学習済みの重みを使う
- 不要な層を捨てる。枝を育てている

| 記号 | 意味 |
|---|---|
| $x$ | 入力 |

<div class="alert alert-info" role="note">

枝刈りも**剪定**とは書かない。<!-- canary -->

</div>
"""


@pytest.fixture(scope="module")
def course(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """わざと誤りを入れた教材。"""
    root = tmp_path_factory.mktemp("course")
    clean = CLEAN.replace("枝刈りも**剪定**とは書かない。<!-- canary -->", "必ず確かめてください。")
    files = {
        "chapters/01_x.py": CHAPTER,
        "chapters/quiz/01_x.yaml": QUIZ,
        "tlkit/part.py": MODULE,
        "README.md": f"# 題\n\n{LONG}\n",
        "clean.md": clean,
        "tests/test_x.py": "# 学生モデル\n",
        "ignored.md": "学生モデル\n",
        ".gitignore": "ignored.md\n",
    }
    for name, text in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text, encoding="utf-8")
    subprocess.run(["git", "init", "-q", str(root)], check=True)
    return root


@pytest.fixture(scope="module")
def found(course: Path) -> set[tuple[str, int, str]]:
    """見つかった（ファイル, 行, 規則）。"""
    try:
        findings = lint.check(sources.read_all(course))
    except install.ToolMissingError as error:
        pytest.skip(f"[textlint] {error}")
    return {(f.path, f.line, f.rule.rsplit("/", 1)[-1]) for f in findings}


@pytest.mark.parametrize(
    "expected",
    [
        ("chapters/01_x.py", 8, "prh"),  # ファイン・チューニング
        ("chapters/01_x.py", 12, "prh"),  # 図の題と注釈
        ("chapters/01_x.py", 15, "太字の崩れ"),
        ("chapters/01_x.py", 17, "no-mix-dearu-desumasu"),
        ("chapters/01_x.py", 19, "prh"),  # い抜き
        ("chapters/01_x.py", 21, "文末の常体"),
        ("chapters/quiz/01_x.yaml", 2, "prh"),
        ("chapters/quiz/01_x.yaml", 4, "prh"),
        ("chapters/quiz/01_x.yaml", 10, "太字の崩れ"),
        ("tlkit/part.py", 3, "prh"),  # docstring
        ("tlkit/part.py", 11, "prh"),  # f-string の文字
        ("tlkit/part.py", 13, "2.1.8.算用数字"),  # 注釈
        ("README.md", 3, "sentence-length"),
    ],
)
def test_canary_is_found_at_its_line(found: set[tuple[str, int, str]], expected: tuple[str, int, str]) -> None:
    assert expected in found


def test_nothing_else_is_found(found: set[tuple[str, int, str]]) -> None:
    prh_rows = {(p, n) for p, n, rule in found if rule == "prh"}
    assert prh_rows == {
        ("chapters/01_x.py", 8),
        ("chapters/01_x.py", 12),
        ("chapters/01_x.py", 19),
        ("chapters/quiz/01_x.yaml", 2),
        ("chapters/quiz/01_x.yaml", 4),
        ("tlkit/part.py", 3),
        ("tlkit/part.py", 11),
    }
    assert {path for path, _, _ in found}.isdisjoint({"clean.md", "tests/test_x.py", "ignored.md"})


def test_question_and_light_text_are_spared_sentence_rules(found: set[tuple[str, int, str]]) -> None:
    assert {rule for p, n, rule in found if p.endswith("01_x.yaml") and n in (2, 4, 5)} == {"prh"}
    assert {rule for p, _, rule in found if p == "tlkit/part.py"} == {"prh", "2.1.8.算用数字"}


def test_column_points_at_the_word(course: Path) -> None:
    if not install.installed():
        pytest.skip("[textlint] textlint が入っていません")
    findings = textlint.check(sources.read_all(course, ["tlkit/part.py", "chapters/01_x.py"]))
    for finding in findings:
        if finding.rule == "prh" and finding.message.startswith("学生モデル"):
            line = (course / finding.path).read_text(encoding="utf-8").splitlines()[finding.line - 1]
            assert line[finding.column - 1 :].startswith("学生モデル")


@pytest.mark.linux
def test_runs_with_the_network_cut(course: Path, found: set[tuple[str, int, str]]) -> None:
    script = Path(lint.__file__)
    command = [sys.executable, offline.__file__, "--", sys.executable, str(script), "--root", str(course)]
    done = subprocess.run(command, capture_output=True, text=True, encoding="utf-8", check=False)
    if done.returncode == offline.EXIT_UNAVAILABLE and "ネットワークを切れません" in done.stderr:
        pytest.skip("[linux] 名前空間を作れない機械です")
    assert done.returncode == 1
    assert len(found) >= 13
    assert "tlkit/part.py:3:1: 学生モデル => 生徒モデル" in done.stdout


def test_missing_node_is_left_out_with_a_reason(
    course: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("PATH", os.devnull)
    monkeypatch.setattr(sources, "listed", lambda _root: iter(["README.md"]))
    assert lint.main(["--root", str(course)]) == lint.EXIT_LEFT_OUT
    assert "node がありません" in capsys.readouterr().err


def test_markdown_cells_equal_those_of_jupytext(course: Path) -> None:
    cells = [c.source for c in jupytext.read(course / "chapters/01_x.py").cells if c.cell_type == "markdown"]
    prose = next(d for d in sources.read_all(course, ["chapters/01_x.py"]) if d.markdown)
    assert "\n".join(line.text for line in prose.lines if line.text) == "\n".join(
        text for cell in cells for text in cell.splitlines() if text
    )


def test_quiz_values_keep_their_places(course: Path) -> None:
    (quiz,) = sources.read_all(course, ["chapters/quiz/01_x.yaml"])
    taken = [(line.number, line.column, line.text, line.kind) for line in quiz.lines if line.text]
    assert taken[0] == (2, 8, "破滅的忘却の説明として最も適切なものはどれか。", Kind.QUESTION)
    assert taken[-2:] == [
        (9, 6, "そのとおりです。", Kind.PROSE),
        (10, 6, "**定義（要点）**は本文にあります。", Kind.PROSE),
    ]
    assert [number for number, *_ in taken] == [2, 4, 5, 7, 9, 10]


def test_code_and_fields_inside_strings_are_hidden() -> None:
    lines = light_lines('f"{学生モデル}の値"\n"`学生モデル`は名前"\n')
    assert "学生モデル" not in "".join(line.text for line in lines)
    assert [(line.number, line.text[line.text.index("の値") :]) for line in lines if "の値" in line.text] == [
        (1, "の値")
    ]


@pytest.mark.parametrize(
    ("text", "broken"),
    [
        ("**用語（略語）**は量です。", True),
        ("**「語」**は量です。", True),
        ("**用語**（略語）は量です。", False),
        ("`a**b`と$a**b$は式です。", False),
        ("$$\na**b **c（d）**は\n$$", False),
    ],
)
def test_bold_is_judged_by_rendering(text: str, broken: bool) -> None:
    assert bool(markdown_checks.check(_document(text))) is broken


@pytest.mark.parametrize(
    ("text", "plain"),
    [
        ("重みを更新する。", True),
        ("値は小さい。次に進みます。", True),
        ("重みを更新しました。", False),
        ("次を読んでください。値はいくつでしょうか。", False),
        ("彼は「考える。」と言いました。", False),
        ("- 重みを更新する。", False),
        ("# 重みを更新する。", False),
    ],
)
def test_plain_ending_is_found_only_in_body(text: str, plain: bool) -> None:
    assert bool(markdown_checks.check(_document(text))) is plain


def test_lock_names_no_host() -> None:
    lock = (install.FOLDER / "package-lock.json").read_text(encoding="utf-8")
    assert "http" not in lock
    assert "resolved" not in lock
    assert '"integrity"' in lock


def _document(text: str) -> Document:
    lines = [Line(line, i, 0, Kind.PROSE) for i, line in enumerate(text.splitlines(), 1)]
    return Document(Path("x.md"), markdown=True, lines=lines)
