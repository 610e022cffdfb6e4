"""データが使えないときの例外。文面には、何が起き、何が必要で、どうすればよいかを書く。"""


class DataUnavailableError(RuntimeError):
    """データを取りに行けない、または置き場所に書けない・読めない。ファイルは途中の形では残らない。"""


class DataCorruptedError(ValueError):
    """置き場所にあるファイルの中身が、公式の照合値と合わない。"""
