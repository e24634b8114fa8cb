#include "model/text/chat_template.h"

#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>
#include <random>
#include <sstream>

namespace larder {
namespace {

using nlohmann::ordered_json;

std::string read_file(const std::string& path) {
  std::ifstream in(path, std::ios::binary);
  EXPECT_TRUE(in) << path;
  std::ostringstream text;
  text << in.rdbuf();
  return text.str();
}

/// tests/data/chat/cases.json, made by tests/fixtures/make_chat_fixtures.py with `transformers`.
const ordered_json& fixtures() {
  static const ordered_json kFixtures =
      ordered_json::parse(read_file(LARDER_TEST_DATA "/chat/cases.json"));
  return kFixtures;
}

/// The time the fixtures were rendered at: Friday, 26 July 2024, 13:05:09.
std::tm fixture_time() {
  std::tm time{};
  time.tm_year = 124;
  time.tm_mon = 6;
  time.tm_mday = 26;
  time.tm_hour = 13;
  time.tm_min = 5;
  time.tm_sec = 9;
  time.tm_wday = 5;
  time.tm_yday = 207;
  return time;
}

Result<std::string> render(std::string_view source, ordered_json context) {
  const ordered_json defaults = {
      {"bos_token", "<s>"}, {"eos_token", "</s>"}, {"add_generation_prompt", false}};
  for (const auto& [key, value] : defaults.items()) {
    if (!context.contains(key)) context[key] = value;
  }
  auto parsed = ChatTemplate::parse(source);
  if (!parsed) return tl::unexpected<Error>(parsed.error());
  return parsed->render(context, fixture_time());
}

/// Compares with what `transformers` did: the same text, or an error (with the same message, when
/// the template itself raised it).
void expect_same(const Result<std::string>& result, const ordered_json& expected) {
  if (expected.contains("expected")) {
    ASSERT_TRUE(result) << result.error().message;
    EXPECT_EQ(*result, expected["expected"].get<std::string>());
    return;
  }
  ASSERT_FALSE(result) << *result;
  const auto message = expected["error"].get<std::string>();
  if (!message.empty()) {
    EXPECT_EQ(result.error().message, message);
    EXPECT_EQ(result.error().code, Errc::invalid_argument);
  } else {
    EXPECT_TRUE(result.error().message.starts_with("chat template, line "))
        << result.error().message;
  }
}

TEST(ChatTemplate, RendersConversationsAsTransformersDoes) {
  std::string name, source;
  for (const auto& c : fixtures()["cases"]) {
    const std::string conversation = c["conversation"];
    if (c["template"] != name) {
      name = c["template"];
      source = read_file(std::string(LARDER_TEST_DATA "/chat/templates/") + name + ".jinja");
    }
    SCOPED_TRACE(name + " with " + conversation);
    expect_same(render(source, fixtures()["conversations"][conversation]), c);
  }
}

TEST(ChatTemplate, RendersSnippetsAsTransformersDoes) {
  for (const auto& snippet : fixtures()["snippets"]) {
    const std::string source = snippet["source"];
    SCOPED_TRACE(source);
    expect_same(render(source, fixtures()["snippet_context"]), snippet);
  }
}

TEST(ChatTemplate, ErrorsNameLineAndColumn) {
  const auto syntax = ChatTemplate::parse("line\n  {{ 1 + }}");
  ASSERT_FALSE(syntax);
  EXPECT_EQ(syntax.error().code, Errc::corrupt);
  EXPECT_EQ(syntax.error().message, "chat template, line 2, column 10: unexpected '}}'");

  const auto tag = ChatTemplate::parse("{% include 'x' %}");
  ASSERT_FALSE(tag);
  EXPECT_EQ(tag.error().code, Errc::unsupported);

  const auto filter = render("\n\n{{ 'x' | urlize }}", ordered_json::object());
  ASSERT_FALSE(filter);
  EXPECT_EQ(filter.error().code, Errc::unsupported);
  EXPECT_EQ(filter.error().message, "chat template, line 3: the filter 'urlize' is not supported");
}

TEST(ChatTemplate, ToolsAndDocumentsAreNoneWhenAbsent) {
  EXPECT_EQ(*render("{{ tools is none }} {{ documents is none }} {{ other is defined }}",
                    ordered_json::object()),
            "True True False");
}

TEST(ChatTemplate, RefusesContextsItCannotShow) {
  const auto parsed = ChatTemplate::parse("{{ x }}");
  ASSERT_TRUE(parsed);
  EXPECT_FALSE(parsed->render(ordered_json::array()));
  EXPECT_FALSE(parsed->render({{"x", 18446744073709551615ULL}}));
  ordered_json deep = 1;
  for (int i = 0; i < 200; ++i) deep = ordered_json::array({deep});
  EXPECT_FALSE(parsed->render({{"x", deep}}));
}

std::string repeated(std::string_view text, std::size_t n) {
  std::string out;
  for (std::size_t i = 0; i < n; ++i) out += text;
  return out;
}

// Each of these would take for ever, or all memory, or the whole stack.
TEST(ChatTemplate, HostileTemplatesEndWithAnError) {
  const std::string double_in_loop =
      "{% set ns = namespace(s=SEED) %}{% for a in range(1000) %}{% set ns.s = STEP %}{% endfor %}";
  const auto grow = [&](std::string seed, std::string step) {
    std::string out = double_in_loop;
    out.replace(out.find("SEED"), 4, seed);
    out.replace(out.find("STEP"), 4, step);
    return out;
  };
  const std::string sources[] = {
      "{{ 'x' * 1000000000000 }}",
      "{{ 'xy' * 9223372036854775807 }}",
      "{{ [1] * 1000000000 }}",
      "{{ range(1000000000) | list }}",
      grow("'x'", "ns.s ~ ns.s"),
      grow("'x'", "ns.s + ns.s"),
      grow("[1]", "ns.s + ns.s"),
      grow("[1]", "[ns.s, ns.s]"),
      grow("[1]", "[ns.s]"),
      grow("'xx'", "ns.s | replace('x', 'xx')"),
      grow("'x\\nx'", "ns.s | indent(200)"),
      "{% for a in range(99999) %}{% for b in range(99999) %}{% endfor %}{% endfor %}",
      "{% for a in range(99999) %}{% for b in range(99999) %}x{% endfor %}{% endfor %}",
      "{% macro m() %}{{ m() }}{% endmacro %}{{ m() }}",
      "{% macro m(a) %}{{ m(a) ~ m(a) }}{% endmacro %}{{ m(1) }}",
      repeated("{% if true %}", 5000) + repeated("{% endif %}", 5000),
      repeated("{% for a in [1] %}", 5000) + repeated("{% endfor %}", 5000),
      "{{ " + repeated("(", 50000) + "1" + repeated(")", 50000) + " }}",
      "{{ " + repeated("[", 50000) + repeated("]", 50000) + " }}",
      "{{ " + repeated("not ", 50000) + "1 }}",
      "{{ " + repeated("-", 50001) + "1 }}",
      "{{ 1" + repeated(" + 1", 50000) + " }}",
      "{{ d" + repeated(".x", 50000) + " }}",
      "{{ d" + repeated("()", 50000) + " }}",
      "{{ 1" + repeated(" | abs", 30000) + " }}",
      "{{ 1" + repeated(" if 1 else 1", 20000) + " }}",
      "{{ 1" + repeated(" is odd", 30000) + " }}",
      "{{ 'x' | indent(1000000000) }}",
      "{{ [[[[1]]]] | tojson(indent='" + repeated(" ", 100000) + "') }}",
      "{{ 9223372036854775807 + 1 }}",
      "{{ 10 ** 100 }}",
      "{{ 99999999999999999999 }}",
      "{{ strftime_now('" + repeated("%c", 10000) + "') }}",
      repeated("x", 300 * 1024),
  };
  for (const std::string& source : sources) {
    const auto result = render(source, ordered_json::object());
    EXPECT_FALSE(result) << source.substr(0, 200);
  }
}

TEST(ChatTemplate, IntegerEdgesHaveNoUndefinedBehaviour) {
  const ordered_json context = {{"m", INT64_MIN}};
  EXPECT_FALSE(render("{{ m // -1 }}", context));
  EXPECT_EQ(*render("{{ m % -1 }}", context), "0");
  EXPECT_FALSE(render("{{ -m }}", context));
  EXPECT_FALSE(render("{{ m | abs }}", context));
  EXPECT_EQ(*render("{{ 'abc'[m:] }}{{ 'abc'[::m] }}", context), "abcc");
  EXPECT_EQ(*render("{{ 'abc'[m] is defined }}", context), "False");
}

TEST(ChatTemplate, InvalidUtf8InTextPassesThrough) {
  EXPECT_EQ(*render("\xff{{ '\xc3\xe4' }}{{ 'a\xffz' | upper }}{{ '\xff' | length }}",
                    ordered_json::object()),
            "\xff\xc3\xe4"
            "A\xffZ1");
}

// Damaged templates: any answer will do, as long as there is one.
TEST(ChatTemplate, DamagedTemplatesNeverCrash) {
  std::mt19937 random(7);
  const ordered_json& context = fixtures()["conversations"]["tools"];
  constexpr std::string_view kPieces[] = {"{%",   "%}",     "{{", "}}",  "-",     "|",
                                          "(",    "[",      "'",  "{#",  "endif", "for",
                                          " if ", "[::-1]", "\n", "\xf0"};
  for (const auto& entry :
       std::filesystem::directory_iterator(LARDER_TEST_DATA "/chat/templates")) {
    const std::string whole = read_file(entry.path().string());
    for (int round = 0; round < 60; ++round) {
      std::string source = whole;
      if (round % 3 == 0) source.resize(random() % source.size());
      for (int edit = 0; edit < 1 + round % 4; ++edit) {
        const std::size_t at = random() % (source.size() + 1);
        if (random() % 2 == 0) {
          source.insert(at, kPieces[random() % std::size(kPieces)]);
        } else {
          source.erase(at, random() % 4);
        }
      }
      const auto result = render(source, context);
      if (!result) {
        EXPECT_FALSE(result.error().message.empty());
      }
    }
  }
}

}  // namespace
}  // namespace larder
