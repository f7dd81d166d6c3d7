// SPDX-License-Identifier: GPL-2.0-only
#include "tests/frontend/conform_load.hpp"

#include <algorithm>
#include <numeric>

namespace {

constexpr std::uint64_t kSectors = 32768; // of the disk, at least

std::size_t depth_of(Frontend& frontend, std::size_t limit)
{
    std::size_t depth = 0;
    for (std::size_t i = 0; i < frontend.queues(); i++)
        depth += frontend.queue(i).entries();
    return std::min(depth, limit);
}

} // namespace

Load::Load(const Disk& disk, Frontend& frontend, const Options& options)
    : disk_(disk), frontend_(frontend), options_(options), random_(options.seed),
      pages_(depth_of(frontend, options.depth) * options.segments,
             xen::Pages::Access::read_write),
      places_(depth_of(frontend, options.depth)), free_(places_.size()),
      free_units_(std::min(kSectors / (options.segments * 8), places_.size() * 5 / 4 + 4)),
      model_(disk.stored(0, free_units_.size() * options.segments * xen::kPageBytes))
{
    std::iota(free_.begin(), free_.end(), 0u);
    std::iota(free_units_.begin(), free_units_.end(), 0u);
    // What is granted for good may be mapped for writing, whatever it is for.
    const auto access = frontend.shape().persistent ? xen::Pages::Access::read_write
                                                    : xen::Pages::Access::read_only;
    if (options_.mixed || options_.segments > BLKIF_SEGS_PER_REQUEST)
        for (Place& place : places_)
            place.descriptors = std::make_unique<Descriptors>(options_.segments, access);
    if (free_units_.size() <= places_.size())
        throw std::logic_error("the disk is too small for this load");
}

void Load::start()
{
    for (std::size_t i = 0; i < frontend_.queues(); i++) {
        Queue& queue = frontend_.queue(i);
        while (!free_.empty() && queue.outstanding() < queue.entries())
            put(queue);
        queue.push();
    }
}

void Load::put(Queue& queue)
{
    const std::size_t number = free_.back();
    free_.pop_back();
    Place& place = places_[number];
    std::swap(free_units_[random_() % free_units_.size()], free_units_.back());
    place.unit = free_units_.back();
    free_units_.pop_back();
    place.write = random_() % 2;
    choose_segments(place, number);
    if (place.write)
        write_pattern(number);

    const std::uint8_t operation = place.write ? BLKIF_OP_WRITE : BLKIF_OP_READ;
    const std::uint64_t sector = place.unit * options_.segments * 8;
    const std::size_t count = place.segments.size();
    if (count > BLKIF_SEGS_PER_REQUEST || (options_.mixed && random_() % 2)) {
        for (std::size_t i = 0; i < count; i++)
            (*place.descriptors)[i] = place.segments[i];
        guest::Indirect request = place.descriptors->request(operation, sector, count);
        request.id = number;
        queue.put(request);
    } else {
        guest::Request request = ::request(operation);
        request.sector = sector;
        request.id = number;
        request.nr_segments = static_cast<std::uint8_t>(count);
        std::ranges::copy(place.segments, request.seg.begin());
        queue.put(request);
    }
    started_++;
}

void Load::choose_segments(Place& place, std::size_t number)
{
    place.segments.resize(1 + random_() % options_.segments);
    for (std::size_t i = 0; i < place.segments.size(); i++) {
        // Whole pages more often than not, as file systems have it.
        const auto first = static_cast<std::uint8_t>(random_() % 4 ? 0 : random_() % 8);
        const auto last = static_cast<std::uint8_t>(random_() % 4 ? 7 : first + random_() %
                                                                            (8u - first));
        place.segments[i] = {pages_.ref(number * options_.segments + i), first, last, 0};
    }
}

std::span<std::uint8_t> Load::memory(std::size_t place, std::size_t segment) const
{
    return inside(pages_.page(place * options_.segments + segment),
                  places_[place].segments[segment]);
}

void Load::write_pattern(std::size_t place)
{
    auto at = model_.begin() +
              static_cast<std::ptrdiff_t>(places_[place].unit * options_.segments *
                                          xen::kPageBytes);
    for (std::size_t i = 0; i < places_[place].segments.size(); i++) {
        fill(memory(place, i), random_());
        at = std::ranges::copy(memory(place, i), at).out;
    }
}

bool Load::run(std::size_t requests)
{
    for (std::size_t i = 0; i < requests; i++) {
        // Full rings at times, batches at others.
        if (i % 8 == 0 || !outstanding())
            start();
        if (!answered())
            return false;
    }
    return finish();
}

bool Load::finish()
{
    while (outstanding())
        if (!answered())
            return false;
    return true;
}

bool Load::answered()
{
    const auto response = frontend_.wait_any();
    if (!response) {
        ADD_FAILURE() << "a request got lost; " << outstanding() << " are outstanding of "
                      << started_;
        return false;
    }
    check(response->second);
    return !testing::Test::HasFatalFailure();
}

void Load::check(const guest::Response& response)
{
    ASSERT_LT(response.id, places_.size());
    Place& place = places_[response.id];
    ASSERT_FALSE(place.segments.empty()) << "answered twice: " << response.id;
    ASSERT_EQ(response.status, BLKIF_RSP_OKAY);
    ASSERT_EQ(response.operation, place.write ? BLKIF_OP_WRITE : BLKIF_OP_READ);
    auto at = model_.begin() +
              static_cast<std::ptrdiff_t>(place.unit * options_.segments * xen::kPageBytes);
    for (std::size_t i = 0; i < place.segments.size() && !place.write; i++) {
        const auto data = memory(response.id, i);
        ASSERT_TRUE(std::equal(data.begin(), data.end(), at))
            << "wrong data, segment " << i << " of " << place.segments.size();
        at += static_cast<std::ptrdiff_t>(data.size());
    }
    place.segments.clear();
    free_units_.push_back(place.unit);
    free_.push_back(response.id);
}

void Load::check_medium() const
{
    ASSERT_EQ(outstanding(), 0u);
    EXPECT_TRUE(disk_.stored(0, model_.size()) == model_) << "the medium is not what was written";
}
