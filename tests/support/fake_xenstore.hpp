// SPDX-License-Identifier: GPL-2.0-only
//
// A xenstore in memory, one at a time. fake_xenstore.cpp, linked to a test, answers with it the
// calls of libxenstore that vbd/store makes. A transaction sees what is there, and what it has
// written is there when it ends.
#pragma once

#include <algorithm>
#include <functional>
#include <map>
#include <string>

namespace tapdisk::testing {

class FakeXenstore {
 public:
  FakeXenstore() { current = this; }
  ~FakeXenstore() { current = nullptr; }
  FakeXenstore(const FakeXenstore&) = delete;
  FakeXenstore& operator=(const FakeXenstore&) = delete;

  void remove(const std::string& path) {
    std::erase_if(values, [&](const auto& entry) {
      return entry.first == path || entry.first.starts_with(path + "/");
    });
  }

  std::map<std::string, std::string> values;  // by path, relative ones too, as they were written
  bool refuses_writes = false;
  std::function<void()> before_end;  // what others do while a transaction is open; once
  std::function<void()> after_end = [] {};  // whenever one has changed something

  std::map<std::string, std::string> written;  // in the open transaction
  std::map<std::string, std::string> begun;    // what was there then

  static inline FakeXenstore* current = nullptr;
};

}  // namespace tapdisk::testing
