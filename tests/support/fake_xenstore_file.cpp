// SPDX-License-Identifier: GPL-2.0-only
//
// Preloaded into a program, together with fake_xenstore.cpp: its xenstore is the file that
// FAKE_XENSTORE names, of lines PATH=VALUE.
#include <cstdlib>
#include <fstream>
#include <string>

#include "tests/support/fake_xenstore.hpp"

namespace {

using tapdisk::testing::FakeXenstore;

class XenstoreFile {
 public:
  XenstoreFile() {
    std::ifstream lines{path_};
    for (std::string line; std::getline(lines, line);)
      store_.values[line.substr(0, line.find('='))] = line.substr(line.find('=') + 1);
    store_.after_end = [this] { save(); };
  }

 private:
  void save() const {
    std::ofstream lines{path_};
    for (const auto& [path, value] : store_.values) lines << path << '=' << value << '\n';
  }

  std::string path_{std::getenv("FAKE_XENSTORE")};
  FakeXenstore store_;
};

const XenstoreFile file;

}  // namespace
