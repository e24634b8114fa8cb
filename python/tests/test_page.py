"""The server's page in a real browser: `--picture FILE` keeps what it looks like."""

import shutil

import pytest

pytest.importorskip("websocket", reason="the websocket-client package is not installed")
from browser import Browser  # noqa: E402
from test_server import Server  # noqa: E402

pytestmark = pytest.mark.skipif(not shutil.which("chromium"), reason="there is no chromium")

WORDS = "document.querySelector('.turn.assistant:last-child span').textContent"
NOTE = "(document.querySelector('.turn.assistant:last-child small') || {}).textContent"


@pytest.fixture
def server(larder, tmp_path):
    running = Server(larder, tmp_path, n_context=512)
    yield running
    assert running.stop() == 0


@pytest.fixture
def browser(tmp_path):
    started = Browser(tmp_path / "profile")
    yield started
    started.close()


def say(browser, text):
    browser.ask(f"document.getElementById('text').value = {text!r};"
                "document.getElementById('form').requestSubmit()")
    browser.wait_for(f"({NOTE} || '').includes('written in')")


def test_chat_and_cache_live(server, browser, tmp_path, request):
    browser.screen(1180, 720, dark=False)
    browser.open(server.url + "/")
    browser.wait_for("document.getElementById('model').textContent.startsWith('tiny')")
    say(browser, "Once upon a time there was a little girl")
    first = browser.ask(WORDS)
    assert first
    say(browser, "And then?")
    note = browser.ask(NOTE)
    cached = int(note.split("prompt tokens, ")[1].split(" ")[0])
    assert cached > 10, note  # the turn before
    browser.wait_for("!document.getElementById('saved').textContent.includes('computed0')")
    browser.wait_for("Array.from(document.querySelectorAll('#blocks tr')).some(row => "
                     "row.cells[0].textContent === 'bf16' && row.cells[4].textContent !== '0')")
    assert all(url.startswith(server.url) for url in browser.requested), browser.requested
    kept = request.config.getoption("--picture")
    browser.picture(tmp_path / "page.png")
    if kept:
        shutil.copy(tmp_path / "page.png", kept)


@pytest.mark.parametrize("dark", [False, True])
def test_a_phone_needs_no_sideways_scrolling(server, browser, tmp_path, dark):
    browser.screen(375, 740, dark)
    browser.open(server.url + "/")
    browser.wait_for("document.getElementById('model').textContent.startsWith('tiny')")
    say(browser, "Once")
    assert browser.ask("document.documentElement.scrollWidth") <= 375
    back = browser.ask("getComputedStyle(document.body).backgroundColor")
    assert back == ("rgb(25, 24, 22)" if dark else "rgb(246, 245, 241)")


def test_markup_in_answers_stays_text(server, browser):
    browser.open(server.url + "/")
    browser.wait_for("document.getElementById('model').textContent.startsWith('tiny')")
    say(browser, "<img src=x onerror=alert(1)><b>bold</b>")
    assert browser.ask("document.querySelectorAll('#talk img, #talk b').length") == 0


def test_asks_for_a_key_and_sends_it(larder, browser, tmp_path):
    server = Server(larder, tmp_path, "--api-key", "secret-1")
    try:
        browser.screen(375, 740, dark=False)
        browser.open(server.url + "/")
        browser.wait_for("!document.getElementById('keys').hidden")
        assert browser.ask("document.documentElement.scrollWidth") <= 375
        for key, seen in [("wrong", "not known"), ("secret-1", "tiny")]:
            browser.ask(f"document.getElementById('key').value = '{key}';"
                        "document.getElementById('keys').requestSubmit()")
            browser.wait_for(f"document.getElementById('model').textContent.includes('{seen}')")
        browser.wait_for("document.getElementById('keys').hidden")
        say(browser, "Once")
        assert browser.ask(WORDS)
    finally:
        assert server.stop() == 0
