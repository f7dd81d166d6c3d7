// SPDX-License-Identifier: GPL-2.0-only
#include "hotplug/settings.hpp"

#include <fmt/format.h>
#include <fnmatch.h>

#include <algorithm>
#include <cerrno>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <optional>

#include "base/utf8.hpp"
#include "server/options.hpp"

namespace tapdisk {
namespace {

constexpr std::string_view kBlanks = " \t\r";

std::string_view trim(std::string_view text) {
  const std::size_t first = text.find_first_not_of(kBlanks);
  if (first == text.npos) return {};
  return text.substr(first, text.find_last_not_of(kBlanks) - first + 1);
}

// Calls `line(number, text)` for each line that says something, until one is an error.
template <class Line>
Result<void> each_line(std::string_view text, const std::string& file, Line&& line) {
  for (unsigned number = 1; !text.empty(); number++) {
    const std::size_t end = text.find('\n');
    const std::string_view raw = text.substr(0, end);
    const std::string_view said = trim(raw);
    const std::string place = fmt::format("{}:{}", file, number);
    if (!is_utf8(raw) || raw.find('\0') != raw.npos)
      return plain_error(place, "not a line of text in UTF-8", EINVAL);
    if (!said.empty() && said[0] != '#')
      if (Result<void> read = line(place, said); !read) return read;
    text = end == text.npos ? std::string_view{} : text.substr(end + 1);
  }
  return {};
}

Error wrong(const std::string& place, const std::string& reason) {
  return plain_error(place, reason, EINVAL);
}

// Where a key that chooses disks is kept; nothing, if it does not.
std::string* pattern_of(Rule& rule, std::string_view key) {
  if (key == "guest") return &rule.guest;
  if (key == "vdev") return &rule.vdev;
  if (key == "path") return &rule.path;
  if (key == "type") return &rule.type;
  return nullptr;
}

Result<Choice> judge(const std::string& place, const std::string& option,
                     const std::string& value) {
  const std::optional<Setting> setting = find_setting(option);
  if (!setting) return wrong(place, fmt::format("there is no setting '{}'", option));
  if (setting->is_flag && value != "yes" && value != "no")
    return wrong(place, fmt::format("{}: '{}' is neither yes nor no", option, value));
  if (!setting->is_flag)
    if (const Result<void> good = check_setting(option, value); !good)
      return wrong(place, good.error().what);
  return Choice{option, value, place};
}

Result<void> read_pair(Rule& rule, const std::string& place, std::string_view line) {
  const std::size_t equals = line.find('=');
  if (equals == line.npos) return wrong(place, "neither [disk] nor KEY = VALUE");
  const std::string key{trim(line.substr(0, equals))};
  const std::string value{trim(line.substr(equals + 1))};
  if (value.empty()) return wrong(place, fmt::format("'{}' has no value", key));
  if (std::string* const pattern = pattern_of(rule, key)) {
    if (!pattern->empty())
      return wrong(place, fmt::format("a second '{}'; it takes a [disk] of its own", key));
    if (key == "type" && value != "zc" && value != "gnt")
      return wrong(place, fmt::format("type: '{}' is neither zc nor gnt", value));
    *pattern = value;
    return {};
  }
  const Result<Choice> choice = judge(place, key, value);
  if (!choice) return choice.error();
  rule.choices.push_back(*choice);
  return {};
}

// The words of TAPDISK_OPTIONS: --option value, --option=value, --flag.
Result<Rule> read_words(const std::string& place, std::string_view text) {
  std::vector<std::string> words;
  while (!(text = trim(text)).empty()) {
    const std::size_t end = std::min(text.find_first_of(kBlanks), text.size());
    words.emplace_back(text.substr(0, end));
    text.remove_prefix(end);
  }
  Rule rule;
  for (std::size_t i = 0; i < words.size(); i++) {
    if (!words[i].starts_with("--"))
      return wrong(place, fmt::format("'{}' is not an option of tapdisk", words[i]));
    const std::size_t equals = words[i].find('=');
    const std::string option = words[i].substr(2, equals - 2);
    const std::optional<Setting> setting = find_setting(option);
    const bool flag = setting && setting->is_flag;
    if (flag && equals != std::string::npos)
      return wrong(place, fmt::format("--{} takes no value", option));
    if (setting && !flag && equals == std::string::npos && i + 1 == words.size())
      return wrong(place, fmt::format("--{} has no value", option));
    const std::string value = flag ? "yes"
                              : equals != std::string::npos ? words[i].substr(equals + 1)
                              : setting ? words[++i] : "";
    const Result<Choice> choice = judge(place, option, value);
    if (!choice) return choice.error();
    rule.choices.push_back(*choice);
  }
  return rule;
}

// What a shell would make of the right side of an assignment, if it is as plain as can be.
std::optional<std::string_view> literal(std::string_view text) {
  const char quote = text.empty() ? '\0' : text[0];
  if (quote == '"' || quote == '\'') {
    const std::size_t end = text.find(quote, 1);
    if (end == text.npos) return std::nullopt;
    const std::string_view rest = trim(text.substr(end + 1));
    if (!rest.empty() && (rest[0] != '#' || text[end + 1] == '#')) return std::nullopt;
    text = text.substr(1, end - 1);
    if (quote == '\'') return text;
    return text.find_first_of("$`\\") == text.npos ? std::optional{text} : std::nullopt;
  }
  const std::size_t end = text.find_first_of(kBlanks);
  if (end != text.npos && trim(text.substr(end))[0] != '#') return std::nullopt;
  text = text.substr(0, end);
  return text.find_first_of("$`\\\"'();&|<>*?[]{}~") == text.npos ? std::optional{text}
                                                                  : std::nullopt;
}

bool matches(const std::string& pattern, const std::string& text) {
  return pattern.empty() || ::fnmatch(pattern.c_str(), text.c_str(), 0) == 0;
}

Result<std::string> read_file(const std::string& path) {
  std::ifstream file{path, std::ios::binary};
  if (!file) return system_error(path, errno);
  std::string text{std::istreambuf_iterator<char>{file}, {}};
  if (file.bad()) return system_error(path, EIO);
  return text;
}

Result<void> append(std::vector<Rule>& rules, const std::string& path,
                    Result<std::vector<Rule>> (*parse)(std::string_view, const std::string&)) {
  const Result<std::string> text = read_file(path);
  if (!text) return text.error();
  Result<std::vector<Rule>> more = parse(*text, path);
  if (!more) return more.error();
  std::ranges::move(*more, std::back_inserter(rules));
  return {};
}

}  // namespace

Result<std::vector<Rule>> parse_settings(std::string_view text, const std::string& file) {
  std::vector<Rule> rules;
  const Result<void> read =
      each_line(text, file, [&](const std::string& place, std::string_view line) -> Result<void> {
        if (line == "[disk]") {
          rules.emplace_back();
          return {};
        }
        if (line[0] == '[')
          return wrong(place, fmt::format("there is no section {}, only [disk]", line));
        if (rules.empty()) return wrong(place, "settings begin with a line [disk]");
        return read_pair(rules.back(), place, line);
      });
  if (!read) return read.error();
  return rules;
}

Result<std::vector<Rule>> parse_defaults(std::string_view text, const std::string& file) {
  constexpr std::string_view kVariable = "TAPDISK_OPTIONS=";
  std::vector<Rule> rules;
  const Result<void> read =
      each_line(text, file, [&](const std::string& place, std::string_view line) -> Result<void> {
        const std::optional<std::string_view> value =
            line.starts_with(kVariable) ? literal(line.substr(kVariable.size())) : std::nullopt;
        if (!value)
          return wrong(place, "only TAPDISK_OPTIONS=\"...\" without anything that takes a shell; "
                              "options for some disks go to /etc/blktap, see blktap.conf(5)");
        Result<Rule> rule = read_words(place, *value);
        if (!rule) return rule.error();
        rules.clear();  // the last assignment counts
        rules.push_back(std::move(*rule));
        return {};
      });
  if (!read) return read.error();
  return rules;
}

ChosenOptions choose_options(const std::vector<Rule>& rules, const DiskDescription& disk) {
  std::vector<const Choice*> chosen;
  for (const Rule& rule : rules) {
    if (!matches(rule.guest, disk.guest) || !matches(rule.vdev, disk.vdev) ||
        !matches(rule.type, disk.grants ? "gnt" : "zc") ||
        !(matches(rule.path, disk.path) || matches(rule.path, disk.image)))
      continue;
    for (const Choice& choice : rule.choices) {
      std::erase_if(chosen, [&](const Choice* old) { return old->option == choice.option; });
      chosen.push_back(&choice);
    }
  }
  ChosenOptions options;
  for (const Choice* choice : chosen) {
    const Setting setting = find_setting(choice->option).value_or(Setting{});
    if (setting.needs_module && disk.grants)
      options.ignored.push_back(fmt::format("{}: {} means nothing for a tap:gnt: disk",
                                            choice->place, choice->option));
    else if (setting.is_flag && choice->value == "yes")
      options.arguments.push_back("--" + choice->option);
    else
      options.arguments.push_back("--" + choice->option + "=" + choice->value);
  }
  return options;
}

Result<std::vector<Rule>> read_settings(const std::string& etc) {
  namespace fs = std::filesystem;
  std::vector<Rule> rules;
  std::error_code error;
  const std::string defaults = etc + "/default/blktap";
  if (fs::exists(defaults, error))
    if (const Result<void> read = append(rules, defaults, parse_defaults); !read)
      return read.error();
  std::vector<std::string> files;
  const std::string directory = etc + "/blktap";
  fs::directory_iterator entries{directory, error};
  if (error && error != std::errc::no_such_file_or_directory)
    return system_error(directory, error.value());
  for (const auto& entry : entries)
    if (entry.path().extension() == ".conf" && !entry.path().filename().string().starts_with('.'))
      files.push_back(entry.path());
  std::ranges::sort(files);
  for (const std::string& file : files)
    if (const Result<void> read = append(rules, file, parse_settings); !read) return read.error();
  return rules;
}

}  // namespace tapdisk
