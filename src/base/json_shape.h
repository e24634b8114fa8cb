// How deep and how large a JSON text is, before anything is built from it.
#pragma once

#include <cstddef>
#include <string_view>

namespace larder {

struct JsonShape {
  std::size_t depth = 0;      // lists and objects inside of each other
  std::size_t n_values = 1;   // at least as many as there are
  std::size_t n_members = 0;  // of the largest object, down to 128 levels
};

/// Walks over the brackets, commas and colons outside of strings; says nothing about anything else,
/// so the text may as well be no JSON. Allocates nothing.
JsonShape measure_json(std::string_view text) noexcept;

}  // namespace larder
