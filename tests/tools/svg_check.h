// Whether a picture is well-formed XML, as far as pictures of ours go.
#pragma once

#include <gtest/gtest.h>

#include <string>
#include <string_view>
#include <vector>

namespace larder {

/// Every tag is closed in its order, attributes are quoted, text holds no bare < or &.
inline testing::AssertionResult is_well_formed(std::string_view svg) {
  std::vector<std::string> open;
  std::size_t at = 0;
  const auto wrong = [&](const char* what) {
    return testing::AssertionFailure() << what << " at " << at << ": " << svg.substr(at, 60);
  };
  for (; at < svg.size(); ++at) {
    if (svg[at] == '&') {
      const std::string_view entity = svg.substr(at, svg.find(';', at) + 1 - at);
      if (entity != "&lt;" && entity != "&gt;" && entity != "&amp;" && entity != "&quot;") {
        return wrong("bare &");
      }
    }
    if (svg[at] != '<') continue;
    const std::size_t end = svg.find('>', at);
    if (end == svg.npos) return wrong("tag without an end");
    const std::string_view tag = svg.substr(at + 1, end - at - 1);
    if (tag.find('<') != tag.npos) return wrong("tag within a tag");
    const std::string name(tag.substr(0, tag.find_first_of(" \n/", 1)));
    std::size_t n_quotes = 0;
    for (const char c : tag) n_quotes += c == '"' ? 1 : 0;
    if (n_quotes % 2 != 0) return wrong("open quote");
    if (name.front() == '/') {
      if (open.empty() || open.back() != name.substr(1)) return wrong("closes what is not open");
      open.pop_back();
    } else if (tag.back() != '/') {
      open.push_back(name);
    }
    at = end;
  }
  if (!open.empty()) return testing::AssertionFailure() << "<" << open.back() << "> stays open";
  return testing::AssertionSuccess();
}

}  // namespace larder
