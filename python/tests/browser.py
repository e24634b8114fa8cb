"""A headless Chromium that tests drive over its own protocol."""

import base64
import json
import pathlib
import re
import shutil
import subprocess
import time

import websocket


class Browser:
    def __init__(self, folder: pathlib.Path):
        self.process = subprocess.Popen(
            [shutil.which("chromium"), "--headless=new", "--no-sandbox", "--disable-gpu",
             "--disable-dev-shm-usage", "--remote-debugging-port=0", "--remote-allow-origins=*",
             f"--user-data-dir={folder}", "about:blank"],
            stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True)
        address = ""
        for line in self.process.stderr:
            if found := re.search(r"DevTools listening on (ws://\S+)", line):
                address = found.group(1)
                break
        self.socket = websocket.create_connection(address, timeout=60)
        self.n_sent = 0
        self.session = None
        target = self.send("Target.createTarget", url="about:blank")["targetId"]
        self.session = self.send("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        self.requested = []  # addresses that the page asked for
        self.send("Network.enable")
        self.send("Page.enable")

    def send(self, method: str, **params):
        self.n_sent += 1
        message = {"id": self.n_sent, "method": method, "params": params}
        if self.session:
            message["sessionId"] = self.session
        self.socket.send(json.dumps(message))
        while True:
            answer = json.loads(self.socket.recv())
            if answer.get("method") == "Network.requestWillBeSent":
                self.requested.append(answer["params"]["request"]["url"])
            if answer.get("id") == self.n_sent:
                assert "error" not in answer, answer
                return answer["result"]

    def screen(self, width: int, height: int, dark: bool):
        self.send("Emulation.setDeviceMetricsOverride", width=width, height=height,
                  deviceScaleFactor=1, mobile=width < 600)
        self.send("Emulation.setEmulatedMedia",
                  features=[{"name": "prefers-color-scheme", "value": "dark" if dark else "light"}])

    def open(self, url: str):
        self.send("Page.navigate", url=url)
        self.wait_for(f"location.href === {url!r} && document.readyState === 'complete'")

    def ask(self, expression: str):
        result = self.send("Runtime.evaluate", expression=expression, returnByValue=True,
                           awaitPromise=True)
        assert "exceptionDetails" not in result, result
        return result["result"].get("value")

    def wait_for(self, expression: str, seconds: float = 60):
        end = time.monotonic() + seconds
        while not self.ask(expression):
            assert time.monotonic() < end, f"not in {seconds} s: {expression}"

    def picture(self, path: pathlib.Path):
        data = self.send("Page.captureScreenshot", format="png")["data"]
        path.write_bytes(base64.b64decode(data))

    def close(self):
        self.socket.close()
        self.process.kill()
        self.process.wait()
        self.process.stderr.close()
