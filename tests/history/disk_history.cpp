// SPDX-License-Identifier: GPL-2.0-only
//
// disk_history DISK STOP-FILE [SEED]: threads read and write a MiB of the disk, all over each
// other, until the file is there, and each sector must have a history that could be (atomic.hpp).
// Says how much there was, and how long the slowest request took. Whatever happens to who serves
// the disk meanwhile, there is no error.
#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <cerrno>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <mutex>
#include <random>
#include <stdexcept>
#include <string>
#include <thread>
#include <vector>

#include "tests/history/atomic.hpp"

namespace history {
namespace {

constexpr std::size_t kSectors = 2048;
constexpr std::size_t kSectorsMax = 64;  // of a request
constexpr std::size_t kThreads = 16;
constexpr unsigned kRequestsOfARound = 10000;  // then all is checked, so that memory suffices

using Sector = std::array<std::uint64_t, 512 / sizeof(std::uint64_t)>;

// One thread's way to the disk.
class Client {
 public:
  Client(int disk, std::atomic<std::uint64_t>& clock) : disk_(disk), clock_(clock) {}

  // What is written is the instant of its begin: nothing else begins then.
  void write(std::size_t first, std::size_t count) {
    start(first, count, true);
    for (std::size_t i = 0; i < count; i++) buffer_[i].fill(begin_);
    end(pwrite(disk_, buffer_.data(), count * 512, offset()));
  }
  void read(std::size_t first, std::size_t count) {
    start(first, count, false);
    end(pread(disk_, buffer_.data(), count * 512, offset()));
  }
  void flush() const {
    if (fdatasync(disk_) < 0) throw std::runtime_error(std::string("flush: ") + strerror(errno));
  }

  struct SectorAccess {
    std::size_t sector;
    Access access;
  };
  const std::vector<SectorAccess>& accesses() const { return accesses_; }
  std::uint64_t requests() const { return requests_; }
  std::uint64_t torn() const { return torn_; }
  std::chrono::steady_clock::duration slowest() const { return slowest_; }

 private:
  off_t offset() const { return static_cast<off_t>(first_ * 512); }

  void start(std::size_t first, std::size_t count, bool write) {
    first_ = first;
    count_ = count;
    write_ = write;
    began_ = std::chrono::steady_clock::now();
    begin_ = clock_++;
  }
  void end(ssize_t result) {
    if (result != static_cast<ssize_t>(count_ * 512))
      throw std::runtime_error(std::string(write_ ? "write of " : "read of ") +
                               std::to_string(count_) + " sectors at " + std::to_string(first_) +
                               ": " +
                               (result < 0 ? strerror(errno) : std::to_string(result) + " bytes"));
    const std::uint64_t now = clock_++;
    slowest_ = std::max(slowest_, std::chrono::steady_clock::now() - began_);
    requests_++;
    for (std::size_t i = 0; i < count_; i++) add(first_ + i, buffer_[i], now);
  }
  // A read beside a write may find a part of each. Then it has found both.
  void add(std::size_t sector, Sector& words, std::uint64_t now) {
    const auto end = std::ranges::unique(words).begin();
    torn_ += end != words.begin() + 1;
    for (auto word = words.begin(); word != end; ++word)
      accesses_.push_back({sector, {begin_, now, *word, write_}});
  }

  int disk_;
  std::atomic<std::uint64_t>& clock_;
  alignas(4096) std::array<Sector, kSectorsMax> buffer_;
  std::vector<SectorAccess> accesses_;
  std::uint64_t requests_ = 0;
  std::uint64_t torn_ = 0;
  std::chrono::steady_clock::duration slowest_{};
  // The request under way:
  bool write_ = false;
  std::size_t first_ = 0;
  std::size_t count_ = 0;
  std::uint64_t begin_ = 0;
  std::chrono::steady_clock::time_point began_;
};

class Run {
 public:
  Run(int disk, const char* stop_file, unsigned seed)
      : disk_(disk), stop_file_(stop_file), seed_(seed) {
    Client client(disk_, clock_);
    for (std::size_t first = 0; first < kSectors; first += kSectorsMax)
      client.write(first, kSectorsMax);
    add(client);
  }

