// SPDX-License-Identifier: GPL-2.0-only
//
// The rewriting of disk specifications, judged by the libxlutil that is installed here: what the
// rewriter returns is parsed by the real xlu_disk_parse().

#include "spec.h"

#include <gtest/gtest.h>

extern "C" {  // Xen's headers are not made for C++
#include <libxlutil.h>
}

#include <array>
#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <memory>
#include <random>
#include <string>
#include <string_view>
#include <vector>

namespace {

struct Rewritten {
    tapzc_verdict verdict;
    std::string text;  // what xlu_disk_parse gets to see, or the offending path
};

std::string text_or_empty(const char* text) { return text ? text : ""; }

Rewritten rewrite(const std::string& spec)
{
    char* out = nullptr;
    const auto verdict = tapzc_rewrite(spec.c_str(), &out);
    const std::unique_ptr<char, decltype(&std::free)> owned{out, &std::free};
    return {verdict, verdict == TAPZC_UNCHANGED ? spec : text_or_empty(out)};
}

struct Disk {
    int rc;
    std::string target, vdev, script;
    int readwrite, is_cdrom, format, backend;
    std::string errors;

    bool operator==(const Disk& other) const
    {
        return rc == other.rc && target == other.target && vdev == other.vdev &&
               script == other.script && readwrite == other.readwrite &&
               is_cdrom == other.is_cdrom && format == other.format && backend == other.backend;
    }
};

Disk parse(const std::string& spec)
{
    char* report_text = nullptr;
    size_t report_size = 0;
    FILE* report = open_memstream(&report_text, &report_size);
    XLU_Config* cfg = xlu_cfg_init(report, "t.cfg");
    libxl_device_disk disk;
    libxl_device_disk_init(&disk);

    const char* specs[] = {spec.c_str()};
    Disk result{};
    result.rc = xlu_disk_parse(cfg, 1, specs, &disk);
    if (result.rc == 0) {
        result.target = text_or_empty(disk.pdev_path);
        result.vdev = text_or_empty(disk.vdev);
        result.script = text_or_empty(disk.script);
        result.readwrite = disk.readwrite;
        result.is_cdrom = disk.is_cdrom;
        result.format = disk.format;
        result.backend = disk.backend;
    }
    libxl_device_disk_dispose(&disk);
    xlu_cfg_destroy(cfg);
    std::fclose(report);
    result.errors = text_or_empty(report_text);
    std::free(report_text);
    return result;
}

struct Vector {
    const char* spec;
    const char* target;
    const char* vdev;
    int readwrite;
    int is_cdrom;
    const char* script = "block-tapzc";
};

class AcceptedSpec : public testing::TestWithParam<Vector> {};

TEST_P(AcceptedSpec, IsRefusedByStockAndParsedOnceRewritten)
{
    const Vector& v = GetParam();
    EXPECT_EQ(EINVAL, parse(v.spec).rc) << "stock libxlutil understands it: why rewrite?";

    const auto rewritten = rewrite(v.spec);
    ASSERT_EQ(TAPZC_REWRITTEN, rewritten.verdict);
    const auto disk = parse(rewritten.text);
    ASSERT_EQ(0, disk.rc) << disk.errors;
    EXPECT_EQ(v.target, disk.target);
    EXPECT_EQ(v.vdev, disk.vdev);
    EXPECT_EQ(v.script, disk.script);
    EXPECT_EQ(v.readwrite, disk.readwrite);
    EXPECT_EQ(v.is_cdrom, disk.is_cdrom);
    EXPECT_EQ(LIBXL_DISK_FORMAT_RAW, disk.format);
    EXPECT_EQ(LIBXL_DISK_BACKEND_UNKNOWN, disk.backend);
}

INSTANTIATE_TEST_SUITE_P(
    Vectors, AcceptedSpec,
    testing::Values(
        Vector{"tap:zc:/path/to/disk.img,xvda,w", "/path/to/disk.img", "xvda", 1, 0},
        Vector{"tap2:zc:/p,xvda,w", "/p", "xvda", 1, 0},
        Vector{"tap:tapdisk:zc:/p,xvda,r", "/p", "xvda", 0, 0},
        Vector{"tap:zc:/p,xvda", "/p", "xvda", 1, 0},
        Vector{" \t\n tap:zc:/p,xvda,w", "/p", "xvda", 1, 0},
        Vector{"tap:zc:/p.iso,hdc:cdrom,r", "/p.iso", "hdc", 0, 1},
        Vector{"tap:zc:/with:colon,sda1,rw", "/with:colon", "sda1", 1, 0},
        Vector{"tap:zc:/m\xc3\xbcll er.img,d5p0,w", "/m\xc3\xbcll er.img", "d5p0", 1, 0},
        Vector{"tap:zc:/p,51712,w,direct-io-safe", "/p", "51712", 1, 0},
        Vector{"tap:gnt:/p,xvda,w", "/p", "xvda", 1, 0, "block-tapgnt"},
        Vector{"vdev=xvdb,tap2:tapdisk:gnt:/p,r", "/p", "xvdb", 0, 0, "block-tapgnt"},
        Vector{"vdev=xvdb,access=r,tap:zc:/p", "/p", "xvdb", 0, 0},
        Vector{"vdev=xvdb, tap:zc:/p,w", "/p", "xvdb", 1, 0}));

class UntouchedSpec : public testing::TestWithParam<const char*> {};

TEST_P(UntouchedSpec, IsHandedOnAsItIs)
{
    const auto rewritten = rewrite(GetParam());
    EXPECT_EQ(TAPZC_UNCHANGED, rewritten.verdict) << rewritten.text;
}

INSTANTIATE_TEST_SUITE_P(
    Vectors, UntouchedSpec,
    testing::Values("", ",", "tap:", "tap:aio:/p,xvda,w", "tap:/p,xvda,w", "tap:vhd:/p,xvda,w",
                    "tap:tapdisk:aio:/p,xvda,w", "phy:/dev/zc,xvda,w", "/p,raw,xvda,w",
                    // refused by stock, and left to it
                    "zc:/p,xvda,w", "aio:zc:/p,xvda,w", "tap:tap:zc:/p,xvda,w",
                    "raw:tap:zc:/p,xvda,w", "tap3:zc:/p,xvda,w", "xtap:zc:/p,xvda,w",
                    // a file name that stock accepts by accident
                    "tap:ZC:/p,xvda,w", "tap:zc:/a\nb,xvda,w",
                    // target= takes the rest of the string, whatever it holds
                    "vdev=xvda,target=tap:zc:/p", "vdev=xvda,target=/p,tap:zc:/q",
                    "vdev=xvda, target=/p,tap:zc:/q", "raw:target=/p,tap:zc:/q",
                    "script=block-tapzc,vdev=xvda,access=w,target=/p,im:g.img"));

TEST(RelativePath, IsRefused)
{
    for (const char* path : {"zc:disk.img", "zc:", "zc:../p", "zc:Z/p", "gnt:disk.img"}) {
        const auto rewritten = rewrite(std::string{"tap:"} + path + ",xvda,w");
        EXPECT_EQ(TAPZC_RELATIVE, rewritten.verdict);
        EXPECT_EQ(path, rewritten.text);
    }
}

TEST(PathWithAnEqualsSign, IsRefused)
{
    for (const char* spec : {"tap:zc:/a=b.img,xvda,w", "vdev=xvda,tap:zc:/a=b.img"}) {
        const auto rewritten = rewrite(spec);
        EXPECT_EQ(TAPZC_EQUALS, rewritten.verdict);
        EXPECT_EQ("zc:/a=b.img", rewritten.text);
    }
    EXPECT_EQ(TAPZC_REWRITTEN, rewrite("tap:zc:/a,vdev=xvda,access=w").verdict);
}

TEST(NameThatIsTooLong, IsRefusedBeforeXenstoreDoes)
{
    const std::string longest = "/" + std::string(TAPZC_PATH_MAX - 1, 'x');
    EXPECT_EQ(TAPZC_REWRITTEN, rewrite("tap:zc:" + longest + ",xvda,w").verdict);
    EXPECT_EQ(TAPZC_TOO_LONG, rewrite("tap:zc:" + longest + "x,xvda,w").verdict);
    EXPECT_EQ(TAPZC_TOO_LONG, rewrite("tap:gnt:" + longest + "x,xvda,w").verdict);
    EXPECT_EQ(TAPZC_TOO_LONG,
              rewrite("script=block-tapzc,vdev=xvda,target=" + longest).verdict);
    EXPECT_EQ(TAPZC_UNCHANGED, rewrite("phy:" + longest + "x,xvda,w").verdict);
}

TEST(NameThatIsNotUtf8, IsRefusedWhereverOneOfOurScriptsIsToServeIt)
{
    for (const char* spec :
         {"tap:zc:/m\xfcller.img,xvda,w", "vdev=xvda,tap:gnt:/a\xc3", "tap:zc:/\xc0\xaf,xvda",
          "tap:zc:/\xed\xa0\x80,xvda", "tap:zc:/\xf4\x90\x80\x80,xvda",
          "script=block-tapzc,vdev=xvda,target=/m\xfcller.img",
          "vdev=xvda,script=/etc/xen/scripts/block-tapgnt,target=/\xff"}) {
        EXPECT_EQ(TAPZC_NOT_UTF8, rewrite(spec).verdict) << spec;
    }
    EXPECT_EQ(TAPZC_UNCHANGED, rewrite("/m\xfcller.img,raw,xvda,w").verdict) << "not ours";
    for (const char* name : {"\xc3\xbc", "\xe2\x82\xac", "\xf0\x9f\x98\x80", "\xf4\x8f\xbf\xbf"}) {
        EXPECT_EQ(TAPZC_REWRITTEN, rewrite(std::string{"tap:zc:/"} + name + ",xvda").verdict);
    }
}

TEST(TwoScripts, AreAnErrorOfTheRealParser)
{
    for (const char* spec :
         {"tap:zc:/p,xvda,w,script=foo", "script=foo,tap:zc:/p,xvda,w"}) {
        const auto disk = parse(rewrite(spec).text);
        EXPECT_EQ(EINVAL, disk.rc);
        EXPECT_NE(std::string::npos, disk.errors.find("script respecified")) << disk.errors;
    }
}

TEST(SecondPrefix, IsLeftToTheRealParserToRefuse)
{
    EXPECT_EQ("script=block-tapzc,tap:/a,tap:zc:/b", rewrite("tap:zc:/a,tap:zc:/b").text);
    EXPECT_EQ(EINVAL, parse(rewrite("tap:zc:/a,tap:zc:/b").text).rc);
}

// Specifications made of the pieces that matter to the lexer, and of noise. No newline: after some
// errors it makes stock's lexer end the process.
std::string random_spec(std::mt19937& random)
{
    static constexpr std::array<std::string_view, 33> pieces{
        "tap:", "tap2:", "zc:", "tap:zc:", "tap:zc:/", "tap2:zc:/p", "tapdisk:", "aio:", "raw:",
        "zc:/", "nbd:", "target=", "script=", "vdev=", "format=", "access=", ",", ",", ",", ", ",
        "/p", "/a.img", "xvda", "hdc:cdrom", "r", "w", "raw", "=", " ", ":", "Z", "cdrom",
        "\xff"};
    std::string spec;
    for (auto left = random() % 9; left > 0; left--) {
        spec += pieces[random() % pieces.size()];
    }
    return spec;
}

void replace_once(std::string& text, std::string_view from, std::string_view to, size_t at)
{
    at = text.find(from, at);
    ASSERT_NE(std::string::npos, at);
    text.replace(at, from.size(), to);
}

// The stock prefix nbd: means script=block-nbd, so it stands in for zc: in the comparison.
TEST(RandomSpecs, AgreeWithTheRealParser)
{
    std::mt19937 random{20050610};
    int rewritten_count = 0;
    int parsed_count = 0;

    for (int round = 0; round < 200'000; round++) {
        const auto spec = random_spec(random);
        const auto result = rewrite(spec);
        SCOPED_TRACE(testing::PrintToString(spec));

        if (result.verdict == TAPZC_UNCHANGED) {
            continue;
        }
        if (result.verdict == TAPZC_RELATIVE) {
            ASSERT_TRUE(result.text.starts_with("zc:") && !result.text.starts_with("zc:/"));
            continue;
        }
        if (result.verdict == TAPZC_NOT_UTF8) {
            ASSERT_NE(std::string::npos, spec.find('\xff'));
            continue;
        }
        if (result.verdict == TAPZC_EQUALS) {
            auto stand_in = spec;
            replace_once(stand_in, "zc:/", "nbd:/", 0);
            // Where it accepts one, it has taken the path for something else.
            const auto disk = parse(stand_in);
            ASSERT_TRUE(disk.rc == EINVAL || "zc:" + disk.target != result.text) << disk.target;
            continue;
        }
        ASSERT_EQ(TAPZC_REWRITTEN, result.verdict);
        ASSERT_EQ(EINVAL, parse(spec).rc) << "stock xl understands what was rewritten";
        rewritten_count++;

        auto stand_in = spec;
        replace_once(stand_in, "zc:/", "nbd:/", result.text.find("script=block-tapzc,tap:/"));
        auto expected = parse(stand_in);
        const auto actual = parse(result.text);
        if (expected.rc == 0) {
            ASSERT_EQ("block-nbd", expected.script);
            expected.script = "block-tapzc";
            parsed_count++;
        }
        ASSERT_EQ(expected, actual) << stand_in << '\n' << result.text << '\n' << actual.errors;
    }
    EXPECT_GT(rewritten_count, 1000);
    EXPECT_GT(parsed_count, 100);
}

}  // namespace
