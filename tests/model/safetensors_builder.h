// Bytes of safetensors files and of tiny models in them.
#pragma once

#include <cstdint>
#include <cstring>
#include <string>
#include <string_view>
#include <vector>

namespace larder {

/// Collects tensors; `bytes` is a well-formed file.
class SafetensorsBuilder {
 public:
  SafetensorsBuilder& add(std::string_view name, const std::vector<std::uint64_t>& shape,
                          std::string_view dtype, std::string_view data) {
    std::string dims;
    for (const auto n : shape) dims += (dims.empty() ? "" : ",") + std::to_string(n);
    if (!header_.empty()) header_ += ",";
    header_ += "\"" + std::string(name) + "\":{\"dtype\":\"" + std::string(dtype) +
               "\",\"shape\":[" + dims + "],\"data_offsets\":[" + std::to_string(data_.size()) +
               "," + std::to_string(data_.size() + data.size()) + "]}";
    data_ += data;
    return *this;
  }
  /// F32 values first, first + step, first + 2 step, ...
  SafetensorsBuilder& add_f32(std::string_view name, const std::vector<std::uint64_t>& shape,
                              float first, float step) {
    std::uint64_t n = 1;
    for (const auto dim : shape) n *= dim;
    std::string data(n * sizeof(float), '\0');
    for (std::uint64_t i = 0; i < n; ++i) {
      const float value = first + step * static_cast<float>(i);
      std::memcpy(data.data() + i * sizeof value, &value, sizeof value);
    }
    return add(name, shape, "F32", data);
  }
  /// `pad` to keep the data aligned, as every writer of today does.
  std::string bytes(bool pad = true) const {
    std::string header = "{" + header_ + "}";
    while (pad && header.size() % 8 != 0) header += ' ';
    return framed(header, data_);
  }
  static std::string framed(std::string_view header, std::string_view data) {
    const std::uint64_t n = header.size();
    std::string bytes(sizeof n, '\0');
    std::memcpy(bytes.data(), &n, sizeof n);
    return bytes.append(header).append(data);
  }

 private:
  std::string header_, data_;
};

}  // namespace larder
