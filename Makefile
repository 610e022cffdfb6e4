# 使い方は make help。仮想環境 .venv の用意は tools/bootstrap.py が受け持つ（用意ができていれば一瞬で済む）。
PYTHON ?= python3
CPU ?=
ARGS ?=
BIN := .venv/$(if $(filter Windows_NT,$(OS)),Scripts,bin)

.DEFAULT_GOAL := help
.PHONY: help lab test test-fast build clean-venv

help:
	@echo "make lab        JupyterLab を開く（初めてのときは必要なものを入れます）"
	@echo "make test       すべての検査（この機械でできるもの）"
	@echo "make test-fast  毎日の検査（3 分まで）"
	@echo "make build      .py からノートブックを作り直す"
	@echo "make clean-venv 仮想環境 .venv を消す"
	@echo ""
	@echo "CPU=1           Linux で CPU 専用の小さな PyTorch を使う（CPU=0 で通常版へ戻す）"
	@echo "PYTHON=...      使う Python（3.11〜3.13）を指定する"
	@echo "ARGS=\"...\"      コマンドに渡す引数。例: make lab ARGS=\"--port 9999 --no-browser\""

lab:
	@$(PYTHON) tools/bootstrap.py lab --cpu "$(CPU)"
	@$(BIN)/tlkit lab $(ARGS)

test test-fast build:
	@$(PYTHON) tools/bootstrap.py dev --cpu "$(CPU)"
	@$(if $(filter build,$@),$(BIN)/tlkit build,$(BIN)/python tools/stages.py $(if $(filter test-fast,$@),--fast)) $(ARGS)

clean-venv:
	@$(PYTHON) tools/bootstrap.py clean
