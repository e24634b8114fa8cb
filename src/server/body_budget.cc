#include "server/body_budget.h"

namespace larder {
namespace {

std::size_t counted(std::size_t n_bytes) {
  return n_bytes > BodyBudget::kFreeBytes ? n_bytes - BodyBudget::kFreeBytes : 0;
}

}  // namespace

BodyShare& BodyShare::operator=(BodyShare&& other) noexcept {
  if (this == &other) return *this;
  release();
  budget_ = std::exchange(other.budget_, nullptr);
  n_bytes_ = std::exchange(other.n_bytes_, 0);
  return *this;
}

bool BodyShare::grow(std::size_t n_bytes) {
  if (budget_ == nullptr) return false;
  const std::size_t n_more = counted(n_bytes_ + n_bytes) - counted(n_bytes_);
  // What counts for nothing is let in even where nothing is left.
  if (n_more > 0 && n_more > budget_->n_most_bytes_ - budget_->n_bytes_) return false;
  budget_->n_bytes_ += n_more;
  n_bytes_ += n_bytes;
  return true;
}

void BodyShare::release() noexcept {
  BodyBudget* const budget = std::exchange(budget_, nullptr);
  if (budget == nullptr) return;
  const std::size_t n_bytes = std::exchange(n_bytes_, 0);
  budget->n_bytes_ -= counted(n_bytes);
  if (n_bytes > BodyBudget::kLargeBytes && budget->on_large_release_) budget->on_large_release_();
}

}  // namespace larder
