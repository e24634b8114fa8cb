// Ends a text at the first of several stop strings.
#pragma once

#include <string>
#include <string_view>
#include <vector>

namespace larder {

/// Text goes in as it is made; what comes out can never turn out to belong to a stop string later.
class StopMatcher {
 public:
  explicit StopMatcher(std::vector<std::string> stops) : stops_(std::move(stops)) {}

  /// Text that is safe to show now. After `stopped()` everything is swallowed.
  std::string push(std::string_view text);
  /// What was held back in case a stop string followed; the text ended without one.
  std::string finish();
  bool stopped() const noexcept { return stopped_; }

 private:
  std::vector<std::string> stops_;
  std::string held_;  // a suffix of the text that begins some stop string
  bool stopped_ = false;
};

}  // namespace larder
