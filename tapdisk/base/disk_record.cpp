// SPDX-License-Identifier: GPL-2.0-only
#include "base/disk_record.hpp"

#include <fcntl.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <fstream>
#include <iterator>
#include <nlohmann/json.hpp>

#include "base/syscall.hpp"

namespace tapdisk {

// Where the library looks for it.
NLOHMANN_DEFINE_TYPE_NON_INTRUSIVE(DiskRecord, vbd, backend, image, identity, vm, read_only, cdrom,
                                   removable, grants, options)

namespace {

using nlohmann::json;

constexpr const char* kEnding = ".json";

Result<void> write_all(int fd, const std::string& path, std::string_view text) {
  while (!text.empty()) {
    const ssize_t written =
        retry_eintr([&] { return ::write(fd, text.data(), text.size()); });
    if (written < 0) return system_error(path, static_cast<int>(-written));
    text.remove_prefix(static_cast<std::size_t>(written));
  }
  return {};
}

}  // namespace

std::string record_path(const std::string& run_directory, const std::string& vbd) {
  return run_directory + "/" + vbd + kEnding;
}

Result<DiskRecord> read_record(const std::string& path) {
  std::ifstream file{path, std::ios::binary};
  if (!file) return system_error(path, errno);
  const std::string text{std::istreambuf_iterator<char>{file}, {}};
  if (file.bad()) return system_error(path, EIO);
  try {
    return json::parse(text).get<DiskRecord>();
  } catch (const json::exception&) {
    return plain_error(path, "not the record of a disk", EINVAL);
  }
}

Result<void> write_record(const std::string& path, const DiskRecord& record) {
  std::string text;
  try {
    text = json(record).dump(2) + "\n";
  } catch (const json::exception&) {
    return plain_error(path, "what is to be written is not UTF-8", EILSEQ);
  }
  const std::string fresh = path + ".new";
  const Fd fd{::open(fresh.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600)};
  if (!fd) return system_error(fresh, errno);
  if (Result<void> written = write_all(fd.get(), fresh, text); !written) {
    ::unlink(fresh.c_str());
    return written;
  }
  if (std::rename(fresh.c_str(), path.c_str()) != 0) return system_error(path, errno);
  return {};
}

}  // namespace tapdisk
