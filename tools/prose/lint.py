"""教材の日本語をすべて調べる: `python tools/prose/lint.py [ファイル…]`。

指摘は `ファイル:行:列: 内容 [規則]` の形。1 つでもあれば終了コード 1、道具がなくて調べ切れなければ 77。
"""

import argparse
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from prose import markdown_checks, textlint
from prose.document import Document, Finding
from prose.install import ToolMissingError, ensure
from prose.sources import read_all

EXIT_LEFT_OUT = 77
_ROOT = Path(__file__).resolve().parents[2]


def check(documents: list[Document]) -> list[Finding]:
    """すべての検査の指摘を、位置の順に返す。

    Raises:
        ToolMissingError: textlint を使えないとき。
    """
    ensure()
    own = [finding for document in documents for finding in markdown_checks.check(document)]
    return sorted({*own, *textlint.check(documents)})


def main(arguments: list[str]) -> int:
    """コマンドラインの入口。"""
    parser = argparse.ArgumentParser(
        prog="lint.py", description="教材の日本語（本文・設問・docstring・注釈）を調べます。"
    )
    parser.add_argument("names", nargs="*", metavar="ファイル", help="根からの名前。省くとすべて調べます")
    parser.add_argument("--root", type=Path, default=_ROOT, metavar="フォルダ", help="教材の根")
    options = parser.parse_args(arguments)
    documents = read_all(options.root, options.names)
    try:
        findings = check(documents)
    except ToolMissingError as error:
        print(f"文章の検査を省きます: {error}", file=sys.stderr)
        return EXIT_LEFT_OUT
    except textlint.TextlintError as error:
        print(error, file=sys.stderr)
        return 2
    print(*findings, sep="\n", end="\n" if findings else "")
    print(f"文章の検査: {len({d.source for d in documents})} ファイル、指摘 {len(findings)} 件")
    return 1 if findings else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
