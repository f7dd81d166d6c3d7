// SPDX-License-Identifier: GPL-2.0-only
#include "tapctl/dialogue.hpp"

#include <cerrno>
#include <nlohmann/json.hpp>

namespace tapdisk {

Result<nlohmann::json> ask(const Places& places, const std::string& vbd, const std::string& line) {
  const Result<std::string> said = ask_tapdisk(places, vbd, line);
  if (!said) return said.error();
  nlohmann::json answer = nlohmann::json::parse(*said, nullptr, false);
  const auto ok = answer.is_object() ? answer.find("ok") : answer.end();
  if (ok == answer.end() || !ok->is_boolean())
    return plain_error(vbd, "tapdisk's answer is not understood", EPROTO);
  if (*ok) return answer;
  const auto error = answer.find("error");
  return plain_error(vbd, error != answer.end() && error->is_string()
                              ? error->get<std::string>()
                              : "tapdisk refuses and does not say why", EBUSY);
}

}  // namespace tapdisk
