// SPDX-License-Identifier: GPL-2.0-only
//
// What the Conform* cases share: a disk that outlives its frontends, what the back end offers, and
// how a case says that a certain peer is known to deviate from blkif.h.
#ifndef TESTS_FRONTEND_CONFORM_HPP
#define TESTS_FRONTEND_CONFORM_HPP

#include "tests/frontend/disk.hpp"

#include <gtest/gtest-spi.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

// From xenstore. What lies in the first group is there in InitWait, the second when connected.
struct Offers {
    explicit Offers(const Vbd& vbd);

    unsigned ring_order; // the largest; 0: one page
    unsigned queues;     // the most; at least 1
    unsigned indirect;   // segments of an indirect request at most; 0: no such requests

    bool flush;
    bool barrier;
    bool discard;
    bool secure_discard;
    bool persistent;
};

// Not offered: the case is skipped, and says so.
#define NEEDS(offered, what)                                                                       \
    do {                                                                                           \
        if (!(offered))                                                                            \
            GTEST_SKIP() << "not offered: " what;                                                  \
    } while (false)

// The peer deviates from blkif.h in a way that would harm the host or all cases that follow.
#define NOT_RUN_ON(peer, why)                                                                      \
    do {                                                                                           \
        if (settings.backend == (peer) && !settings.harmful)                                       \
            GTEST_SKIP() << "known deviation of " << name(peer) << ", too harmful to run: " why;   \
    } while (false)

// As long as it lives, failures are what is expected of this peer: the case is reported as
// deviating, neither as good nor as failed.
class Deviation {
public:
    // Properties of a test result.
    static constexpr const char* kSeen = "deviation";
    static constexpr const char* kNotSeen = "deviation-not-seen";

    explicit Deviation(const std::string& why);
    ~Deviation();
    Deviation(const Deviation&) = delete;
    Deviation& operator=(const Deviation&) = delete;

private:
    std::string why_;
    testing::TestPartResultArray results_;
    std::optional<testing::ScopedFakeTestPartResultReporter> reporter_;
};

// Nothing when another back end is under test.
[[nodiscard]] std::unique_ptr<Deviation> known_deviation(Backend peer, const char* why);

// A disk for all cases, and a frontend for each; but a frontend that a case left in good order
// serves the next one too, when that asks for the same. Otherwise the vbd must come back to where
// the next frontend can connect.
class Conform : public testing::Test {
public:
    static void take_disk_away(); // after the last case

protected:
    static constexpr std::uint64_t kSectors = 32768;

    void SetUp() override;
    void TearDown() override;

    Disk& disk() { return *shared_; }
    Vbd& vbd() { return shared_->vbd(); }
    Offers offers() { return Offers(vbd()); }
    // Of an indirect request, as far as the disk has room for several of them.
    std::size_t most_segments() { return std::min(offers().indirect, 256u); }
    // A new frontend, which has said nothing yet.
    Frontend& prepare(Shape shape = {});
    // A connected one. Fails the case, and throws, when the back end does not connect.
    Frontend& connect(Shape shape = {});
    Frontend& frontend() { return *frontend_; }
    // For cases that leave no vbd behind.
    void give_up_disk();

private:
    void take_frontend_away();

    static inline std::unique_ptr<Disk> shared_;
    static inline std::optional<Frontend> frontend_;
};

// Pages that hold the segments of indirect requests, and their grants.
class Descriptors {
public:
    explicit Descriptors(std::size_t segments,
                         xen::Pages::Access access = xen::Pages::Access::read_only);

    blkif_wire_segment& operator[](std::size_t segment);
    // A request with the first `count` of them, or the first of those from a certain page on.
    guest::Indirect request(std::uint8_t operation, std::uint64_t sector, std::size_t count,
                            std::size_t page = 0) const;
    // Whole pages of `pages`, from the first on.
    void describe(const xen::Pages& pages, std::size_t count);

private:
    xen::Pages pages_;
};

// A recognisable pattern, different in each 8 bytes, for `bytes` bytes.
std::vector<std::uint8_t> pattern(std::uint64_t seed, std::size_t bytes);
void fill(std::span<std::uint8_t> memory, std::uint64_t seed);

// The bytes of one segment.
std::span<std::uint8_t> inside(std::span<std::uint8_t> page, const blkif_wire_segment& segment);

#endif
