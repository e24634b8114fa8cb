"""Every kind of attention: against transformers where it knows the kind, and through files."""

import json
import math

import pytest
import torch
from safetensors.torch import load_file, save_file

from larder_train.errors import InputError
from larder_train.model.hf import load_hf, save_hf
from larder_train.model.hf_config import config_of, options_of
from larder_train.model.layers import attend_in_chunks, window_mask
from larder_train.model.transformer import Transformer, kv_owners, validated
from larder_train.options import ModelOptions

SMALL = {"vocab_size": 97, "n_embd": 48, "n_layers": 4, "n_heads": 4, "head_dim": 16, "n_ff": 64,
         "context": 64}
STANDARD = [
    {"attention": "mha", "family": "llama"},
    {"attention": "gqa", "family": "llama", "n_kv_heads": 2, "tied": False},
    {"attention": "mqa", "family": "llama"},
    {"attention": "mha", "family": "qwen3"},
    {"attention": "gqa", "family": "qwen3", "n_kv_heads": 2},
    {"attention": "mqa", "family": "qwen3", "tied": False},
    {"attention": "gqa", "family": "qwen3", "n_kv_heads": 2, "window": 7, "window_layers": [0, 2]},
    {"attention": "mla", "kv_latent": 20, "nope_dim": 12, "rope_dim": 8, "v_dim": 24},
    {"attention": "mla", "kv_latent": 20, "nope_dim": 12, "rope_dim": 8, "v_dim": 16,
     "q_latent": 24, "tied": False},
    {"attention": "mla", "kv_latent": 20, "nope_dim": 12, "rope_dim": 8, "v_dim": 16,
     "rope_divisors": [1.0, 0.125, 40.0, 7.5]},
]
CLA = [{"attention": "cla", "n_kv_heads": 2}, {"attention": "cla", "family": "llama",
                                               "n_kv_heads": 1, "cla_factor": 4}]


def _model(kind: dict) -> Transformer:
    model = Transformer(ModelOptions(**(SMALL | kind)))
    model.initialise(1)
    generator = torch.Generator().manual_seed(2)
    with torch.no_grad():  # larger weights and uneven norms: nothing can cancel out
        for weight in model.parameters():
            if weight.dim() < 2:
                weight.add_(torch.randn(weight.shape, generator=generator) * 0.3)
            else:
                weight.mul_(6)
    return model.eval()


def _ids(n: int) -> torch.Tensor:
    return torch.randint(0, 97, (2, n), generator=torch.Generator().manual_seed(3))


