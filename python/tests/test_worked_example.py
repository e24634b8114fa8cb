"""The worked example of docs/training.md, command by command, on a model of seconds."""

import json
import os
import pathlib
import re
import signal
import subprocess
import sys
import urllib.request

import pytest

from larder_train.cli import main

DOCS = pathlib.Path(__file__).parents[2] / "docs/training.md"
PACKAGE = pathlib.Path(__file__).parents[1]
MODEL = ("--n-embd 64 --n-layers 2 --n-heads 4 --head-dim 16 --n-ff 96 --context 256 "
         "--attention mha --family llama")
STEPS = "--stages 128:1 --tokens 8192 --step-tokens 1024 --micro-tokens 1024 --threads 1"


def _example() -> tuple[str, str]:
    """Everything up to the server, and the server's line."""
    text = DOCS.read_text().split("<!-- worked example: a test runs it -->")[1]
    block = re.search(r"```\n(.*?)```", text, re.S).group(1)
    work, serve = block.split("larder serve", 1)
    return work, "exec larder serve" + serve


@pytest.fixture(scope="module")
def folder(cache, text_folder, larder, tmp_path_factory) -> pathlib.Path:
    """What the example starts from: a small MHA, text, and commands in the path."""
    folder = tmp_path_factory.mktemp("example")
    assert main(["train", "--cache", str(cache), "--out", str(folder / "run"), *MODEL.split(),
                 *STEPS.split()]) == 0
    assert main(["export", "--run", str(folder / "run"), "--out", str(folder / "source")]) == 0
    (folder / "corpus").symlink_to(text_folder)
    (folder / "heldout.txt").write_text("The river is a garden and a candle by the window. " * 20)
    (folder / "bin").mkdir()
    for name, program in (("python", sys.executable), ("larder", pathlib.Path(larder).resolve())):
        (folder / "bin" / name).write_text(f'#!/bin/sh\nexec "{program}" "$@"\n')
        (folder / "bin" / name).chmod(0o755)
    return folder


def _environment(folder: pathlib.Path) -> dict:
    return os.environ | {
        "PATH": f"{folder / 'bin'}:{os.environ['PATH']}", "PYTHONPATH": str(PACKAGE),
        "SOURCE": "source", "CORPUS": "corpus", "SAMPLE": "corpus/plain.txt",
        "TEXT": "heldout.txt", "ROWS": "128", "STEPS": "80", "STEP_TOKENS": "1024", "PORT": "0"}


def test_the_worked_example(folder):
    work, serve = _example()
    done = subprocess.run(["bash", "-euo", "pipefail", "-c", work], cwd=folder, text=True,
                          env=_environment(folder), capture_output=True)
    assert done.returncode == 0, done.stdout + done.stderr
    # A report after each conversion and after each training.
    assert len(re.findall("KL +mean", done.stdout)) == 4, done.stdout
    for kind, config in (("gqa", {"num_key_value_heads": 1}), ("mla", {"kv_lora_rank": 24})):
        written = json.loads((folder / f"{kind}-trained/config.json").read_text())
        assert written | config == written
    server = subprocess.Popen(["bash", "-c", serve], cwd=folder, env=_environment(folder),
                              stderr=subprocess.PIPE, text=True)
    try:
        url = next(found.group(1) for line in server.stderr
                   if (found := re.search(r"serving .* at (http://\S+:\d+)", line)))
        body = json.dumps({"prompt": "The river", "max_tokens": 4}).encode()
        request = urllib.request.Request(url + "/v1/completions", body,
                                         {"Content-Type": "application/json"})
        with urllib.request.urlopen(request, timeout=60) as answer:
            assert json.load(answer)["usage"]["completion_tokens"] == 4
    finally:
        server.send_signal(signal.SIGTERM)
        server.stderr.read()
        server.stderr.close()
        assert server.wait(timeout=60) == 0
