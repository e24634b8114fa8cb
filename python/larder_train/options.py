"""Every option of the commands: one dataclass per part; flags and JSON files are its fields."""

import dataclasses
import math
import typing

from larder_train.errors import InputError

_RANGES = {  # what errors say -> whether a number is that
    "0 or more": lambda x: x >= 0, "1 or more": lambda x: x >= 1, "2 or more": lambda x: x >= 2,
    "more than 0": lambda x: x > 0, "0 to 1": lambda x: 0 <= x <= 1,
    "more than 0, at most 1": lambda x: 0 < x <= 1, "0 or more, below 1": lambda x: 0 <= x < 1,
}


def _field(default, help_text: str, numbers: str = ""):
    """`numbers`: the range of the value, or of each number in a list or mapping."""
    metadata = {"help": help_text, "numbers": numbers}
    if isinstance(default, (list, dict)):
        return dataclasses.field(default_factory=lambda: type(default)(default), metadata=metadata)
    return dataclasses.field(default=default, metadata=metadata)


def typed(name: str, value: object, kind: type) -> object:
    """A value from JSON as the type of its field; integers pass for floats."""
    origin, items = typing.get_origin(kind), typing.get_args(kind)
    if origin is list and isinstance(value, list):
        return [typed(name, item, items[0]) for item in value]
    if origin is dict and isinstance(value, dict):
        return {key: typed(name, item, items[1]) for key, item in value.items()}
    kinds = (int, float) if kind is float else origin or kind
    if not isinstance(value, kinds) or isinstance(value, bool) != (kind is bool):
        what = kind if origin else kind.__name__
        raise InputError(f"{name}: {value!r} is not of type {what}")
    return float(value) if kind is float else value


def checked(options):
    """The options, whose numbers lie where their fields say."""
    for field in dataclasses.fields(options):
        if not (numbers := field.metadata["numbers"]):
            continue
        value = getattr(options, field.name)
        values = value.values() if isinstance(value, dict) else \
            value if isinstance(value, list) else [value]
        for x in values:
            if not (math.isfinite(x) and _RANGES[numbers](x)):
                raise InputError(f"{field.name}: {x} is not {numbers}")
    return options


@dataclasses.dataclass
class TokenizerOptions:
    text: str = _field("", "folder with *.txt and *.txt.bz2")
    out: str = _field("", "folder for tokenizer.json")
    vocab_size: int = _field(8192, "tokens, special ones included", "1 or more")
    share: float = _field(0.12, "share of the text that is read", "more than 0, at most 1")
    seed: int = _field(1, "chooses that share", "0 or more")
    context: int = _field(4096, "model_max_length in tokenizer_config.json", "1 or more")


@dataclasses.dataclass
class PrepareOptions:
    text: str = _field("", "folder with *.txt and *.txt.bz2")
    tokenizer: str = _field("", "folder with tokenizer.json")
    cache: str = _field("", "folder for the token ids; belongs outside the repository")


@dataclasses.dataclass
class ModelOptions:
    family: str = _field("qwen3", "qwen3 (norms on q and k) or llama")
    attention: str = _field("gqa", "mha, gqa, mqa, mla or cla (layer pairs share K and V)")
    vocab_size: int = _field(0, "0: the tokenizer's", "0 or more")
    n_embd: int = _field(256, "width of the residual stream", "1 or more")
    n_layers: int = _field(8, "layers", "1 or more")
    n_heads: int = _field(4, "query heads", "1 or more")
    n_kv_heads: int = _field(2, "key and value heads (gqa, cla)", "1 or more")
    head_dim: int = _field(64, "channels of a head (all but mla)", "1 or more")
    n_ff: int = _field(640, "width of the feed-forward", "1 or more")
    context: int = _field(4096, "longest sequence", "1 or more")
    rope_theta: float = _field(100000.0, "base of the rotary frequencies", "more than 0")
    rope_divisors: list[float] = _field([], "of each rotary frequency, as conversions to mla "
                                            "choose them; empty: none", "more than 0")
    norm_eps: float = _field(1e-6, "epsilon of the RMS norms", "more than 0")
    tied: bool = _field(True, "the output matrix is the embedding")
    window: int = _field(0, "sliding window in tokens, 0: none", "0 or more")
    window_layers: list[int] = _field([], "layers with the window; qwen3 only", "0 or more")
    cla_factor: int = _field(2, "consecutive layers that share K and V (cla)", "1 or more")
    q_latent: int = _field(0, "width of the query latent (mla), 0: none", "0 or more")
    kv_latent: int = _field(128, "width of the cached latent (mla)", "1 or more")
    nope_dim: int = _field(32, "channels of a head without rotation (mla)", "1 or more")
    rope_dim: int = _field(32, "rotated channels, one key shared by all heads (mla)", "1 or more")
    v_dim: int = _field(64, "value channels of a head (mla)", "1 or more")


@dataclasses.dataclass
class DataOptions:
    cache: str = _field("", "folder written by prepare")
    mix: dict[str, float] = _field({}, "weight of each source, empty: by size", "0 or more")
    task_share: float = _field(0.1, "share of the rows that hold generated tasks", "0 to 1")
    answer_weight: float = _field(4.0, "loss weight of a task's answer", "0 or more")
    stages: list[str] = _field(["512:0.6", "1024:0.2", "2048:0.1", "4096:0.1"],
                               "curriculum: row length : share of the steps [: share of rows with "
                               "tasks [: share of drills in those]]")


