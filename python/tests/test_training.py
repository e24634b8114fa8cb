"""Runs of seconds: learning, resuming to the bit, every kind through all commands."""

import itertools
import json
import os
import pathlib
import signal
import subprocess
import sys
import time
import types

import numpy as np
import pytest
import torch

from larder_train.cli import main
from larder_train.data.sampler import Rows, Stage
from larder_train.model.hf import load_hf
from larder_train.model.loss import Targets, linear_cross_entropy
from larder_train.model.transformer import Transformer
from larder_train.options import ModelOptions, TrainOptions
from larder_train.training import trainer as training
from larder_train.training.checkpoint import checkpoints, load_checkpoint
from larder_train.training.curve import read_metrics
from larder_train.training.optim import learning_rate
from larder_train.training.trainer import Trainer

TINY = ["--n-embd", "32", "--n-layers", "2", "--n-heads", "2", "--n-kv-heads", "1", "--head-dim",
        "16", "--n-ff", "48", "--context", "256", "--kv-latent", "16", "--nope-dim", "8",
        "--rope-dim", "8", "--v-dim", "16"]
RUN = ["--step-tokens", "512", "--micro-tokens", "256", "--tokens", "4096", "--stages",
       "128:1,256:1", "--threads", "1", "--task-share", "0.3", "--device", "cpu"]
KINDS = ["mha", "gqa", "mqa", "mla", "cla"]


def _train(cache, out, *more: str) -> int:
    return main(["train", "--cache", str(cache), "--out", str(out), *TINY, *RUN, *more])


def _weights(run: pathlib.Path) -> dict:
    return load_checkpoint(checkpoints(run)[-1])


class _CopyRows:
    """Rows `a b c ... SEP a b c ...` of random tokens; the second half is the answer."""

    def __init__(self):
        self.state = {"step": 0}

    def next(self, n_rows: int, stage: Stage) -> Rows:
        rng = np.random.default_rng([5, self.state["step"]])
        self.state["step"] += 1
        half = stage.row_tokens // 2
        words = rng.integers(1, 16, (n_rows, half))
        ids = np.concatenate([words, np.zeros((n_rows, 1), np.int64), words], axis=1)
        answers = np.zeros((n_rows, ids.shape[1] - 1), bool)
        answers[:, half:] = True
        return Rows(ids[:, :-1], ids[:, 1:], answers.astype(np.float32), answers)


@pytest.mark.parametrize("optimizer", ["adamw", "muon"])
def test_a_tiny_model_learns_to_copy(optimizer):
    torch.set_num_threads(1)
    model = Transformer(ModelOptions(vocab_size=16, n_embd=64, n_layers=2, n_heads=4, n_kv_heads=2,
                                     head_dim=16, n_ff=64, context=32, rope_theta=1000.0))
    model.initialise(1)
    options = TrainOptions(tokens=300 * 512, step_tokens=512, micro_tokens=512, lr=1e-2,
                           optimizer=optimizer, device="cpu", weight_decay=0.0)
    trainer = Trainer(model, _CopyRows(), [Stage(16, 1.0)], options)
    losses = [trainer.train_step()["answer_loss"] for _ in range(trainer.n_steps)]
    assert losses[0] > 2.5 and np.mean(losses[-10:]) < 0.1, losses[-10:]


def _assert_same_bits(whole_run: pathlib.Path, parts_run: pathlib.Path, n_steps: int) -> None:
    whole, parts = _weights(whole_run), _weights(parts_run)
    assert whole["step"] == parts["step"] == n_steps
    assert whole["sampler"] == parts["sampler"]
    for name, weight in whole["model"].items():
        assert torch.equal(weight, parts["model"][name]), name
    for a, b in zip(whole["optimizers"], parts["optimizers"]):
        for key, state in a["state"].items():
            for name, value in state.items():
                assert torch.equal(torch.as_tensor(value), torch.as_tensor(b["state"][key][name]))
    assert read_metrics(whole_run) == read_metrics(parts_run)


