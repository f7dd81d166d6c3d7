// SPDX-License-Identifier: GPL-2.0-only
#include "hotplug/in_use.hpp"

#include <fmt/format.h>
#include <sys/sysmacros.h>

#include <cerrno>
#include <filesystem>
#include <vector>

#include "base/first_line.hpp"

namespace tapdisk {
namespace {

namespace fs = std::filesystem;

// A loop device of this host, be it a mount or the disk of a guest by Xen's own script.
Result<void> refuse_looped(const Host& host, const ImagePath& image, bool writes) {
  if (image.is_block) return {};
  std::error_code ignored;
  for (const auto& entry : fs::directory_iterator(host.root + "/sys/block", ignored)) {
    const std::string name = entry.path().filename();
    if (!name.starts_with("loop")) continue;
    const std::string file = first_line(entry.path() / "loop/backing_file");
    if (file.empty() || !is_same_file(file, image.image)) continue;
    if (writes || first_line(entry.path() / "ro") != "1")
      return plain_error(image.path, fmt::format("in use by this host as /dev/{} (losetup --list)",
                                                 name), EBUSY);
  }
  return {};
}

// xen-blkback claims no device, and QEMU locks no image: what they serve to others stands in
// xenstore only.
bool has_image(const Store& store, const std::string& kind, const std::string& disk,
               const ImagePath& image) {
  if (kind == "vbd")
    return image.is_block &&
           store.read(disk + "/physical-device") == device_number(image.device);
  const std::string params = store.read(disk + "/params").value_or("");  // FORMAT:PATH
  const std::size_t colon = params.find(':');
  return is_same_file(params.substr(colon == params.npos ? 0 : colon + 1), image.image);
}

Result<void> refuse_served(const Host& host, const Vbd& vbd, const ImagePath& image, bool writes) {
  const Store& store = host.store;
  const std::string owner = owner_of(store, vbd.domid);
  for (const std::string kind : {"vbd", "qdisk"})
    for (const std::string& domid : store.list(vbd.siblings + "/" + kind)) {
      if (domid == vbd.domid || owner_of(store, domid) == owner) continue;
      const std::string disks = fmt::format("{}/{}/{}", vbd.siblings, kind, domid);
      for (const std::string& devid : store.list(disks)) {
        // Those of tapdisk have its locks, by which they may be shared.
        if (is_there(host.class_directory(fmt::format("vbd-{}-{}", domid, devid)))) continue;
        const std::string disk = fmt::format("{}/{}", disks, devid);
        if (!has_image(store, kind, disk, image)) continue;
        if (writes || store.read(disk + "/mode") != "r")
          return plain_error(image.path, fmt::format("in use by {}-{}-{} ({})", kind, domid, devid,
                                                     guest_name(store, domid)), EBUSY);
      }
    }
  return {};
}

}  // namespace

std::string device_number(dev_t device) {
  return fmt::format("{:x}:{:x}", ::major(device), ::minor(device));
}

Result<void> refuse_image_in_use(const Host& host, const Vbd& vbd, const ImagePath& image,
                                 bool writes) {
  if (Result<void> free = refuse_looped(host, image, writes); !free) return free;
  return refuse_served(host, vbd, image, writes);
}

}  // namespace tapdisk
