// SPDX-License-Identifier: GPL-2.0-only
//
// An image with one view of it, for tests that have one queue.
#pragma once

#include <memory>

#include "image/image.hpp"

namespace tapdisk::testing {

struct ViewedImage {
  std::unique_ptr<OpenImage> opened;
  std::unique_ptr<Image> view;

  Image& operator*() const { return *view; }
  Image* operator->() const { return view.get(); }
};

inline Result<ViewedImage> open_raw(const ImageOptions& options, Engine& engine) {
  auto opened = open_image("raw", options);
  if (!opened) return opened.error();
  auto view = (*opened)->view(engine);
  if (!view) return view.error();
  return ViewedImage{std::move(*opened), std::move(*view)};
}

}  // namespace tapdisk::testing