@pytest.mark.parametrize("more", [
    ["--attention", "gqa"], ["--attention", "mla"], ["--attention", "cla"],
    ["--window", "24", "--window-layers", "1"], ["--optimizer", "muon", "--dtype", "bf16"],
], ids=str)
def test_resuming_is_exact_to_the_bit(cache, tmp_path, more):
    assert _train(cache, tmp_path / "whole", *more) == 0
    for _ in range(2):
        assert _train(cache, tmp_path / "parts", "--max-steps", "5", *more) == 0
    _assert_same_bits(tmp_path / "whole", tmp_path / "parts", 8)


def test_a_killed_run_ends_with_the_same_bits(cache, tmp_path):
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    n_steps = 30
    more = ["--tokens", str(n_steps * 512), "--stages", "128:1"]
    assert _train(cache, whole, *more) == 0
    arguments = ["train", "--cache", cache, "--out", parts, *TINY, *RUN, *more]
    with subprocess.Popen(
            [sys.executable, "-m", "larder_train", *map(str, arguments), "--save-minutes", "0"],
            cwd=pathlib.Path(__file__).parents[1], stderr=subprocess.DEVNULL) as process:
        while len(read_metrics(parts)) < 4 and process.poll() is None:
            time.sleep(0.002)
        process.kill()
    assert process.returncode == -signal.SIGKILL
    assert 0 < _weights(parts)["step"] < n_steps
    (parts / "checkpoints" / "step_00000099.tmp").write_bytes(b"half a checkpoint")
    assert _train(cache, parts, *more) == 0
    _assert_same_bits(whole, parts, n_steps)
    assert not list((parts / "checkpoints").glob("*.tmp"))


def test_sigterm_saves_first(cache, tmp_path, monkeypatch):
    step = Trainer.train_step

    def step_and_signal(self):
        row = step(self)
        if self.step == 3:
            os.kill(os.getpid(), signal.SIGTERM)
        return row

    before = signal.getsignal(signal.SIGTERM)
    monkeypatch.setattr(Trainer, "train_step", step_and_signal)
    assert _train(cache, tmp_path) == 0
    assert _weights(tmp_path)["step"] == 3
    assert signal.getsignal(signal.SIGTERM) == before


@pytest.mark.parametrize("kind", KINDS)
def test_each_kind_trains_exports_and_is_evaluated(kind, cache, tmp_path, text_folder):
    run, out = tmp_path / "run", tmp_path / "hf"
    assert _train(cache, run, "--attention", kind, "--max-steps", "2") == 0
    assert main(["export", "--run", str(run), "--out", str(out)]) == 0
    names = {"config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json"}
    assert names <= {p.name for p in out.iterdir()}
    model = load_hf(out)
    for name, weight in _weights(run)["model"].items():
        assert torch.equal(weight, model.state_dict()[name]), name
    held_out = tmp_path / "text"
    held_out.mkdir()
    (held_out / "heldout_plain.txt").write_text((text_folder / "plain.txt").read_text())
    report = tmp_path / "report.json"
    assert main(["evaluate", "--model", str(out), "--text", str(held_out), "--tokens", "600",
                 "--context", "128", "--lengths", "200", "--samples", "2", "--out",
                 str(report)]) == 0
    figures = json.loads(report.read_text())
    assert 0.5 < figures["bits_per_byte"]["heldout_plain"] < 8
    assert 0 <= figures["retrieval"][0]["passkey"] <= 1


def test_uptrain_goes_on_from_a_directory_with_a_teacher(cache, tmp_path):
    assert _train(cache, tmp_path / "run", "--max-steps", "2") == 0
    source = tmp_path / "hf"
    assert main(["export", "--run", str(tmp_path / "run"), "--out", str(source)]) == 0
    arguments = ["uptrain", "--source", str(source), "--teacher", str(source), "--cache",
                 str(cache), "--out", str(tmp_path / "up"), *RUN, "--fraction", "0.5",
                 "--original-steps", "8"]
    assert main([*arguments, "--max-steps", "2"]) == 0
    assert main(arguments) == 0
    state = _weights(tmp_path / "up")
    assert state["step"] == 4
    assert not torch.equal(state["model"]["model.norm.weight"],
                           load_hf(source).state_dict()["model.norm.weight"])


def test_a_run_keeps_its_options(cache, tmp_path, capsys):
    assert _train(cache, tmp_path, "--max-steps", "1") == 0
    assert _train(cache, tmp_path, "--lr", "0.5") == 2
    assert "lr = 0.002, not 0.5" in capsys.readouterr().err
    assert (tmp_path / "curve.svg").read_text().startswith("<svg")
    assert len(json.loads((tmp_path / "curve.json").read_text())["rows"]) == 1


