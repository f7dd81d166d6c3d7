// SPDX-License-Identifier: GPL-2.0-only
//
// Every bound of tapdisk, and the proof that they fit together. All memory of the data path is
// sized from here and taken before the first request.
#pragma once

#include <cstddef>
#include <cstdint>

#include "ring/blktap_abi.h"

namespace tapdisk {

inline constexpr unsigned kSectorSize = RING_SECTOR_SIZE;
inline constexpr unsigned kSectorSizeMax = RING_PAGE_SIZE;

// One vbd. Each queue has a data thread, an engine and areas of its own.
inline constexpr unsigned kQueuesMax = BLKTAP_QUEUES_MAX;

// One queue; the module may grant less, never more.
inline constexpr unsigned kSlotsMax = BLKTAP_DEPTH_MAX;
inline constexpr unsigned kSegsMax = BLKTAP_SEGS_MAX;
inline constexpr unsigned kPagesMax = BLKTAP_PAGES;  // of a window, and entries of its table

// A request on a raw image is one I/O on one file.
inline constexpr unsigned kIosPerRequestMax = 1;
// One fdatasync runs at a time; flushes that arrive meanwhile share the next one.
inline constexpr unsigned kSyncsMax = 1;
// The vbd's device, discards that are done, and ranges that have become free.
inline constexpr unsigned kWatchesMax = 3;
// What the queue may have started, so that starting never waits or fails. Not rounded up: libaio
// takes it from a number for the whole host (fs.aio-max-nr).
inline constexpr unsigned kEngineDepth = kSlotsMax * kIosPerRequestMax + kSyncsMax + kWatchesMax;

// Where storage has larger units than the disk: buffers of a queue for parts of units.
inline constexpr unsigned kAlignersBuffers = 8;
inline constexpr unsigned kAlignersBufferBytes = 64 << 10;

static_assert(kAlignersBufferBytes % kSectorSizeMax == 0 && kAlignersBufferBytes > kSectorSizeMax,
              "a buffer holds whole units, and each piece ends more than it began");
static_assert(kSlotsMax * sizeof(void*) <= RING_PAGE_SIZE,
              "the smallest pipe holds a pointer for each slot, so posting a letter never waits");
static_assert(kSegsMax <= 1024, "a request is one readv or writev (IOV_MAX)");
static_assert(kSlotsMax <= BLKTAP_COMMANDS,
              "every slot can be answered between two doorbells, so answering never waits");
static_assert((kSlotsMax & (kSlotsMax - 1)) == 0, "slot numbers are masked in the held queue");

// Finishing a barrier answers it and may let all held requests go; each causes one action.
inline constexpr unsigned kActionsMax = kSlotsMax + 2;

// How long in-flight I/O may hold up an exit. The unit's stop timeout is longer.
inline constexpr int kDrainLimitMs = 10'000;
// A pause before I/O that the kernel had no memory for is tried again.
inline constexpr int kRetryPauseMs = 1;
// How often it is tried again when the answer was ENOMEM.
inline constexpr unsigned kStarvedMax = 5000;

// How often writes are tried again for which the store had no room.
inline constexpr int kFullPeriodMs = 1000;

// Of each thread but the first, which do nothing deep.
inline constexpr std::size_t kThreadStackBytes = 128 << 10;

// Control socket.
inline constexpr std::size_t kControlLineMax = 4096;
inline constexpr unsigned kControlSessionsMax = 8;
inline constexpr int kControlIdleMs = 10'000;

// Of a pause, which a guest may take for a dead disk if it lasts.
inline constexpr unsigned kPauseSecondsMax = 3600;

// How often a device is tried to be claimed that another tapdisk of the guest has claimed.
inline constexpr int kClaimPeriodMs = 500;

// Errands: of what systemd is told, and how long an answer may take.
inline constexpr std::size_t kErrandTextMax = 1024;
inline constexpr int kErrandSeconds = 5;

// The same I/O error is said again at most this often.
inline constexpr int kErrorLogPeriodMs = 60'000;

}  // namespace tapdisk
