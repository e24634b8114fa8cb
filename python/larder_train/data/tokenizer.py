"""A byte-level BPE tokenizer in Qwen2's manner, trained on a sample of the corpus."""

import json
import pathlib
import random
from collections.abc import Iterator

from tokenizers import Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers

from larder_train.data.documents import END_OF_TEXT, documents, text_files
from larder_train.errors import InputError
from larder_train.options import TokenizerOptions

# Qwen2's pattern, spelled as its tokenizer.json does, so that engines recognise it. Every digit is
# a piece of its own: numbers never seen in training are still copied digit by digit.
PATTERN = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*"
    r"|\s*[\r\n]+|\s+(?!\S)|\s+"
)
SPECIAL_TOKENS = [END_OF_TEXT, "<|im_start|>", "<|im_end|>"]
# Longer documents are cut: the trainer counts words, and one book has no more to say than its part.
SAMPLE_CHARS = 200_000


def _sample(files: list[pathlib.Path], share: float, seed: int) -> Iterator[str]:
    """Seeded choice of documents, every file by the same share of its text."""
    rng = random.Random(seed)
    for path in files:
        for text in documents(path):
            for start in range(0, len(text), SAMPLE_CHARS):
                if rng.random() < share:
                    yield text[start:start + SAMPLE_CHARS]


def train_tokenizer(options: TokenizerOptions) -> Tokenizer:
    """Trains on `options.share` of the text below `options.text`. The same input and seed give the
    same tokenizer. Memory grows with the number of different words, not with the text."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.normalizer = normalizers.NFC()
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([
        pre_tokenizers.Split(Regex(PATTERN), behavior="isolated"),
        pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
    ])
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=options.vocab_size,
        special_tokens=SPECIAL_TOKENS,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    files = text_files(pathlib.Path(options.text))
    tokenizer.train_from_iterator(_sample(files, options.share, options.seed), trainer)
    return tokenizer


def save_tokenizer(tokenizer: Tokenizer, folder: pathlib.Path, context: int) -> None:
    """Writes tokenizer.json and tokenizer_config.json. There is no chat template: the special
    tokens of ChatML exist, a model that has not seen dialogues should not claim the format."""
    folder.mkdir(parents=True, exist_ok=True)
    tokenizer.save(str(folder / "tokenizer.json"))
    added = {
        str(tokenizer.token_to_id(token)): {
            "content": token, "lstrip": False, "normalized": False, "rstrip": False,
            "single_word": False, "special": True,
        }
        for token in SPECIAL_TOKENS if tokenizer.token_to_id(token) is not None
    }
    config = {
        "add_bos_token": False,
        "add_prefix_space": False,
        "added_tokens_decoder": added,
        "bos_token": None,
        "clean_up_tokenization_spaces": False,
        "eos_token": END_OF_TEXT,
        "model_max_length": context,
        "pad_token": END_OF_TEXT,
        "tokenizer_class": "PreTrainedTokenizerFast",
        "unk_token": None,
    }
    (folder / "tokenizer_config.json").write_text(json.dumps(config, indent=2) + "\n")


def load_tokenizer(folder: pathlib.Path, foreign: bool = False) -> Tokenizer:
    """Reads tokenizer.json of a folder; one of another make, without `<|endoftext|>`, only where
    `foreign` says that it will do."""
    path = folder / "tokenizer.json"
    if not path.is_file():
        raise InputError(f"{path}: no such file")
    tokenizer = Tokenizer.from_file(str(path))
    if tokenizer.token_to_id(END_OF_TEXT) is None and not foreign:
        raise InputError(f"{path}: has no token {END_OF_TEXT}")
    return tokenizer


def end_of_text(tokenizer: Tokenizer, folder: pathlib.Path) -> int:
    """The token behind a document: `<|endoftext|>`, else what tokenizer_config.json beside the
    tokenizer calls its `eos_token`."""
    token = END_OF_TEXT
    path = folder / "tokenizer_config.json"
    if tokenizer.token_to_id(token) is None and path.is_file():
        token = json.loads(path.read_text()).get("eos_token")
        token = token["content"] if isinstance(token, dict) else token
    found = tokenizer.token_to_id(token) if token else None
    if found is None:
        raise InputError(f"{folder}/tokenizer.json: has no token {END_OF_TEXT}, and "
                         "tokenizer_config.json names no other eos_token")
    return found
