"""Hugging Face directories: config.json and model.safetensors, both ways."""

import json
import pathlib

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from larder_train.errors import InputError
from larder_train.model.hf_config import config_of, options_of
from larder_train.model.transformer import Transformer


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


def _read_json(path: pathlib.Path) -> object:
    if not path.is_file():
        raise InputError(f"{path}: no such file")
    try:
        return json.loads(path.read_text())
    except ValueError as error:  # no JSON, or no text
        raise InputError(f"{path}: {error}") from error


def _weight_files(folder: pathlib.Path) -> list[pathlib.Path]:
    """model.safetensors, or the files that model.safetensors.index.json names."""
    whole, index = folder / "model.safetensors", folder / "model.safetensors.index.json"
    if whole.is_file() or not index.is_file():
        return [whole]
    content = _read_json(index)
    names = content.get("weight_map") if isinstance(content, dict) else None
    if not isinstance(names, dict) or not names or \
            any(not isinstance(n, str) or pathlib.PurePath(n).name != n for n in names.values()):
        raise InputError(f"{index}: weight_map does not name files beside it")
    return [folder / name for name in sorted(set(names.values()))]


def load_hf(folder: pathlib.Path) -> Transformer:
    """Reads a directory of one of the four kinds, its weights in one file or in several, all as
    float32."""
    config_path = folder / "config.json"
    model = Transformer(options_of(_read_json(config_path), str(config_path)))
    weights = {}
    for path in _weight_files(folder):
        try:
            weights |= {name: weight.float() for name, weight in load_file(path).items()}
        except (SafetensorError, FileNotFoundError) as error:
            raise InputError(f"{path}: {error}") from error
    if model.lm_head is None:  # tied: under one name, the other, or both
        if (output := weights.pop("lm_head.weight", None)) is not None:
            weights.setdefault("model.embed_tokens.weight", output)
    try:
        model.load_state_dict(weights)
    except RuntimeError as error:
        raise InputError(f"{folder}: {' '.join(str(error).split())}") from error
    return model
