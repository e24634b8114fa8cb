"""Documents, tokenizer, corpus, generated tasks and the order of rows."""

import json

import numpy as np
import pytest
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers

from larder_train.data.corpus import Corpus, _pieces, prepare_corpus
from larder_train.data.documents import documents, source_name, text_files
from larder_train.data.drills import DrillMaker
from larder_train.data.sampler import RowSampler, Stage, parse_stages, stage_at
from larder_train.data.tasks import ANSWER, NOISE, TaskMaker
from larder_train.data.tokenizer import load_tokenizer, train_tokenizer
from larder_train.errors import InputError
from larder_train.options import DataOptions, TokenizerOptions


@pytest.fixture(scope="module")
def corpus(cache):
    return Corpus.open(cache)


@pytest.fixture(scope="module")
def maker(corpus):
    return TaskMaker(corpus.tokenizer, lambda rng, n: corpus.sources["plain"][5:5 + n])


def test_documents_are_separated(tmp_path):
    path = tmp_path / "a.txt"
    path.write_text("one\n\ntwo\n<|endoftext|>\n<|endoftext|>\nthree\n<|endoftext|>\nno end")
    assert list(documents(path)) == ["one\n\ntwo\n", "three\n", "no end\n"]


def test_sources_are_named_by_file(text_folder):
    assert [source_name(p) for p in text_files(text_folder)] == ["packed", "packed", "plain"]


def test_folder_without_text_is_named(tmp_path):
    with pytest.raises(InputError, match=str(tmp_path)):
        text_files(tmp_path)


def test_tokenizer_restores_text(corpus):
    for text in ["The river 123 isn't it?\n\n  x", "naïve — 日本語 🙂", "\t\r\n \x00 end ", ""]:
        assert corpus.tokenizer.decode(corpus.tokenizer.encode(text).ids) == text


def test_tokenizer_is_reproducible(text_folder):
    options = TokenizerOptions(text=str(text_folder), vocab_size=350, share=0.5)
    assert train_tokenizer(options).to_str() == train_tokenizer(options).to_str()


def test_corpus_is_the_documents(corpus, text_folder):
    text = corpus.tokenizer.decode(corpus.sources["plain"].tolist(), skip_special_tokens=False)
    assert text == "".join(d + "<|endoftext|>" for d in documents(text_folder / "plain.txt"))
    assert set(corpus.sources) == {"plain", "packed"}


def test_cutting_a_book_changes_no_token(corpus):
    text = "".join(f"{'word ' * (i % 90)}\n\n 7\nSome line {i}.\n" for i in range(3000))
    pieces = _pieces(text)
    assert len(pieces) > 1 and "".join(pieces) == text
    encode = corpus.tokenizer.encode
    assert sum((encode(p).ids for p in pieces), []) == encode(text).ids


def test_tokenizer_of_another_make(text_folder, tmp_path):
    own = Tokenizer(models.BPE())
    own.pre_tokenizer, own.decoder = pre_tokenizers.ByteLevel(), decoders.ByteLevel()
    own.train([str(text_folder / "plain.txt")],
              trainers.BpeTrainer(vocab_size=300, special_tokens=["<s>", "</s>"],
                                  show_progress=False))
    own.post_processor = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 0)])
    own.save(str(tmp_path / "tokenizer.json"))
    with pytest.raises(InputError, match="has no token"):
        load_tokenizer(tmp_path)
    with pytest.raises(InputError, match="names no other eos_token"):
        prepare_corpus(text_folder, tmp_path, tmp_path / "cache")
    (tmp_path / "tokenizer_config.json").write_text('{"eos_token": {"content": "</s>"}}')
    totals = prepare_corpus(text_folder, tmp_path, tmp_path / "cache")["sources"]["plain"]
    corpus = Corpus.open(tmp_path / "cache")
    assert corpus.eos == 1
    ids = corpus.sources["plain"]
    starts, ends = np.flatnonzero(ids == 0), np.flatnonzero(ids == 1)
    assert len(starts) == totals["documents"] == 20
    assert starts[0] == 0 and ends[-1] == len(ids) - 1
    assert np.array_equal(starts[1:], ends[:-1] + 1)


def test_damaged_cache_is_refused(cache, tmp_path):
    with pytest.raises(InputError, match="prepare"):
        Corpus.open(tmp_path)
    for path in cache.glob("*.*"):
        (tmp_path / path.name).write_bytes(path.read_bytes())
    (tmp_path / "plain.bin").write_bytes(b"\0\0")
    with pytest.raises(InputError, match="plain.bin: 1 tokens"):
        Corpus.open(tmp_path)
    (tmp_path / "tokenizer.json").unlink()
    with pytest.raises(InputError, match="tokenizer.json"):
        load_tokenizer(tmp_path)


