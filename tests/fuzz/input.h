// SPDX-License-Identifier: GPL-2.0-only
//
// Takes a fuzzer's bytes apart. Where they run out, zeros follow.
#ifndef TESTS_FUZZ_INPUT_H
#define TESTS_FUZZ_INPUT_H

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>

// Unlike assert() it is there in every build type.
#define FUZZ_CHECK(condition)                                                                      \
    do {                                                                                           \
        if (!(condition)) {                                                                        \
            std::fprintf(stderr, "%s:%d: does not hold: %s\n", __FILE__, __LINE__, #condition);    \
            std::abort();                                                                          \
        }                                                                                          \
    } while (false)

class Input {
public:
    Input(const std::uint8_t* data, std::size_t bytes) : at_(data), left_(bytes) {}

    bool empty() const { return left_ == 0; }

    void take(void* to, std::size_t bytes)
    {
        const std::size_t n = std::min(bytes, left_);
        std::memset(to, 0, bytes);
        if (n)
            std::memcpy(to, at_, n);
        at_ += n;
        left_ -= n;
    }

    template <class T>
    T take()
    {
        T value;
        take(&value, sizeof value);
        return value;
    }

private:
    const std::uint8_t* at_;
    std::size_t left_;
};

#endif
