// SPDX-License-Identifier: GPL-2.0-only
#include "tests/support/fake_xenstore.hpp"

extern "C" {
#include <xenstore.h>
}

#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <set>
#include <utility>

namespace {

tapdisk::testing::FakeXenstore& store() { return *tapdisk::testing::FakeXenstore::current; }

}  // namespace


extern "C" {

xs_handle* xs_open(unsigned long) { return reinterpret_cast<xs_handle*>(&store()); }
void xs_close(xs_handle*) {}

void* xs_read(xs_handle*, xs_transaction_t, const char* path, unsigned* bytes) {
  const auto found = store().values.find(path);
  if (found == store().values.end()) return errno = ENOENT, nullptr;
  *bytes = static_cast<unsigned>(found->second.size());
  char* const copy = static_cast<char*>(std::malloc(*bytes + 1));
  std::memcpy(copy, found->second.c_str(), *bytes + 1);
  return copy;
}

bool xs_write(xs_handle*, xs_transaction_t, const char* path, const void* data, unsigned bytes) {
  if (store().refuses_writes) return errno = EIO, false;
  if (std::strlen(path) + 1 + bytes > 4096) return errno = E2BIG, false;
  store().written[path] = std::string{static_cast<const char*>(data), bytes};
  return true;
}

// Names, and where they are, in one piece of memory.
char** xs_directory(xs_handle*, xs_transaction_t, const char* path, unsigned* count) {
  const std::string above = std::string{path} + "/";
  std::set<std::string> names;
  std::size_t bytes = 0;
  for (const auto& [key, value] : store().values)
    if (key.starts_with(above)) {
      const std::string rest = key.substr(above.size());
      if (names.insert(rest.substr(0, rest.find('/'))).second) bytes += rest.size() + 1;
    }
  if (names.empty()) return errno = ENOENT, nullptr;
  char** const list = static_cast<char**>(std::malloc(names.size() * sizeof(char*) + bytes));
  char* at = reinterpret_cast<char*>(list + names.size());
  *count = 0;
  for (const std::string& name : names) {
    std::memcpy(at, name.c_str(), name.size() + 1);
    list[(*count)++] = at;
    at += name.size() + 1;
  }
  return list;
}

xs_transaction_t xs_transaction_start(xs_handle*) {
  store().written.clear();
  store().begun = store().values;
  return 1;
}

bool xs_transaction_end(xs_handle*, xs_transaction_t, bool abort) {
  if (abort) return true;
  if (const auto others = std::exchange(store().before_end, {})) others();
  if (store().values != store().begun) return errno = EAGAIN, false;
  for (const auto& [path, value] : store().written) store().values[path] = value;
  store().after_end();
  return true;
}

bool xs_watch(xs_handle*, const char*, const char*) { return true; }
int xs_fileno(xs_handle*) { return -1; }
char** xs_check_watch(xs_handle*) { return nullptr; }

}  // extern "C"
