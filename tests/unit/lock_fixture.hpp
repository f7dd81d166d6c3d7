// SPDX-License-Identifier: GPL-2.0-only
//
// An image, tapdisks that want it, and what is known of their vbds.
#pragma once

#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <map>
#include <string>

#include "base/syscall.hpp"
#include "image/lock.hpp"
#include "tests/support/temp_file.hpp"

namespace tapdisk::testing {

// All vbds live, but for those that are said to be gone.
class FakeNeighbours final : public Neighbours {
 public:
  Result<Neighbour> ask(const std::string& vbd, const std::string&) const override {
    const auto known = vbds.find(vbd);
    return known == vbds.end() ? Neighbour{true, "", ""} : known->second;
  }
  std::map<std::string, Neighbour> vbds;
};

class LockFixture : public ::testing::Test {
 protected:
  // Opens as an image is opened, and locks. The lock lives in the returned descriptor.
  Fd lock(const LockRequest& request) {
    auto fd = open_file(path, request.writes ? O_RDWR : O_RDONLY);
    EXPECT_TRUE(fd);
    const auto locked = lock_image(fd->get(), path, request);
    error = locked ? std::string{} : locked.error().what;
    return locked ? std::move(*fd) : Fd{};
  }
  LockRequest request(bool writes, const std::string& vm, const std::string& vbd) const {
    LockRequest made;
    made.writes = writes;
    made.vm = vm;
    made.vbd = vbd;
    made.neighbours = &neighbours;
    made.patience_ms = 0;
    return made;
  }
  Fd writer(const std::string& vm, const std::string& vbd = "vbd-1-1") {
    return lock(request(true, vm, vbd));
  }
  Fd reader(const std::string& vm, const std::string& vbd = "vbd-1-1") {
    return lock(request(false, vm, vbd));
  }
  Fd sharing(bool writes, const std::string& vm, const std::string& vbd = "vbd-1-1") {
    LockRequest shared = request(writes, vm, vbd);
    shared.shares = true;
    return lock(shared);
  }

  TempDirectory directory;
  std::string path = directory.file("a.img", 4096);
  std::string error;
  FakeNeighbours neighbours;
};

}  // namespace tapdisk::testing
