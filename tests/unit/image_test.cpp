// SPDX-License-Identifier: GPL-2.0-only
#include "image/image.hpp"

#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/stat.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <vector>

#include "tests/support/open_image.hpp"
#include "tests/support/temp_file.hpp"
#include "tests/unit/image_fixture.hpp"

namespace tapdisk {
namespace {

using ::testing::HasSubstr;
using testing::ImageTest;
using testing::TempDirectory;

// The open files of this process that are `path`, by the flags of their opens.
std::vector<int> flags_of_opens(const std::string& path) {
  std::vector<int> flags;
  for (const auto& entry : std::filesystem::directory_iterator{"/proc/self/fd"}) {
    std::error_code ignored;
    if (std::filesystem::read_symlink(entry, ignored) == path)
      flags.push_back(::fcntl(std::stoi(entry.path().filename()), F_GETFL));
  }
  return flags;
}

// A non-blocking file makes io_uring answer EAGAIN where it should wait, for ever on some devices.
TEST_F(ImageTest, WaitsForItsDevice) {
  const std::string path = directory.file("a.img", 1 << 20);
  auto image = open(path);
  ASSERT_TRUE(image) << image.error().what;
  const std::vector<int> flags = flags_of_opens(path);
  ASSERT_FALSE(flags.empty());
  for (const int one : flags) EXPECT_EQ(one & O_NONBLOCK, 0);
}

// Ends each I/O with the result that it is told.
class ToldEngine final : public Engine {
 public:
  std::string_view name() const noexcept override { return "told"; }
  const EngineCounters& counters() const noexcept override { return counters_; }
  void expect_data_in(std::span<std::byte>) noexcept override {}
  void start(Io& io) noexcept override { started_.push_back(&io); }
  bool turn(int) noexcept override { return false; }

  int fd() const { return started_.back()->fd; }
  void finish(int result) {
    Io* const io = started_.back();
    started_.pop_back();
    io->result = result;
    io->client->io_finished(*io);
  }

