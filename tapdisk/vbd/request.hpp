// SPDX-License-Identifier: GPL-2.0-only
//
// The life of one request of the guest, as types:
//
//     Request   parsed: valid by construction, needs no second check
//     Pending   owed an answer; has one owner, and answering consumes it
//     Reply     what is left: what the module needs to know
#pragma once

#include <sys/uio.h>

#include <cstdint>
#include <optional>
#include <span>
#include <utility>

#include "base/check.hpp"
#include "image/place.hpp"

namespace tapdisk {

using Slot = std::uint16_t;

enum class RequestVerb : std::uint8_t { kRead, kWrite, kFlush, kBarrier, kDiscard };

struct Request {
  RequestVerb verb = RequestVerb::kRead;
  Slot slot = 0;
  std::uint32_t generation = 0;  // of the slot, echoed
  std::uint64_t sector = 0;      // units of 512 B
  std::uint64_t bytes = 0;       // length of the range; 0 only for a flush or barrier
  std::span<iovec> data;         // the pages in the window; the slot's until the reply
  bool secure = false;           // of a discard: nobody can read the content any more
  bool submittable = false;      // the module may move its data, if told from where or to where
};

struct Reply {
  Slot slot = 0;
  std::uint32_t generation = 0;
  int result = 0;  // 0 or -errno
  // Instead of a result: the module is to do it there. If it cannot, the request comes again.
  std::optional<Place> submitted{};

  bool operator==(const Reply&) const = default;
};

class Pending {
 public:
  explicit Pending(const Request& request) noexcept : request_(request), owed_(true) {}
  Pending(Pending&& other) noexcept
      : request_(other.request_), owed_(std::exchange(other.owed_, false)) {}
  Pending& operator=(Pending&& other) noexcept {
    check(!owed_);  // an unanswered request must not be lost
    request_ = other.request_;
    owed_ = std::exchange(other.owed_, false);
    return *this;
  }

  const Request& request() const noexcept { return request_; }

  Reply answer(int result) && noexcept {
    check(std::exchange(owed_, false));
    return Reply{request_.slot, request_.generation, result};
  }

  Reply submit(const Place& place) && noexcept {
    check(request_.submittable && std::exchange(owed_, false));
    return Reply{request_.slot, request_.generation, 0, place};
  }

 private:
  Request request_;
  bool owed_;
};

}  // namespace tapdisk
