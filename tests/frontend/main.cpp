// SPDX-License-Identifier: GPL-2.0-only
//
// Frontends and tapdisks, good and rogue, against the module; and frontends alone against any back
// end. Runs in dom0.
//
//   frontend_test [--backend=blktap|grants|blkback|qdisk] [--tapdisk=installed|memory]
//                 [--directory=DIR] [--slow-device=DEVICE] [--failing-device=DEVICE] [--harmful]
//                 [--seed=N] [--requests=N] [GoogleTest options]
//
// One line per case, and at the end FRONTEND-TESTS-PASSED and their number: only that line means
// success. Skipped and deviating cases are counted apart.

#include "tests/frontend/conform.hpp"
#include "tests/frontend/rogue_tapdisk.hpp"

#include <gtest/gtest.h>
#include <unistd.h>

#include <cstdio>
#include <cstdlib>
#include <string_view>

namespace {

// The value of a property of a test, or null.
const char* property(const testing::TestResult& result, std::string_view key)
{
    for (int i = 0; i < result.test_property_count(); i++)
        if (key == result.GetTestProperty(i).key())
            return result.GetTestProperty(i).value();
    return nullptr;
}

// Why a skipped test was skipped.
const char* skip_reason(const testing::TestResult& result)
{
    for (int i = 0; i < result.total_part_count(); i++)
        if (result.GetTestPartResult(i).skipped())
            return result.GetTestPartResult(i).message();
    return "";
}

class OneLineEach : public testing::EmptyTestEventListener {
public:
    int deviating() const { return deviating_; }

private:
    void OnTestPartResult(const testing::TestPartResult& result) override
    {
        if (result.failed())
            std::printf("  %s:%d: %s\n", result.file_name() ? result.file_name() : "?",
                        result.line_number(), result.message());
    }

    void OnTestEnd(const testing::TestInfo& test) override
    {
        const testing::TestResult& result = *test.result();
        const char* deviation = property(result, Deviation::kSeen);
        const char* verdict = result.Failed() ? "FAILED"
                              : result.Skipped() ? "skipped"
                              : deviation ? "DEVIATES"
                                          : "ok";
        deviating_ += result.Passed() && deviation;
        std::printf("%-8s %6lld ms  %s.%s", verdict,
                    static_cast<long long>(result.elapsed_time()), test.test_suite_name(),
                    test.name());
        if (result.Skipped())
            std::printf(": %s", skip_reason(result));
        else if (deviation)
            std::printf(": known of %s", deviation);
        else if (const char* unseen = property(result, Deviation::kNotSeen))
            std::printf(": not seen this time: %s", unseen);
        std::printf("\n");
        std::fflush(stdout);
    }

    int deviating_ = 0;
};

bool take_option(std::string_view argument)
{
    if (argument == "--tapdisk=installed")
        settings.tapdisk = Settings::Tapdisk::installed;
    else if (argument == "--tapdisk=memory")
        settings.tapdisk = Settings::Tapdisk::memory;
    else if (argument == "--harmful")
        settings.harmful = true;
    else if (argument == "--backend=blktap")
        settings.backend = Backend::blktap;
    else if (argument == "--backend=grants")
        settings.backend = Backend::grants;
    else if (argument == "--backend=blkback")
        settings.backend = Backend::blkback;
    else if (argument == "--backend=qdisk")
        settings.backend = Backend::qdisk;
    else if (argument.starts_with("--slow-device="))
        settings.slow_device = argument.substr(argument.find('=') + 1);
    else if (argument.starts_with("--failing-device="))
        settings.failing_device = argument.substr(argument.find('=') + 1);
    else if (argument.starts_with("--seed="))
        settings.seed = std::strtoull(&argument[sizeof("--seed=") - 1], nullptr, 10);
    else if (argument.starts_with("--requests="))
        settings.requests = std::strtoull(&argument[sizeof("--requests=") - 1], nullptr, 10);
    else if (argument.starts_with("--directory="))
        settings.directory = argument.substr(argument.find('=') + 1);
    else
        return false;
    return true;
}

} // namespace

int main(int argc, char** argv)
{
    // What a case of its own starts.
    if (argc == 4 && std::string_view(argv[0]) == "rogue-tapdisk")
        live_as_rogue_tapdisk(argv[1], argv[2], std::strtoull(argv[3], nullptr, 10));
    testing::InitGoogleTest(&argc, argv);
    for (int i = 1; i < argc; i++)
        if (!take_option(argv[i])) {
            std::fprintf(stderr, "frontend_test: unknown argument %s\n", argv[i]);
            return 2;
        }
    if (access("/dev/xen/gntalloc", R_OK | W_OK) != 0) {
        std::perror("frontend_test: /dev/xen/gntalloc (try modprobe xen-gntalloc)");
        return 2;
    }
    // The others know our module's own counters and files.
    if (settings.backend != Backend::blktap && testing::GTEST_FLAG(filter) == "*")
        testing::GTEST_FLAG(filter) = "*Conform*";
    auto& listeners = testing::UnitTest::GetInstance()->listeners();
    delete listeners.Release(listeners.default_result_printer());
    auto* lines = new OneLineEach; // the listeners own it
    listeners.Append(lines);

    const int status = RUN_ALL_TESTS();
    Conform::take_disk_away();
    const auto& all = *testing::UnitTest::GetInstance();
    const int passed = all.successful_test_count() - lines->deviating();
    if (status == 0 && passed > 0)
        std::printf("FRONTEND-TESTS-PASSED %d (%d skipped, %d known deviations of %s)\n", passed,
                    all.skipped_test_count(), lines->deviating(), name(settings.backend));
    else
        std::printf("frontend-tests: %d failed\n", all.failed_test_count());
    return status;
}
