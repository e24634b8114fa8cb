"""config.json, both ways.

mha, gqa, mqa -> LlamaForCausalLM or Qwen3ForCausalLM; mla -> DeepseekV2ForCausalLM with dense
feed-forward; cla -> LarderClaForCausalLM (docs/training.md describes its keys).
"""

import math

from larder_train.errors import InputError
from larder_train.model.layers import rope_width
from larder_train.model.transformer import kv_owners
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
_LAYER_TYPES = ("full_attention", "sliding_attention")


class _Fields:
    """Typed reading of a JSON object; null is absent. What has no `absent` value must be there."""

    def __init__(self, values: object, origin: str):
        if not isinstance(values, dict):
            raise InputError(f"{origin}: {values!r} is not an object")
        self.values = {key: value for key, value in values.items() if value is not None}
        self.origin = origin

    def get(self, key: str, kind: type, absent=None):
        value = self.values.get(key, absent)
        if value is None:
            raise InputError(f"{self.origin}: field {key} is missing")
        kinds = (int, float) if kind is float else kind
        if not isinstance(value, kinds) or isinstance(value, bool) != (kind is bool):
            raise InputError(f"{self.origin}: field {key} is {value!r}, not of type "
                             f"{kind.__name__}")
        return kind(value)

    def expect(self, **wanted) -> None:
        """Refuses fields that are there and say something else."""
        for key, value in wanted.items():
            if self.values.get(key, value) != value:
                raise InputError(f"{self.origin}: {key} = {self.values[key]!r} is not supported")


def _rope_scaling(o: ModelOptions) -> dict | None:
    """Divisors of the frequencies are told as long rope with equal factors for all lengths."""
    if not o.rope_divisors:
        return None
    return {"rope_type": "longrope", "type": "longrope", "short_factor": o.rope_divisors,
            "long_factor": o.rope_divisors, "attention_factor": 1.0, "factor": 1.0,
            "original_max_position_embeddings": o.context}


def _llama3_divisors(scaling: _Fields, theta: float, width: int) -> list[float]:
    """Llama 3.1's scaling: slow rotations divided by `factor`, fast ones kept, a ramp between."""
    factor, low, high = (scaling.get(key, float)
                         for key in ("factor", "low_freq_factor", "high_freq_factor"))
    original = scaling.get("original_max_position_embeddings", int)
    if not (factor > 0 and original > 0 and 0 <= low < high):
        raise InputError(f"{scaling.origin}: {scaling.values} makes no sense")
    divisors = []
    for i in range(0, width, 2):
        turns = original * theta ** (-i / width) / (2 * math.pi)
        kept = min(1.0, max(0.0, (turns - low) / (high - low)))
        divisors.append(1 / (kept + (1 - kept) / factor))
    return divisors


def _read_rope(fields: _Fields, o: ModelOptions) -> None:
    """theta and divisors from `rope_scaling` or `rope_parameters` (the form of transformers 5);
    `o` holds the theta of the config itself."""
    fields.expect(partial_rotary_factor=1.0)
    key = "rope_scaling" if "rope_scaling" in fields.values else "rope_parameters"
    rope = _Fields(fields.values.get(key, {}), f"{fields.origin}: {key}")
    rope.expect(partial_rotary_factor=1.0)
    if any(isinstance(value, dict) for value in rope.values.values()):
        raise InputError(f"{rope.origin}: one rope for each kind of layer is not supported")
    o.rope_theta = rope.get("rope_theta", float, o.rope_theta)
    if not 0 < o.rope_theta < math.inf:
        raise InputError(f"{fields.origin}: rope_theta = {o.rope_theta} is not more than 0")
    name = rope.get("rope_type", str, rope.get("type", str, "default"))
    if name == "llama3":
        o.rope_divisors = _llama3_divisors(rope, o.rope_theta, rope_width(o))
    elif name == "longrope":  # as written here; others change with the length
        if rope.get("short_factor", list) != rope.get("long_factor", list) or \
                rope.get("attention_factor", float) != 1:
            raise InputError(f"{rope.origin}: longrope with factors that depend on the length is "
                             "not supported")
        divisors = _Fields(dict(enumerate(rope.get("long_factor", list))), rope.origin)
        o.rope_divisors = [divisors.get(i, float) for i in divisors.values]
    elif name != "default":
        raise InputError(f"{rope.origin}: rope type '{name}' is not default, llama3 or longrope")


def _read_windows(fields: _Fields, o: ModelOptions) -> None:
    """Qwen's sliding windows; without `layer_types` the layers from `max_window_layers` on."""
    if not fields.get("use_sliding_window", bool, False):
        return
    types = fields.get("layer_types", list, [])
    if types:
        if len(types) != o.n_layers or any(t not in _LAYER_TYPES for t in types):
            raise InputError(f"{fields.origin}: layer_types {types} are not {o.n_layers} of "
                             f"{', '.join(_LAYER_TYPES)}")
        o.window_layers = [i for i, t in enumerate(types) if t == "sliding_attention"]
    else:
        o.window_layers = list(range(fields.get("max_window_layers", int, 28), o.n_layers))
    if o.window_layers:
        o.window = fields.get("sliding_window", int, 4096)


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


def options_of(config: object, origin: str) -> ModelOptions:
    """The options that a config.json stands for. Absent fields have the values of `transformers`;
    what the trainer cannot build, and what is of the wrong type, is refused."""
    fields = _Fields(config, origin)
    model_type = fields.get("model_type", str, "")
    if model_type not in ("llama", "qwen3", "deepseek_v2", "larder_cla"):
        raise InputError(f"{origin}: model_type '{model_type}' is not llama, qwen3, deepseek_v2 or "
                         "larder_cla")
    fields.expect(attention_bias=False, mlp_bias=False, hidden_act="silu")
    n_heads = fields.get("num_attention_heads", int)
    # theta: 10000 in every family, as for the engine
    absent = {"n_kv_heads": n_heads, "norm_eps": 1e-6, "tied": False, "rope_theta": 10000.0}
    o = ModelOptions()
    for ours, theirs in _SIZES.items():
        setattr(o, ours, fields.get(theirs, type(getattr(o, ours)), absent.get(ours)))
    if model_type == "deepseek_v2":
        if fields.get("first_k_dense_replace", int, 0) < o.n_layers:
            raise InputError(f"{origin}: mixture-of-experts layers are not supported")
        for ours, theirs in _LATENT.items():
            setattr(o, ours, fields.get(theirs, int))
        o.attention, o.family, o.q_latent = "mla", "llama", fields.get("q_lora_rank", int, 0)
    else:
        if n_heads <= 0:
            raise InputError(f"{origin}: num_attention_heads = {n_heads} is not more than 0")
        o.head_dim = fields.get("head_dim", int, o.n_embd // n_heads)
        o.family = "llama" if model_type == "llama" else "qwen3"
    if model_type == "larder_cla":
        o.attention = "cla"
        o.family = "qwen3" if fields.get("qk_norm", bool, False) else "llama"
        owners = fields.get("kv_owner", list)
        o.cla_factor = max(1, owners.count(0))
        if len(owners) != o.n_layers or kv_owners(o) != owners:
            raise InputError(f"{origin}: kv_owner {owners} is not one of equal runs of layers")
    _read_rope(fields, o)
    if model_type in ("qwen3", "larder_cla"):
        _read_windows(fields, o)
    return o
