"""ノートブックを動かすカーネルの、決まった環境変数。

利用者の設定を拾わないよう、許した環境変数だけを渡す。
隣: カーネルの起動は `tlkit/course/kernel.py`、セルを順に動かすのは `execute.py`。
"""

import os
from pathlib import Path

from tlkit.course.kernel import ONE_THREAD
from tlkit.course.paths import course_root

FIXED = {
    **ONE_THREAD,
    "PYTHONHASHSEED": "0",
    "PYTHONUTF8": "1",
    "TZ": "Asia/Tokyo",
    "LANG": "C.UTF-8",
    "LC_ALL": "C.UTF-8",
    "MPLBACKEND": "Agg",
    "COLUMNS": "100",
    "CUDA_VISIBLE_DEVICES": "",
    "TLKIT_BUILD": "1",  # doctor のように機械ごとに変わる表示は、これを見て決まった文に替える
}
# 動くために要るものと、利用者が選んだ置き場所だけを渡す。表示や警告を変える変数は渡さない。
_PASSED = frozenset(
    {
        *("PATH", "HOME", "USER", "LOGNAME", "TEMP", "TMP", "TMPDIR", "LD_LIBRARY_PATH", "DYLD_LIBRARY_PATH"),
        *(
            "USERPROFILE",
            "HOMEDRIVE",
            "HOMEPATH",
            "APPDATA",
            "LOCALAPPDATA",
            "PROGRAMDATA",
            "SYSTEMROOT",
            "SYSTEMDRIVE",
        ),
        *("WINDIR", "COMSPEC", "PATHEXT", "NUMBER_OF_PROCESSORS", "PROCESSOR_ARCHITECTURE"),
        *("PYTHONPATH", "VIRTUAL_ENV", "CONDA_PREFIX", "XDG_CACHE_HOME", "XDG_DATA_HOME", "XDG_RUNTIME_DIR"),
        *("MPLCONFIGDIR", "TORCH_HOME", "HF_HOME", "TLKIT_DATA", "SSL_CERT_FILE", "REQUESTS_CA_BUNDLE"),
        *("HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY"),
    }
)


def kernel_environment(scratch: Path) -> dict[str, str]:
    """カーネルに渡す環境変数。進み具合の記録と、利用者ごとの設定は見せない。"""
    (scratch / "matplotlibrc").touch()
    own = {
        "TLKIT_COURSE": str(course_root()),
        "TLKIT_WORK": str(scratch / "no-work"),
        "IPYTHONDIR": str(scratch / "ipython"),
        "MATPLOTLIBRC": str(scratch / "matplotlibrc"),
    }
    passed = {name: value for name, value in os.environ.items() if name.upper() in _PASSED}
    return {**passed, **FIXED, **own}
