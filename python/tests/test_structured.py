"""Schemas, tools and embeddings as the `openai` package asks for them, checked by `jsonschema`."""

import base64
import json
import struct

import pytest

openai = pytest.importorskip("openai", reason="the openai package is not installed")
jsonschema = pytest.importorskip("jsonschema", reason="the jsonschema package is not installed")
from pydantic import BaseModel  # noqa: E402  (the openai package needs it)
from test_server import PROMPT, Server  # noqa: E402

TOOLS_TEMPLATE = (
    "{% for t in tools or [] %}{{ t.function | tojson }}\n{% endfor %}"
    "{% for m in messages %}{{ m.role }}: {{ m.content }}"
    "{% for c in m.tool_calls or [] %}<tool_call>\n{\"name\": \"{{ c.function.name }}\", "
    "\"arguments\": {{ c.function.arguments | tojson }}}\n</tool_call>{% endfor %}\n{% endfor %}"
    "{% if add_generation_prompt %}assistant:{% endif %}")

SCHEMAS = [
    {"type": "object", "additionalProperties": False, "required": ["name", "tags"],
     "properties": {"name": {"type": "string", "maxLength": 12}, "age": {"type": "integer"},
                    "tags": {"type": "array", "items": {"enum": ["a", "ab", 3, None]},
                             "minItems": 1, "maxItems": 4}}},
    {"type": "array", "maxItems": 3,
     "items": {"anyOf": [{"type": "number"}, {"type": "boolean"}, {"const": {"k": [1, "x"]}},
                         {"type": "string", "minLength": 2, "maxLength": 5}]}},
    {"$ref": "#/$defs/tree",
     "$defs": {"tree": {"type": "object", "required": ["leaf"], "additionalProperties": False,
                        "properties": {"leaf": {"type": ["boolean", "null"]},
                                       "next": {"anyOf": [{"type": "null"},
                                                          {"$ref": "#/$defs/tree"}]}}}}},
    {"type": "object", "properties": {"é": {"type": "integer"}}, "required": ["é"],
     "additionalProperties": {"type": "boolean"}},
]


@pytest.fixture(scope="module")
def server(larder, tmp_path_factory):
    running = Server(larder, tmp_path_factory.mktemp("server"), n_context=1024,
                     chat_template=TOOLS_TEMPLATE)
    yield running
    assert running.stop() == 0


@pytest.mark.parametrize("number", range(len(SCHEMAS)))
def test_random_texts_satisfy_their_schema(server, number):
    schema = SCHEMAS[number]
    answer = server.client().completions.create(
        model="tiny", prompt=PROMPT, max_tokens=400, n=8, temperature=1.3, seed=number,
        extra_body={"response_format": {"type": "json_schema",
                                        "json_schema": {"name": "s", "schema": schema}}})
    finished = [c for c in answer.choices if c.finish_reason == "stop"]
    assert finished, [c.text for c in answer.choices]  # names may go on for ever
    for choice in finished:
        jsonschema.validate(json.loads(choice.text), schema)


class Pet(BaseModel):
    kind: str
    legs: int


class Person(BaseModel):
    old: bool
    pets: list[Pet]


def test_parse_with_pydantic(server):
    for seed in range(20):
        answer = server.client().chat.completions.parse(
            model="tiny", messages=[{"role": "user", "content": "Who?"}], temperature=0.7,
            seed=seed, response_format=Person, max_tokens=400)
        if answer.choices[0].finish_reason == "stop":
            assert isinstance(answer.choices[0].message.parsed.old, bool)
            return
    raise AssertionError("no text of twenty was finished")


def test_refusals_name_the_keyword(server):
    with pytest.raises(openai.BadRequestError) as bad:
        server.client().chat.completions.create(
            model="tiny", messages=[{"role": "user", "content": "Who?"}],
            response_format={"type": "json_schema", "json_schema": {
                "name": "x", "schema": {"type": "integer", "multipleOf": 3}}})
    assert "'multipleOf' is not supported" in bad.value.body["message"]


TOOLS = [{"type": "function", "function": {
    "name": name, "description": "d",
    "parameters": {"type": "object", "properties": {"city": {"enum": ["Rome", "Oslo"]}},
                   "required": ["city"], "additionalProperties": False}}}
    for name in ("weather", "map")]


def test_a_tool_is_called_and_answered(server):
    client = server.client()
    messages = [{"role": "user", "content": "Weather?"}]
    answer = client.chat.completions.create(model="tiny", messages=messages, tools=TOOLS,
                                            tool_choice="required", temperature=1, seed=1)
    assert answer.choices[0].finish_reason == "tool_calls"
    call = answer.choices[0].message.tool_calls[0]
    assert call.function.name in ("weather", "map")
    assert json.loads(call.function.arguments)["city"] in ("Rome", "Oslo")
    messages += [answer.choices[0].message,
                 {"role": "tool", "tool_call_id": call.id, "content": "sunny"}]
    text = client.chat.completions.create(model="tiny", messages=messages, tools=TOOLS,
                                          max_tokens=5)
    assert text.choices[0].message.content
    named = {"type": "function", "function": {"name": "map"}}
    calls = []
    for chunk in client.chat.completions.create(model="tiny", messages=messages[:1], tools=TOOLS,
                                                tool_choice=named, stream=True):
        calls += chunk.choices[0].delta.tool_calls or []
    assert [c.function.name for c in calls] == ["map"]


def test_embeddings(server):
    client = server.client()
    texts = ["Once upon a time", "Once upon a time there was a dog", "Once upon a time"]
    answer = client.embeddings.create(model="tiny", input=texts)  # asks for base64
    vectors = [d.embedding for d in answer.data]
    assert vectors[0] == vectors[2] != vectors[1]
    assert sum(x * x for x in vectors[0]) == pytest.approx(1, abs=1e-5)
    assert answer.usage.prompt_tokens == answer.usage.total_tokens > 10
    plain = client.embeddings.create(model="tiny", input=texts[0], encoding_format="float")
    assert plain.data[0].embedding == pytest.approx(vectors[0], abs=1e-6)
    raw = client.embeddings.with_raw_response.create(model="tiny", input=[1, 403],
                                                     encoding_format="base64")
    data = base64.b64decode(json.loads(raw.text)["data"][0]["embedding"])
    assert len(struct.unpack(f"<{len(data) // 4}f", data)) == len(vectors[0])
    with pytest.raises(openai.BadRequestError) as bad:
        client.embeddings.create(model="tiny", input="a", dimensions=8)
    assert bad.value.body["param"] == "dimensions"
