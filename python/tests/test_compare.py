"""The comparison: equal weights, stages that go on after a stop, and what the report says."""

import hashlib
import json

import numpy as np
import pytest

from larder_train import card as card_module
from larder_train.cli import main
from larder_train.compare.picture import quality_svg, speed_svg
from larder_train.compare.report import BEGIN, END, tables, write_report
from larder_train.compare.variants import cached_numbers, n_weights, variant
from larder_train.data.corpus import Corpus
from larder_train.data.tasks import TaskMaker
from larder_train.errors import InputError
from larder_train.measure import question
from larder_train.options import ModelOptions

KINDS = ["mha", "gqa4", "gqa2", "mqa", "mla", "cla"]
BASE = ModelOptions(family="llama", vocab_size=8192, n_embd=192, n_layers=6, n_heads=8, head_dim=32,
                    n_ff=448, kv_latent=96, rope_dim=32, nope_dim=32, v_dim=32)


def test_kinds_have_as_many_weights():
    whole = n_weights(variant("mha", BASE))
    for kind in KINDS:
        assert abs(n_weights(variant(kind, BASE)) / whole - 1) < 0.005, kind
    cached = {kind: cached_numbers(variant(kind, BASE)) for kind in KINDS}
    assert cached["mha"] == 2 * cached["gqa4"] == 4 * cached["gqa2"] == 8 * cached["mqa"]
    assert cached["mla"] == cached["cla"] == cached["gqa2"]
    with pytest.raises(InputError, match="gqa3"):
        variant("gqa3", BASE)


def test_a_question_ends_where_its_answer_begins(cache):
    corpus = Corpus.open(cache)
    maker = TaskMaker(corpus.tokenizer, lambda rng, n: corpus.sources["plain"][5:5 + n])
    task = maker.passkey(np.random.default_rng(1), 200, 0.5)
    prompt, answer, n = question(corpus.tokenizer, task)
    assert prompt.endswith("The pass key is") and f"The pass key is{answer}. Remember" in prompt
    assert corpus.tokenizer.encode(prompt + answer).ids[-n:] == corpus.tokenizer.encode(answer).ids
    task = maker.key_value(np.random.default_rng(2), 250, n_questions=1)
    prompt, answer, n = question(corpus.tokenizer, task)
    word = prompt.removesuffix(" is").rsplit(" ", 1)[1]
    assert f"The code of {word} is{answer}.\n" in prompt


def _model(name: str, size: int, bits: float) -> dict:
    return {"name": name, "title": name.upper(), "weights": 1000, "kv_bytes_per_token": size,
            "bits_per_byte": {"heldout_a": bits, "heldout_b": bits + 1}, "retrieval": [
                {"tokens": n, "samples": 4, "passkey": 0.5, "key_value": 0.25,
                 "passkey_by_depth": {"0.00": 1.0, "1.00": 0.0}} for n in (128, 256)]}


def test_report_keeps_the_words_around_the_figures(tmp_path):
    rate = {"median": 50.0, "min": 40.0, "max": 60.0}
    figures = {"models": [_model("mha", 4096, 1.5), _model("mqa", 512, 1.75)],
               "speed": {"depth": 100, "decoded_tokens": 8, "engine": "e",
                         "tokens_per_second": {"mha": rate, "mqa": rate}},
               "training": {"tokens": 10, "step_tokens": 2, "stages": ["128:1"], "lr": 1,
                            "optimizer": "muon", "seed": 1, "uptrain_fraction": 0.05},
               "shape": {"n_layers": 1, "n_embd": 2, "n_heads": 3, "head_dim": 4, "vocab_size": 5}}
    page = tmp_path / "docs" / "x.md"
    write_report(page, figures)
    page.write_text(f"# Title\n\n{BEGIN}\nold\n{END}\n\nLast words.\n")
    write_report(page, figures)
    text = page.read_text()
    assert text.startswith("# Title\n\n") and text.endswith(f"{END}\n\nLast words.\n")
    assert "| MQA | 1,000 | 512 | 87.5% | 1.750 | 2.750 | 2.250 | 50 (40 to 60) |" in text
    assert "| MQA | 50% | 50% | 100% | 0% | 25% | 25% |" in text and "\nold\n" not in text
    assert tables(figures) in text
    assert {p.name for p in page.parent.iterdir()} == {"x.md", "x.json", "x_quality.svg",
                                                       "x_speed.svg"}


def test_pictures_name_every_model():
    points = [("MHA", 4096, 1.5), ("A to B", 1024, 1.5), ("MQA", 512, 1.5)]
    for picture in (quality_svg(points), speed_svg([(t, float(s)) for t, s, _ in points], "speed")):
        assert picture.startswith("<svg") and all(f">{title}<" in picture for title, _, _ in points)


