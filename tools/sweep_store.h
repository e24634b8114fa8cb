// What a sweep has measured so far, in a file, so that a broken one goes on where it ended.
#pragma once

#include <cstdint>
#include <map>
#include <nlohmann/json.hpp>
#include <string>

#include "larder/result.h"

namespace larder {

/// One line of JSON per finished cell: {"cell": {...}, "result": {...}}. What a cell is must name
/// all that its result depends on: it is the key. What the end of a process left of its last line
/// is dropped. Not thread-safe, one process at a time.
class SweepStore {
 public:
  /// An empty path keeps everything in memory. A file that is not there yet is made. Errors: io;
  /// invalid_argument (a file that cannot be written, more than 256 MiB, a line within that is no
  /// cell).
  static Result<SweepStore> open(std::string path);

  /// The result of a cell; null when it was not measured.
  const nlohmann::ordered_json* find(const nlohmann::ordered_json& cell) const;
  /// Written before it returns. Errors: io.
  Result<void> add(const nlohmann::ordered_json& cell, nlohmann::ordered_json result);
  std::size_t size() const noexcept { return results_.size(); }

 private:
  SweepStore() = default;
  Result<void> read(const std::string& text);

  std::string path_;
  std::uint64_t n_bytes_ = 0;      // of the file when it was read
  std::uint64_t n_cut_bytes_ = 0;  // at its end, of a line that was never finished
  bool ends_line_ = true;          // the last line has its end
  std::map<std::string, nlohmann::ordered_json> results_;  // by the cell's text
};

}  // namespace larder
