// SPDX-License-Identifier: GPL-2.0-only
//
// What disk a file or block device makes: its capacity, its blocks, and whether the page cache
// can be bypassed.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "image/image.hpp"

namespace tapdisk {

// Finds out and, if I/O is to bypass the page cache, switches `fd` to O_DIRECT. `fd` is a regular
// file or a block device. What the user should know but need not act on is logged as a warning.
Result<ImageInfo> find_geometry(int fd, const ImageOptions& options);

// How many sectors of 512 B the store behind `fd` holds now, in whole blocks of the disk and whole
// units of the store.
Result<std::uint64_t> find_capacity(int fd, const std::string& path, const ImageInfo& info);

// Whether the disk has blocks that direct I/O on its store is too coarse for.
inline bool is_unaligned(const ImageInfo& info) noexcept { return info.unit > info.sector_size; }

// Why a regular file of that kind of file system (statfs(2)), with those flags (FS_IOC_GETFLAGS),
// is served through the page cache although it can be opened for direct I/O; nothing: it is not.
std::string_view why_not_direct(std::uint32_t file_system, std::uint32_t flags) noexcept;

// The smallest unit of direct I/O on a regular file, bytes: 512 or 4096; 0 if there is none.
// Asks the file system, or where it does not say, tries. `fd` is O_DIRECT.
unsigned direct_unit(int fd);
unsigned direct_unit_by_trial(int fd);

}  // namespace tapdisk
