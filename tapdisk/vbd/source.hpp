// SPDX-License-Identifier: GPL-2.0-only
//
// A source gives the requests of one queue and takes replies. One thread only, but for wake() and
// what is about the whole disk: tell_size(), delegate(), withdraw_all(), tell_unsynced().
//
//     ring(how)     rings the doorbell: hands over the replies, learns of new requests
//     next()        takes the new requests, one by one, in the order of their arrival
//     reply(r)      puts an answer where the next ring() hands it over
//
// A request's data is memory that the guest owns; it is visible until the request's reply.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

#include "base/counter.hpp"
#include "base/result.hpp"
#include "image/image.hpp"
#include "vbd/request.hpp"

namespace tapdisk {

enum class SourceState : std::uint8_t { kWaiting, kConnected, kClosing, kGone };

// What a ring() does beside handing over the replies.
enum class Ring : std::uint8_t {
  kHold,  // nothing
  kTake,  // takes new requests; the caller may sleep on fd() afterwards and misses nothing
  kWait,  // and sleeps if there are none and was no wake() since the last ring()
};

struct SourceCounters {
  Counter rings;     // system calls made
  Counter requests;  // taken
  Counter replies;
  Counter refused;       // requests that were not valid; the module counts its own
  Counter bytes_copied;  // of the guest's data; the module counts its own
};

class Source {
 public:
  virtual ~Source() = default;

  // Of the memory that requests name, what stays as it is while the source is there; or nothing.
  virtual std::span<std::byte> lasting() const noexcept { return {}; }

  // Readable when there may be something new.
  virtual int fd() const noexcept = 0;

  // kGone: the vbd does not exist any more, replies go nowhere. An error means that the two sides
  // do not understand each other; nothing more can be done for this vbd.
  virtual Result<SourceState> ring(Ring how) noexcept = 0;

  // Ends the sleep of a ring(), this or the next, or makes fd() readable until then. Any thread.
  virtual void wake() noexcept = 0;

  // False when there is none left.
  virtual Result<bool> next(Request& request) noexcept = 0;

  virtual void reply(const Reply& reply) noexcept = 0;

  // Whether replies wait for a ring().
  virtual bool has_replies() const noexcept = 0;

  // The disk has grown to so many sectors of 512 B. On the first queue, from any thread.
  virtual Result<void> tell_size(std::uint64_t sectors) noexcept = 0;

  // From now on requests inside the extent may be served without asking, through the extent's file;
  // what fails comes here after all. On the first queue, from any thread.
  virtual Result<void> delegate(const Extent& extent) noexcept = 0;

  // No extent is used any more when it returns. On the first queue, from any thread.
  virtual Result<void> withdraw_all() noexcept = 0;

  // Data that the guest takes for written may be lost: from now on what it writes fails. Any
  // thread.
  virtual Result<void> tell_unsynced() noexcept { return {}; }

  virtual const SourceCounters& counters() const noexcept = 0;
};

}  // namespace tapdisk