@pytest.mark.parametrize("kind", STANDARD, ids=str)
def test_transformers_computes_the_same_logits(kind, tmp_path):
    transformers = pytest.importorskip("transformers")
    model = _model(kind)
    save_hf(model, tmp_path, eos=0)
    other = transformers.AutoModelForCausalLM.from_pretrained(tmp_path, dtype=torch.float32).eval()
    ids = _ids(40)
    with torch.no_grad():
        expected = other(ids).logits
        torch.testing.assert_close(model(ids), expected, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("kind", STANDARD + CLA, ids=str)
def test_directory_round_trip(kind, tmp_path):
    model = _model(kind)
    save_hf(model, tmp_path, eos=0)
    again = load_hf(tmp_path)
    assert again.options.attention == kind["attention"] or kind["attention"] in ("mha", "mqa")
    ids = _ids(20)
    with torch.no_grad():
        assert torch.equal(model(ids), again(ids))


def test_tied_matrix_under_the_other_name(tmp_path):
    model = _model({"attention": "mha", "family": "llama"})
    save_hf(model, tmp_path, eos=0)
    weights = load_file(tmp_path / "model.safetensors")
    weights["lm_head.weight"] = weights.pop("model.embed_tokens.weight")
    save_file(weights, tmp_path / "model.safetensors")
    with torch.no_grad():
        assert torch.equal(model(_ids(20)), load_hf(tmp_path)(_ids(20)))


QWEN = {"attention": "gqa", "n_kv_heads": 2}
WINDOWS = {"use_sliding_window": True, "layer_types": None, "max_window_layers": 2}
LLAMA3 = {"rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
          "original_max_position_embeddings": 32}


def _config(change: dict, **kind) -> dict:
    """What config.json says of a Qwen 3, changed; "absent" takes a field away."""
    config = config_of(validated(ModelOptions(**(SMALL | QWEN | kind))), eos=0) | change
    return {key: value for key, value in config.items() if value != "absent"}


@pytest.mark.parametrize("change, expected", [
    ({"rope_theta": "absent"}, {"rope_theta": 10000.0}),
    ({"rope_theta": "absent", "rope_parameters": {"rope_type": "default", "rope_theta": 5e5}},
     {"rope_theta": 5e5}),
    ({"rope_theta": 7e4, "rope_parameters": {}}, {"rope_theta": 7e4}),
    ({"tie_word_embeddings": "absent"}, {"tied": False}),
    ({"num_key_value_heads": "absent"}, {"n_kv_heads": 4}),
    ({"num_key_value_heads": None}, {"n_kv_heads": 4}),
    ({"rms_norm_eps": "absent"}, {"norm_eps": 1e-6}),
    ({"hidden_act": "absent"}, {}),
    (WINDOWS | {"sliding_window": 9}, {"window": 9, "window_layers": [2, 3]}),
    (WINDOWS | {"sliding_window": "absent"}, {"window": 4096, "window_layers": [2, 3]}),
    (WINDOWS | {"max_window_layers": "absent"}, {"window": 0, "window_layers": []}),
    (WINDOWS | {"use_sliding_window": "absent"}, {"window": 0, "window_layers": []}),
], ids=str)
def test_absent_fields_mean_what_they_mean_elsewhere(change, expected):
    options = validated(options_of(_config(change), "config.json"))
    assert {name: getattr(options, name) for name in expected} == expected


@pytest.mark.parametrize("change, words", [
    ({"hidden_act": "gelu"}, "hidden_act = 'gelu'"), ({"attention_bias": True}, "attention_bias"),
    ({"hidden_size": "64"}, "hidden_size is '64'"), ({"hidden_size": "absent"}, "hidden_size"),
    ({"vocab_size": "absent"}, "vocab_size"), ({"num_hidden_layers": 2.5}, "num_hidden_layers"),
    ({"num_attention_heads": True}, "num_attention_heads"), ({"rope_theta": "1"}, "rope_theta"),
    ({"num_attention_heads": 0, "head_dim": "absent"}, "num_attention_heads"),
    ({"rope_theta": float("nan")}, "rope_theta"), ({"tie_word_embeddings": 1}, "tie_word"),
    ({"rope_scaling": {"type": "linear", "factor": 2.0}}, "linear"),
    ({"rope_parameters": {"rope_type": "yarn", "factor": 2.0}}, "yarn"),
    ({"rope_parameters": {"full_attention": {"rope_theta": 5.0}}}, "each kind of layer"),
    ({"rope_scaling": LLAMA3 | {"high_freq_factor": 1.0}}, "makes no sense"),
    ({"rope_scaling": LLAMA3 | {"factor": "8"}}, "factor is '8'"),
    ({"rope_scaling": "linear"}, "not an object"), ({"partial_rotary_factor": 0.5}, "partial"),
    ({"use_sliding_window": True, "layer_types": ["full_attention"]}, "layer_types"),
    ({"use_sliding_window": True, "layer_types": ["linear_attention"] * 4}, "linear_attention"),
], ids=str)
def test_what_the_trainer_cannot_build_is_refused(change, words):
    with pytest.raises(InputError, match=words):
        validated(options_of(_config(change), "config.json"))
    with pytest.raises(InputError, match="not an object"):
        options_of([_config(change)], "config.json")


@pytest.mark.parametrize("family", ["llama", "qwen3"])
@pytest.mark.parametrize("key", ["rope_scaling", "rope_parameters"])
def test_llama3_rope_is_that_of_transformers(family, key, tmp_path):
    transformers = pytest.importorskip("transformers")
    model = _model(QWEN | {"family": family})
    save_hf(model, tmp_path, eos=0)
    config = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps(config | {"rope_scaling": LLAMA3}))
    other = transformers.AutoModelForCausalLM.from_pretrained(tmp_path, dtype=torch.float32).eval()
    theta = config.pop("rope_theta") if key == "rope_parameters" else None
    (tmp_path / "config.json").write_text(json.dumps(
        config | {"rope_scaling": None, key: LLAMA3 | ({"rope_theta": theta} if theta else {})}))
    read, ids = load_hf(tmp_path), _ids(40)
    assert min(read.options.rope_divisors) == 1 and max(read.options.rope_divisors) == 8
    with torch.no_grad():
        torch.testing.assert_close(read(ids), other(ids).logits, atol=1e-4, rtol=1e-4)
        assert not torch.allclose(read(ids), model(ids), atol=1e-2)


def test_weights_in_several_files(tmp_path):
    model = _model(QWEN)
    save_hf(model, tmp_path, eos=0)
    weights = load_file(tmp_path / "model.safetensors")
    (tmp_path / "model.safetensors").unlink()
    shards = {name: f"model-{i % 3 + 1:05}-of-00003.safetensors" for i, name in enumerate(weights)}
    for shard in set(shards.values()):
        save_file({name: weights[name] for name in weights if shards[name] == shard},
                  tmp_path / shard)
    index = tmp_path / "model.safetensors.index.json"
    index.write_text(json.dumps({"metadata": {"total_size": 1}, "weight_map": shards}))
    with torch.no_grad():
        assert torch.equal(model(_ids(20)), load_hf(tmp_path)(_ids(20)))
    index.write_text(json.dumps({"weight_map": {"": "model-00001-of-00003.safetensors"}}))
    with pytest.raises(InputError, match=r"Missing key\(s\) [^\n]*$"):
        load_hf(tmp_path)
    index.write_text(json.dumps({"weight_map": shards}))
    (tmp_path / "model-00002-of-00003.safetensors").unlink()
    with pytest.raises(InputError, match="model-00002-of-00003.safetensors"):
        load_hf(tmp_path)
    for content in ("{", "[]", '{"weight_map": {}}', '{"weight_map": {"a": "../a"}}'):
        index.write_text(content)
        with pytest.raises(InputError, match="model.safetensors.index.json"):
            load_hf(tmp_path)


