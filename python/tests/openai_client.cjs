// The `openai` npm package against a server: node openai_client.cjs URL. Fails by exception.
'use strict';
const assert = require('node:assert/strict');
const OpenAI = require('openai');

async function completions(client) {
  const asked = {model: 'tiny', prompt: 'Once upon a time', max_tokens: 8, logprobs: 1};
  const whole = await client.completions.create(asked);
  assert.equal(whole.usage.completion_tokens, 8);
  assert.equal(whole.choices[0].logprobs.tokens.length, 8);
  let text = '';
  for await (const chunk of await client.completions.create({...asked, stream: true})) {
    text += chunk.choices[0].text;
  }
  assert.equal(text, whole.choices[0].text);
  const again = await client.completions.create(asked);
  assert.equal(again.usage.prompt_tokens_details.cached_tokens, again.usage.prompt_tokens - 1);
}

async function chats(client) {
  const asked = {model: 'tiny', messages: [{role: 'user', content: 'Hello'}], max_completion_tokens: 6};
  const whole = await client.chat.completions.create(asked);
  assert.equal(whole.choices[0].finish_reason, 'length');
  let text = '', usage = null;
  const stream = await client.chat.completions.create(
      {...asked, stream: true, stream_options: {include_usage: true}});
  for await (const chunk of stream) {
    text += chunk.choices[0]?.delta?.content ?? '';
    usage = chunk.usage ?? usage;
  }
  assert.equal(text, whole.choices[0].message.content);
  assert.equal(usage.completion_tokens, 6);
  const left = await client.chat.completions.create({...asked, max_completion_tokens: 200, stream: true});
  for await (const chunk of left) {
    assert.ok(chunk.choices[0]);
    break;  // and go away
  }
}

async function structured(client) {
  const messages = [{role: 'user', content: 'Pick'}];
  const schema = {type: 'object', properties: {pick: {enum: ['a', 'b']}}, required: ['pick'],
                  additionalProperties: false};
  const answer = await client.chat.completions.create({
    model: 'tiny', messages,
    response_format: {type: 'json_schema', json_schema: {name: 'p', strict: true, schema}}});
  assert.ok(['a', 'b'].includes(JSON.parse(answer.choices[0].message.content).pick));
  const called = await client.chat.completions.create({
    model: 'tiny', messages, tool_choice: 'required',
    tools: [{type: 'function', function: {name: 'choose', parameters: schema}}]});
  const call = called.choices[0].message.tool_calls[0];
  assert.equal(call.function.name, 'choose');
  assert.ok(['a', 'b'].includes(JSON.parse(call.function.arguments).pick));
}

async function rest(client) {
  assert.equal((await client.models.list()).data[0].id, 'tiny');
  const embedded = await client.embeddings.create({model: 'tiny', input: ['Once', 'upon']});
  const length = embedded.data[0].embedding.reduce((sum, x) => sum + x * x, 0);
  assert.ok(Math.abs(length - 1) < 1e-4, `length ${length}`);
  await assert.rejects(client.completions.create({model: 'tiny', prompt: 'a', temperature: 9}),
                       e => e instanceof OpenAI.BadRequestError && e.param === 'temperature');
  await assert.rejects(client.completions.create({model: 'other', prompt: 'a'}),
                       OpenAI.NotFoundError);
}

async function main() {
  const client = new OpenAI({baseURL: process.argv[2] + '/v1', apiKey: 'none', maxRetries: 0, timeout: 60000});
  for (const part of [completions, chats, structured, rest]) await part(client);
  console.log('all is well');
}
main().catch(e => { console.error(e); process.exit(1); });