 private:
  std::vector<Io*> started_;
  EngineCounters counters_;
};

// The kernel tells each open of a file once that something was lost.
TEST_F(ImageTest, AFailedSyncIsEveryQueues) {
  ImageOptions options;
  options.path = directory.file("a.img", 1 << 20);
  options.discard = false;
  const auto opened = open_image("raw", options);
  ASSERT_TRUE(opened) << opened.error().what;
  ToldEngine told;
  auto first = (*opened)->view(told);
  auto second = (*opened)->view(told);
  ASSERT_TRUE(first && second);
  std::array<int, 2> fds{};
  const auto sync = [&](Image& view, int result) {
    op = {};
    op.verb = ImageVerb::kSync;
    op.client = &waiter;
    view.start(op);
    fds[&view == second->get()] = told.fd();
    told.finish(result);
    return op.result;
  };
  EXPECT_EQ(sync(**first, 0), 0);
  EXPECT_EQ(sync(**second, 0), 0);
  EXPECT_NE(fds[0], fds[1]);
  EXPECT_EQ(sync(**first, -EIO), -EIO);
  EXPECT_EQ(sync(**second, 0), -EIO);
  EXPECT_EQ(sync(**first, 0), -EIO);
}

TEST_F(ImageTest, AReadLeavesTheAccessTime) {
  const std::string path = directory.file("a.img", 1 << 20);
  const std::array<timespec, 2> long_ago{{{1, 0}, {2, 0}}};  // relatime would update it
  ASSERT_EQ(::utimensat(AT_FDCWD, path.c_str(), long_ago.data(), 0), 0);
  auto image = open(path);
  ASSERT_TRUE(image) << image.error().what;
  EXPECT_EQ(run(**image, ImageVerb::kRead, 0, 4096), 0);
  struct stat status {};
  ASSERT_EQ(::stat(path.c_str(), &status), 0);
  EXPECT_EQ(status.st_atim.tv_sec, 1);
}

TEST_F(ImageTest, SectorsAreBytesOfTheFile) {
  const std::string path = directory.file("a.img", 1 << 20);
  auto image = open(path);
  ASSERT_TRUE(image) << image.error().what;
  EXPECT_EQ((*image)->info().sectors, 2048u);
  EXPECT_FALSE((*image)->info().read_only);
  std::memset(memory.data(), 'q', 4096);
  EXPECT_EQ(run(**image, ImageVerb::kWrite, 8, 4096), 0);
  EXPECT_EQ(run(**image, ImageVerb::kSync, 0, 0), 0);

  std::ifstream file{path, std::ios::binary};
  std::string content(1 << 20, '\0');
  file.read(content.data(), static_cast<std::streamsize>(content.size()));
  EXPECT_EQ(content.find_first_not_of('\0'), 4096u);
  EXPECT_EQ(content.find_last_not_of('\0'), 8191u);

  std::memset(memory.data(), 0, 4096);
  EXPECT_EQ(run(**image, ImageVerb::kRead, 8, 4096), 0);
  EXPECT_EQ(memory[4095], std::byte{'q'});
}

TEST_F(ImageTest, TheLastSectorIsWithinReach) {
  auto image = open(directory.file("a.img", 1 << 20), false, Direct::kOff);
  ASSERT_TRUE(image);
  EXPECT_EQ(run(**image, ImageVerb::kWrite, 2047, 512), 0);
  EXPECT_EQ(run(**image, ImageVerb::kRead, 2047, 512), 0);
}

TEST_F(ImageTest, APartOfASectorAtTheEndIsNotUsed) {
  const std::string path = directory.file("odd.img", 10 * 512 + 100);
  auto image = open(path, false, Direct::kOff);
  ASSERT_TRUE(image);
  EXPECT_EQ((*image)->info().sectors, 10u);
  EXPECT_EQ(run(**image, ImageVerb::kWrite, 9, 512), 0);
  EXPECT_EQ(std::filesystem::file_size(path), 10u * 512 + 100);
}

TEST_F(ImageTest, DirectReadOfAFileWithAnOddEnd) {
  auto image = open(directory.file("odd.img", 10 * 512 + 100));
  ASSERT_TRUE(image);
  const auto last = (*image)->info().sectors - (*image)->info().sector_size / kSectorSize;
  EXPECT_EQ(run(**image, ImageVerb::kRead, last, (*image)->info().sector_size), 0);
}

TEST_F(ImageTest, AFileOnADiskIsOpenedDirectly) {
  auto image = open(directory.file("a.img", 1 << 20));
  ASSERT_TRUE(image);
  EXPECT_TRUE((*image)->info().direct);
}

TEST_F(ImageTest, BufferedWhenAskedFor) {
  auto image = open(directory.file("a.img", 1 << 20), false, Direct::kOff);
  ASSERT_TRUE(image);
  EXPECT_FALSE((*image)->info().direct);
  EXPECT_EQ((*image)->info().sector_size, 512u);
}

TEST_F(ImageTest, TmpfsWorks) {
  const TempDirectory shm{"/dev/shm"};
  auto image = open(shm.file("a.img", 1 << 20));
  ASSERT_TRUE(image) << image.error().what;
  EXPECT_FALSE((*image)->info().direct);
  std::memset(memory.data(), 't', 4096);
  EXPECT_EQ(run(**image, ImageVerb::kWrite, 0, 4096), 0);
  EXPECT_EQ(run(**image, ImageVerb::kSync, 0, 0), 0);
}

TEST_F(ImageTest, ErrorsNameTheFileAndTheReason) {
  const std::string path = directory.path() / "x";
  EXPECT_EQ(error_of(path), path + ": No such file or directory");
  EXPECT_EQ(error_of(directory.path()), directory.path().string() + ": Is a directory");
  EXPECT_EQ(error_of(directory.path(), true), directory.path().string() + ": Is a directory");
  const std::string empty = directory.file("empty", 0);
  EXPECT_EQ(error_of(empty), empty + ": is empty");
  const std::string tiny = directory.file("tiny", 100);
  EXPECT_EQ(error_of(tiny), tiny + ": is smaller than one sector");
  ASSERT_EQ(::mkfifo(path.c_str(), 0600), 0);
  EXPECT_EQ(error_of(path), path + ": neither a regular file nor a block device");
  EXPECT_EQ(error_of(path, true), path + ": neither a regular file nor a block device");
}

TEST_F(ImageTest, NoPermissionIsSaid) {
  const std::string path = directory.file("a.img", 1 << 20);
  ::chmod(path.c_str(), 0);
  ::chmod(directory.path().c_str(), 0711);
  ASSERT_EQ(::seteuid(65534), 0);
  const std::string error = error_of(path);
  ASSERT_EQ(::seteuid(0), 0);
  EXPECT_EQ(error, path + ": Permission denied");
}

TEST_F(ImageTest, AReadOnlyImageIsNotWrittenTo) {
  const std::string path = directory.file("a.img", 1 << 20);
  struct stat before {};
  ASSERT_EQ(::stat(path.c_str(), &before), 0);
  auto image = open(path, true);
  ASSERT_TRUE(image);
  EXPECT_TRUE((*image)->info().read_only);
  EXPECT_EQ(run(**image, ImageVerb::kRead, 0, 4096), 0);
  EXPECT_EQ(run(**image, ImageVerb::kSync, 0, 0), 0);
  EXPECT_DEATH(run(**image, ImageVerb::kWrite, 0, 4096), "internal error");
  struct stat after {};
  ASSERT_EQ(::stat(path.c_str(), &after), 0);
  EXPECT_EQ(before.st_mtim.tv_sec, after.st_mtim.tv_sec);
  EXPECT_EQ(before.st_mtim.tv_nsec, after.st_mtim.tv_nsec);
}

TEST_F(ImageTest, NothingPassesTheChokePointThatIsNotInsideTheDisk) {
  auto image = open(directory.file("a.img", 1 << 20));
  ASSERT_TRUE(image);
  EXPECT_DEATH(run(**image, ImageVerb::kRead, 2048, 512), "internal error");
  EXPECT_DEATH(run(**image, ImageVerb::kRead, 2047, 1024), "internal error");
  EXPECT_DEATH(run(**image, ImageVerb::kRead, ~0ull, 512), "internal error");
  EXPECT_DEATH(run(**image, ImageVerb::kRead, 0, 100), "internal error");
  EXPECT_DEATH(run(**image, ImageVerb::kRead, 0, 0), "internal error");
}

TEST_F(ImageTest, AFileCutShortIsAnErrorOfTheRequest) {
  const std::string path = directory.file("a.img", 1 << 20);
  auto image = open(path);
  ASSERT_TRUE(image);
  std::filesystem::resize_file(path, 4096);
  EXPECT_EQ(run(**image, ImageVerb::kRead, 1024, 4096), -ENODATA);
  EXPECT_EQ(run(**image, ImageVerb::kRead, 0, 4096), 0);
}

TEST_F(ImageTest, UnknownDriverIsRefused) {
  ImageOptions options;
  options.path = "/x";
  EXPECT_EQ(open_image("qed", options).error().what, "/x: unknown image format");
}

TEST_F(ImageTest, GrowsWithItsFileAndDoesNotShrink) {
  const std::string path = directory.file("a.img", 1 << 20);
  auto image = open(path);
  ASSERT_TRUE(image) << image.error().what;
  OpenImage& opened = *image->opened;
  EXPECT_EQ(*opened.grow(), 2048u);
  std::filesystem::resize_file(path, (2 << 20) + 100);
  EXPECT_EQ(*opened.grow(), 4096u) << "whole sectors";
  EXPECT_EQ((*image)->info().sectors, 4096u);
  EXPECT_EQ(run(**image, ImageVerb::kWrite, 4088, 4096), 0);
  std::filesystem::resize_file(path, 1 << 20);
  const auto smaller = opened.grow();
  ASSERT_FALSE(smaller);
  EXPECT_THAT(smaller.error().what, HasSubstr(path + ": has become smaller"));
  EXPECT_EQ((*image)->info().sectors, 4096u);
  EXPECT_EQ(opened.device(), 0u);
}

}  // namespace
}  // namespace tapdisk
