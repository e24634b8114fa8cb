"""The engine on what the trainer writes: the same distributions, from the same files."""

import json
import subprocess

import pytest
import torch

from larder_train.cli import main
from larder_train.data.tokenizer import load_tokenizer
from larder_train.model.export import load_run

# Heads of 16 and more: the engine's blocks want channels by the vector.
SIZES = {"n-embd": 64, "n-layers": 4, "n-heads": 4, "n-kv-heads": 2, "head-dim": 16, "n-ff": 96,
         "context": 256, "kv-latent": 32, "nope-dim": 16, "rope-dim": 16, "v-dim": 16}
KINDS = [
    {"attention": "mha"}, {"attention": "gqa"}, {"attention": "mqa"},
    {"attention": "gqa", "family": "llama", "tied": "false"},
    {"attention": "gqa", "window": 24, "window-layers": "0,2"},
    {"attention": "mla"},
    {"attention": "mla", "q-latent": 48, "v-dim": 32, "tied": "false"},
    {"attention": "cla"}, {"attention": "cla", "family": "llama", "cla-factor": 4},
    {"attention": "cla", "cla-factor": 3},  # the last owner has no reader
    {"attention": "cla", "window": 24, "window-layers": "0,1"},
    {"attention": "cla", "window": 24, "window-layers": "1,2"},  # one of a pair
    {"attention": "gqa", "family": "llama",
     "rope-divisors": "1.0,0.5,2.0,8.0,1.5,3.0,40.0,1.0"},
]
PROMPT = "The river is a garden. The letter, 12345; and a candle by the window: summer? " * 3 + "A"
N_TOKENS = 6  # decoded one by one, after a prompt of more tokens than two cache blocks


def _flags(values: dict) -> list[str]:
    return [text for key, value in values.items() for text in (f"--{key}", str(value))]


@pytest.fixture
def trained(cache, tmp_path, request):
    """A run of a few steps: weights that depend on everything."""
    run = tmp_path / "run"
    assert main(["train", "--cache", str(cache), "--out", str(run), *_flags(SIZES | request.param),
                 "--stages", "128:1", "--tokens", "8192", "--step-tokens", "1024",
                 "--micro-tokens", "1024", "--lr", "0.02", "--threads", "1", "--device", "cpu",
                 "--dtype", "f32"]) == 0
    return run


@pytest.mark.parametrize("trained", KINDS, ids=str, indirect=True)
def test_the_engine_gives_the_trainers_distribution(trained, larder, tmp_path):
    gguf = tmp_path / "model.gguf"
    assert main(["export", "--run", str(trained), "--out", str(tmp_path / "hf"), "--larder", larder,
                 "--gguf", str(gguf), "--gguf-type", "f32"]) == 0
    model = load_run(trained)[0].eval()
    tokens = load_tokenizer(tmp_path / "hf").encode(PROMPT).ids
    n_vocab = model.options.vocab_size
    for batch in (512, 7):  # the prompt at once, and in chunks
        done = subprocess.run(
            [larder, "run", "-m", str(gguf), "-p", PROMPT, "-n", str(N_TOKENS), "--temp", "0",
             "--ignore-eos", "--logprobs", str(n_vocab), "--json", "--kv-cache-dtype", "f32", "-c",
             "256", "-ub", str(batch), "-t", "1"], capture_output=True, text=True, check=True)
        report = json.loads(done.stdout)
        assert report["prompt_tokens"] == len(tokens) > 64
        sample = report["samples"][0]
        ids = torch.tensor([tokens + sample["tokens"]])
        with torch.no_grad():
            expected = torch.log_softmax(model(ids)[0, len(tokens) - 1:-1], dim=-1)
        got = torch.full((N_TOKENS, n_vocab), float("nan"))
        for row, entry in zip(got, sample["logprobs"], strict=True):
            for other in entry["top"]:
                row[other["token"]] = other["logprob"]
        torch.testing.assert_close(got, expected, atol=1e-3, rtol=0)
        assert expected.std() > 0.1  # weights that say something

