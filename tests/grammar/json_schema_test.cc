// What a schema lets through, and what is refused as a schema.
#include "grammar/json_schema.h"

#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <ostream>
#include <string>
#include <vector>

#include "grammar/grammar_run.h"

namespace larder {
namespace {

using testing::HasSubstr;

enum class Outcome { whole, beginning, wrong };

Outcome read(const GrammarAutomaton& automaton, const std::string& text) {
  GrammarRun run(automaton);
  for (const char c : text) {
    run.push(static_cast<std::uint8_t>(c));
    run.commit();
    if (run.places().empty() && !run.may_end()) return Outcome::wrong;
  }
  return run.may_end() ? Outcome::whole : Outcome::beginning;
}

struct Case {
  const char* schema;
  std::vector<const char*> right, wrong;
};
std::ostream& operator<<(std::ostream& out, const Case& c) { return out << c.schema; }

class SchemaTest : public testing::TestWithParam<Case> {};

TEST_P(SchemaTest, ReadsWhatSatisfiesIt) {
  const Case& c = GetParam();
  const auto automaton = compile_json_schema(c.schema);
  ASSERT_TRUE(automaton.has_value()) << automaton.error().message;
  for (const char* text : c.right) EXPECT_EQ(read(*automaton, text), Outcome::whole) << text;
  for (const char* text : c.wrong) EXPECT_NE(read(*automaton, text), Outcome::whole) << text;
}

INSTANTIATE_TEST_SUITE_P(
    Kinds, SchemaTest,
    testing::Values(
        Case{R"({"type":"integer"})",
             {"0", "-7", "12", " 3", "\n  4", "123456789012345678"},
             {"", "01", "1.0", "-", "1e3", "+1", "1234567890123456789", "  1"}},
        Case{R"({"type":"number"})",
             {"0", "-7.25", "1e9", "1.5E-12", "0.0"},
             {".5", "1.", "1e", "1e999", "NaN", "--1"}},
        Case{R"({"type":"boolean"})", {"true", "false"}, {"True", "tru", "null", "0"}},
        Case{R"({"type":["null","boolean"]})", {"null", "true"}, {"\"null\"", "1"}},
        Case{R"({"type":"string"})",
             {R"("")", R"("a b")", R"("\"\\\/\b\f\n\r\t\u00e9")", "\"\xC3\xA9\xE2\x82\xAC\"",
              "\"\xF0\x9F\x98\x80\"", R"("\ud83d\ude00")", R"("\uD800\uDFFF\uE000")"},
             {"\"", "\"\n\"", R"("\x")", R"("\u12")", R"("\ud83d")", R"("\ude00")", R"("\ud83dx")",
              "\"\xC0\xAF\"", "\"\xED\xA0\x80\"", "\"\xFF\"", "\"\xC3\"", "a"}},
        Case{R"({"type":"string","minLength":2,"maxLength":3})",
             {R"("ab")", R"("abc")", "\"\xC3\xA9\xC3\xA9\xC3\xA9\"", R"("\n\ud83d\ude00")"},
             {R"("a")", R"("abcd")", "\"\xC3\xA9\"", R"("\n")"}},
        Case{R"({"type":"string","maxLength":0})", {R"("")"}, {R"("a")"}},
        Case{R"({"type":"array","items":{"type":"integer"}})",
             {"[]", "[1]", "[1,2, 3]", "[\n  1,\n  2\n]"},
             {"[1,]", "[,1]", "[1 ,2]", "[1.5]", "[\"a\"]", "[1", "[1  ]"}},
        Case{R"({"type":"array","items":{"type":"boolean"},"minItems":2,"maxItems":3})",
             {"[true,true]", "[true,false,true]"},
             {"[]", "[true]", "[true,true,true,true]", "[true ]"}},
        Case{R"({"type":"array","maxItems":0})", {"[]"}, {"[1]", "[[]]"}},
        Case{R"({"items":{"items":{"maxLength":1},"maxItems":1},"maxItems":2})",
             {"[]", "[[],[\"a\"]]"},
             {"[[\"a\",\"b\"]]", "[[],[],[]]", "[[\"ab\"]]"}},
        Case{R"({"type":"object"})",
             {"{}", R"({"a":1,"b":[{}]})", R"({ "a": null })"},
             {"[]", R"({"a"})", R"({"a":1,})", R"({a:1})"}},
        Case{R"({"properties":{"a":{"type":"integer"},"b":{"type":"integer"},
                               "c":{"type":"integer"}},"required":["b"]})",
             {R"({"b":1})", R"({"a":1,"b":2})", R"({"b":1,"c":2})", R"({"a":1,"b":2,"c":3})"},
             {"{}", R"({"a":1})", R"({"a":1,"c":2})", R"({"b":1,"a":2})", R"({"b":1,"d":2})",
              R"({"b":1,})", R"({"b":"1"})"}},
        Case{R"({"properties":{"a":{}},"additionalProperties":false})",
             {"{}", R"({"a":[1]})"},
             {R"({"b":1})", R"({"a":1,"b":1})"}},
        Case{R"({"type":"object","properties":{},"additionalProperties":false})",
             {"{}", "{ }"},
             {R"({"a":1})"}},
        Case{R"({"type":"object","additionalProperties":{"type":"integer"}})",
             {"{}", R"({"a":1,"":2})", "{\"\xC3\xA9\":1}"},
             {R"({"a":"1"})", R"({"a\n":1})"}},
        Case{R"({"properties":{"ab":{"type":"null"},"é":{"type":"null"}},
                 "additionalProperties":{"type":"integer"}})",
             {"{}", R"({"ab":null,"a":1,"abc":2,"b":3})", R"({"é":null,"è":1,"éé":1,"€":1,"":2})"},
             {R"({"ab":1})", R"({"é":1})", R"({"a":1,"ab":null})", R"({"a":null})"}},
        Case{R"({"enum":["a","ab",1,12,null,[1,{"b":2}],{}]})",
             {R"("a")", R"("ab")", "1", "12", "null", R"([1,{"b":2}])", R"([ 1, {"b": 2} ])", "{}"},
             {R"("b")", "2", "[]", R"([1])", R"("\u0061")"}},
        Case{R"({"type":"string","enum":["a",1]})", {R"("a")"}, {"1"}},
        Case{R"({"const":"x\"y"})", {R"("x\"y")"}, {R"("x")"}},
        Case{R"({"anyOf":[{"type":"integer"},{"type":"object"},{"enum":["{","["]},
                          {"type":"array"}]})",
             {"1", "{}", R"("{")", R"("[")", "[1]"},
             {R"("x")", "null"}},
        Case{R"({"type":"array","items":{"anyOf":[{"type":"integer"},{"type":"number"}]}})",
             {"[1,2,3,4,5,6,7,8,9]", "[1,2.5]"},
             {"[true]"}},
        Case{R"({"$ref":"#/$defs/tree","$defs":{"tree":{"properties":{"left":{"anyOf":[
                 {"$ref":"#/$defs/tree"},{"type":"null"}]}},"required":["left"]}}})",
             {R"({"left":null})", R"({"left":{"left":{"left":null}}})"},
             {"{}", R"({"left":{}})"}},
        Case{R"({"definitions":{"a/b~c":{"const":1}},"items":{"$ref":"#/definitions/a~1b~0c"}})",
             {"[1]"},
             {"[2]"}},
        Case{"{}", {"1", "\"a\"", "[{}]", "null"}, {"x"}}, Case{"true", {"[1]"}, {"]"}},
        Case{R"({"anyOf":[{"type":"null"},{"$ref":"#/anyOf/2"},{"type":"boolean"}],
                 "title":"t","description":"d","default":3,"$schema":"s"})",
             {"null", "true"},
             {"1"}},
        Case{R"({"type":"array","items":false})", {"[]"}, {"[1]"}}));

