"""檻の世界の主（中では 1 番のプロセス）。温めた Python の写しが檻に入るまで場所を空けておき、その終わりを外へ伝える。

`python -I -S keeper.py 口の番号` で、どのモジュールも読み込まずに始まる。主が終わると、檻の中のものはすべて終わる。
主を作るのは `zygote.py`、終わりの知らせを読むのは `../zygote.py` である。
"""

import os
import sys


def keep(ended: int) -> None:
    """進行役の番号を標準入力から受け取り、その終わりを ended へ書く。ほかの孤児も引き取る。"""
    os.write(1, b".")  # 檻ができた
    runner = int(os.read(0, 32))
    while True:
        pid, status = os.wait()
        if pid == runner:
            code = os.waitstatus_to_exitcode(status)
            os.write(ended, b"%d\n" % (128 - code if code < 0 else code))
            return


if __name__ == "__main__":
    keep(int(sys.argv[1]))
