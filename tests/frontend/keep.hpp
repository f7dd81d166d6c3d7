// SPDX-License-Identifier: GPL-2.0-only
//
// A tapdisk whose requests are kept when it is gone, and the next one.
#ifndef TESTS_FRONTEND_KEEP_HPP
#define TESTS_FRONTEND_KEEP_HPP

#include "tests/frontend/bad_tapdisk.hpp"

#include <gtest/gtest.h>

#include <stdexcept>
#include <string>
#include <system_error>

class Keep : public BadTapdisk {
protected:
    static constexpr std::uint32_t kKeepMs = 20'000;

    void SetUp() override
    {
        seat.emplace(vbd.node(), keeping());
        BadTapdisk::SetUp();
    }
    static blktap_attach keeping(std::uint32_t ms = kKeepMs)
    {
        blktap_attach attach = attach_to(Seat::kSectors);
        attach.keep_ms = ms;
        attach.image_id[0] = 4711;
        return attach;
    }
    void lose_tapdisk() { seat.reset(); }
    void next_tapdisk() { seat.emplace(vbd.node(), keeping()); }

    void put(std::uint8_t operation, std::uint64_t sector, std::size_t page = 0)
    {
        frontend.put(request(operation, sector, pages, page, 1));
    }
    std::int16_t status()
    {
        const auto response = frontend.wait();
        return response ? response->status : std::int16_t{-100};
    }
    // The next announced request, which has to be at this sector.
    blktap_req expect_announced(std::uint64_t sector, bool replayed)
    {
        const auto req = seat->next();
        if (!req)
            throw std::runtime_error("nothing is announced");
        EXPECT_EQ(req->sector, sector);
        EXPECT_EQ((req->flags & BLKTAP_REQ_REPLAYED) != 0, replayed) << "sector " << sector;
        return *req;
    }
    int refusal(const blktap_attach& attach)
    {
        try {
            Seat(vbd.node(), attach);
            return 0;
        } catch (const std::system_error& error) {
            return error.code().value();
        }
    }
    std::uint64_t count(const char* what) { return vbd.counters().at(what); }
};

#endif
