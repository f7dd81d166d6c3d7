// SPDX-License-Identifier: GPL-2.0-only
//
// The other vbds of this host, by what xenstore has of them.
#pragma once

#include <string>

#include "image/lock.hpp"

namespace tapdisk {

class Store;

// Who holds the lock on an image: the UUID of the guest. All vbds of one guest are one owner, its
// stub domain's and those of its next incarnation included. A driver domain may not read it, and
// then has the domain's number, with its own machine's identity. dom0 is an owner of its own.
std::string guest_uuid(const Store& store, unsigned domain);

class XenNeighbours final : public Neighbours {
 public:
  Result<Neighbour> ask(const std::string& vbd, const std::string& self) const override;
};

}  // namespace tapdisk
