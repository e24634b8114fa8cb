"""`larder serve` as the `openai` package sees it."""

import http.client
import json
import pathlib
import re
import shutil
import signal
import ssl
import subprocess
import threading
import time

import pytest

openai = pytest.importorskip("openai", reason="the openai package is not installed")

MODEL = pathlib.Path(__file__).parents[2] / "models/stories260K.gguf"
TEMPLATE = "{% for m in messages %}{{ m.role }}: {{ m.content }}\n{% endfor %}assistant:"
PROMPT = "Once upon a time there was a little girl named Lily who had a dog"


class Server:
    def __init__(self, larder: str, folder: pathlib.Path, *flags: str, n_context: int = 256,
                 chat_template: str = TEMPLATE):
        template = folder / "chat.jinja"
        template.write_text(chat_template)
        self.process = subprocess.Popen(
            [larder, "serve", "-m", str(MODEL), "--port", "0", "-t", "1", "-c", str(n_context),
             "--temp", "0", "--alias", "tiny", "--chat-template", str(template), *flags],
            stderr=subprocess.PIPE, text=True)
        self.log = ""
        for line in self.process.stderr:
            self.log += line
            if found := re.search(r"serving .* at (https?://\S+:\d+)", line):
                self.url = found.group(1)
                return
        raise RuntimeError(self.log)

    def client(self, key: str = "none"):
        return openai.OpenAI(base_url=self.url + "/v1", api_key=key, timeout=60, max_retries=0)

    def stop(self) -> int:
        self.process.send_signal(signal.SIGTERM)
        code = self.process.wait(timeout=60)
        self.process.stderr.close()
        return code


@pytest.fixture(scope="module")
def server(larder, tmp_path_factory):
    running = Server(larder, tmp_path_factory.mktemp("server"))
    yield running
    assert running.stop() == 0


def test_completion_whole_and_streamed(server):
    client = server.client()
    whole = client.completions.create(model="tiny", prompt=PROMPT, max_tokens=12, logprobs=2)
    assert whole.usage.completion_tokens == 12
    assert len(whole.choices[0].logprobs.tokens) == 12
    stream = client.completions.create(model="tiny", prompt=PROMPT, max_tokens=12, stream=True)
    assert "".join(chunk.choices[0].text for chunk in stream) == whole.choices[0].text
    again = client.completions.create(model="tiny", prompt=PROMPT, max_tokens=12)
    assert again.choices[0].text == whole.choices[0].text
    cached = again.usage.prompt_tokens_details.cached_tokens
    assert cached == again.usage.prompt_tokens - 1


def test_chat_whole_and_streamed(server):
    client = server.client()
    messages = [{"role": "system", "content": "Be kind."}, {"role": "user", "content": "Hello"}]
    whole = client.chat.completions.create(model="tiny", messages=messages, max_tokens=9, n=2,
                                           logprobs=True, top_logprobs=2)
    assert [c.index for c in whole.choices] == [0, 1]
    assert len(whole.choices[0].logprobs.content) == 9
    text, usage = "", None
    for chunk in client.chat.completions.create(model="tiny", messages=messages,
                                                max_completion_tokens=9, stream=True,
                                                stream_options={"include_usage": True}):
        usage = chunk.usage or usage
        for choice in chunk.choices:
            text += choice.delta.content or ""
    assert text == whole.choices[0].message.content
    assert usage.completion_tokens == 9


