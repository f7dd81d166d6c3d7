// SPDX-License-Identifier: GPL-2.0-only
#include "tests/frontend/conform.hpp"

#include <algorithm>
#include <cstring>
#include <stdexcept>

Offers::Offers(const Vbd& vbd)
    : ring_order(vbd.offer("max-ring-page-order")),
      queues(std::max(vbd.offer("multi-queue-max-queues"), 1u)),
      indirect(vbd.offer("feature-max-indirect-segments")), flush(vbd.offer("feature-flush-cache")),
      barrier(vbd.offer("feature-barrier")), discard(vbd.offer("feature-discard")),
      secure_discard(vbd.offer("discard-secure")), persistent(vbd.offer("feature-persistent"))
{
}

Deviation::Deviation(const std::string& why) : why_(why)
{
    reporter_.emplace(
        testing::ScopedFakeTestPartResultReporter::INTERCEPT_ONLY_CURRENT_THREAD, &results_);
}

Deviation::~Deviation()
{
    reporter_.reset();
    for (int i = 0; i < results_.size(); i++) {
        const testing::TestPartResult& result = results_.GetTestPartResult(i);
        if (!result.failed())
            continue;
        std::string first = std::string(result.summary()).substr(0, 160);
        std::ranges::replace(first, '\n', ' ');
        testing::Test::RecordProperty(kSeen, why_ + " (" + first + ")");
        return;
    }
    testing::Test::RecordProperty(kNotSeen, why_);
}

std::unique_ptr<Deviation> known_deviation(Backend peer, const char* why)
{
    if (settings.backend != peer)
        return nullptr;
    return std::make_unique<Deviation>(std::string(name(peer)) + ": " + why);
}

void Conform::SetUp()
{
    if (!shared_)
        shared_ = std::make_unique<Disk>(Disk::Options{.sectors = kSectors});
}

void Conform::TearDown()
{
    // Persistent grants end with their connection: the next case has pages of its own.
    bool reusable = frontend_ && vbd().state() == kConnected && !HasFailure() &&
                    !frontend_->shape().persistent;
    for (std::size_t i = 0; reusable && i < frontend_->queues(); i++)
        reusable = !frontend_->queue(i).outstanding();
    if (!reusable)
        take_frontend_away();
}

void Conform::take_frontend_away()
{
    if (!frontend_ || !shared_)
        return;
    const bool closed = frontend_->close();
    vbd().set_frontend_state(kInitialising);
    const bool back = closed && vbd().wait_for(kInitWait);
    EXPECT_TRUE(back) << "the vbd does not come back; state " << vbd().state() << " "
                      << vbd().error();
    vbd().forget_error();
    frontend_.reset();
    if (!back)
        shared_.reset();
}

void Conform::take_disk_away()
{
    shared_.reset(); // closes while the frontend has its pages
    frontend_.reset();
}

Frontend& Conform::prepare(Shape shape)
{
    take_frontend_away();
    Conform::SetUp(); // there is a disk even when it did not come back
    vbd().forget_frontend_keys();
    return frontend_.emplace(vbd(), shape);
}

Frontend& Conform::connect(Shape shape)
{
    if (frontend_ && frontend_->shape() == shape && vbd().state() == kConnected)
        return *frontend_;
    if (!prepare(shape).connect()) {
        ADD_FAILURE() << "does not connect; state " << vbd().state() << " " << vbd().error();
        throw std::runtime_error("no connection");
    }
    return *frontend_;
}

void Conform::give_up_disk()
{
    shared_.reset();
    frontend_.reset();
}

Descriptors::Descriptors(std::size_t segments, xen::Pages::Access access)
    : pages_((segments + guest::Indirect::kSegmentsPerPage - 1) / guest::Indirect::kSegmentsPerPage,
             access)
{
    std::ranges::fill(pages_.all(), 0);
}

blkif_wire_segment& Descriptors::operator[](std::size_t segment)
{
    return reinterpret_cast<blkif_wire_segment*>(pages_.all().data())[segment];
}

guest::Indirect Descriptors::request(std::uint8_t operation, std::uint64_t sector,
                                     std::size_t count, std::size_t page) const
{
    guest::Indirect request;
    request.indirect_op = operation;
    request.sector = sector;
    request.nr_segments = static_cast<std::uint16_t>(count);
    for (std::size_t i = 0; i < request.pages.size() && page + i < pages_.count(); i++)
        request.pages[i] = pages_.ref(page + i);
    return request;
}

void Descriptors::describe(const xen::Pages& pages, std::size_t count)
{
    for (std::size_t i = 0; i < count; i++)
        (*this)[i] = {pages.ref(i), 0, 7, 0};
}

void fill(std::span<std::uint8_t> memory, std::uint64_t seed)
{
    std::uint64_t word = (seed + 1) * 0x9e3779b97f4a7c15;
    for (std::size_t at = 0; at + 8 <= memory.size(); at += 8, word += 0x0101010101010101)
        std::memcpy(&memory[at], &word, 8);
}

std::vector<std::uint8_t> pattern(std::uint64_t seed, std::size_t bytes)
{
    std::vector<std::uint8_t> data(bytes);
    fill(data, seed);
    return data;
}

std::span<std::uint8_t> inside(std::span<std::uint8_t> page, const blkif_wire_segment& segment)
{
    return page.subspan(segment.first_sect * 512u,
                        (segment.last_sect - segment.first_sect + 1u) * 512u);
}
