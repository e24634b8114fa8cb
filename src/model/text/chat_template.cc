#include "model/text/chat_template.h"

#include <nlohmann/json.hpp>

#include "model/text/jinja/interpreter.h"
#include "model/text/jinja/parser.h"

namespace larder {

namespace {

using nlohmann::ordered_json;

Result<jinja::Value> to_value(const ordered_json& json, std::uint32_t depth, jinja::Budget& budget);

Result<jinja::Value> to_list(const ordered_json& json, std::uint32_t depth, jinja::Budget& budget) {
  std::vector<jinja::Value> items;
  items.reserve(json.size());
  for (const auto& element : json) {
    LARDER_ASSIGN(jinja::Value item, to_value(element, depth + 1, budget));
    items.push_back(std::move(item));
  }
  return jinja::make_list(std::move(items), budget);
}

Result<jinja::Dict> to_dict(const ordered_json& json, std::uint32_t depth, jinja::Budget& budget) {
  jinja::Dict dict;
  dict.entries.reserve(json.size());
  for (const auto& [key, element] : json.items()) {
    LARDER_ASSIGN(jinja::Value value, to_value(element, depth + 1, budget));
    LARDER_TRY(budget.text(key.size()));
    dict.entries.emplace_back(key, std::move(value));
  }
  return dict;
}

Result<jinja::Value> to_value(const ordered_json& json, std::uint32_t depth,
                              jinja::Budget& budget) {
  LARDER_TRY(budget.charge(sizeof(jinja::Value)));
  if (depth > jinja::kMaxValueDepth) {
    return fail(Errc::invalid_argument, "nested more than {} deep", jinja::kMaxValueDepth);
  }
  switch (json.type()) {
    case ordered_json::value_t::null:
      return jinja::Value(jinja::None{});
    case ordered_json::value_t::boolean:
      return jinja::Value(json.get<bool>());
    case ordered_json::value_t::number_integer:
      return jinja::Value(json.get<std::int64_t>());
    case ordered_json::value_t::number_unsigned: {
      const auto number = json.get<std::uint64_t>();
      if (number > static_cast<std::uint64_t>(INT64_MAX)) {
        return fail(Errc::invalid_argument, "the integer {} does not fit in 64 bits", number);
      }
      return jinja::Value(static_cast<std::int64_t>(number));
    }
    case ordered_json::value_t::number_float:
      return jinja::Value(json.get<double>());
    case ordered_json::value_t::string:
      return jinja::make_text(json.get_ref<const std::string&>(), budget);
    case ordered_json::value_t::array:
      return to_list(json, depth, budget);
    case ordered_json::value_t::object: {
      LARDER_ASSIGN(jinja::Dict dict, to_dict(json, depth, budget));
      return jinja::make_dict(std::move(dict), budget);
    }
    default:
      return fail(Errc::invalid_argument, "binary data");
  }
}

std::tm local_time() {
  const std::time_t now = std::time(nullptr);
  std::tm local{};
  localtime_r(&now, &local);
  return local;
}

}  // namespace

struct ChatTemplate::Impl {
  jinja::Body body;
};

ChatTemplate::ChatTemplate(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
ChatTemplate::ChatTemplate(ChatTemplate&&) noexcept = default;
ChatTemplate& ChatTemplate::operator=(ChatTemplate&&) noexcept = default;
ChatTemplate::~ChatTemplate() = default;

Result<ChatTemplate> ChatTemplate::parse(std::string_view source) {
  auto impl = std::make_unique<Impl>();
  LARDER_ASSIGN(impl->body, jinja::parse_template(source));
  return ChatTemplate(std::move(impl));
}

Result<std::string> ChatTemplate::render(const ordered_json& context) const {
  return render(context, local_time());
}

Result<std::string> ChatTemplate::render(const ordered_json& context, const std::tm& now) const {
  if (!context.is_object()) {
    return fail(Errc::invalid_argument, "chat template: the context is no JSON object");
  }
  jinja::Budget budget;
  auto variables = to_dict(context, 0, budget);
  if (!variables) {
    return fail(variables.error().code, "chat template: the conversation has {}",
                variables.error().message);
  }
  for (const char* name : {"tools", "documents"}) {
    if (variables->find(name) == nullptr) variables->set(name, jinja::Value(jinja::None{}));
  }
  return jinja::Interpreter(std::move(*variables), budget, now).run(impl_->body);
}

}  // namespace larder