def test_a_cut_checkpoint_or_log_does_not_crash(cache, tmp_path, capsys):
    assert _train(cache, tmp_path, "--max-steps", "2") == 0
    with open(tmp_path / "metrics.jsonl", "a") as log:
        log.write('{"step": 2, "tok')
    assert len(read_metrics(tmp_path)) == 2
    path = checkpoints(tmp_path)[-1]
    path.write_bytes(path.read_bytes()[:1000])
    assert _train(cache, tmp_path) == 2
    assert path.name in capsys.readouterr().err


def test_weights_that_are_not_finite_are_not_saved(cache, tmp_path, capsys):
    assert _train(cache, tmp_path, "--lr", "1e39", "--max-steps", "1", "--dtype", "f32") == 2
    error = capsys.readouterr().err
    assert "larder_train train: step 1: weights of model." in error and "are not finite" in error
    assert checkpoints(tmp_path) == []


def test_progress_counts_the_tokens_that_were_read(cache, tmp_path, capsys, monkeypatch):
    ticks = itertools.count()  # one second from each look at the clock to the next
    monkeypatch.setattr(training, "time", types.SimpleNamespace(monotonic=lambda: next(ticks)))
    assert _train(cache, tmp_path, "--step-tokens", "100", "--stages", "256:1", "--max-steps",
                  "1") == 0
    assert ", 256 tokens/s, rows of 256" in capsys.readouterr().err


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
@pytest.mark.parametrize("kind", ["gqa", "mla"])
def test_cuda_trains_resumes_and_exports(kind, cache, tmp_path):
    run, out = tmp_path / "run", tmp_path / "hf"
    for _ in range(2):
        assert _train(cache, run, "--attention", kind, "--device", "cuda", "--max-steps", "5") == 0
    state = _weights(run)
    assert state["step"] == 8 and len(read_metrics(run)) == 8
    assert main(["export", "--run", str(run), "--out", str(out)]) == 0
    exported = load_hf(out)
    for name, weight in exported.state_dict().items():
        assert torch.equal(weight, state["model"][name]), name
    ids = torch.arange(40)[None]
    with torch.no_grad():
        torch.testing.assert_close(exported.to("cuda")(ids.to("cuda")).cpu(),
                                   exported.to("cpu")(ids), atol=1e-3, rtol=1e-3)


def test_loss_is_cross_entropy_and_its_gradient():
    generator = torch.Generator().manual_seed(1)
    hidden = torch.randn(1100, 12, generator=generator, requires_grad=True)
    weight = torch.randn(30, 12, generator=generator, requires_grad=True)
    ids = torch.randint(0, 30, (1100,), generator=generator)
    weights = torch.rand(1100, generator=generator)
    logits = hidden @ weight.T
    nll = torch.nn.functional.cross_entropy(logits, ids, reduction="none")
    expected = torch.autograd.grad((nll * weights).sum(), [hidden, weight])
    loss, rows = linear_cross_entropy(hidden, weight, Targets(ids, weights))
    torch.testing.assert_close(loss, (nll * weights).sum())
    torch.testing.assert_close(rows, nll)
    for a, b in zip(torch.autograd.grad(loss, [hidden, weight]), expected):
        torch.testing.assert_close(a, b, atol=1e-4, rtol=1e-4)
    taught = Targets(ids, weights, torch.randn(1100, 5, generator=generator),
                     torch.randn(30, 5, generator=generator), 0.3)
    soft = torch.softmax(taught.teacher_hidden @ taught.teacher_weight.T, dim=-1)
    own = torch.log_softmax(hidden @ weight.T, dim=-1)
    both = ((-0.3 * (soft * own).sum(-1)
             - 0.7 * own.gather(1, ids[:, None])[:, 0]) * weights).sum()
    loss, _ = linear_cross_entropy(hidden, weight, taught)
    torch.testing.assert_close(loss, both)
    for a, b in zip(torch.autograd.grad(loss, [hidden, weight]),
                    torch.autograd.grad(both, [hidden, weight])):
        torch.testing.assert_close(a, b, atol=1e-4, rtol=1e-4)


