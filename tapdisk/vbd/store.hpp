// SPDX-License-Identifier: GPL-2.0-only
//
// xenstore, through libxenstore. Paths that do not begin with a slash are below this domain's own
// directory. What other domains wrote is theirs: whoever reads it judges it.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "base/result.hpp"

struct xs_handle;

namespace tapdisk {

using StorePairs = std::vector<std::pair<std::string, std::string>>;  // path, value

class Store {
 public:
  static Result<Store> open();

  // Nothing: there is no such key, or it cannot be read.
  std::optional<std::string> read(const std::string& path) const;
  // Nothing also for what is not a decimal number below 2^32.
  std::optional<unsigned> read_number(const std::string& path) const;
  // Names of what is directly below the path; none, if it is not there.
  std::vector<std::string> list(const std::string& path) const;

  // All of them at once, or none (ENOENT) if what must be true no longer is. A key written into a
  // directory that was removed would bring it back as an empty shell.
  struct Provided {
    std::string path;
    std::optional<std::string> value = {};  // nothing: any
  };
  // A domain other than dom0 has few transactions, which its tapdisks share: they are waited for.
  Result<void> write(const Provided& provided, const StorePairs& pairs) const;

  // From now on changes of the key, and of what is below it, make fd() readable.
  Result<void> watch(const std::string& path) const;
  int fd() const noexcept;
  // Whether there were any since the last call. Never waits.
  bool take_changes() const noexcept;

 private:
  struct Close {
    void operator()(xs_handle* handle) const noexcept;
  };
  explicit Store(xs_handle* handle) noexcept : handle_(handle) {}
  std::uint32_t start_transaction() const;
  std::optional<std::string> read_in(std::uint32_t transaction, const std::string& path) const;

  std::unique_ptr<xs_handle, Close> handle_;
};

}  // namespace tapdisk
