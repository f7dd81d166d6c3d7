// SPDX-License-Identifier: GPL-2.0-only
//
// Any sequence of commands and indices from a tapdisk against the slot table.
//
// The oracle keeps its own books: which offer is open on which slot. An offer
// is answered at most once, only by a command that names it, and a command
// never moves any other slot.

#include "ring/ring.h"
#include "tests/fuzz/input.h"
#include "tests/support/slots.hpp"

#include <array>
#include <cstring>

namespace {

constexpr std::uint32_t kDepth = 8;

struct Book {
    bool open = false;            // offered and neither answered nor taken back
    bool submittable = false;     // of the latest offer
    std::uint32_t generation = 0; // under which it was offered last
    std::uint64_t offers = 0;
    std::uint64_t answers = 0;
};

// The module's side, reduced to what the slots see of it.
class Model {
public:
    explicit Model(std::uint32_t start) : ring_{start, BLKTAP_COMMANDS}
    {
        head_.cmd_prod = start;
        for (std::uint32_t i = 0; i < kDepth; i++) {
            slots_.set_generation(i, start + i);
            books_[i].generation = start + i;
        }
    }

    void offer(std::uint32_t i, bool submittable)
    {
        if (!slots_.is_free(i))
            return;
        books_[i].generation = slots_.offer(i, submittable);
        books_[i].submittable = submittable;
        books_[i].open = true;
        books_[i].offers++;
    }

    // tapdisk is gone.
    void take_back(std::uint32_t i)
    {
        if (slots_.place(i) != SLOT_OFFERED)
            return;
        slots_.move(i, SLOT_DONE);
        books_[i].open = false;
    }

    void free(std::uint32_t i)
    {
        if (slots_.place(i) == SLOT_DONE)
            slots_.move(i, SLOT_FREE);
    }

    void tapdisk_writes(const blktap_cmd& cmd)
    {
        std::memcpy(&commands_[head_.cmd_prod % BLKTAP_COMMANDS], &cmd, sizeof cmd);
        head_.cmd_prod++;
    }

    void tapdisk_claims(std::uint32_t prod) { head_.cmd_prod = prod; }

    blktap_cmd honest(std::uint32_t i) const
    {
        blktap_cmd cmd{};
        cmd.verb = BLKTAP_CMD_COMPLETE;
        cmd.slot = static_cast<std::uint16_t>(i);
        cmd.generation = books_[i].generation;
        return cmd;
    }

    // False: the index was a lie and tapdisk is cut off.
    bool run()
    {
        const std::uint32_t distance = head_.cmd_prod - ring_.seen;
        const int n = ring_available(&ring_, &head_.cmd_prod);
        FUZZ_CHECK((n < 0) == (distance > BLKTAP_COMMANDS));
        for (int i = 0; i < n; i++, ring_.seen++)
            step();
        return n >= 0;
    }

    void check() const
    {
        for (const Book& book : books_)
            FUZZ_CHECK(book.answers <= book.offers);
    }

private:
    void step()
    {
        blktap_cmd cmd;
        ring_copy_in(&cmd, &commands_[ring_position(&ring_)], sizeof cmd);
        const auto before = slots_.states();
        const cmd_verdict verdict = slots_.judge(cmd);
        FUZZ_CHECK(std::memcmp(&before, &slots_.states(), sizeof before) == 0);
        FUZZ_CHECK((verdict == CMD_VALID) ==
                   (is_honest(cmd) && books_[cmd.slot].open &&
                    (cmd.verb == BLKTAP_CMD_COMPLETE || books_[cmd.slot].submittable)));
        if (verdict != CMD_VALID)
            return;
        Book& book = books_[cmd.slot];
        book.open = false;
        book.answers++;
        slots_.move(cmd.slot, SLOT_DONE);
    }

    // Whether it answers the latest offer of its slot.
    bool is_honest(const blktap_cmd& cmd) const
    {
        if (cmd.slot >= kDepth)
            return false;
        blktap_cmd expected = honest(cmd.slot);
        if (cmd.verb == BLKTAP_CMD_SUBMIT) {
            expected.verb = cmd.verb;
            expected.fd = cmd.fd;
            expected.offset = cmd.offset;
        } else {
            expected.result = cmd.result;
        }
        return std::memcmp(&expected, &cmd, sizeof cmd) == 0 && cmd.result <= 0 &&
               cmd.result >= -4095;
    }

    ring_consumer ring_;
    blktap_user_head head_{};
    std::array<blktap_cmd, BLKTAP_COMMANDS> commands_{};
    tapdisk::testing::Slots<kDepth> slots_;
    std::array<Book, kDepth> books_{};
};

} // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t bytes)
{
    Input input(data, bytes);
    Model model(input.take<std::uint32_t>());
    bool connected = true;
    while (connected && !input.empty()) {
        const auto what = input.take<std::uint8_t>();
        const std::uint32_t slot = (what >> 4) % kDepth;
        switch (what & 15) {
        case 0: model.offer(slot, false); break;
        case 9: model.offer(slot, true); break;
        case 8: {
            blktap_cmd cmd = model.honest(slot);
            cmd.verb = BLKTAP_CMD_SUBMIT;
            cmd.fd = input.take<std::int8_t>();
            model.tapdisk_writes(cmd);
            break;
        }
        case 1: model.take_back(slot); break;
        case 2: model.free(slot); break;
        case 3: model.tapdisk_writes(model.honest(slot)); break;
        case 4: model.tapdisk_writes(input.take<blktap_cmd>()); break;
        case 5: model.tapdisk_claims(input.take<std::uint32_t>()); break;
        case 6: { // honest but for one byte
            blktap_cmd cmd = model.honest(slot);
            const auto at = input.take<std::uint8_t>() % sizeof cmd;
            reinterpret_cast<std::uint8_t*>(&cmd)[at] ^= input.take<std::uint8_t>();
            model.tapdisk_writes(cmd);
            break;
        }
        case 7: {
            blktap_cmd cmd = model.honest(slot);
            cmd.result = input.take<std::int16_t>();
            model.tapdisk_writes(cmd);
            break;
        }
        default: connected = model.run(); break;
        }
    }
    model.check();
    return 0;
}
