"""A small corpus, and a plain message instead of failures where PyTorch is missing."""

import importlib.util
import pathlib

import pytest

MISSING = [name for name in ("torch", "tokenizers", "safetensors", "numpy")
           if importlib.util.find_spec(name) is None]
WITHOUT_PYTORCH = {"test_processors.py"}
collect_ignore = [path.name for path in pathlib.Path(__file__).parent.glob("test_*.py")
                  if MISSING and path.name not in WITHOUT_PYTORCH]


def pytest_addoption(parser):
    parser.addoption("--picture", help="keep a picture of the server's page in this file")
    parser.addoption("--larder", default="", help="the engine's binary; default: the one in build/")


@pytest.fixture(scope="session")
def larder(request) -> str:
    """The engine's binary."""
    given = request.config.getoption("--larder")
    if given:
        assert pathlib.Path(given).is_file(), f"--larder {given}: no such file"
        return given
    built = pathlib.Path(__file__).parents[2] / "build/release/bin/larder"
    if not built.is_file():
        pytest.skip(f"{built} is not built and --larder is not given")
    return str(built)


def pytest_report_header(config):
    if MISSING:
        return f"SKIPPED: the trainer's tests need {', '.join(MISSING)} (python/pyproject.toml)"
    return None


WORDS = ["river", "stone", "garden", "window", "winter", "letter", "yellow", "market", "silver",
         "forest", "mother", "island", "candle", "bridge", "summer", "orange"]


def _stories(n_documents: int, seed: int) -> str:
    """Sentences of a few words, in documents of some lines each."""
    import random
    rng = random.Random(seed)
    documents = []
    for _ in range(n_documents):
        lines = [" ".join(["The", *rng.choices(WORDS, k=rng.randint(4, 12))]) + f" {rng.random()}.\n"
                 for _ in range(rng.randint(10, 40))]
        documents.append("".join(lines) + "<|endoftext|>\n")
    return "".join(documents)


@pytest.fixture(scope="session")
def text_folder(tmp_path_factory) -> pathlib.Path:
    """Two sources, one of them compressed and in two files."""
    import bz2
    folder = tmp_path_factory.mktemp("text")
    (folder / "plain.txt").write_text(_stories(20, 1))
    for i in range(2):
        (folder / f"packed-0{i}.txt.bz2").write_bytes(bz2.compress(_stories(20, 2 + i).encode()))
    return folder


@pytest.fixture(scope="session")
def cache(text_folder, tmp_path_factory) -> pathlib.Path:
    """A tokenizer of 400 tokens and the tokenised corpus."""
    import torch

    from larder_train.data.corpus import prepare_corpus
    from larder_train.data.tokenizer import save_tokenizer, train_tokenizer
    from larder_train.options import TokenizerOptions
    torch.set_num_threads(1)
    folder = tmp_path_factory.mktemp("cache")
    tokenizer = train_tokenizer(TokenizerOptions(text=str(text_folder), vocab_size=400, share=1.0))
    save_tokenizer(tokenizer, folder / "tokenizer", 256)
    prepare_corpus(text_folder, folder / "tokenizer", folder)
    return folder