TEST(JsonSchema, StandsBetweenTwoTexts) {
  const auto automaton = compile_json_schema(R"({"type":"integer"})", {"<a>\n", "\n</a>"});
  ASSERT_TRUE(automaton.has_value());
  EXPECT_EQ(read(*automaton, "<a>\n12\n</a>"), Outcome::whole);
  EXPECT_EQ(read(*automaton, "<a>\n12"), Outcome::beginning);
  EXPECT_EQ(read(*automaton, "12"), Outcome::wrong);
}

struct Refusal {
  const char* schema;
  const char* words;
  Errc code;
};
std::ostream& operator<<(std::ostream& out, const Refusal& r) { return out << r.schema; }

class RefusalTest : public testing::TestWithParam<Refusal> {};

TEST_P(RefusalTest, NamesWhatIsWrong) {
  const auto automaton = compile_json_schema(GetParam().schema);
  ASSERT_FALSE(automaton.has_value());
  EXPECT_THAT(automaton.error().message, HasSubstr(GetParam().words));
  EXPECT_EQ(automaton.error().code, GetParam().code);
}

constexpr Errc kUnsupported = Errc::unsupported, kInvalid = Errc::invalid_argument;
INSTANTIATE_TEST_SUITE_P(
    Schemas, RefusalTest,
    testing::Values(
        Refusal{R"({"type":"string","pattern":"a+"})", "'pattern' is not supported", kUnsupported},
        Refusal{R"({"properties":{"a":{"minimum":3}}})", "#/properties/a: 'minimum'", kUnsupported},
        Refusal{R"({"oneOf":[{}]})", "'oneOf' is not supported", kUnsupported},
        Refusal{R"({"format":"date"})", "'format' is not supported", kUnsupported},
        Refusal{R"({"anyOf":[{}],"type":"null"})", "'type' is not supported beside 'anyOf'",
                kUnsupported},
        Refusal{R"({"$ref":"#","maxItems":3})", "'maxItems' is not supported beside '$ref'",
                kUnsupported},
        Refusal{R"({"required":["a"]})", "'required' names \"a\"", kUnsupported},
        Refusal{R"({"type":"text"})", "'type' cannot be \"text\"", kInvalid},
        Refusal{R"({"maxItems":1,"maxLength":1})", "'type' is missing", kInvalid},
        Refusal{R"({"type":"array","minItems":3,"maxItems":2})", "'minItems' is 3", kInvalid},
        Refusal{R"({"maxLength":-1})", "'maxLength' must be", kInvalid},
        Refusal{R"({"maxLength":1e9})", "'maxLength' must be", kInvalid},
        Refusal{R"({"$ref":"#/nowhere"})", "no place in the schema", kInvalid},
        Refusal{R"({"$ref":"http://a/b"})", "no place in the schema", kInvalid},
        Refusal{R"({"$ref":"#"})", "no finite text", kInvalid},
        Refusal{R"({"anyOf":[{"$ref":"#"},{"type":"null"}]})", "nothing but itself", kInvalid},
        Refusal{R"({"properties":{"a":{"$ref":"#"}},"required":["a"]})", "no finite text",
                kInvalid},
        Refusal{R"({"type":"array","items":false,"minItems":1})", "no finite text", kInvalid},
        Refusal{"false", "no finite text", kInvalid},
        Refusal{R"({"type":"string","const":1})", "no value of 'const'", kInvalid},
        Refusal{R"({"enum":[]})", "'enum' must be", kInvalid},
        Refusal{R"({"enum":3})", "'enum' must be", kInvalid},
        Refusal{R"({"anyOf":{}})", "'anyOf' must be", kInvalid},
        Refusal{R"({"properties":[]})", "'properties' must be", kInvalid},
        Refusal{R"({"required":"a"})", "'required' must be", kInvalid},
        Refusal{R"({"items":[]})", "#/items: it must be an object", kInvalid},
        Refusal{"{", "not valid JSON", kInvalid}, Refusal{"3", "must be an object", kInvalid}));

TEST(JsonSchema, LimitsHold) {
  std::string deep;
  for (int i = 0; i < 60; ++i) deep += R"({"items":)";
  deep += "{}" + std::string(60, '}');
  EXPECT_THAT(compile_json_schema(deep).error().message, HasSubstr("nested deeper"));
  EXPECT_THAT(compile_json_schema(std::string(100'000, '[')).error().message,
              HasSubstr("nested deeper"));
  EXPECT_THAT(compile_json_schema(std::string(300'000, ' ')).error().message, HasSubstr("bytes"));
  std::string wide = R"({"enum":[0)";
  for (int i = 1; i < 20'000; ++i) wide += fmt::format(",{}", i * 7919);
  EXPECT_THAT(compile_json_schema(wide + "]}").error().message, HasSubstr("states"));
  std::string names = R"({"additionalProperties":false,"properties":{)";
  for (int i = 0; i < 500; ++i) {  // each byte of a name is a place where another may leave it
    names += fmt::format("{}\"{}{:x>35}\":{{}}", i > 0 ? "," : "", i, "");
  }
  const auto closed = compile_json_schema(names + "}}");
  EXPECT_TRUE(closed.has_value()) << closed.error().message;
  names.replace(names.find("false"), 5, "true");
  EXPECT_THAT(compile_json_schema(names + "}}").error().message, HasSubstr("states"));
  std::string members = R"({"$defs":{"x":0)";
  for (int i = 0; i < 2048; ++i) members += fmt::format(",\"{}\":0", i);
  EXPECT_THAT(compile_json_schema(members + "}}").error().message,
              HasSubstr("more than 2048 members"));
  std::string many = R"({"properties":{"x":{})";
  for (int i = 0; i < 600; ++i) many += fmt::format(",\"{}\":{{}}", i);
  EXPECT_THAT(compile_json_schema(many + "}}").error().message, HasSubstr("at most 512"));
}

TEST(JsonSchema, MessagesAreShort) {
  const std::string name(100'000, 'n'), character = "\xC3\xA9";
  for (const std::string& schema :
       {"{\"" + name + "\":1}", "{\"$ref\":\"#/" + name + "\"}", "{\"type\":\"" + name + "\"}",
        "{\"required\":[\"" + name + "\"]}", "{\"properties\":{\"" + name + "\":{\"x\":1}}}",
        "{\"properties\":{\"" + name + "\":{\"properties\":{\"" + name + "\":3}}}}"}) {
    const auto refused = compile_json_schema(schema);
    ASSERT_FALSE(refused);
    EXPECT_LT(refused.error().message.size(), 500U);
  }
  std::string cut = "{\"";
  for (int i = 0; i < 90; ++i) cut += i % 2 == 0 ? character : "x";
  EXPECT_THAT(compile_json_schema(cut + "\":1}").error().message,
              testing::AnyOf(HasSubstr("x..."), HasSubstr(character + "...")));
}

}  // namespace
}  // namespace larder
