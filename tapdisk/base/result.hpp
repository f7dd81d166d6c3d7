// SPDX-License-Identifier: GPL-2.0-only
//
// How functions that may fail answer: a value, or an errno with the sentence for the user.
#pragma once

#include <boost/system/result.hpp>
#include <string>
#include <string_view>
#include <utility>

namespace tapdisk {

struct Error {
  Error() = default;
  // A constructor, so that a Result can tell an Error from a value that could begin one.
  Error(int code_, std::string what_) : code(code_), what(std::move(what_)) {}

  int code = 0;      // errno, positive
  std::string what;  // names the object and the reason: "/srv/a.img: Permission denied"
};

template <class T>
using Result = boost::system::result<T, Error>;

// "subject: text of errno". The subject is a path or the failing call.
Error system_error(std::string_view subject, int code);

// "subject: reason", for reasons that no errno has a text for.
Error plain_error(std::string_view subject, std::string_view reason, int code);

}  // namespace tapdisk
