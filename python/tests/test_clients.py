"""Clients that are no Python: the `openai` npm package, and curl as the documents show it."""

import json
import os
import pathlib
import re
import shutil
import subprocess

import pytest
from test_server import Server
from test_structured import TOOLS_TEMPLATE

ROOT = pathlib.Path(__file__).parents[2]
NODE_MODULES = ROOT / "build/node/node_modules"  # scripts/node_setup.sh


@pytest.fixture(scope="module")
def server(larder, tmp_path_factory):
    running = Server(larder, tmp_path_factory.mktemp("server"), n_context=512,
                     chat_template=TOOLS_TEMPLATE)
    yield running
    assert running.stop() == 0


@pytest.mark.skipif(not shutil.which("node"), reason="there is no node")
@pytest.mark.skipif(not (NODE_MODULES / "openai").is_dir(),
                    reason="scripts/node_setup.sh has not installed the openai package")
def test_npm_package(server):
    script = pathlib.Path(__file__).with_name("openai_client.cjs")
    done = subprocess.run(["node", str(script), server.url], capture_output=True, text=True,
                          env={**os.environ, "NODE_PATH": str(NODE_MODULES)}, timeout=120)
    assert done.returncode == 0, done.stderr
    assert "all is well" in done.stdout


def curl_commands():
    """Those of the documents' shell blocks that ask a server at port 8080, each with its lines."""
    for name in ("README.md", "docs/server.md"):
        text = (ROOT / name).read_text()
        for block in re.findall(r"```sh\n(.*?)```", text, re.DOTALL):
            command = ""
            for line in block.splitlines():
                command += line
                if line.endswith("\\") or command.count("'") % 2:
                    command += "\n"
                    continue
                if command.startswith("curl ") and "http://127.0.0.1:8080" in command:
                    yield pytest.param(command, id=f"{name}: {command[:60]}")
                command = ""


@pytest.mark.skipif(not shutil.which("curl"), reason="there is no curl")
@pytest.mark.parametrize("command", list(curl_commands()))
def test_curl_of_the_documents(server, command):
    shown = command.replace("http://127.0.0.1:8080", server.url)
    done = subprocess.run(["bash", "-c", shown.replace("curl ", "curl -sS --fail-with-body ", 1)],
                          capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout and '"error"' not in done.stdout
    if "/cache/pin" in command:
        assert json.loads(done.stdout)["pinned_tokens"] > 0, done.stdout


def test_the_documents_have_commands():
    assert len(list(curl_commands())) >= 6
