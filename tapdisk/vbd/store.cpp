// SPDX-License-Identifier: GPL-2.0-only
#include "vbd/store.hpp"

extern "C" {
#include <xenstore.h>
}

#include <cerrno>
#include <charconv>
#include <chrono>
#include <cstdlib>
#include <thread>

namespace tapdisk {
namespace {

using namespace std::chrono_literals;

// Others have theirs open for some milliseconds.
constexpr std::chrono::milliseconds kTransactionPause = 5ms;
constexpr int kTransactionTries = 200;

}  // namespace

void Store::Close::operator()(xs_handle* handle) const noexcept { ::xs_close(handle); }

Result<Store> Store::open() {
  xs_handle* const handle = ::xs_open(0);
  if (!handle) return system_error("xenstore", errno);
  return Store{handle};
}

std::optional<std::string> Store::read(const std::string& path) const {
  return read_in(XBT_NULL, path);
}

std::optional<std::string> Store::read_in(std::uint32_t transaction,
                                          const std::string& path) const {
  unsigned bytes = 0;
  char* const value =
      static_cast<char*>(::xs_read(handle_.get(), transaction, path.c_str(), &bytes));
  if (!value) return std::nullopt;
  std::string copy{value, bytes};
  std::free(value);
  return copy;
}

std::optional<unsigned> Store::read_number(const std::string& path) const {
  const std::optional<std::string> text = read(path);
  unsigned number = 0;
  if (!text || text->empty()) return std::nullopt;
  const char* const end = text->data() + text->size();
  const auto [stop, error] = std::from_chars(text->data(), end, number);
  if (error != std::errc{} || stop != end) return std::nullopt;
  return number;
}

std::vector<std::string> Store::list(const std::string& path) const {
  unsigned count = 0;
  char** const names = ::xs_directory(handle_.get(), XBT_NULL, path.c_str(), &count);
  std::vector<std::string> copy(names, names + (names ? count : 0));
  std::free(names);
  return copy;
}

// XBT_NULL, with errno, if there is none to be had.
std::uint32_t Store::start_transaction() const {
  for (int tries = 1;; tries++) {
    const xs_transaction_t transaction = ::xs_transaction_start(handle_.get());
    // ENOSPC: this domain has as many open as it may.
    if (transaction != XBT_NULL || errno != ENOSPC || tries == kTransactionTries)
      return transaction;
    std::this_thread::sleep_for(kTransactionPause);
  }
}

Result<void> Store::write(const Provided& provided, const StorePairs& pairs) const {
  for (;;) {
    const xs_transaction_t transaction = start_transaction();
    if (transaction == XBT_NULL) return system_error("xenstore", errno);
    const auto failed = [&](const std::string& path, int code) {
      ::xs_transaction_end(handle_.get(), transaction, true);
      return system_error("xenstore: " + path, code);
    };
    const std::optional<std::string> now = read_in(transaction, provided.path);
    if (!now || (provided.value && now != provided.value)) return failed(provided.path, ENOENT);
    for (const auto& [path, value] : pairs)
      if (!::xs_write(handle_.get(), transaction, path.c_str(), value.data(),
                      static_cast<unsigned>(value.size())))
        return failed(path, errno);
    if (::xs_transaction_end(handle_.get(), transaction, false)) return {};
    // Somebody else wrote there meanwhile.
    if (errno != EAGAIN) return system_error("xenstore", errno);
  }
}

Result<void> Store::watch(const std::string& path) const {
  if (!::xs_watch(handle_.get(), path.c_str(), "")) return system_error("xenstore: " + path, errno);
  return {};
}

int Store::fd() const noexcept { return ::xs_fileno(handle_.get()); }

bool Store::take_changes() const noexcept {
  bool any = false;
  while (char** const change = ::xs_check_watch(handle_.get())) {
    std::free(change);
    any = true;
  }
  return any;
}

}  // namespace tapdisk
