// SPDX-License-Identifier: GPL-2.0-only
#include "image/image.hpp"

#include <cerrno>

#include "base/check.hpp"
#include "image/raw.hpp"

namespace tapdisk {
namespace {

using OpenDriver = Result<std::unique_ptr<OpenImage>> (*)(const ImageOptions&);

struct Driver {
  std::string_view name;
  OpenDriver open;
};

// All there are.
constexpr Driver kDrivers[] = {
    {"raw", open_raw_image},
};

bool inside(const ImageOp& op, const ImageInfo& disk) noexcept {
  const std::uint64_t sectors = op.bytes / kSectorSize;
  return op.sector <= disk.sectors && sectors <= disk.sectors - op.sector;
}

bool whole_blocks(const ImageOp& op, const ImageInfo& disk) noexcept {
  return op.bytes != 0 && op.bytes % disk.sector_size == 0 &&
         op.sector % (disk.sector_size / kSectorSize) == 0;
}

}  // namespace

void Image::start(ImageOp& op) noexcept {
  check(!op.running && op.client);
  if (op.verb != ImageVerb::kSync) {
    check(inside(op, info()) && whole_blocks(op, info()));
    check(op.verb == ImageVerb::kRead || !info().read_only);
    check(op.verb != ImageVerb::kDiscard ||
          (info().discard.offered && (!op.secure || info().discard.secure)));
  }
  op.running = true;
  do_start(op);
}

void Image::finish(ImageOp& op, int result) noexcept {
  check(op.running && result <= 0);
  op.running = false;
  op.result = result;
  op.data.finish();
  op.client->op_finished(op);
}

Result<std::unique_ptr<OpenImage>> open_image(std::string_view driver,
                                              const ImageOptions& options) {
  for (const Driver& entry : kDrivers)
    if (entry.name == driver) return entry.open(options);
  return plain_error(options.path, "unknown image format", EINVAL);
}

}  // namespace tapdisk