@dataclasses.dataclass
class TrainOptions:
    out: str = _field("", "folder of the run: checkpoints, log, curve")
    tokens: int = _field(20_000_000, "tokens of the whole run", "1 or more")
    step_tokens: int = _field(16384, "tokens of an optimiser step", "1 or more")
    micro_tokens: int = _field(8192, "tokens of one forward pass (gradients are accumulated)",
                              "1 or more")
    optimizer: str = _field("adamw", "adamw, or muon for matrices with adamw for the rest")
    lr: float = _field(2e-3, "peak learning rate", "more than 0")
    schedule: str = _field("wsd", "wsd or cosine")
    warmup: float = _field(0.02, "share of the steps with rising rate", "0 to 1")
    decay: float = _field(0.3, "share of the steps with falling rate (wsd)", "0 to 1")
    min_lr: float = _field(0.02, "last rate as a share of the peak", "0 to 1")
    weight_decay: float = _field(0.1, "decay of matrices", "0 or more")
    beta2: float = _field(0.95, "AdamW's second moment", "0 or more, below 1")
    clip: float = _field(1.0, "largest gradient norm", "more than 0")
    dtype: str = _field("auto", "f32, bf16 (autocast) or auto: bf16 where it is fast")
    compile: bool = _field(False, "torch.compile")
    device: str = _field("auto", "cpu, cuda or auto")
    threads: int = _field(0, "CPU threads, 0: PyTorch's choice", "0 or more")
    seed: int = _field(1, "initial weights and order of the data", "0 or more")
    save_minutes: float = _field(10.0, "time between checkpoints", "0 or more")
    keep: int = _field(2, "checkpoints kept", "1 or more")
    max_steps: int = _field(0, "stop with a checkpoint after that many steps of this call, 0: no",
                           "0 or more")
    max_minutes: float = _field(0.0, "stop with a checkpoint after that time, 0: no", "0 or more")


@dataclasses.dataclass
class UptrainOptions:
    source: str = _field("", "Hugging Face folder to go on from")
    fraction: float = _field(0.05, "share of --original-steps to train", "more than 0, at most 1")
    original_steps: int = _field(0, "steps of the original run, 0: --tokens says it all",
                                "0 or more")
    teacher: str = _field("", "Hugging Face folder with the same vocabulary to learn from")
    teacher_share: float = _field(0.5, "weight of the teacher's distribution in the loss", "0 to 1")


@dataclasses.dataclass
class ExportOptions:
    run: str = _field("", "folder of the run")
    out: str = _field("", "Hugging Face folder to write")
    dtype: str = _field("f32", "f32 or bf16")
    larder: str = _field("", "the engine's binary; also writes GGUF with it")
    gguf: str = _field("", "GGUF file to write with --larder")
    gguf_type: str = _field("f16", "type of the GGUF file's matrices")


@dataclasses.dataclass
class EvaluateOptions:
    model: str = _field("", "Hugging Face folder, or folder of a run")
    text: str = _field("", "folder with heldout_*.txt")
    tokens: int = _field(50_000, "first tokens of each text", "1 or more")
    context: int = _field(1024, "context of bits per byte; half of it is fresh in each window",
                         "2 or more")
    lengths: list[int] = _field([512, 1024, 2048, 4096], "tokens of the retrieval prompts",
                                "1 or more")
    samples: int = _field(20, "prompts per task and length, depths spread evenly", "1 or more")
    seed: int = _field(1000, "of the prompts", "0 or more")
    threads: int = _field(0, "CPU threads, 0: PyTorch's choice", "0 or more")
    out: str = _field("", "JSON file for the figures")


@dataclasses.dataclass
class MeasureOptions:
    gguf: str = _field("", "GGUF file to measure")
    beside: list[str] = _field([], "further GGUF files: bits per byte only")
    larder: str = _field("", "the engine's binary")
    tokenizer: str = _field("", "folder with tokenizer.json of --gguf, empty: no retrieval")
    text: str = _field("", "folder with heldout_*.txt")
    tokens: int = _field(0, "first tokens of each text, 0: all", "0 or more")
    context: int = _field(512, "window of bits per byte; it moves by half", "1 or more")
    long_context: int = _field(0, "a second window for --gguf alone, 0: none", "0 or more")
    lengths: list[int] = _field([1024, 2048, 4096], "tokens of the retrieval prompts", "1 or more")
    samples: int = _field(40, "prompts per task and length, depths spread evenly", "0 or more")
    seed: int = _field(1000, "of the prompts", "0 or more")
    threads: int = _field(0, "threads of the engine, 0: its choice", "0 or more")
    out: str = _field("", "JSON file for the figures")
    card: str = _field("", "markdown file to write the figures into; needs --run")
    run: str = _field("", "folder of the run that --gguf comes from")


@dataclasses.dataclass
class CompareOptions:
    kinds: list[str] = _field(["mha", "gqa4", "gqa2", "mqa", "mla", "cla"],
                              "what is trained, in this order")
    larder: str = _field("", "the engine's binary")
    text: str = _field("", "folder with heldout_*.txt")
    report: str = _field("", "markdown file to write into; pictures and JSON go beside it")
    fraction: float = _field(0.05, "share of the steps to train the converted model",
                            "more than 0, at most 1")
    eval_tokens: int = _field(60_000, "first tokens of each held-out text", "1 or more")
    eval_context: int = _field(512, "window of bits per byte; it moves by half", "1 or more")
    lengths: list[int] = _field([512, 1024, 2048], "tokens of the pass-key prompts", "1 or more")
    samples: int = _field(40, "prompts per length", "1 or more")
    depth: int = _field(8064, "tokens in the cache when decoding is timed", "0 or more")
    rounds: int = _field(5, "interleaved timings of each model", "1 or more")
    train_only: bool = _field(False, "stop before anything needs the engine")
    json: bool = _field(False, "print the figures as JSON")
