// Options of an engine. Flags, JSON and documentation are made from the field lists here.
#pragma once

#include <cstdint>
#include <string>

#include "larder/result.h"

namespace larder {

struct KvOptions {
  std::string type_k = "bf16";      // storage format of keys
  std::string type_v = "bf16";      // storage format of values
  std::string layers;               // formats of single layers: "0-1:bf16,2-:rot4/int4"
  std::uint32_t raw_blocks = 0;     // first blocks that sealing layers keep raw
  std::uint32_t block_tokens = 32;  // rows per block
  std::uint64_t memory_bytes = 0;   // 0: what n_context * n_sequences needs
  std::string policy;               // which rows stay when there are more than `keep`; empty: all
  std::string keep;                 // "512" rows per layer and head, or "0.25" of the prompt's
  std::uint64_t keep_total_bytes = 0;  // instead: what stays of n_sequences together; 0: `keep`
  bool prefix_caching = false;         // what was computed stays for those who begin alike
  std::string calibration;             // file that kvq formats read: `larder eval calibrate`
};
template <class F>
void for_each_field(KvOptions& o, F&& f) {
  f("cache-type-k", o.type_k,
    "storage format of keys: f32, f16, bf16, q8_0, int8, fp8, rot8, kivi8, rot5, q4_0, rot4, int4, "
    "kivi4, rot3, rot2, kivi2; with kv-calibration also kvq4, kvq4o, kvq3, kvq3o, kvq2, kvq2o");
  f("cache-type-v", o.type_v, "storage format of values: as for keys, but none of kvq");
  f("kv-layers", o.layers,
    "formats of single layers, K/V or one for both, e.g. 0-1:bf16,2-:rot4/int4; others as above");
  f("kv-raw-blocks", o.raw_blocks,
    "first blocks of a sequence that are not encoded (attention sinks): 0 to 64");
  f("kv-calibration", o.calibration,
    "file of what is known of the model's keys, for kvq formats: larder eval calibrate writes it");
  f("block-size", o.block_tokens, "tokens per KV block: a power of two, 16 to 128");
  f("kv-policy", o.policy,
    "which cached rows stay, or are read: larder policies lists them (empty or none: all)");
  f("kv-keep", o.keep, "rows that stay, or are read: tokens, or a share of the prompt as 0.25");
  f("kv-keep-total", o.keep_total_bytes,
    "bytes that stay of all sequences together, instead of kv-keep: each has its part, e.g. 256M");
  f("kv-memory", o.memory_bytes, "byte budget of the KV cache, e.g. 512M (0: fits the context)");
}

struct EngineOptions {
  std::string model_path;
  std::uint32_t n_context = 0;    // tokens per sequence; 0: the model's own, at most 8192
  std::uint32_t n_sequences = 1;  // sequences that may run at once
  std::uint32_t n_batch = 512;    // rows of one step: prefill chunks and decode tokens together
  std::uint32_t n_threads = 0;    // 0: one per core
  std::string isa;  // "scalar", "avx2", "avxvnni", "avx512", "amx"; empty: the machine's best
  KvOptions kv;
  // Not a flag: q8_0 and q4_0 weights are read from the file at first and packed between the steps
  // that follow the first one. An earlier first token, some slower ones after it.
  bool pack_while_running = false;
};
template <class F>
void for_each_field(EngineOptions& o, F&& f) {
  f("model", o.model_path, "GGUF file or Hugging Face directory");
  f("ctx-size", o.n_context, "tokens per sequence (0: the model's own, at most 8192)");
  f("parallel", o.n_sequences, "sequences that may run at once");
  f("ubatch-size", o.n_batch, "rows of one step");
  f("threads", o.n_threads, "threads (0: one per core)");
  f("isa", o.isa, "instruction set: scalar, avx2, avxvnni, avx512, amx (empty: the best)");
  for_each_field(o.kv, f);
}

/// All rules in one place; messages name the field and the value.
Result<void> validate(const EngineOptions& options);

}  // namespace larder
