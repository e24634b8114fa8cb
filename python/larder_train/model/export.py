"""Runs as Hugging Face directories, and as GGUF by the engine's own converter."""

import json
import pathlib
import shutil

import torch

from larder_train.data.corpus import Corpus
from larder_train.data.documents import END_OF_TEXT
from larder_train.data.tokenizer import save_tokenizer
from larder_train.engine import Engine
from larder_train.errors import InputError
from larder_train.model.hf import save_hf
from larder_train.model.transformer import Transformer
from larder_train.options import ExportOptions, ModelOptions
from larder_train.training.checkpoint import checkpoints, load_checkpoint

_DTYPES = {"f32": torch.float32, "bf16": torch.bfloat16}


def load_run(run: pathlib.Path) -> tuple[Transformer, dict]:
    """The model of the newest checkpoint, and the run's options.json."""
    found = checkpoints(run)
    if not found:
        raise InputError(f"{run}/checkpoints: no checkpoint")
    options = json.loads((run / "options.json").read_text())
    model = Transformer(ModelOptions(**options["model"]))
    model.load_state_dict(load_checkpoint(found[-1])["model"])
    return model, options


def export(options: ExportOptions) -> None:
    """Writes the newest checkpoint as a directory with its tokenizer, then GGUF if asked."""
    if not options.run or not options.out:
        raise InputError("export needs --run and --out")
    if options.dtype not in _DTYPES:
        raise InputError(f"dtype: '{options.dtype}' is not f32 or bf16")
    if bool(options.gguf) != bool(options.larder):
        raise InputError("export to GGUF needs both --gguf and --larder")
    out = pathlib.Path(options.out)
    model, run_options = load_run(pathlib.Path(options.run))
    cache = pathlib.Path(run_options["data"]["cache"])
    corpus = Corpus.open(cache)
    save_hf(model, out, corpus.eos, _DTYPES[options.dtype])
    if corpus.tokenizer.token_to_id(END_OF_TEXT) is not None:
        save_tokenizer(corpus.tokenizer, out, model.options.context)
    else:  # of another make: as it came
        for name in ("tokenizer.json", "tokenizer_config.json"):
            shutil.copyfile(cache / name, out / name)
    print(f"{out}: {sum(w.numel() for w in model.parameters()):,} parameters")
    if options.gguf:
        Engine(options.larder).convert(out, pathlib.Path(options.gguf), "--type", options.gguf_type)
        print(f"{options.gguf}: {pathlib.Path(options.gguf).stat().st_size:,} bytes")
