#include "grammar/json_rules.h"

#include <array>
#include <vector>

namespace larder {
namespace {

constexpr std::uint32_t kMaxIndent = 64;
constexpr std::uint32_t kMaxDigits = 18;  // any such integer fits 64 bits
constexpr std::uint32_t kMaxExponentDigits = 2;

/// A well-formed character of UTF-8 beyond ASCII: RFC 3629, section 4.
struct Utf8Form {
  unsigned first_low, first_high, second_low, second_high;
  unsigned n_more;  // bytes 80..BF behind the second
};
constexpr std::array kUtf8Forms = {
    Utf8Form{0xC2, 0xDF, 0x80, 0xBF, 0}, Utf8Form{0xE0, 0xE0, 0xA0, 0xBF, 1},
    Utf8Form{0xE1, 0xEC, 0x80, 0xBF, 1}, Utf8Form{0xED, 0xED, 0x80, 0x9F, 1},
    Utf8Form{0xEE, 0xEF, 0x80, 0xBF, 1}, Utf8Form{0xF0, 0xF0, 0x90, 0xBF, 2},
    Utf8Form{0xF1, 0xF3, 0x80, 0xBF, 2}, Utf8Form{0xF4, 0xF4, 0x80, 0x8F, 2},
};

GrammarEdge byte_edge(unsigned low, unsigned high, GrammarState to) {
  GrammarEdge edge;
  edge.kind = GrammarEdge::Kind::byte;
  edge.low = static_cast<std::uint8_t>(low);
  edge.high = static_cast<std::uint8_t>(high);
  edge.target = to;
  return edge;
}

/// What is left of `low` to `high` without the bytes `but`: first and last bytes.
std::vector<std::pair<unsigned, unsigned>> ranges_without(unsigned low, unsigned high,
                                                          const std::set<unsigned>& but) {
  std::vector<std::pair<unsigned, unsigned>> ranges;
  for (unsigned begin = low; begin <= high; ++begin) {
    if (but.count(begin) > 0) continue;
    unsigned end = begin;
    while (end < high && but.count(end + 1) == 0) ++end;
    ranges.emplace_back(begin, end);
    begin = end;
  }
  return ranges;
}

}  // namespace

GrammarState JsonRules::rule(std::optional<GrammarState>& known, Draw draw) {
  if (known) return *known;
  const GrammarSpan span{builder_.add(), builder_.add()};
  builder_.end(span.to);
  known = span.from;  // before drawing: rules call each other
  (this->*draw)(span);
  return span.from;
}

GrammarState JsonRules::space() { return rule(space_, &JsonRules::draw_space); }
GrammarState JsonRules::number() { return rule(number_, &JsonRules::draw_number); }
GrammarState JsonRules::integer() { return rule(integer_, &JsonRules::draw_integer); }
GrammarState JsonRules::any() { return rule(any_, &JsonRules::draw_any); }
GrammarState JsonRules::any_object() { return rule(any_object_, &JsonRules::draw_any_object); }
GrammarState JsonRules::any_array() { return rule(any_array_, &JsonRules::draw_any_array); }

void JsonRules::range(GrammarState from, unsigned low, unsigned high, GrammarState to) {
  builder_.edge(from, byte_edge(low, high, to));
}

void JsonRules::draw_space(GrammarSpan span) {
  builder_.empty(span.from, span.to);
  builder_.byte(span.from, ' ', span.to);
  const GrammarState indent = builder_.add({0, kMaxIndent});
  GrammarEdge line_break = byte_edge('\n', '\n', indent);
  line_break.begins = true;
  builder_.edge(span.from, line_break);
  for (const unsigned c : {' ', '\t'}) {
    GrammarEdge more = byte_edge(c, c, indent);
    more.counts = true;
    builder_.edge(indent, more);
  }
  builder_.empty(indent, span.to);
}

GrammarState JsonRules::string(Repeats n_characters) {
  const auto key = std::pair(n_characters.least, n_characters.most);
  if (const auto known = strings_.find(key); known != strings_.end()) return known->second;
  const GrammarState start = builder_.add(), body = builder_.add(n_characters);
  const GrammarState end = builder_.add();
  builder_.end(end);
  GrammarEdge open = byte_edge('"', '"', body);
  open.begins = true;
  builder_.edge(start, open);
  const bool counts = n_characters != Repeats{};
  character(body, tails(body), counts, {});
  GrammarEdge backslash = byte_edge('\\', '\\', builder_.add());
  backslash.counts = counts;
  builder_.edge(body, backslash);
  escape(backslash.target, body);
  GrammarEdge close = byte_edge('"', '"', end);
  close.leaves = true;
  builder_.edge(body, close);
  strings_.emplace(key, start);
  return start;
}

/// What may stand behind the first byte of a character; then `body`.
JsonRules::CharacterTails JsonRules::tails(GrammarState body) {
  CharacterTails tails;
  tails.left = {body, builder_.add(), builder_.add()};
  range(tails.left[1], 0x80, 0xBF, tails.left[0]);
  range(tails.left[2], 0x80, 0xBF, tails.left[1]);
  for (std::size_t i = 0; i < kUtf8Forms.size(); ++i) {
    const Utf8Form& form = kUtf8Forms[i];
    tails.second[i] = builder_.add();
    range(tails.second[i], form.second_low, form.second_high, tails.left[form.n_more]);
  }
  return tails;
}

/// One character of a string that begins with none of the bytes `but`. Counted at its first byte.
void JsonRules::character(GrammarState from, const CharacterTails& tails, bool counts,
                          const std::set<unsigned>& but) {
  const auto first = [&](unsigned low, unsigned high, GrammarState to) {
    for (const auto& [begin, end] : ranges_without(low, high, but)) {
      GrammarEdge edge = byte_edge(begin, end, to);
      edge.counts = counts;
      builder_.edge(from, edge);
    }
  };
  first(0x20, 0x21, tails.left[0]);  // all but control characters, '"' and '\\'
  first(0x23, 0x5B, tails.left[0]);
  first(0x5D, 0x7F, tails.left[0]);
  for (std::size_t i = 0; i < kUtf8Forms.size(); ++i) {
    first(kUtf8Forms[i].first_low, kUtf8Forms[i].first_high, tails.second[i]);
  }
}

void JsonRules::escape(GrammarState from, GrammarState body) {
  for (const char c : {'"', '\\', '/', 'b', 'f', 'n', 'r', 't'}) builder_.byte(from, c, body);
  const GrammarState unicode = builder_.add();
  builder_.byte(from, 'u', unicode);
  const GrammarState three = hex_digits(3, body), two = hex_digits(2, body);
  for (const auto& [low, high] : {std::pair('0', '9'), std::pair('a', 'c'), std::pair('A', 'C'),
                                  std::pair('e', 'f'), std::pair('E', 'F')}) {
    builder_.range(unicode, low, high, three);
  }
  // D800 to DBFF begin a pair, which DC00 to DFFF end.
  const GrammarState after_d = builder_.add(), pair = builder_.add(), pair_u = builder_.add();
  const GrammarState low_half = builder_.add(), low_d = builder_.add();
  for (const char d : {'d', 'D'}) {
    builder_.byte(unicode, d, after_d);
    builder_.byte(low_half, d, low_d);
  }
  builder_.range(after_d, '0', '7', two);
  const GrammarState high_half = hex_digits(2, pair);
  for (const auto& [low, high] : {std::pair('8', '9'), std::pair('a', 'b'), std::pair('A', 'B')}) {
    builder_.range(after_d, low, high, high_half);
  }
  builder_.byte(pair, '\\', pair_u);
  builder_.byte(pair_u, 'u', low_half);
  for (const auto& [low, high] : {std::pair('c', 'f'), std::pair('C', 'F')}) {
    builder_.range(low_d, low, high, two);
  }
}

/// The state before `n` hexadecimal digits.
GrammarState JsonRules::hex_digits(unsigned n, GrammarState to) {
  for (; n > 0; --n) {
    const GrammarState before = builder_.add();
    builder_.range(before, '0', '9', to);
    builder_.range(before, 'a', 'f', to);
    builder_.range(before, 'A', 'F', to);
    to = before;
  }
  return to;
}

/// The first digit starts the count, so at least one is read whatever the bounds say.
void JsonRules::draw_digits(GrammarSpan span, Repeats n_digits) {
  const GrammarState more = builder_.add({n_digits.least - 1, n_digits.most - 1});
  GrammarEdge first = byte_edge('0', '9', more), next = first;
  first.begins = true;
  next.counts = true;
  builder_.edge(span.from, first);
  builder_.edge(more, next);
  GrammarEdge done;
  done.leaves = true;
  done.target = span.to;
  builder_.edge(more, done);
}

void JsonRules::draw_integer(GrammarSpan span) {
  const GrammarState digits = builder_.add(), more = builder_.add({0, kMaxDigits - 1});
  builder_.empty(span.from, digits);
  builder_.byte(span.from, '-', digits);
  builder_.byte(digits, '0', span.to);
  GrammarEdge first = byte_edge('1', '9', more), next = byte_edge('0', '9', more);
  first.begins = true;
  next.counts = true;
  builder_.edge(digits, first);
  builder_.edge(more, next);
  builder_.empty(more, span.to);
}

void JsonRules::draw_number(GrammarSpan span) {
  const GrammarState point = builder_.add(), digits = builder_.add(), exponent = builder_.add();
  const GrammarState sign = builder_.add(), power = builder_.add();
  builder_.call(span.from, integer(), point);
  builder_.empty(point, exponent);
  builder_.byte(point, '.', digits);
  draw_digits({digits, exponent}, {1, kMaxDigits});
  builder_.empty(exponent, span.to);
  for (const char e : {'e', 'E'}) builder_.byte(exponent, e, sign);
  builder_.empty(sign, power);
  for (const char c : {'+', '-'}) builder_.byte(sign, c, power);
  draw_digits({power, span.to}, {1, kMaxExponentDigits});
}

void JsonRules::draw_any(GrammarSpan span) {
  builder_.call(span.from, string(), span.to);
  builder_.call(span.from, number(), span.to);
  builder_.call(span.from, any_object(), span.to);
  builder_.call(span.from, any_array(), span.to);
  words(span, {"true", "false", "null"});
}

/// One of them. Shares no edges with what else is read from there.
void JsonRules::words(GrammarSpan span, std::initializer_list<std::string_view> words) {
  const GrammarState own = builder_.add();
  builder_.empty(span.from, own);
  for (const std::string_view word : words) builder_.text(own, word, span.to);
}

void JsonRules::draw_any_object(GrammarSpan span) {
  const GrammarState open = builder_.add(), inside = builder_.add(), name = builder_.add();
  const GrammarState colon = builder_.add(), before = builder_.add(), value = builder_.add();
  const GrammarState after = builder_.add(), comma = builder_.add(), close = builder_.add();
  builder_.byte(span.from, '{', open);
  builder_.call(open, space(), inside);
  builder_.byte(inside, '}', span.to);
  builder_.empty(inside, name);
  builder_.call(name, string(), colon);
  builder_.byte(colon, ':', before);
  builder_.call(before, space(), value);
  builder_.call(value, any(), after);
  builder_.byte(after, ',', comma);
  builder_.call(comma, space(), name);
  builder_.call(after, space(), close);
  builder_.byte(close, '}', span.to);
}

void JsonRules::draw_any_array(GrammarSpan span) {
  const GrammarState open = builder_.add(), inside = builder_.add(), value = builder_.add();
  const GrammarState after = builder_.add(), comma = builder_.add(), close = builder_.add();
  builder_.byte(span.from, '[', open);
  builder_.call(open, space(), inside);
  builder_.byte(inside, ']', span.to);
  builder_.empty(inside, value);
  builder_.call(value, any(), after);
  builder_.byte(after, ',', comma);
  builder_.call(comma, space(), value);
  builder_.call(after, space(), close);
  builder_.byte(close, ']', span.to);
}

void JsonRules::other_name(GrammarSpan span, const std::set<std::string>& names) {
  const GrammarState free = builder_.add();
  const CharacterTails behind = tails(free);
  character(free, behind, /*counts=*/false, {});
  builder_.byte(free, '"', span.to);
  struct Node {  // of a tree of the names; what leaves it is free
    GrammarState state = 0;
    unsigned byte = 0, n_left = 0;  // of the character that it is in the middle of
    std::map<unsigned, std::size_t> children;
    bool is_name = false;
  };
  std::vector<Node> nodes(1);
  nodes[0].state = span.from;
  for (const std::string& name : names) {
    if (name.find('\\') != std::string::npos) continue;  // needs escapes: no other can be it
    std::size_t at = 0;
    for (const char c : name) {
      const auto byte = static_cast<unsigned char>(c);
      const auto [child, is_new] = nodes[at].children.emplace(byte, nodes.size());
      if (is_new) {
        const unsigned n_more = byte < 0x80 ? 0 : byte < 0xE0 ? 1 : byte < 0xF0 ? 2 : 3;
        const unsigned n_left = nodes[at].n_left > 0 ? nodes[at].n_left - 1 : n_more;
        const GrammarState state = builder_.step(nodes[at].state, c);
        const std::size_t added = nodes.size();
        nodes.push_back({state, byte, n_left, {}, false});
        at = added;
      } else {
        at = child->second;
      }
    }
    nodes[at].is_name = true;
  }
  for (const Node& node : nodes) {
    std::set<unsigned> taken;
    for (const auto& [byte, child] : node.children) taken.insert(byte);
    if (node.n_left > 0) {
      leave_character(node.state, {node.byte, node.n_left}, behind, taken);
      continue;
    }
    if (!node.is_name) builder_.byte(node.state, '"', span.to);
    character(node.state, behind, /*counts=*/false, taken);
  }
}

/// Goes on in the middle of a character, by none of the bytes `but`.
void JsonRules::leave_character(GrammarState from, const HalfCharacter& half,
                                const CharacterTails& tails, const std::set<unsigned>& but) {
  unsigned low = 0x80, high = 0xBF;
  for (const Utf8Form& form : kUtf8Forms) {  // a first byte narrows what the second may be
    if (half.byte < form.first_low || half.byte > form.first_high) continue;
    low = form.second_low;
    high = form.second_high;
  }
  for (const auto& [begin, end] : ranges_without(low, high, but)) {
    range(from, begin, end, tails.left[half.n_left - 1]);
  }
}

}  // namespace larder
