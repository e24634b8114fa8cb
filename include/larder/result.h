// Outcomes of operations that the outside world can make fail.
#pragma once

#include <cstdint>
#include <string>
#include <tl/expected.hpp>

namespace larder {

/// A code exists only when a caller acts on it; the message carries the rest.
enum class Errc : std::uint8_t {
  invalid_argument,
  not_found,
  io,
  corrupt,
  unsupported,
  unavailable
};

/// What failed, on which input, with which value: one sentence, no trailing newline.
struct Error {
  Errc code = Errc::invalid_argument;
  std::string message;
};

template <class T>
using Result = tl::expected<T, Error>;

}  // namespace larder
