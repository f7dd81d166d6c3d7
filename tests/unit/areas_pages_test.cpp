// SPDX-License-Identifier: GPL-2.0-only
//
// Pages that are not a request's own: persistent grants and copies.
#include <gtest/gtest.h>

#include <array>

#include "tests/support/fake_module.hpp"
#include "vbd/areas.hpp"

namespace tapdisk {
namespace {

using testing::FakeModule;

// They lie in the window for reads, in any order, and several requests may use one.
TEST(AreasOfPersistentGrants, MayBeNamedOnlyWhereTheyWereAgreed) {
  for (const bool agreed : {true, false}) {
    FakeModule module{2048};
    if (agreed) module.attach().disk_flags_out |= BLKTAP_DISK_PERSISTENT;
    Areas areas{module.attach(), module.pointers(), module.capacity};
    Request request;
    for (const Slot slot : {Slot{4}, Slot{5}}) {
      const auto first = static_cast<std::uint16_t>(slot * 8);
      const std::uint32_t page = BLKTAP_WINDOW_PAGES - 1;
      module.set_segments(first, std::array{blktap_seg{page, 0, 4096}, blktap_seg{first, 0, 512}});
      blktap_req req{};
      req.op = BLKTAP_OP_WRITE;
      req.slot = slot;
      req.first_seg = first;
      req.nr_segs = 2;
      req.bytes = 4608;
      module.publish(req);
      ASSERT_EQ(bool{areas.next(request)}, agreed);
      if (!agreed) break;
      ASSERT_EQ(request.data.size(), 2u);
      EXPECT_EQ(request.data[0].iov_base, module.window(true, page));
      EXPECT_EQ(request.data[1].iov_base, module.window(false, first));
    }
    module.set_segments(0, std::array{blktap_seg{BLKTAP_WINDOW_PAGES, 0, 512}});
    blktap_req beyond{};
    beyond.nr_segs = 1;
    beyond.bytes = 512;
    module.publish(beyond);
    EXPECT_FALSE(areas.next(request));
  }
}

// In an area of their own, whatever the request does.
TEST(AreasOfCopies, MayBeNamedOnlyWhereTheyWereAgreed) {
  for (const std::uint32_t copy_bytes : {4096u, 0u}) {
    FakeModule module{2048};
    module.attach().copy_bytes = copy_bytes;
    Areas areas{module.attach(), module.pointers(), module.capacity};
    Request request;
    for (const std::uint8_t op : {BLKTAP_OP_READ, BLKTAP_OP_WRITE}) {
      const std::uint16_t first = BLKTAP_PAGES - 2 - op * 2;
      module.set_segments(first, std::array{blktap_seg{BLKTAP_WINDOW_PAGES + first, 512, 3584},
                                            blktap_seg{BLKTAP_WINDOW_PAGES + first + 1u, 0, 512}});
      blktap_req req{};
      req.op = op;
      req.slot = op;
      req.first_seg = first;
      req.nr_segs = 2;
      req.bytes = 4096;
      module.publish(req);
      ASSERT_EQ(bool{areas.next(request)}, copy_bytes != 0);
      if (!copy_bytes) break;
      ASSERT_EQ(request.data.size(), 1u);
      EXPECT_EQ(request.data[0].iov_base, module.copy(first) + 512);
      EXPECT_EQ(request.data[0].iov_len, 4096u);
    }
    module.set_segments(0, std::array{blktap_seg{BLKTAP_WINDOW_PAGES + BLKTAP_PAGES, 0, 512}});
    blktap_req beyond{};
    beyond.slot = 9;
    beyond.nr_segs = 1;
    beyond.bytes = 512;
    module.publish(beyond);
    EXPECT_FALSE(areas.next(request));
  }
}

}  // namespace
}  // namespace tapdisk
