"""`larder convert --kv-heads` against numpy, and from a conversion over uptraining to GGUF."""

import json
import subprocess

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from larder_train.cli import main
from larder_train.model.hf import load_hf

HEADS, DIM, EMBD, GROUPS = 4, 16, 64, 2
SIZES = {"n-embd": EMBD, "n-layers": 2, "n-heads": HEADS, "head-dim": DIM, "n-ff": 96,
         "context": 256, "attention": "mha", "family": "llama"}
STEPS = {"stages": "128:1", "tokens": 8192, "step-tokens": 1024, "micro-tokens": 1024, "lr": 0.02,
         "threads": 1, "device": "cpu", "dtype": "f32"}


def _flags(values: dict) -> list[str]:
    return [text for key, value in values.items() for text in (f"--{key}", str(value))]


def _larder(larder: str, *arguments) -> str:
    return subprocess.run([larder, *map(str, arguments)], capture_output=True, text=True,
                          check=True).stdout


@pytest.fixture(scope="module")
def mha(cache, tmp_path_factory):
    folder = tmp_path_factory.mktemp("mha")
    assert main(["train", "--cache", str(cache), "--out", str(folder / "run"),
                 *_flags(SIZES | STEPS)]) == 0
    assert main(["export", "--run", str(folder / "run"), "--out", str(folder / "hf")]) == 0
    return folder / "hf"


def _attention(folder, layer: int) -> dict:
    tensors = load_file(folder / "model.safetensors")
    prefix = f"model.layers.{layer}."
    names = {"q": "self_attn.q_proj", "k": "self_attn.k_proj", "v": "self_attn.v_proj",
             "o": "self_attn.o_proj", "gain": "input_layernorm"}
    return {key: tensors[f"{prefix}{name}.weight"].double().numpy() for key, name in names.items()}