def test_stop_seed_and_errors(server):
    client = server.client()
    text = client.completions.create(model="tiny", prompt=PROMPT, max_tokens=40).choices[0].text
    stopped = client.completions.create(model="tiny", prompt=PROMPT, max_tokens=40,
                                        stop=[text[20:26]])
    assert stopped.choices[0].text == text[:text.index(text[20:26])]
    assert stopped.choices[0].finish_reason == "stop"
    drawn = [client.completions.create(model="tiny", prompt=PROMPT, max_tokens=20, temperature=1.2,
                                       seed=seed).choices[0].text for seed in (1, 1, 2)]
    assert drawn[0] == drawn[1] != drawn[2]
    with pytest.raises(openai.BadRequestError) as bad:
        client.completions.create(model="tiny", prompt=PROMPT, temperature=9)
    assert bad.value.body["param"] == "temperature"
    with pytest.raises(openai.NotFoundError):
        client.completions.create(model="gpt-4", prompt=PROMPT)


def test_leaving_early_frees_the_server(server):
    client = server.client()
    for _ in range(3):
        stream = client.completions.create(model="tiny", prompt=PROMPT, max_tokens=200, stream=True)
        next(iter(stream))
        stream.close()
    assert [m.id for m in client.models.list()] == ["tiny"]


def test_keys(larder, tmp_path):
    keys = tmp_path / "keys"
    keys.write_text("# ours\nsecret-1\nsecret-2\n")
    server = Server(larder, tmp_path, "--api-key-file", str(keys))
    try:
        assert server.client("secret-2").models.list().data[0].id == "tiny"
        with pytest.raises(openai.AuthenticationError):
            server.client("secret").models.list()
    finally:
        assert server.stop() == 0


def test_tls(larder, tmp_path):
    if shutil.which("openssl") is None:
        pytest.skip("the openssl program is not installed")
    key, cert = tmp_path / "key.pem", tmp_path / "cert.pem"
    subprocess.run(["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2",
                    "-subj", "/CN=localhost", "-addext", "subjectAltName=IP:127.0.0.1",
                    "-keyout", str(key), "-out", str(cert)], check=True, capture_output=True)
    server = Server(larder, tmp_path, "--ssl-cert-file", str(cert), "--ssl-key-file", str(key))
    try:
        trust = ssl.create_default_context(cafile=cert)
        host = server.url.removeprefix("https://")
        connection = http.client.HTTPSConnection(host, context=trust, timeout=60)
        for _ in range(2):  # on one connection
            connection.request("POST", "/v1/completions", json.dumps(
                {"prompt": PROMPT, "max_tokens": 9, "stream": True}))
            assert connection.getresponse().read().endswith(b"data: [DONE]\n\n")
        connection.close()
    finally:
        assert server.stop() == 0


def resident_mb(process: subprocess.Popen) -> float:
    status = pathlib.Path(f"/proc/{process.pid}/status").read_text()
    return int(re.search(r"VmRSS:\s+(\d+) kB", status).group(1)) / 1024


def test_memory_returns_after_large_bodies(larder, tmp_path):
    if not pathlib.Path("/proc/self/status").exists():
        pytest.skip("no /proc")
    server = Server(larder, tmp_path)

    def post(body: bytes) -> int:
        connection = http.client.HTTPConnection(server.url.removeprefix("http://"), timeout=120)
        try:
            connection.request("POST", "/v1/completions", body)
            return connection.getresponse().status
        except OSError:
            return 503  # refused while it was still sending
        finally:
            connection.close()

    try:
        post(json.dumps({"prompt": PROMPT, "max_tokens": 50}).encode())
        before = resident_mb(server.process)
        large = json.dumps({"prompt": "Once upon a time " * 450_000}).encode()
        assert [post(large) for _ in range(4)] == [400] * 4
        statuses = []
        clients = [threading.Thread(target=lambda: statuses.append(post(b"[1, " * 1_900_000)))
                   for _ in range(48)]
        for client in clients:
            client.start()
        for client in clients:
            client.join()
        assert 400 in statuses and set(statuses) <= {400, 503}
        patience = time.monotonic() + 60  # the last memory goes back behind the last answer
        while resident_mb(server.process) > before + 16 and time.monotonic() < patience:
            assert server.client().models.list().data
        assert resident_mb(server.process) <= before + 16
    finally:
        assert server.stop() == 0
