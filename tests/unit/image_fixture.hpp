// SPDX-License-Identifier: GPL-2.0-only
//
// Opens images and does operations on them, one at a time.
#pragma once

#include <gtest/gtest.h>

#include <array>
#include <memory>
#include <string>

#include "image/image.hpp"
#include "tests/support/open_image.hpp"
#include "tests/support/temp_file.hpp"

namespace tapdisk::testing {

struct Waiter final : ImageClient {
  void op_finished(ImageOp& op) noexcept override { finished = &op; }
  ImageOp* finished = nullptr;
};

class ImageTest : public ::testing::Test {
 protected:
  void SetUp() override {
    auto made = make_engine(EngineKind::kAuto);
    ASSERT_TRUE(made);
    engine = std::move(*made);
  }

  Result<ViewedImage> open(const std::string& path, bool read_only = false,
                           Direct direct = Direct::kAuto) {
    ImageOptions options;
    options.path = path;
    options.read_only = read_only;
    options.direct = direct;
    return open_raw(options, *engine);
  }

  std::string error_of(const std::string& path, bool read_only = false) {
    auto image = open(path, read_only);
    return image ? "opened" : image.error().what;
  }

  int run(Image& image, ImageVerb verb, std::uint64_t sector, std::uint64_t bytes) {
    range[0] = {memory.data(), bytes};
    op = {};
    op.verb = verb;
    op.sector = sector;
    op.bytes = bytes;
    if (verb == ImageVerb::kRead || verb == ImageVerb::kWrite) op.data = range;
    op.client = &waiter;
    waiter.finished = nullptr;
    image.start(op);
    for (int turns = 0; !waiter.finished && turns < 1000; turns++) engine->turn(-1);
    EXPECT_EQ(waiter.finished, &op);
    return op.result;
  }

  TempDirectory directory;
  std::unique_ptr<Engine> engine;
  Waiter waiter;
  ImageOp op;
  std::array<iovec, 1> range{};
  alignas(4096) std::array<std::byte, 8192> memory{};
};

}  // namespace tapdisk::testing