@pytest.fixture
def held_out(tmp_path, text_folder):
    folder = tmp_path / "text"
    folder.mkdir()
    for name in "ab":
        (folder / f"heldout_{name}.txt").write_text((text_folder / "plain.txt").read_text())
    return folder


def test_measure_writes_the_card(cache, larder, tmp_path, held_out, capsys):
    run, gguf, card = tmp_path / "run", tmp_path / "m.gguf", tmp_path / "card.md"
    assert main(["train", "--cache", str(cache), "--out", str(run), "--n-embd", "32", "--n-layers",
                 "2", "--head-dim", "16", "--n-ff", "64", "--context", "256", "--stages", "128:1",
                 "--tokens", "2048", "--step-tokens", "512", "--threads", "1", "--device",
                 "cpu"]) == 0
    assert main(["export", "--run", str(run), "--out", str(tmp_path / "hf"), "--larder", larder,
                 "--gguf", str(gguf)]) == 0
    card.write_text(f"# Model\n\n{card_module.BEGIN}\n{card_module.END}\nLimits.\n")
    assert main(["measure", "--gguf", str(gguf), "--tokenizer", str(tmp_path / "hf"), "--larder",
                 larder, "--text", str(held_out), "--tokens", "400", "--context", "64",
                 "--long-context", "128", "--lengths", "224", "--samples", "2", "--card", str(card),
                 "--run", str(run), "--beside", str(gguf)]) == 0
    text = card.read_text()
    assert text.startswith("# Model\n") and text.endswith("\nLimits.\n")
    assert "2,048 tokens in 4 steps" in text and "windows of 128 |" in text
    assert hashlib.sha256(gguf.read_bytes()).hexdigest() in text and "| 224 | " in text
    assert json.loads((tmp_path / "m.json").read_text())["run"]["tokens"] == 2048
    assert main(["measure", "--gguf", str(gguf), "--larder", larder, "--text", str(held_out),
                 "--card", str(card)]) == 2
    assert "needs --run" in capsys.readouterr().err


@pytest.fixture
def arguments(cache, larder, tmp_path, held_out):
    return ["compare", "--kinds", "mha,gqa4,gqa2,mqa,mla,cla", "--cache", str(cache), "--out",
            str(tmp_path / "out"), "--larder", larder, "--text", str(held_out), "--report",
            str(tmp_path / "r/report.md"), "--family", "llama", "--n-embd", "64", "--n-layers", "2",
            "--n-heads", "4", "--head-dim", "16", "--n-ff", "96", "--kv-latent", "48",
            "--nope-dim", "16", "--rope-dim", "16", "--v-dim", "16", "--context", "512",
            "--stages", "128:1:0.5:0.5", "--tokens", "4096", "--step-tokens", "512",
            "--micro-tokens", "512", "--threads", "1", "--device", "cpu", "--dtype", "f32",
            "--eval-tokens", "500", "--eval-context", "128", "--lengths", "224", "--samples", "2",
            "--depth", "256", "--rounds", "1"]


def test_a_comparison_goes_on_after_a_stop(arguments, tmp_path, capsys):
    assert main([*arguments, "--max-steps", "3"]) == 0
    assert "the same command goes on" in capsys.readouterr().err
    assert not (tmp_path / "r").exists()
    assert main([*arguments, "--json"]) == 0
    figures = json.loads(capsys.readouterr().out)
    mha, *others = figures["models"]
    assert [m["name"] for m in others] == ["gqa4", "gqa2", "mqa", "mla", "cla", "pooled", "aligned",
                                           "uptrained"]
    for model in figures["models"]:
        assert model["kv_bytes_per_token"] == 2 * model["cached_numbers"]
        assert set(model["bits_per_byte"]) == {"heldout_a", "heldout_b"}
        assert figures["speed"]["tokens_per_second"][model["name"]]["median"] > 0
    # Four heads: GQA-4 is MHA, as are the four KV heads that every second layer of CLA keeps.
    share = {m["name"]: mha["kv_bytes_per_token"] / m["kv_bytes_per_token"] for m in others}
    assert share.pop("gqa4") == 1 and share.pop("mqa") == 4
    assert set(share.values()) == {2}
    quality = {m["name"]: m["bits_per_byte"]["heldout_a"] for m in figures["models"]}
    assert quality["uptrained"] < quality["aligned"]
    assert (tmp_path / "r/report.md").read_text().count("| GQA-2 |") == 2
    assert main(arguments) == 0
    assert "stage" not in capsys.readouterr().err  # all done: only the report is written again


def test_a_comparison_without_its_engine_is_refused(arguments, capsys):
    at = arguments.index("--larder")
    assert main(arguments[:at] + arguments[at + 2:]) == 2
    assert "compare needs --larder" in capsys.readouterr().err