def test_tasks_are_determined_by_the_seed(maker):
    def drawn(seed):
        rng = np.random.default_rng(seed)
        return [maker.draw(rng, int(n)) for n in rng.integers(96, 400, 20)]
    for a, b in zip(drawn(1), drawn(1)):
        assert np.array_equal(a.ids, b.ids) and np.array_equal(a.kinds, b.kinds)
    assert any(len(a.ids) != len(b.ids) or (a.ids != b.ids).any()
               for a, b in zip(drawn(1), drawn(2)))


def test_answers_were_read_before(maker, corpus):
    rng = np.random.default_rng(3)
    for make in (maker.passkey, maker.key_value, maker.copy, maker.variables):
        for _ in range(10):
            task = make(rng, 300)
            assert len(task.ids) == len(task.kinds) and (task.kinds == ANSWER).any()
            at = np.flatnonzero(task.kinds == ANSWER)
            runs = np.split(at, np.flatnonzero(np.diff(at) > 1) + 1)
            for run in runs:
                text = corpus.tokenizer.decode(task.ids[run].tolist())
                before = corpus.tokenizer.decode(task.ids[:run[0]].tolist())
                assert text in before, make.__name__


@pytest.mark.parametrize("depth", [0.0, 0.5, 1.0])
def test_pass_key_is_at_its_depth(maker, depth):
    task = maker.passkey(np.random.default_rng(4), 400, depth)
    assert len(task.ids) == 400
    first = np.flatnonzero(task.kinds == NOISE)[0]
    assert abs(first / 400 - depth) < 0.3


def test_rows_are_reproducible_and_resumable(corpus):
    options, stage = DataOptions(), Stage(128, 1.0, 0.6, 0.4)
    whole = RowSampler(corpus, options, 7)
    rows = [whole.next(4, stage) for _ in range(5)]
    first = RowSampler(corpus, options, 7)
    for i in range(2):
        first.next(4, stage)
    second = RowSampler(corpus, options, 7)
    second.state = json.loads(json.dumps(first.state))
    for i in range(2, 5):
        again = second.next(4, stage)
        assert np.array_equal(again.inputs, rows[i].inputs)
        assert np.array_equal(again.weights, rows[i].weights)
    assert np.array_equal(rows[0].inputs[:, 1:], rows[0].targets[:, :-1])


def test_weights_follow_the_kinds(corpus):
    sampler = RowSampler(corpus, DataOptions(answer_weight=3.0), 1)
    rows = sampler.next(8, Stage(256, 1.0, tasks=1.0))
    assert rows.answers.any() and (rows.weights[rows.answers] == 3.0).all()
    assert set(np.unique(rows.weights)) == {0.0, 1.0, 3.0}
    plain = RowSampler(corpus, DataOptions(), 1).next(8, Stage(256, 1.0))
    assert (plain.weights == 1).all() and not plain.answers.any()


def test_mix_and_stages(corpus):
    with pytest.raises(InputError, match="poems"):
        RowSampler(corpus, DataOptions(mix={"poems": 1.0}), 1)
    options = DataOptions(stages=["128:3", "256:1:0.5:0.25"], task_share=0.2)
    stages = parse_stages(options, 256)
    assert stages == [Stage(128, 0.75, 0.2, 0.0), Stage(256, 0.25, 0.5, 0.25)]
    assert [stage_at(stages, p).row_tokens for p in (0, 0.74, 0.76, 1.0)] == [128, 128, 256, 256]
    for wrong in (["512:1"], ["x:1"], ["128:y"], ["128:0"], ["128:1:2"], ["128:1:0:0:0"],
                  ["128:-1", "128:2"], ["128:1:nan"]):
        with pytest.raises(InputError, match="stages"):
            parse_stages(DataOptions(stages=wrong), 256)


def test_drills_can_be_answered_from_what_was_read(corpus, maker):
    drills = DrillMaker(corpus.tokenizer, maker.words)
    rng = np.random.default_rng(11)
    for n in (96, 255):
        for _ in range(10):
            task = drills.repetition(rng, n)
            period = int(np.flatnonzero(task.kinds == ANSWER)[0])
            assert len(task.ids) == n and (task.kinds[:period] == NOISE).all()
            assert np.array_equal(task.ids[period:], task.ids[:-period])
            table = drills.table(rng, n)
            at = np.flatnonzero(table.kinds == ANSWER)
            for run in np.split(at, np.flatnonzero(np.diff(at) > 1) + 1) if len(at) else []:
                answer = corpus.tokenizer.decode(table.ids[run].tolist())
                assert len(table.ids) == n and answer.isdigit()
                assert answer in corpus.tokenizer.decode(table.ids[:run[0]].tolist())


def test_drills_fill_their_share_of_the_rows(corpus):
    sampler = RowSampler(corpus, DataOptions(), 1)
    dense = sampler.next(64, Stage(128, 1.0, 1.0, 1.0)).answers.mean()
    sparse = sampler.next(64, Stage(128, 1.0, 1.0, 0.0)).answers.mean()
    assert dense > 2 * sparse
