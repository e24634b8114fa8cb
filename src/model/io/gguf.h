// GGUF v3: the container. Metadata keys and values, tensor directory, aligned data.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

#include "larder/result.h"
#include "tensor/view.h"

namespace larder {

/// One metadata value. Integers of every width widen to (u)int64, arrays are homogeneous.
using GgufValue =
    std::variant<std::uint64_t, std::int64_t, double, bool, std::string, std::vector<std::int64_t>,
                 std::vector<double>, std::vector<bool>, std::vector<std::string>>;

/// Width and kind with which a value is written, because readers of GGUF insist on them.
enum class GgufType : std::uint32_t {
  u8 = 0,
  i8 = 1,
  u16 = 2,
  i16 = 3,
  u32 = 4,
  i32 = 5,
  f32 = 6,
  boolean = 7,
  string = 8,
  array = 9,
  u64 = 10,
  i64 = 11,
  f64 = 12
};

/// Typed look-ups: `find` is null when the key is absent; the `Result` forms also refuse a value of
/// the wrong type or out of range, naming file, key and value.
class GgufMetadata {
 public:
  explicit GgufMetadata(std::string origin) : origin_(std::move(origin)) {}
  const std::string& origin() const noexcept { return origin_; }
  bool has(std::string_view key) const;
  const GgufValue* find(std::string_view key) const;
  Result<std::uint32_t> u32(std::string_view key) const;  // required
  Result<std::uint32_t> u32_or(std::string_view key, std::uint32_t absent) const;
  Result<float> f32(std::string_view key) const;
  Result<float> f32_or(std::string_view key, float absent) const;
  Result<bool> bool_or(std::string_view key, bool absent) const;
  Result<std::string> string(std::string_view key) const;
  Result<std::string> string_or(std::string_view key, std::string absent) const;
  /// Empty vector when absent.
  Result<std::vector<std::string>> strings(std::string_view key) const;
  Result<std::vector<std::int64_t>> ints(std::string_view key) const;
  Result<std::vector<double>> floats(std::string_view key) const;
  /// `type` is the width in the file (of the elements, for an array); by default the widest.
  void set(std::string key, GgufValue value, std::optional<GgufType> type = {});
  /// Drops every key that begins so, and its memory.
  void drop(std::string_view prefix);
  /// Width with which the file holds the value (of the elements, for an array), so that a copy can
  /// be written as it was. REQUIRES: has(key).
  GgufType type(std::string_view key) const;
  const std::map<std::string, GgufValue, std::less<>>& entries() const noexcept { return entries_; }

 private:
  std::string origin_;
  std::map<std::string, GgufValue, std::less<>> entries_;
  std::map<std::string, GgufType, std::less<>> types_;
};

struct GgufTensor {
  std::string name;
  TensorView view;
};

/// A mapped file. Thread-safe while nothing is dropped. Views point into the mapping and live as
/// long as it.
class GgufFile {
 public:
  /// Reads header and directory; checks every count, length, offset, alignment, overlap and type
  /// against the file's size before it allocates or follows it.
  static Result<std::unique_ptr<GgufFile>> open(const std::string& path);
  /// The same over bytes in memory (fuzzing, tests), which must outlive the result; `origin` names
  /// them in messages.
  static Result<std::unique_ptr<GgufFile>> parse(std::span<const std::byte> bytes,
                                                 std::string origin);
  ~GgufFile();

  const GgufMetadata& metadata() const noexcept;
  /// Drops metadata that was read and is not needed again: a vocabulary takes megabytes.
  void drop_metadata(std::string_view prefix);
  std::span<const GgufTensor> tensors() const noexcept;
  const GgufTensor* find(std::string_view name) const;
  std::uint64_t file_bytes() const noexcept;
  /// Hint that a tensor's bytes were read and will not be needed soon (streaming over large files).
  void forget(const TensorView& view) const noexcept;

 private:
  struct Impl;
  explicit GgufFile(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

/// Name of a tensor type number that Larder does not read, as llama.cpp spells it ("IQ4_XS"); empty
/// for numbers nobody uses.
std::string_view gguf_foreign_type_name(std::uint32_t number) noexcept;

/// Writes a file front to back: metadata, directory, then each tensor's bytes in the announced
/// order. The file appears at the end, whole: see OutputFile. Not thread-safe.
class GgufWriter {
 public:
  /// Errors: those of OutputFile.
  static Result<GgufWriter> create(const std::string& path);
  GgufWriter(GgufWriter&&) noexcept;
  GgufWriter& operator=(GgufWriter&&) noexcept;
  ~GgufWriter();  // leaves nothing unless `finish` succeeded
  /// The last value put under a key counts. REQUIRES: the value fits the type (any integer
  /// alternative for integer types, double for f32 and f64).
  void put(std::string key, GgufType type, GgufValue value);
  /// REQUIRES: `values` is one of the vectors and fits.
  void put_array(std::string key, GgufType element_type, GgufValue values);
  /// `shape` outermost first, 1 to 4 dimensions. REQUIRES: whole blocks per row, a new name.
  void announce(std::string name, DType dtype, std::span<const std::uint64_t> shape);
  Result<void> begin_data();  // after the last put and announce
  /// The next tensor. REQUIRES: size as announced.
  Result<void> write_tensor(std::span<const std::byte> bytes);
  /// The next piece of the current tensor, for tensors that are made piece by piece; moves on when
  /// the tensor is full. REQUIRES: not more than is missing.
  Result<void> append(std::span<const std::byte> bytes);
  /// Call once. REQUIRES: every announced tensor was written.
  Result<void> finish();

 private:
  struct Impl;
  explicit GgufWriter(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

}  // namespace larder