@pytest.mark.parametrize("kind", STANDARD + CLA, ids=str)
def test_no_token_sees_a_later_one(kind):
    model, ids = _model(kind), _ids(24)
    changed = ids.clone()
    changed[:, 15:] = (changed[:, 15:] + 1) % 97
    with torch.no_grad():
        torch.testing.assert_close(model(ids)[:, :15], model(changed)[:, :15], atol=1e-5, rtol=1e-5)
        assert not torch.allclose(model(ids)[:, 15:], model(changed)[:, 15:], atol=1e-2)


def test_pairs_of_layers_share_keys_and_values(tmp_path):
    model = _model(CLA[0])
    assert kv_owners(model.options) == [0, 0, 2, 2]
    names = set(model.state_dict())
    assert "model.layers.0.self_attn.k_proj.weight" in names
    assert not any(f"layers.1.self_attn.{n}" in name for name in names
                   for n in ("k_proj", "v_proj", "k_norm"))
    save_hf(model, tmp_path, eos=0)
    config = json.loads((tmp_path / "config.json").read_text())
    assert config["architectures"] == ["LarderClaForCausalLM"]
    assert config["model_type"] == "larder_cla"
    assert config["kv_owner"] == [0, 0, 2, 2] and config["qk_norm"] is True


@pytest.mark.parametrize("n_tokens", [1, 255, 256, 600])
@pytest.mark.parametrize("kv_heads", [1, 2, 4])
def test_attention_in_chunks_is_attention(n_tokens, kv_heads):
    generator = torch.Generator().manual_seed(4)
    q = torch.randn(2, 4, n_tokens, 8, generator=generator)
    k, v = torch.randn(2, 2, kv_heads, n_tokens, 8, generator=generator)
    wide_k, wide_v = (x.repeat_interleave(4 // kv_heads, dim=1) for x in (k, v))
    expected = torch.nn.functional.scaled_dot_product_attention(q, wide_k, wide_v, is_causal=True)
    torch.testing.assert_close(attend_in_chunks(q, k, v), expected, atol=1e-5, rtol=1e-5)


def test_window_counts_the_token_itself():
    assert window_mask(5, 2, "cpu").sum(dim=1).tolist() == [1, 2, 2, 2, 2]


@pytest.mark.parametrize("change, words", [
    ({"attention": "linear"}, "linear"), ({"family": "gpt"}, "gpt"), ({"n_kv_heads": 3}, "3"),
    ({"head_dim": 15}, "15"), ({"n_layers": 0}, "n_layers: 0"), ({"vocab_size": 0}, "vocab_size"),
    ({"window_layers": [1]}, "window: 0 and window_layers: .1."),
    ({"window": 4}, "window: 4 and window_layers"), ({"window": 4, "window_layers": [9]}, "9"),
    ({"window": 4, "window_layers": [-1]}, "-1"),
    ({"window": 4, "window_layers": [1], "family": "llama"}, "need the family qwen3"),
    ({"attention": "cla", "cla_factor": 0}, "cla_factor: 0 is not 1 or more"),
    ({"attention": "cla", "cla_factor": -2}, "cla_factor: -2"),
    *[({"attention": "mla", name: value}, f"{name}: {value} is not 1 or more")
      for name in ("kv_latent", "nope_dim", "rope_dim", "v_dim") for value in (0, -8)],
    ({"attention": "mla", "q_latent": -1}, "q_latent: -1"),
    *[({name: value}, f"{name}: {value} is not more than 0")
      for name in ("rope_theta", "norm_eps") for value in (0.0, -1.0, math.nan, math.inf)],
    ({"rope_divisors": [1.0] * 7 + [0.0]}, "rope_divisors: 0.0"),
    ({"rope_divisors": [1.0]}, "rope_divisors: 1 numbers, need 8"),
], ids=str)
def test_wrong_options_are_named(change, words):
    with pytest.raises(InputError, match=words):
        validated(ModelOptions(**(SMALL | {"attention": "gqa", "n_kv_heads": 2} | change)))


def test_damaged_directories_are_refused(tmp_path):
    with pytest.raises(InputError, match="config.json"):
        load_hf(tmp_path)
    save_hf(_model(STANDARD[0]), tmp_path, eos=0)
    weights = tmp_path / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-100])
    with pytest.raises(InputError, match="model.safetensors"):
        load_hf(tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps(config | {"model_type": "gpt2"}))
    with pytest.raises(InputError, match="gpt2"):
        load_hf(tmp_path)