def _pairs(rows: np.ndarray) -> np.ndarray:
    """Rotary pairs (i, i + half) of heads as complex rows: [heads, DIM / 2, EMBD]."""
    heads = rows.reshape(-1, 2, DIM // 2, EMBD)
    return heads[:, 0] + 1j * heads[:, 1]


def _low_rank(rows: np.ndarray, rank: int) -> np.ndarray:
    u, s, v = np.linalg.svd(rows, full_matrices=False)
    return (u[:, :rank] * s[:rank]) @ v[:rank]


def test_pooling_averages(mha, larder, tmp_path):
    _larder(larder, "convert", mha, "-o", tmp_path / "gqa", "--to", "hf", "--kv-heads", GROUPS)
    config = json.loads((tmp_path / "gqa/config.json").read_text())
    assert config["num_key_value_heads"] == GROUPS
    assert (tmp_path / "gqa/tokenizer.json").read_bytes() == (mha / "tokenizer.json").read_bytes()
    for layer in range(SIZES["n-layers"]):
        before, after = _attention(mha, layer), _attention(tmp_path / "gqa", layer)
        for key in "kv":
            mean = before[key].reshape(GROUPS, HEADS // GROUPS, DIM, EMBD).mean(1)
            np.testing.assert_allclose(after[key], mean.reshape(-1, EMBD), atol=1e-6)
        for key in "qo":
            np.testing.assert_array_equal(after[key], before[key])


def test_alignment_is_the_best_of_its_rank(mha, larder, tmp_path):
    """What queries and outputs see equals truncated SVDs, weighted as the documentation says."""
    _larder(larder, "convert", mha, "-o", tmp_path / "gqa", "--to", "hf", "--kv-heads", GROUPS,
            "--align")
    for layer in range(SIZES["n-layers"]):
        before, after = _attention(mha, layer), _attention(tmp_path / "gqa", layer)
        gain = before["gain"]
        q, k, new_q, new_k = (_pairs(side[key]) for side in (before, after) for key in "qk")
        v, new_v = (side["v"].reshape(-1, DIM, EMBD) for side in (before, after))
        o, new_o = (side["o"].reshape(EMBD, HEADS, DIM) for side in (before, after))
        for group in range(GROUPS):
            heads = [group * 2, group * 2 + 1]
            for pair in range(DIM // 2):
                weight = np.linalg.norm(q[heads, pair] * gain, axis=1)[:, None]
                best = _low_rank(k[heads, pair] * gain * weight, 1) / weight / gain
                for row, head in zip(best, heads):
                    seen = np.outer(new_q[head, pair].conj(), new_k[group, pair])
                    np.testing.assert_allclose(seen, np.outer(q[head, pair].conj(), row), atol=1e-5)
            written = np.concatenate([o[:, head] @ v[head] * gain for head in heads])
            best = _low_rank(written, DIM).reshape(2, EMBD, EMBD) / gain
            for product, head in zip(best, heads):
                np.testing.assert_allclose(new_o[:, head] @ new_v[group], product, atol=1e-5)


def test_conversion_uptraining_and_gguf(mha, cache, larder, tmp_path):
    text = tmp_path / "text.txt"
    text.write_text("The river is a garden and a candle by the window. " * 20)
    report = json.loads(_larder(
        larder, "convert", mha, "-o", tmp_path / "gqa", "--to", "hf", "--kv-heads", GROUPS,
        "--align", "--report", text, "--json"))["report"]
    assert report["kv_bytes_per_token"] * 2 == report["reference_kv_bytes_per_token"]
    assert report["kl_mean"] > 0
    assert load_hf(tmp_path / "gqa").options.n_kv_heads == GROUPS
    assert main(["uptrain", "--source", str(tmp_path / "gqa"), "--teacher", str(mha), "--cache",
                 str(cache), "--out", str(tmp_path / "up"), *_flags(STEPS), "--fraction", "1",
                 "--original-steps", "6"]) == 0
    assert main(["export", "--run", str(tmp_path / "up"), "--out", str(tmp_path / "hf"), "--larder",
                 larder, "--gguf", str(tmp_path / "model.gguf")]) == 0
    after = json.loads(_larder(larder, "eval", "kl", "-m", tmp_path / "model.gguf", "--reference",
                               mha, "--text", text, "--json"))
    assert after["kv_bytes_per_token"] == report["kv_bytes_per_token"]
    assert np.isfinite(after["kl_mean"])
    assert not torch.equal(load_hf(tmp_path / "hf").state_dict()["model.norm.weight"],
                           load_hf(tmp_path / "gqa").state_dict()["model.norm.weight"])


def _logits(folder) -> torch.Tensor:
    ids = torch.arange(60)[None] * 7 % 256
    with torch.no_grad():
        return load_hf(folder).eval()(ids)


def test_latent_attention_of_one_head_is_exact(mha, larder, tmp_path):
    """MQA holds no more than a latent of one head's values and a rotary key of one head."""
    _larder(larder, "convert", mha, "-o", tmp_path / "mqa", "--to", "hf", "--kv-heads", 1)
    for pairs in ("high", "uniform", "norm"):
        out = tmp_path / pairs
        _larder(larder, "convert", tmp_path / "mqa", "-o", out, "--to", "hf", "--mla",
                "--kv-latent", DIM, "--rope-dim", DIM, "--rope-pairs", pairs, "--latent-norm",
                "linear")
        options = load_hf(out).options
        assert (options.attention, options.kv_latent, options.rope_dim) == ("mla", DIM, DIM)
        torch.testing.assert_close(_logits(out), _logits(tmp_path / "mqa"), atol=1e-3, rtol=0)


def test_transformers_reads_all_frequencies(mha, larder, tmp_path):
    """Every head keeps all its rope: the shared key has each frequency several times."""
    transformers = pytest.importorskip("transformers")
    width = HEADS * DIM
    _larder(larder, "convert", mha, "-o", tmp_path / "mla", "--to", "hf", "--mla", "--kv-latent",
            width, "--rope-dim", width, "--latent-norm", "linear")
    model = transformers.AutoModelForCausalLM.from_pretrained(tmp_path / "mla").eval()
    assert type(model).__name__ == "DeepseekV2ForCausalLM"
    ids = torch.arange(60)[None] * 7 % 256
    with torch.no_grad():
        logits = model(ids).logits
    torch.testing.assert_close(logits, _logits(mha), atol=1e-3, rtol=0)


def test_latent_attention_is_trained_on(mha, cache, larder, tmp_path):
    text = tmp_path / "text.txt"
    text.write_text("The river is a garden and a candle by the window. " * 20)
    report = json.loads(_larder(larder, "convert", mha, "-o", tmp_path / "mla", "--to", "hf", "--mla",
                                "--report", text, "--json"))["report"]
    assert report["kv_bytes_per_token"] * 2 == report["reference_kv_bytes_per_token"]
    assert main(["uptrain", "--source", str(tmp_path / "mla"), "--cache", str(cache), "--out",
                 str(tmp_path / "up"), *_flags(STEPS), "--fraction", "1", "--original-steps",
                 "6"]) == 0
    assert main(["export", "--run", str(tmp_path / "up"), "--out", str(tmp_path / "hf"), "--larder",
                 larder, "--gguf", str(tmp_path / "model.gguf")]) == 0
    after = json.loads(_larder(larder, "eval", "kl", "-m", tmp_path / "model.gguf", "--reference",
                               mha, "--text", text, "--json"))
    assert np.isfinite(after["kl_mean"])
