"""The rows that the policies' numpy references keep (tests/fixtures/make_policy_fixtures.py and make_eviction_runs.py,
which the engine's kept sets are tested against) are those that kvpress keeps, where it has the method. Skipped where it
is not installed.
"""

import importlib
import pathlib
import sys

import pytest

torch = pytest.importorskip("torch")
kvpress = pytest.importorskip("kvpress")
llama = pytest.importorskip("transformers.models.llama.modeling_llama")

sys.path.append(str(pathlib.Path(__file__).parents[2] / "tests" / "fixtures"))
REF, RUNS = importlib.import_module("make_policy_fixtures"), importlib.import_module("make_eviction_runs")


class Layer:
    """Random attention of one layer over random hidden states: what the presses are given, and what comes of it."""

    def __init__(self, kv_heads):
        torch.manual_seed(kv_heads)
        torch.set_num_threads(1)
        width = REF.HEADS * REF.HEAD_DIM
        config = llama.LlamaConfig(hidden_size=width, num_attention_heads=REF.HEADS, num_key_value_heads=kv_heads,
                                   head_dim=REF.HEAD_DIM, num_hidden_layers=1, intermediate_size=width, vocab_size=8,
                                   attn_implementation="sdpa")
        self.kv_heads = kv_heads
        self.module = llama.LlamaAttention(config, layer_idx=0).double().eval()
        self.module.rotary_emb = llama.LlamaRotaryEmbedding(config)
        for parameter in self.module.parameters():
            torch.nn.init.normal_(parameter, std=0.4)
        self.hidden = torch.randn(1, REF.ROWS, width, dtype=torch.float64)
        self.rope = self.module.rotary_emb(self.hidden, torch.arange(REF.ROWS)[None])
        with torch.no_grad():
            q, k, v = (self.heads(p) for p in (self.module.q_proj, self.module.k_proj, self.module.v_proj))
            turned = llama.apply_rotary_pos_emb(q, k, *self.rope)
        self.keys, self.values = turned[1], v
        self.plain_q, self.q, self.k, self.v = (x[0].numpy() for x in (q, *turned, v))

    def heads(self, projection):
        return projection(self.hidden).view(1, REF.ROWS, -1, REF.HEAD_DIM).transpose(1, 2)

    def kept_by(self, press):
        """Rows of each KV head, ascending."""
        with torch.no_grad():
            scores = press.score(self.module, self.hidden, self.keys, self.values, None,
                                 {"position_embeddings": self.rope})
        return [sorted(row) for row in scores[0].topk(REF.KEEP, dim=-1).indices.tolist()]


@pytest.fixture(params=[REF.HEADS, 2, 1], ids=["mha", "gqa", "mqa"])
def layer(request):
    return Layer(request.param)


def test_knorm(layer):
    assert layer.kept_by(kvpress.KnormPress()) == [REF.keep_best(REF.key_norm(k), 0, 0) for k in layer.k]


def test_keydiff(layer):
    assert layer.kept_by(kvpress.KeyDiffPress()) == [REF.keep_best(REF.key_difference(k), 0, 0) for k in layer.k]


def test_streaming_llm(layer):
    press = kvpress.StreamingLLMPress(compression_ratio=1 - REF.KEEP / REF.ROWS, n_sink=REF.SINKS)
    assert layer.kept_by(press) == [REF.keep_best(REF.window(k), REF.SINKS, 0) for k in layer.k]


def test_snapkv(layer):
    _, weights = REF.attention(layer.q, layer.k)
    press = kvpress.SnapKVPress(window_size=REF.WINDOW, kernel_size=REF.KERNEL)
    assert layer.kept_by(press) == REF.observation_window(weights, layer.kv_heads)


def test_ada_snapkv(layer):
    """Without a floor, which the press gives to heads otherwise than the paper: what it masks are the other rows."""
    _, weights = REF.attention(layer.q, layer.k)
    snapkv = kvpress.SnapKVPress(compression_ratio=1 - REF.KEEP / REF.ROWS, window_size=REF.WINDOW,
                                 kernel_size=REF.KERNEL)
    with torch.no_grad():
        kvpress.AdaKVPress(snapkv, alpha_safeguard=0).compress(layer.module, layer.hidden, layer.keys, layer.values, None,
                                                               {"position_embeddings": layer.rope})
    _, heads, rows = (x.tolist() for x in layer.module.masked_key_indices)
    dropped = [{row for head, row in zip(heads, rows) if head == h} for h in range(layer.kv_heads)]
    assert [[row for row in range(REF.ROWS) if row not in d] for d in dropped] == REF.adaptive(
        REF.window_scores(weights, layer.kv_heads), 0, REF.WINDOW, floor=0)


def test_pyramidkv():
    """The rows beside the window, which the press counts out of its budget and the paper's code into it."""
    class Pyramid(RUNS.Pyramid):
        pyramid = 2

    beside = RUNS.KEEP - Pyramid.window
    press = kvpress.PyramidKVPress(compression_ratio=1 - beside / RUNS.ROWS, window_size=Pyramid.window, beta=2)
    config = llama.LlamaConfig(num_hidden_layers=RUNS.LAYERS)
    budgets = []
    for index in range(RUNS.LAYERS):
        module = torch.nn.Module()
        module.config, module.layer_idx = config, index
        budgets.append(press.get_layer_budget(module, RUNS.ROWS))
    layers = [RUNS.Layer(index, 1) for index in range(RUNS.LAYERS)]
    assert len(set(budgets)) == RUNS.LAYERS
    assert budgets == [Pyramid().n_keep(layer, RUNS.ROWS) - Pyramid.window for layer in layers]


def test_tova(layer):
    """Where the press keeps the newest row in any case: recent=1."""
    _, weights = REF.attention(layer.q, layer.k)
    expected = REF.keep_best(weights[:, -1].mean(axis=0), 0, 1)
    assert layer.kept_by(kvpress.TOVAPress()) == [expected] * layer.kv_heads


def test_expected_attention(layer):
    """The press leaves sinks out of the softmax, which tells where heads of a group are added up: a row may differ."""
    scores = REF.expected_attention(layer.plain_q, layer.k, layer.v)
    kept = layer.kept_by(kvpress.ExpectedAttentionPress(n_future_positions=512, n_sink=REF.SINKS))
    for head, score in enumerate(scores):
        expected = REF.keep_best(score, REF.SINKS, 0)
        n_other = len(set(kept[head]) - set(expected))
        assert n_other <= (0 if layer.kv_heads == REF.HEADS else 1)
