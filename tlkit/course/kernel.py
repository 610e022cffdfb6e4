"""ノートブックを動かすカーネル。いまの Python の ipykernel を、kernelspec を介さずに起動する。

利用者の環境に別の Python を指す kernelspec があっても、必ずこの Python で動きます。
使う側は `build/`（教材を作る）と `checks/notebook_run.py`（学習者のノートブックの確認）です。
"""

import os
import sys
from pathlib import Path
from typing import Any

from jupyter_client.kernelspec import KernelSpec
from jupyter_client.manager import AsyncKernelManager

# 計算のスレッドは 1 本にする。速さより、機械によらず同じ値になることを取る。
ONE_THREAD = {
    "OMP_NUM_THREADS": "1",
    "MKL_NUM_THREADS": "1",
    "OPENBLAS_NUM_THREADS": "1",
    "NUMEXPR_NUM_THREADS": "1",
    "VECLIB_MAXIMUM_THREADS": "1",
}


class DirectKernel(AsyncKernelManager):
    """カーネルの登録簿を引かず、今の Python の ipykernel を直に起動する管理役。"""

    @property
    def kernel_spec(self) -> KernelSpec:
        """今の Python を起動する定義。"""
        argv = [sys.executable, "-m", "ipykernel_launcher", "-f", "{connection_file}"]
        return KernelSpec(argv=argv, display_name="Python 3", language="python")


def new_kernel(scratch: Path) -> DirectKernel:
    """scratch に接続用のファイルを置くカーネルを作る（まだ起動しない）。"""
    options: dict[str, Any] = {"connection_file": str(scratch / "kernel.json")}
    if os.name == "posix" and len(str(scratch)) < 80:  # ソケットの名前の長さには上限がある
        options |= {"transport": "ipc", "ip": str(scratch / "s")}
    return DirectKernel(**options)
