// SPDX-License-Identifier: GPL-2.0-only
#include "tapctl/report.hpp"

#include <fmt/format.h>

#include <array>
#include <cerrno>
#include <charconv>
#include <nlohmann/json.hpp>
#include <optional>

namespace tapdisk {
namespace {

using nlohmann::json;

std::optional<std::uint64_t> as_number(const std::string& text) {
  std::uint64_t value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc{} || end != text.data() + text.size()) return {};
  return value;
}

json as_json(const std::map<std::string, std::string>& values) {
  json object = json::object();
  for (const auto& [name, text] : values) {
    if (const auto value = as_number(text))
      object[name] = *value;
    else
      object[name] = text;
  }
  return object;
}

// A path may hold bytes that are not UTF-8; those become U+FFFD.
std::string dump(const json& value) {
  return value.dump(2, ' ', false, json::error_handler_t::replace) + "\n";
}

std::string value_of(const VbdView& vbd, const char* name) {
  const auto found = vbd.attributes.find(name);
  return found == vbd.attributes.end() || found->second.empty() ? "-" : found->second;
}

bool has_tapdisk(const VbdView& vbd) { return value_of(vbd, "attached") == "1"; }

std::string tapdisk_of(const VbdView& vbd) {
  if (has_tapdisk(vbd)) return value_of(vbd, "tapdisk_pid");
  const std::uint64_t left_ms = as_number(value_of(vbd, "keep_left_ms")).value_or(0);
  return left_ms ? fmt::format("in {} s", (left_ms + 999) / 1000) : "-";
}

std::string size_as_text(std::uint64_t sectors) {
  if (sectors == 0) return "-";
  constexpr std::array kUnits = {"KiB", "MiB", "GiB", "TiB", "PiB"};
  double size = static_cast<double>(sectors) / 2;
  std::size_t unit = 0;
  for (; size >= 1024 && unit + 1 < kUnits.size(); unit++) size /= 1024;
  return fmt::format("{:.4g} {}", size, kUnits[unit]);
}

std::string size_of(const VbdView& vbd) {
  return size_as_text(as_number(value_of(vbd, "sectors")).value_or(0));
}

// The object that tapdisk answered with, or null.
json tapdisk_stats(const Result<std::string>& answer) {
  if (!answer) return nullptr;
  const json parsed = json::parse(*answer, nullptr, false);
  return parsed.is_object() && parsed.contains("stats") ? parsed["stats"] : json{};
}

// What each queue did, where there are several.
std::string queues_as_table(const json& stats) {
  const auto queues = stats.find("queues");
  if (queues == stats.end() || !queues->is_array() || queues->size() < 2) return {};
  constexpr std::array kColumns = {"requests", "bytes_read", "bytes_written", "errors"};
  std::string text = fmt::format("\n  {:<6}", "queue");
  for (const char* column : kColumns) text += fmt::format(" {:>15}", column);
  text += "\n";
  for (std::size_t i = 0; i < queues->size(); i++) {
    const json& queue = (*queues)[i];
    text += fmt::format("  {:<6}", i);
    for (const char* column : kColumns)
      text += fmt::format(" {:>15}", queue.is_object() && queue.contains(column)
                                         ? queue[column].dump() : "-");
    text += "\n";
  }
  return text;
}

}  // namespace

std::string list_as_table(const std::vector<VbdView>& vbds) {
  constexpr const char* kRow = "{:<22} {:<10} {:>7} {:>10}  {}\n";
  std::string text = fmt::format(fmt::runtime(kRow), "VBD", "STATE", "TAPDISK", "SIZE", "IMAGE");
  for (const VbdView& vbd : vbds)
    text += fmt::format(fmt::runtime(kRow), vbd.name, value_of(vbd, "state"),
                        tapdisk_of(vbd), size_of(vbd),
                        vbd.image.empty() ? "-" : vbd.image);
  return text;
}

std::string list_as_json(const std::vector<VbdView>& vbds) {
  json list = json::array();
  for (const VbdView& vbd : vbds) {
    json object = as_json(vbd.attributes);
    object["vbd"] = vbd.name;
    object["image"] = vbd.image.empty() ? json{} : json(vbd.image);
    list.push_back(std::move(object));
  }
  return dump(list);
}

std::string stats_as_table(const std::string& vbd,
                           const std::map<std::string, std::string>& module,
                           const Result<std::string>& tapdisk) {
  constexpr const char* kRow = "  {:<20} {:>20}\n";
  std::string text;
  if (!module.empty()) text = vbd + ", as the module counts\n";
  for (const auto& [name, value] : module)
    text += fmt::format(fmt::runtime(kRow), name, value);
  text += (module.empty() ? "" : "\n") + vbd + ", as its tapdisk counts\n";
  const json stats = tapdisk_stats(tapdisk);
  if (!stats.is_object())
    return text + "  none: " + (tapdisk ? "the answer is not understood" : tapdisk.error().what) +
           "\n";
  for (const auto& [name, value] : stats.items())
    text += fmt::format(fmt::runtime(kRow), name,
                        value.is_string() ? value.get<std::string>()
                        : value.is_array() ? std::to_string(value.size())
                                           : value.dump());
  return text + queues_as_table(stats);
}

std::string stats_as_json(const std::string& vbd,
                          const std::map<std::string, std::string>& module,
                          const Result<std::string>& tapdisk) {
  return dump({{"vbd", vbd}, {"module", as_json(module)}, {"tapdisk", tapdisk_stats(tapdisk)}});
}

Result<std::string> resize_as_text(const std::string& vbd, const Result<std::string>& tapdisk) {
  if (!tapdisk) return tapdisk.error();
  const json answer = json::parse(*tapdisk, nullptr, false);
  const auto sectors = answer.is_object() ? answer.find("sectors") : answer.end();
  if (sectors != answer.end() && sectors->is_number_unsigned()) {
    const auto count = sectors->get<std::uint64_t>();
    return fmt::format("{}: {} sectors ({})\n", vbd, count, size_as_text(count));
  }
  const auto error = answer.is_object() ? answer.find("error") : answer.end();
  const bool said = error != answer.end() && error->is_string();
  return plain_error(vbd, said ? error->get<std::string>() : "the answer is not understood",
                     EPROTO);
}

}  // namespace tapdisk
