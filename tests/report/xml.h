// Just enough of an XML reader to tell whether a text is well-formed.
#pragma once

#include <algorithm>
#include <regex>
#include <string>
#include <vector>

namespace ribo::testing {

/// "" or what is wrong: tags that do not match, attributes without quotes or twice, bare & and <.
inline std::string xml_error(const std::string& text) {
  static const std::regex kTag(R"(<(/?)([A-Za-z][\w:-]*)((?:\s+[\w:-]+="[^"<]*")*)\s*(/?)>)");
  static const std::regex kAttribute(R"(([\w:-]+)=")");
  static const std::regex kEntity(R"(&(?:amp|lt|gt|quot|#39);)");
  const std::string entity_free = std::regex_replace(text, kEntity, "");
  if (entity_free.find('&') != std::string::npos) return "a bare &";
  std::vector<std::string> open;
  size_t at = text.starts_with("<!DOCTYPE html>") ? 15 : 0;
  while ((at = text.find('<', at)) != std::string::npos) {
    std::smatch tag;
    if (!std::regex_search(text.begin() + static_cast<std::ptrdiff_t>(at), text.end(), tag, kTag,
                           std::regex_constants::match_continuous)) {
      return "no tag: " + text.substr(at, 60);
    }
    const std::string name = tag[2], attributes = tag[3];
    std::vector<std::string> names;
    for (std::sregex_iterator it(attributes.begin(), attributes.end(), kAttribute), end; it != end;
         ++it) {
      names.push_back((*it)[1]);
    }
    std::sort(names.begin(), names.end());
    if (std::adjacent_find(names.begin(), names.end()) != names.end())
      return "twice: " + attributes;
    if (tag[1].length() > 0) {
      if (open.empty() || open.back() != name) return "not open: " + name;
      open.pop_back();
    } else if (tag[4].length() == 0) {
      open.push_back(name);
    }
    at += static_cast<size_t>(tag.length());
  }
  return open.empty() ? "" : "not closed: " + open.back();
}

/// How often `part` occurs.
inline size_t count_of(const std::string& text, const std::string& part) {
  size_t count = 0;
  for (size_t at = 0; (at = text.find(part, at)) != std::string::npos; at += part.size()) ++count;
  return count;
}

}  // namespace ribo::testing
