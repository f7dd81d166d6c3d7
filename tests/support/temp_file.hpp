// SPDX-License-Identifier: GPL-2.0-only
//
// Files that a test makes and that go away with it.
#pragma once

#include <fcntl.h>
#include <unistd.h>

#include <cerrno>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <stdexcept>
#include <string>

namespace tapdisk::testing {

class TempDirectory {
 public:
  // Tests run in the build directory, which is on a disk, where direct I/O is possible.
  explicit TempDirectory(const std::filesystem::path& parent = std::filesystem::current_path()) {
    std::string name = parent / "blktap-test-XXXXXX";
    if (!::mkdtemp(name.data())) throw std::runtime_error{"mkdtemp"};
    path_ = name;
  }
  ~TempDirectory() {
    std::error_code ignored;
    std::filesystem::remove_all(path_, ignored);
  }
  TempDirectory(const TempDirectory&) = delete;
  TempDirectory& operator=(const TempDirectory&) = delete;

  const std::filesystem::path& path() const { return path_; }

  std::string file(const std::string& name, std::uint64_t bytes) const {
    const std::filesystem::path file = path_ / name;
    std::ofstream{file};
    std::filesystem::resize_file(file, bytes);
    return file;
  }

  std::string text(const std::string& name, const std::string& content) const {
    const std::filesystem::path file = path_ / name;
    std::filesystem::create_directories(file.parent_path());
    std::ofstream{file} << content;
    return file;
  }

 private:
  std::filesystem::path path_;
};

}  // namespace tapdisk::testing
