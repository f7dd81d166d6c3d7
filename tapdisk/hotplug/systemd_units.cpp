// SPDX-License-Identifier: GPL-2.0-only
#include <poll.h>
#include <systemd/sd-bus.h>
#include <systemd/sd-journal.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <csignal>
#include <cstring>
#include <optional>
#include <system_error>
#include <thread>
#include <utility>

#include "hotplug/units.hpp"

namespace tapdisk {
namespace {

constexpr const char* kSystemd = "org.freedesktop.systemd1";
constexpr const char* kManagerPath = "/org/freedesktop/systemd1";
constexpr const char* kManager = "org.freedesktop.systemd1.Manager";
constexpr const char* kUnit = "org.freedesktop.systemd1.Unit";
constexpr const char* kService = "org.freedesktop.systemd1.Service";

struct Unref {
  void operator()(sd_bus* bus) const noexcept { sd_bus_flush_close_unref(bus); }
  void operator()(sd_bus_message* message) const noexcept { sd_bus_message_unref(message); }
  void operator()(sd_journal* journal) const noexcept { sd_journal_close(journal); }
};
using Bus = std::unique_ptr<sd_bus, Unref>;
using Message = std::unique_ptr<sd_bus_message, Unref>;

class BusError {
 public:
  BusError() = default;
  BusError(const BusError&) = delete;
  BusError& operator=(const BusError&) = delete;
  ~BusError() { sd_bus_error_free(&error_); }
  sd_bus_error* get() noexcept { return &error_; }
  std::string text(int code) const {
    return error_.message ? error_.message : std::generic_category().message(-code);
  }