  void until_told() {
    while (!told_to_stop()) {
      one_round();
      check();
    }
  }

  void report() const {
    const auto slowest = std::chrono::duration_cast<std::chrono::milliseconds>(slowest_);
    std::printf("%llu requests in order, sectors found half written: %llu, slowest: %lld ms\n",
                static_cast<unsigned long long>(requests_), static_cast<unsigned long long>(torn_),
                static_cast<long long>(slowest.count()));
  }

 private:
  bool told_to_stop() const { return access(stop_file_, F_OK) == 0; }

  void one_round() {
    std::atomic<unsigned> left = kRequestsOfARound;
    std::vector<std::string> errors;
    std::mutex lock;
    {
      std::vector<std::jthread> threads;
      for (std::size_t number = 0; number < kThreads; number++)
        threads.emplace_back([&, seed = seed_++] {
          Client client(disk_, clock_);
          try {
            be_busy(client, seed, left);
          } catch (const std::exception& error) {
            left = 0;
            const std::lock_guard guard(lock);
            errors.emplace_back(error.what());
          }
          const std::lock_guard guard(lock);
          add(client);
        });
    }
    if (!errors.empty()) throw std::runtime_error(errors.front());
    Client client(disk_, clock_);
    for (std::size_t first = 0; first < kSectors; first += kSectorsMax)
      client.read(first, kSectorsMax);
    add(client);
  }

  void be_busy(Client& client, unsigned seed, std::atomic<unsigned>& left) const {
    std::mt19937 random(seed);
    for (unsigned now = left; now > 0 && !told_to_stop(); now = left) {
      if (!left.compare_exchange_strong(now, now - 1)) continue;
      const std::size_t count = 1 + random() % kSectorsMax;
      const std::size_t first = random() % (kSectors - count + 1);
      if (random() % 64 == 0) client.flush();
      if (random() % 2)
        client.write(first, count);
      else
        client.read(first, count);
    }
  }

  void add(const Client& client) {
    requests_ += client.requests();
    torn_ += client.torn();
    slowest_ = std::max(slowest_, client.slowest());
    for (const auto& [sector, access] : client.accesses()) sectors_[sector].push_back(access);
  }

  // What was found last is what the next round begins with.
  void check() {
    for (std::size_t sector = 0; sector < kSectors; sector++) {
      std::vector<Access>& accesses = sectors_[sector];
      if (const auto contradiction = find_contradiction(accesses))
        throw std::runtime_error("sector " + std::to_string(sector) + ": " + *contradiction);
      accesses = {{0, 0, accesses.back().value, true}};
    }
  }

  int disk_;
  const char* stop_file_;
  unsigned seed_;
  std::atomic<std::uint64_t> clock_ = 1;
  std::array<std::vector<Access>, kSectors> sectors_;  // of this round
  std::uint64_t requests_ = 0;
  std::uint64_t torn_ = 0;
  std::chrono::steady_clock::duration slowest_{};
};

int run(int argc, char** argv) try {
  if (argc < 3) {
    std::fputs("usage: disk_history DISK STOP-FILE [SEED]\n", stderr);
    return 2;
  }
  const int disk = open(argv[1], O_RDWR | O_DIRECT | O_CLOEXEC);
  if (disk < 0) throw std::runtime_error(std::string(argv[1]) + ": " + strerror(errno));
  Run run(disk, argv[2], argc > 3 ? static_cast<unsigned>(std::stoul(argv[3])) : 1);
  run.until_told();
  run.report();
  return 0;
} catch (const std::exception& error) {
  std::fprintf(stderr, "disk_history: %s\n", error.what());
  return 1;
}

}  // namespace
}  // namespace history

int main(int argc, char** argv) { return history::run(argc, argv); }
