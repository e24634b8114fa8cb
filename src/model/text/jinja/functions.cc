#include <algorithm>
#include <iterator>

#include "model/text/jinja/methods.h"
#include "model/text/jinja/print.h"

namespace larder::jinja {

namespace {

constexpr std::size_t kMaxTimeFormat = 256;  // bytes
constexpr std::string_view kFunctions[] = {"range", "dict", "raise_exception", "strftime_now"};

Result<Value> range(const Arguments& arguments, Budget& budget) {
  LARDER_ASSIGN(const auto bound, arguments.bind({"start", "stop", "step"}, 1));
  LARDER_ASSIGN(std::int64_t start, integer_argument(bound[0], 0));
  LARDER_ASSIGN(std::int64_t stop, integer_argument(bound[1], 0));
  LARDER_ASSIGN(const std::int64_t step, integer_argument(bound[2], 1));
  if (bound[1] == nullptr) stop = std::exchange(start, 0);
  if (step == 0) return fail(Errc::invalid_argument, "range() with step 0");
  std::vector<Value> numbers;
  constexpr std::size_t kMaxRange = 100'000;  // the sandbox's limit
  std::int64_t i = start;
  while (step > 0 ? i < stop : i > stop) {
    if (numbers.size() == kMaxRange) {
      return fail(Errc::invalid_argument, "range() of more than {} numbers", kMaxRange);
    }
    numbers.emplace_back(i);
    if (__builtin_add_overflow(i, step, &i)) break;
  }
  return make_list(std::move(numbers), budget);
}

Result<Value> dict(const Arguments& arguments, Budget& budget) {
  Dict made;
  if (!arguments.positional.empty()) {
    if (arguments.positional.size() > 1 || !arguments.positional[0].is(Kind::dict)) {
      return fail(Errc::unsupported, "dict() of anything but one dict and names");
    }
    LARDER_TRY(budget.charge(arguments.positional[0].dict().entries.size() * sizeof(Value)));
    made = arguments.positional[0].dict();
  }
  for (const auto& [name, value] : arguments.named) made.set(name, value);
  return make_dict(std::move(made), budget);
}

Result<Value> raise_exception(const Arguments& arguments) {
  LARDER_ASSIGN(const auto bound, arguments.bind({"message"}, 1));
  LARDER_ASSIGN(const std::string message, to_text(*bound[0]));
  return fail(Errc::invalid_argument, "{}", message);
}

Result<Value> strftime_now(const Arguments& arguments, const std::tm& now, Budget& budget) {
  LARDER_ASSIGN(const auto bound, arguments.bind({"format"}, 1));
  LARDER_ASSIGN(const std::string format, text_argument(bound[0], ""));
  if (format.size() > kMaxTimeFormat) {
    return fail(Errc::invalid_argument, "a time format of {} bytes; the limit is {}", format.size(),
                kMaxTimeFormat);
  }
  char buffer[64 * kMaxTimeFormat];
  const std::size_t size = std::strftime(buffer, sizeof(buffer), format.c_str(), &now);
  return make_text(std::string(buffer, size), budget);
}

}  // namespace

std::string_view find_function(std::string_view name) noexcept {
  const auto it = std::find(std::begin(kFunctions), std::end(kFunctions), name);
  return it == std::end(kFunctions) ? std::string_view() : *it;
}

Result<Value> call_function(std::string_view name, const Arguments& arguments, const std::tm& now,
                            Budget& budget) {
  if (name == "range") return range(arguments, budget);
  if (name == "dict") return dict(arguments, budget);
  if (name == "raise_exception") return raise_exception(arguments);
  return strftime_now(arguments, now, budget);
}

}  // namespace larder::jinja
