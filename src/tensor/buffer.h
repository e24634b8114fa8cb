// Owned, aligned memory.
#pragma once

#include <cstddef>
#include <cstdlib>
#include <memory>
#include <new>
#include <span>

namespace larder {

/// `n` elements of a trivial type, aligned to 64 bytes, zeroed. Move-only. Not thread-safe.
template <class T>
class Buffer {
 public:
  Buffer() = default;
  explicit Buffer(std::size_t n)
      : data_(n == 0 ? nullptr
                     : static_cast<T*>(::operator new[](n * sizeof(T), std::align_val_t{64}))),
        size_(n) {
    for (std::size_t i = 0; i < n; ++i) data_.get()[i] = T{};
  }
  T* data() noexcept { return data_.get(); }
  const T* data() const noexcept { return data_.get(); }
  std::size_t size() const noexcept { return size_; }
  std::span<T> span() noexcept { return {data(), size_}; }
  std::span<const T> span() const noexcept { return {data(), size_}; }
  T& operator[](std::size_t i) noexcept { return data_.get()[i]; }
  const T& operator[](std::size_t i) const noexcept { return data_.get()[i]; }

 private:
  struct Free {
    void operator()(T* p) const noexcept { ::operator delete[](p, std::align_val_t{64}); }
  };
  std::unique_ptr<T, Free> data_;
  std::size_t size_ = 0;
};

}  // namespace larder
