// Calibrations of keys: nothing crashes or grows without bound, and what is read can be written and
// read again.
#include <cstddef>
#include <cstdint>
#include <string_view>

#include "base/check.h"
#include "codec/key_calibration.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const auto keys =
      larder::parse_key_calibration({reinterpret_cast<const char*>(data), size}, "input");
  if (!keys) {
    LARDER_CHECK(!keys.error().message.empty());
    return 0;
  }
  const std::string text = larder::key_calibration_text(*keys);
  const auto again = larder::parse_key_calibration(text, "again");
  LARDER_CHECK(again && larder::key_calibration_text(*again) == text);
  return 0;
}
