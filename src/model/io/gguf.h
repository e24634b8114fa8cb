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
using GgufValue = std::variant<std::uint64_t, std::int64_t, double, bool, std::string,
                               std::vector<std::int64_t>, std::vector<double>, std::vector<bool>,
                               std::vector<std::string>>;

/// Typed look-ups: `get<T>` is empty when the key is absent; the `Result` forms also refuse a value of the wrong type or out
/// of range, naming file, key and value.
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
  void set(std::string key, GgufValue value);
  const std::map<std::string, GgufValue, std::less<>>& entries() const noexcept { return entries_; }

 private:
  std::string origin_;
  std::map<std::string, GgufValue, std::less<>> entries_;
};

struct GgufTensor {
  std::string name;
  TensorView view;
};

/// A mapped file. Immutable; thread-safe. Views point into the mapping and live as long as it.
class GgufFile {
 public:
  /// Reads header and directory; checks every count, length, offset, alignment, overlap and type
  /// against the file's size before it allocates or follows it.
  static Result<std::unique_ptr<GgufFile>> open(const std::string& path);
  /// The same over bytes in memory (fuzzing, tests); `origin` names them in messages.
  static Result<std::unique_ptr<GgufFile>> parse(std::span<const std::byte> bytes, std::string origin);
  ~GgufFile();

  const GgufMetadata& metadata() const noexcept;
  std::span<const GgufTensor> tensors() const noexcept;
  const GgufTensor* find(std::string_view name) const;
  std::uint64_t file_bytes() const noexcept;

 private:
  struct Impl;
  explicit GgufFile(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

/// Width and kind with which a value is written, because readers of GGUF insist on them.
enum class GgufType : std::uint32_t {
  u8 = 0, i8 = 1, u16 = 2, i16 = 3, u32 = 4, i32 = 5, f32 = 6, boolean = 7, string = 8, array = 9,
  u64 = 10, i64 = 11, f64 = 12
};

/// Writes a file front to back: metadata, directory, then each tensor's bytes in the announced order.
/// Writes to `path + ".part"` and renames at the end, so a broken run leaves no half file.
class GgufWriter {
 public:
  static Result<GgufWriter> create(const std::string& path);
  GgufWriter(GgufWriter&&) noexcept;
  ~GgufWriter();
  void put(std::string key, GgufType type, GgufValue value);
  void put_array(std::string key, GgufType element_type, GgufValue values);
  void announce(std::string name, DType dtype, std::span<const std::uint64_t> shape);  // outermost first
  Result<void> begin_data();                             // after the last put and announce
  Result<void> write_tensor(std::span<const std::byte> bytes);  // size as announced
  Result<void> finish();

 private:
  struct Impl;
  explicit GgufWriter(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

}  // namespace larder