def test_schedules():
    wsd = TrainOptions(lr=1.0, schedule="wsd", warmup=0.1, decay=0.2, min_lr=0.1)
    rates = [learning_rate(wsd, s, 100) for s in range(100)]
    assert rates[0] == pytest.approx(0.1) and rates[9:80] == [1.0] * 71
    assert all(a > b for a, b in zip(rates[80:], rates[81:])) and rates[-1] > 0.1
    cosine = TrainOptions(lr=1.0, schedule="cosine", warmup=0.1, min_lr=0.1)
    rates = [learning_rate(cosine, s, 100) for s in range(100)]
    assert max(rates) == 1.0 and 0.1 < rates[-1] < 0.11


def test_bad_input_is_one_sentence(tmp_path, capsys):
    cases = [["train"], ["export"], ["evaluate"],
             ["train", "--cache", str(tmp_path), "--out", str(tmp_path / "x")],
             ["prepare", "--text", str(tmp_path), "--tokenizer", str(tmp_path), "--cache",
              str(tmp_path)]]
    for arguments in cases:
        assert main(arguments) == 2
        error = capsys.readouterr().err
        assert error.startswith(f"larder_train {arguments[0]}: ") and error.count("\n") == 1


@pytest.mark.parametrize("flag, words", [
    ("step-tokens=0", "step_tokens: 0 is not 1 or more"), ("micro-tokens=-1", "micro_tokens: -1"),
    ("tokens=0", "tokens: 0"), ("lr=0", "lr: 0.0 is not more than 0"), ("lr=nan", "lr: nan"),
    ("lr=inf", "lr: inf"), ("warmup=1.5", "warmup: 1.5 is not 0 to 1"), ("decay=-0.1", "decay"),
    ("min-lr=2", "min_lr: 2.0"), ("clip=0", "clip: 0.0"), ("weight-decay=-1", "weight_decay"),
    ("beta2=1", "beta2: 1.0 is not 0 or more, below 1"), ("keep=0", "keep: 0"),
    ("task-share=1.1", "task_share"), ("mix=books=-1", "mix: -1.0"), ("seed=-1", "seed: -1"),
    ("n-layers=0", "n_layers: 0"), ("cla-factor=0", "cla_factor: 0"),
    ("uptrain fraction=0", "fraction: 0.0 is not more than 0, at most 1"),
    ("uptrain fraction=nan", "fraction: nan"), ("uptrain teacher-share=2", "teacher_share: 2.0"),
    ("evaluate samples=0", "samples: 0"), ("evaluate lengths=512,0", "lengths: 0"),
    ("evaluate context=1", "context: 1 is not 2 or more"), ("measure lengths=-1", "lengths: -1"),
    ("compare rounds=0", "rounds: 0"), ("tokenizer share=0", "share: 0.0"),
])
def test_numbers_out_of_range_are_named(flag, words, capsys):
    command, flag = flag.split() if " " in flag else ("train", flag)
    assert main([command, "--" + flag]) == 2
    error = capsys.readouterr().err
    assert error.startswith(f"larder_train {command}: {words}") and error.count("\n") == 1


@pytest.mark.parametrize("text, words", [
    ('[{"lr": 1}]', "is not an object"), ('{"lr": "fast"}', "lr: 'fast' is not of type float"),
    ('{"tokens": 1.5}', "tokens: 1.5 is not of type int"), ('{"lr": true}', "lr: True"),
    ('{"tied": 1}', "tied: 1 is not of type bool"), ('{"lr": null}', "lr: None"),
    ('{"stages": "512:1"}', "stages: '512:1' is not of type list"),
    ('{"stages": [512]}', "stages: 512 is not of type str"),
    ('{"mix": {"books": "half"}}', "mix: 'half' is not of type float"),
    ('{"lr": NaN}', "lr: nan is not more than 0"), ('{"layers": 3}', "unknown option layers"),
    ('{"lr": ', "Expecting value"),
])
def test_a_wrong_config_is_one_sentence(text, words, tmp_path, capsys):
    config = tmp_path / "c.json"
    config.write_text(text)
    assert main(["train", "--config", str(config)]) == 2
    error = capsys.readouterr().err
    assert error.startswith(f"larder_train train: {config}: ") or words.startswith("lr: nan")
    assert words in error and error.count("\n") == 1
