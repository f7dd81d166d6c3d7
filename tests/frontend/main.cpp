// SPDX-License-Identifier: GPL-2.0-only
//
// Frontends and tapdisks, good and rogue, against the module. Runs in dom0.
//
//   frontend_test [--tapdisk=installed|memory] [--directory=DIR] [GoogleTest options]
//
// One line per case, and at the end FRONTEND-TESTS-PASSED and their number: only
// that line means success.

#include "tests/frontend/disk.hpp"

#include <gtest/gtest.h>
#include <unistd.h>

#include <cstdio>
#include <cstdlib>
#include <string_view>

namespace {

class OneLineEach : public testing::EmptyTestEventListener {
    void OnTestPartResult(const testing::TestPartResult& result) override
    {
        if (!result.passed())
            std::printf("  %s:%d: %s\n", result.file_name() ? result.file_name() : "?",
                        result.line_number(), result.message());
    }

    void OnTestEnd(const testing::TestInfo& test) override
    {
        const testing::TestResult& result = *test.result();
        std::printf("%-7s %6lld ms  %s.%s\n",
                    result.Skipped() ? "skipped" : result.Passed() ? "ok" : "FAILED",
                    static_cast<long long>(result.elapsed_time()), test.test_suite_name(),
                    test.name());
        std::fflush(stdout);
    }
};

bool take_option(std::string_view argument)
{
    if (argument == "--tapdisk=installed")
        settings.tapdisk = Settings::Tapdisk::installed;
    else if (argument == "--tapdisk=memory")
        settings.tapdisk = Settings::Tapdisk::memory;
    else if (argument.starts_with("--directory="))
        settings.directory = argument.substr(argument.find('=') + 1);
    else
        return false;
    return true;
}

} // namespace

int main(int argc, char** argv)
{
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
    auto& listeners = testing::UnitTest::GetInstance()->listeners();
    delete listeners.Release(listeners.default_result_printer());
    listeners.Append(new OneLineEach);

    const int status = RUN_ALL_TESTS();
    const auto& all = *testing::UnitTest::GetInstance();
    if (status == 0 && all.successful_test_count() > 0)
        std::printf("FRONTEND-TESTS-PASSED %d\n", all.successful_test_count());
    else
        std::printf("frontend-tests: %d failed\n", all.failed_test_count());
    return status;
}
