// SPDX-License-Identifier: GPL-2.0-only
#include "tapctl/places.hpp"

#include <fmt/format.h>
#include <sys/socket.h>

#include <algorithm>
#include <boost/asio/buffer.hpp>
#include <boost/asio/connect.hpp>
#include <boost/asio/io_context.hpp>
#include <boost/asio/local/stream_protocol.hpp>
#include <boost/asio/read_until.hpp>
#include <boost/asio/write.hpp>
#include <cerrno>
#include <chrono>
#include <cstdlib>
#include <filesystem>
#include <optional>
#include <regex>

#include "base/disk_record.hpp"
#include "base/first_line.hpp"

namespace tapdisk {
namespace {

namespace fs = std::filesystem;

// A tapdisk answers at once; one that does not is stuck or stopped.
constexpr std::chrono::seconds kAnswerTime{5};
constexpr std::size_t kAnswerMax = 65536;

std::map<std::string, std::string> read_values(const fs::path& directory) {
  std::map<std::string, std::string> values;
  std::error_code ignored;
  for (const auto& entry : fs::directory_iterator{directory, ignored}) {
    // Attributes only: not links to other devices, not what the driver core adds.
    if (!entry.is_regular_file(ignored) || entry.is_symlink(ignored)) continue;
    const std::string name = entry.path().filename();
    const bool readable =
        (entry.status(ignored).permissions() & fs::perms::owner_read) != fs::perms::none;
    if (readable && name != "uevent" && name != "dev") values[name] = first_line(entry.path());
  }
  return values;
}

std::string image_of(const Places& places, const std::string& vbd) {
  const Result<DiskRecord> record = read_record(record_path(places.run_directory, vbd));
  return record ? record->image : std::string{};
}

std::string socket_of(const Places& places, const std::string& vbd) {
  return places.run_directory + "/" + vbd + ".sock";
}

// Whoever listens there. Nobody: what a tapdisk that was killed has left. Never waits: 0 is one
// that does not take connections any more.
std::optional<pid_t> listener(const std::string& path) {
  using boost::asio::local::stream_protocol;
  boost::asio::io_context loop{1};
  stream_protocol::socket socket{loop};
  boost::system::error_code error;
  socket.open(stream_protocol{}, error);
  if (!error) socket.native_non_blocking(true, error);
  // Not Asio's: it would wait for room in the queue of the other side.
  const stream_protocol::endpoint place{path};
  const auto place_bytes = static_cast<socklen_t>(place.size());
  if (error) return {};
  if (::connect(socket.native_handle(), place.data(), place_bytes) != 0)
    return errno == EAGAIN ? std::optional<pid_t>{0} : std::nullopt;
  ucred peer{};
  socklen_t bytes = sizeof(peer);
  if (::getsockopt(socket.native_handle(), SOL_SOCKET, SO_PEERCRED, &peer, &bytes)) return {};
  return peer.pid;
}

// Those whose tapdisk works without the module, which knows nothing of them.
void add_without_module(const Places& places, std::vector<VbdView>& vbds) {
  static const std::regex kSocket{"(vbd-([0-9]+)-([0-9]+))\\.sock"};
  std::error_code ignored;
  for (const auto& entry : fs::directory_iterator{places.run_directory, ignored}) {
    const std::string file = entry.path().filename();
    std::smatch part;
    if (!std::regex_match(file, part, kSocket) ||
        fs::exists(fs::path{places.class_directory} / part.str(1)))
      continue;
    const std::string vbd = part.str(1);
    const std::optional<pid_t> tapdisk = listener(socket_of(places, vbd));
    if (!tapdisk) continue;
    VbdView view{vbd, {{"domid", part.str(2)}, {"devid", part.str(3)}, {"state", "grants"}},
                 image_of(places, vbd)};
    if (*tapdisk) {
      view.attributes["attached"] = "1";
      view.attributes["tapdisk_pid"] = std::to_string(*tapdisk);
    }
    vbds.push_back(std::move(view));
  }
}

}  // namespace

unsigned long number_of(const VbdView& vbd, const std::string& attribute) {
  const auto found = vbd.attributes.find(attribute);
  return found == vbd.attributes.end() ? 0 : std::strtoul(found->second.c_str(), nullptr, 10);
}

Result<std::vector<VbdView>> list_vbds(const Places& places) {
  std::error_code error;
  fs::directory_iterator entries{places.class_directory, error};
  std::vector<VbdView> vbds;
  for (const auto& entry : entries) {
    const std::string name = entry.path().filename();
    vbds.push_back({name, read_values(entry.path()), image_of(places, name)});
  }
  add_without_module(places, vbds);
  if (error && error != std::errc::no_such_file_or_directory)
    return system_error(places.class_directory, error.value());
  std::sort(vbds.begin(), vbds.end(), [](const VbdView& a, const VbdView& b) {
    return std::pair{number_of(a, "domid"), number_of(a, "devid")} <
           std::pair{number_of(b, "domid"), number_of(b, "devid")};
  });
  return vbds;
}

bool module_is_loaded(const Places& places) {
  std::error_code ignored;
  return fs::exists(places.class_directory, ignored);
}

Result<VbdView> find_vbd(const Places& places, const std::string& vbd) {
  const Result<std::vector<VbdView>> vbds = list_vbds(places);
  if (!vbds) return vbds.error();
  std::string names;
  for (const VbdView& view : *vbds) {
    if (view.name == vbd) return view;
    names += " " + view.name;
  }
  return plain_error(vbd, names.empty() ? "no such vbd; there are none"
                                        : "no such vbd; there are:" + names, ENOENT);
}

Result<std::map<std::string, std::string>> read_statistics(const Places& places,
                                                           const std::string& vbd) {
  const Result<VbdView> view = find_vbd(places, vbd);
  if (!view) return view.error();
  return read_values(fs::path{places.class_directory} / vbd / "statistics");
}

Result<std::string> ask_tapdisk(const Places& places, const std::string& vbd,
                                const std::string& line) {
  namespace asio = boost::asio;
  using asio::local::stream_protocol;
  asio::io_context loop{1};
  stream_protocol::socket socket{loop};
  const std::string request = line + "\n";
  std::string answer;
  boost::system::error_code outcome = asio::error::timed_out;

  socket.async_connect(socket_of(places, vbd), [&](auto error) {
    if ((outcome = error)) return;
    asio::async_write(socket, asio::buffer(request), [&](auto write_error, std::size_t) {
      if ((outcome = write_error)) return;
      outcome = asio::error::timed_out;
      asio::async_read_until(socket, asio::dynamic_buffer(answer, kAnswerMax), '\n',
                             [&](auto read_error, std::size_t) { outcome = read_error; });
    });
  });
  loop.run_for(kAnswerTime);
  if (outcome) return plain_error("tapdisk of " + vbd, outcome.message(), outcome.value());
  answer.resize(answer.find('\n'));
  return answer;
}

}  // namespace tapdisk
