// SPDX-License-Identifier: GPL-2.0-only
//
// What the two ends of a vbd tell each other in xenstore (Xen's public/io/blkif.h): the back end
// what it offers and what the disk is, the frontend what it has chosen. Every key of the frontend
// is judged here; the error names it.
#pragma once

#include <string>
#include <vector>

#include "image/image.hpp"
#include "ring/blkif_decode.h"
#include "vbd/guest_ring.hpp"
#include "vbd/store.hpp"

namespace tapdisk {

// What the frontend may choose from.
struct Offer {
  unsigned queues = 1;
  unsigned ring_order = BLKIF_RING_ORDER_MAX;  // pages of a ring: 1 << 0 .. 1 << ring_order
};

struct FrontendKeys {
  const blkif_abi* abi = nullptr;
  std::vector<RingKeys> rings;
};

Result<FrontendKeys> read_frontend(const Store& store, const std::string& frontend,
                                   const Offer& offer);

struct DiskKeys {
  const ImageInfo& image;
  const blkif_disk& disk;  // as requests are judged
  bool cdrom = false;
  bool removable = false;
};

// For a frontend that is about to connect. Persistent grants are not offered: what is copied gains
// nothing by them.
StorePairs describe_disk(const std::string& backend, const DiskKeys& keys);

// The part of it that changes when the disk has grown.
StorePairs describe_size(const std::string& backend, const DiskKeys& keys);

}  // namespace tapdisk
