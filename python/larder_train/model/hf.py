"""Hugging Face directories: config.json and model.safetensors, both ways.

mha, gqa, mqa -> LlamaForCausalLM or Qwen3ForCausalLM; mla -> DeepseekV2ForCausalLM with dense
feed-forward; cla -> LarderClaForCausalLM (docs/training.md describes its keys).
"""

import json
import pathlib

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from larder_train.errors import InputError
from larder_train.model.transformer import Transformer, kv_owners
from larder_train.options import ModelOptions

_CLASSES = {"llama": ("LlamaForCausalLM", "llama"), "qwen3": ("Qwen3ForCausalLM", "qwen3")}
# our name -> theirs, for all families
_SIZES = {
    "vocab_size": "vocab_size", "n_embd": "hidden_size", "n_layers": "num_hidden_layers",
    "n_heads": "num_attention_heads", "n_kv_heads": "num_key_value_heads",
    "n_ff": "intermediate_size", "context": "max_position_embeddings", "rope_theta": "rope_theta",
    "norm_eps": "rms_norm_eps", "tied": "tie_word_embeddings",
}
_LATENT = {"kv_latent": "kv_lora_rank", "nope_dim": "qk_nope_head_dim",
           "rope_dim": "qk_rope_head_dim", "v_dim": "v_head_dim"}


def _rope_scaling(o: ModelOptions) -> dict | None:
    """Divisors of the frequencies are told as long rope with equal factors for all lengths."""
    if not o.rope_divisors:
        return None
    return {"rope_type": "longrope", "type": "longrope", "short_factor": o.rope_divisors,
            "long_factor": o.rope_divisors, "attention_factor": 1.0, "factor": 1.0,
            "original_max_position_embeddings": o.context}


def _rope_divisors(config: dict, origin: str) -> list[float]:
    scaling = config.get("rope_scaling")
    if not scaling:
        return []
    divisors = scaling.get("long_factor") if isinstance(scaling, dict) else None
    if not divisors or scaling != _rope_scaling(ModelOptions(
            rope_divisors=divisors, context=config.get("max_position_embeddings", 0))):
        raise InputError(f"{origin}: rope_scaling = {scaling} is not supported")
    return divisors


def config_of(o: ModelOptions, eos: int) -> dict:
    """What config.json says about validated options."""
    config = {theirs: getattr(o, ours) for ours, theirs in _SIZES.items()}
    config |= {"hidden_act": "silu", "attention_bias": False, "attention_dropout": 0.0,
               "initializer_range": 0.02, "use_cache": True, "rope_scaling": _rope_scaling(o),
               "bos_token_id": None, "eos_token_id": eos, "torch_dtype": "float32"}
    if o.attention == "mla":
        name, model_type = "DeepseekV2ForCausalLM", "deepseek_v2"
        config |= {theirs: getattr(o, ours) for ours, theirs in _LATENT.items()}
        # Dense: no layer comes after the first n_layers dense ones.
        config |= {"q_lora_rank": o.q_latent or None, "first_k_dense_replace": o.n_layers,
                   "head_dim": o.rope_dim, "mlp_bias": False}
    else:
        name, model_type = _CLASSES[o.family]
        config["head_dim"] = o.head_dim
        if o.family == "llama":
            config["mlp_bias"] = False
        else:
            config |= {"use_sliding_window": bool(o.window_layers), "max_window_layers": 0,
                       "sliding_window": o.window or None,
                       "layer_types": ["sliding_attention" if i in o.window_layers else
                                       "full_attention" for i in range(o.n_layers)]}
    if o.attention == "cla":
        name, model_type = "LarderClaForCausalLM", "larder_cla"
        config |= {"qk_norm": o.family == "qwen3", "kv_owner": kv_owners(o)}
    return {"architectures": [name], "model_type": model_type} | config


def options_of(config: dict, origin: str) -> ModelOptions:
    """The options that a config.json stands for; refuses what the trainer cannot build."""
    model_type = config.get("model_type")
    if model_type not in ("llama", "qwen3", "deepseek_v2", "larder_cla"):
        raise InputError(f"{origin}: model_type '{model_type}' is not llama, qwen3, deepseek_v2 or "
                         "larder_cla")
    for key in ("attention_bias", "mlp_bias"):
        if config.get(key):
            raise InputError(f"{origin}: {key} = {config[key]} is not supported")
    try:
        o = ModelOptions(**{ours: config[theirs] for ours, theirs in _SIZES.items()
                            if theirs in config})
        o.rope_divisors = _rope_divisors(config, origin)
        if model_type == "deepseek_v2":
            if config.get("first_k_dense_replace", 0) < o.n_layers:
                raise InputError(f"{origin}: mixture-of-experts layers are not supported")
            for ours, theirs in _LATENT.items():
                setattr(o, ours, config[theirs])
            o.attention, o.family, o.q_latent = "mla", "llama", config.get("q_lora_rank") or 0
            return o
        o.head_dim = config.get("head_dim") or o.n_embd // o.n_heads
    except (KeyError, TypeError) as error:
        raise InputError(f"{origin}: field {error} is missing or wrong") from error
    o.family = "llama" if model_type == "llama" else "qwen3"
    if model_type == "larder_cla":
        o.attention, o.family = "cla", "qwen3" if config.get("qk_norm") else "llama"
        owners = config.get("kv_owner", [])
        o.cla_factor = owners.count(0)
        if len(owners) != o.n_layers or kv_owners(o) != owners:
            raise InputError(f"{origin}: kv_owner {owners} is not one of equal runs of layers")
    if config.get("use_sliding_window"):
        o.window = config["sliding_window"]
        types = config.get("layer_types") or []
        o.window_layers = [i for i, t in enumerate(types) if t == "sliding_attention"]
    return o


def save_hf(model: Transformer, folder: pathlib.Path, eos: int,
            dtype: torch.dtype = torch.float32) -> None:
    """Writes config.json, generation_config.json and model.safetensors."""
    folder.mkdir(parents=True, exist_ok=True)
    config = config_of(model.options, eos)
    config["torch_dtype"] = str(dtype).removeprefix("torch.")
    (folder / "config.json").write_text(json.dumps(config, indent=2) + "\n")
    generation = {"eos_token_id": eos, "pad_token_id": eos}
    (folder / "generation_config.json").write_text(json.dumps(generation, indent=2) + "\n")
    weights = {name: w.detach().to("cpu", dtype).contiguous()
               for name, w in model.state_dict().items()}
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})


def load_hf(folder: pathlib.Path) -> Transformer:
    """Reads a directory of one of the four kinds, all weights as float32."""
    config_path, weights_path = folder / "config.json", folder / "model.safetensors"
    for path in (config_path, weights_path):
        if not path.is_file():
            raise InputError(f"{path}: no such file")
    model = Transformer(options_of(json.loads(config_path.read_text()), str(config_path)))
    try:
        weights = {k: v.float() for k, v in load_file(weights_path).items()}
    except SafetensorError as error:
        raise InputError(f"{weights_path}: {error}") from error
    if model.lm_head is None:  # tied: under one name, the other, or both
        if (output := weights.pop("lm_head.weight", None)) is not None:
            weights.setdefault("model.embed_tokens.weight", output)
    try:
        model.load_state_dict(weights)
    except RuntimeError as error:
        raise InputError(f"{weights_path}: {error}") from error
    return model