 private:
  sd_bus_error error_ = SD_BUS_ERROR_NULL;
};

Bus connect_to(const std::string& address) {
  sd_bus* made = nullptr;
  if (sd_bus_new(&made) < 0) return {};
  Bus bus{made};
  if (sd_bus_set_address(made, address.c_str()) < 0 || sd_bus_start(made) < 0) return {};
  return bus;
}

Bus connect_to_systemd(const std::string& address) {
  if (Bus direct = connect_to(address)) return direct;
  sd_bus* made = nullptr;
  if (sd_bus_open_system(&made) < 0) return {};
  Bus bus{made};
  // Through a daemon, signals come to those who want them.
  sd_bus_call_method(made, kSystemd, kManagerPath, kManager, "Subscribe", nullptr, nullptr, "");
  return bus;
}

int wait_ms(Clock::time_point deadline) {
  const auto left = std::chrono::ceil<std::chrono::milliseconds>(deadline - Clock::now()).count();
  return static_cast<int>(std::clamp<std::int64_t>(left, 0, 60'000));
}

class SystemdUnit final : public Unit {
 public:
  SystemdUnit(std::string name, int interrupts, std::string address)
      : name_(std::move(name)), interrupts_(interrupts), address_(std::move(address)) {
    char* path = nullptr;
    if (sd_bus_path_encode("/org/freedesktop/systemd1/unit", name_.c_str(), &path) >= 0)
      path_ = path;
    std::free(path);
  }

  bool is_there() override { return bus() != nullptr; }

  Result<void> start(Clock::time_point deadline) override {
    if (interrupted_) return interruption();
    if (!bus()) return system_error("systemd", ENOTCONN);
    job_.clear();
    job_result_.reset();
    BusError error;
    sd_bus_message* answer = nullptr;
    const int called = sd_bus_call_method(bus(), kSystemd, kManagerPath, kManager, "StartUnit",
                                          error.get(), &answer, "ss", name_.c_str(), "replace");
    const Message owned{answer};
    if (called < 0) return Error{-called, error.text(called)};
    const char* job = nullptr;
    if (sd_bus_message_read(answer, "o", &job) < 0) return system_error("systemd", EBADMSG);
    job_ = job;
    // No signal of it can have been handled before: they are only by process().
    while (!job_result_) {
      if (Result<void> waited = wait(deadline); !waited) return waited;
      if (std::exchange(reconnected_, false)) settle_job();
    }
    if (*job_result_ == "done") return {};
    return Error{EIO, "tapdisk did not start (" + *job_result_ + ")"};
  }

  // Where there is no systemd there is no unit. One that does not answer says nothing.
  bool has_ended() override {
    if (!bus()) return true;
    const std::string state = property(kUnit, "ActiveState");
    return state == "inactive" || state == "failed";
  }

  // What changes is told by signals that wait to be handled, so that none is missed between a look
  // and the wait.
  bool wait_ended(Clock::time_point deadline) override {
    for (;;) {
      changed_ = false;
      if (has_ended()) return true;
      while (!changed_)
        if (!wait(deadline) && Clock::now() >= deadline) return has_ended();
    }
  }

  void terminate() override { signal("main", SIGTERM); }
  void kill() override { signal("all", SIGKILL); }

  void forget_failure() override {
    if (property(kUnit, "ActiveState") == "failed" && bus())
      sd_bus_call_method(bus(), kSystemd, kManagerPath, kManager, "ResetFailedUnit", nullptr,
                         nullptr, "s", name_.c_str());
  }

  UnitReport report() override {
    UnitReport report{property(kService, "StatusText"), property(kService, "Result"), {}};
    if (report.status.empty()) report.journal = last_line();
    return report;
  }

 private:
  static int job_removed(sd_bus_message* message, void* self, sd_bus_error*) noexcept {
    auto& unit = *static_cast<SystemdUnit*>(self);
    std::uint32_t number = 0;
    const char* job = nullptr;
    const char* name = nullptr;
    const char* result = nullptr;
    if (sd_bus_message_read(message, "uoss", &number, &job, &name, &result) >= 0 &&
        unit.job_ == job)
      unit.job_result_ = result;
    return 0;
  }

  static int changed(sd_bus_message*, void* self, sd_bus_error*) noexcept {
    static_cast<SystemdUnit*>(self)->changed_ = true;
    return 0;
  }

  sd_bus* bus() {
    if (!bus_ && !tried_) {
      tried_ = true;
      bus_ = connect_to_systemd(address_);
      if (bus_) listen();
    }
    return bus_.get();
  }

  void listen() {
    sd_bus_match_signal(bus_.get(), nullptr, nullptr, kManagerPath, kManager, "JobRemoved",
                        &SystemdUnit::job_removed, this);
    sd_bus_match_signal(bus_.get(), nullptr, nullptr, kManagerPath, kManager, "UnitRemoved",
                        &SystemdUnit::changed, this);
    sd_bus_match_signal(bus_.get(), nullptr, nullptr, path_.c_str(),
                        "org.freedesktop.DBus.Properties", "PropertiesChanged",
                        &SystemdUnit::changed, this);
  }

  // Until something has come, which is then handled.
  Result<void> wait(Clock::time_point deadline) {
    const int processed = sd_bus_process(bus(), nullptr);
    if (processed < 0) return gone(-processed);
    if (processed > 0) return {};
    pollfd all[] = {{sd_bus_get_fd(bus()), static_cast<short>(sd_bus_get_events(bus())), 0},
                    {interrupts_, POLLIN, 0}};
    const int ready = ::poll(all, 2, wait_ms(deadline));
    if (ready < 0 && errno != EINTR) return system_error("poll", errno);
    if (ready > 0 && all[1].revents) {
      interrupts_ = -1;  // what is undone is not interrupted
      interrupted_ = true;
      return interruption();
    }
    if (ready == 0 && Clock::now() >= deadline) return system_error("systemd", ETIMEDOUT);
    return {};
  }

  static Error interruption() { return Error{EINTR, "interrupted"}; }

  // systemd does not end; it may be executed anew, and then it has forgotten us.
  Result<void> gone(int code) {
    constexpr int kTries = 20;
    bus_.reset();
    changed_ = reconnected_ = true;
    for (int i = 0; i < kTries; i++) {
      tried_ = false;
      if (bus()) return {};
      std::this_thread::sleep_for(std::chrono::milliseconds{100});
    }
    return system_error("systemd", code);
  }

  // Whoever told of its end may have told the connection that is gone.
  void settle_job() {
    const std::string state = property(kUnit, "ActiveState");
    if (state == "active") job_result_ = "done";
    else if (state == "inactive" || state == "failed") job_result_ = "failed";
  }

  void signal(const char* whom, int number) {
    if (!bus()) return;
    sd_bus_call_method(bus(), kSystemd, kManagerPath, kManager, "KillUnit", nullptr, nullptr, "ssi",
                       name_.c_str(), whom, number);
  }

  std::string property(const char* interface, const char* name) {
    char* value = nullptr;
    const auto get = [&] {
      return bus() ? sd_bus_get_property_string(bus(), kSystemd, path_.c_str(), interface, name,
                                                nullptr, &value) : -ENOTCONN;
    };
    int got = get();
    if (got == -ECONNRESET || got == -ENOTCONN || got == -EPIPE) got = gone(-got) ? get() : got;
    if (got < 0) return {};
    std::string copy{value};
    std::free(value);
    return copy;
  }

  // The ID of the unit's last start, in the journal's form.
  std::string invocation() {
    if (!bus()) return {};
    sd_bus_message* answer = nullptr;
    if (sd_bus_get_property(bus(), kSystemd, path_.c_str(), kUnit, "InvocationID", nullptr, &answer,
                            "ay") < 0)
      return {};
    const Message owned{answer};
    const void* bytes = nullptr;
    std::size_t size = 0;
    sd_id128_t id{};
    if (sd_bus_message_read_array(answer, 'y', &bytes, &size) < 0 || size != sizeof(id)) return {};
    std::memcpy(&id, bytes, size);
    char text[SD_ID128_STRING_MAX];
    return sd_id128_to_string(id, text);
  }

  std::string last_line() {
    const std::string match = "_SYSTEMD_INVOCATION_ID=" + invocation();
    sd_journal* opened = nullptr;
    if (sd_journal_open(&opened, SD_JOURNAL_LOCAL_ONLY | SD_JOURNAL_SYSTEM) < 0) return {};
    const std::unique_ptr<sd_journal, Unref> journal{opened};
    const void* data = nullptr;
    std::size_t bytes = 0;
    if (sd_journal_add_match(opened, match.data(), match.size()) < 0 ||
        sd_journal_seek_tail(opened) < 0 || sd_journal_previous(opened) <= 0 ||
        sd_journal_get_data(opened, "MESSAGE", &data, &bytes) < 0)
      return {};
    std::string line{static_cast<const char*>(data), bytes};
    return line.substr(line.find('=') + 1);
  }

  std::string name_;
  std::string path_;
  int interrupts_;
  std::string address_;
  Bus bus_;
  bool tried_ = false;  // to connect
  bool reconnected_ = false;
  bool interrupted_ = false;
  std::string job_;
  std::optional<std::string> job_result_;
  bool changed_ = false;
};

}  // namespace

std::unique_ptr<Unit> systemd_unit(const std::string& name, int interrupts,
                                   const std::string& address) {
  return std::make_unique<SystemdUnit>(name, interrupts, address);
}

}  // namespace tapdisk
