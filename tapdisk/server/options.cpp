// SPDX-License-Identifier: GPL-2.0-only
#include "server/options.hpp"

#include <CLI/CLI.hpp>
#include <algorithm>
#include <cerrno>
#include <fstream>
#include <map>
#include <regex>
#include <set>

#include "base/paths.hpp"
#include "ring/blktap_abi.h"

namespace tapdisk {
namespace {

Result<std::vector<std::string>> read_arguments(const std::string& path) {
  std::ifstream file{path, std::ios::binary};
  if (!file) return system_error(path, errno);
  std::vector<std::string> arguments;
  for (std::string line; std::getline(file, line);) arguments.push_back(std::move(line));
  if (file.bad()) return system_error(path, EIO);
  return arguments;
}

// An option whose value is one of a few words, in the order in which its help explains them.
template <class T>
void add_choice(CLI::App& app, const char* name, T& target,
                const std::vector<std::pair<std::string, T>>& choices, const char* help) {
  std::vector<std::string> words;
  std::map<std::string, T> values;
  std::string otherwise;
  for (const auto& [word, value] : choices) {
    words.push_back(word);
    values.emplace(word, value);
    if (value == target) otherwise = word;
  }
  app.add_option_function<std::string>(
         name, [&target, values](const std::string& word) { target = values.at(word); }, help)
      ->check(CLI::IsMember(words))
      ->default_str(otherwise);
}

void describe(CLI::App& app, Options& options) {
  app.set_version_flag("--version", "tapdisk " TAPDISK_VERSION);
  app.add_option("--vbd", options.attach.vbd, "the vbd to serve: vbd-DOMAIN-DEVICE")
      ->required()
      ->check([](const std::string& name) {
        return is_vbd_name(name) ? std::string{} : "not of the form vbd-DOMAIN-DEVICE";
      });
  app.add_option("--image", options.image.path, "raw image: a regular file or a block device")
      ->required();
  app.add_option("--identity", options.image.identity,
                 "what the image must be, as it was when the disk was attached");
  app.add_flag("--read-only", options.image.read_only, "never write to the image");
  add_choice<EngineKind>(app, "--engine", options.engine,
                         {{"auto", EngineKind::kAuto},
                          {"io_uring", EngineKind::kUring},
                          {"libaio", EngineKind::kAio}},
                         "how I/O is done");
  add_choice<DataPath>(app, "--data-path", options.path,
                       {{"auto", DataPath::kAuto},
                        {"window", DataPath::kWindow},
                        {"delegate", DataPath::kDelegate},
                        {"submit", DataPath::kSubmit},
                        {"mix", DataPath::kMix}},
                       "who moves the data: the module where it can; tapdisk; the module; the "
                       "module, where tapdisk says for each request; all of them by turns");
  add_choice<Direct>(app, "--direct", options.image.direct,
                     {{"auto", Direct::kAuto}, {"on", Direct::kOn}, {"off", Direct::kOff}},
                     "whether I/O bypasses the page cache");
  add_choice<std::uint32_t>(app, "--sector-size", options.image.sector_size,
                            {{"auto", 0}, {"512", 512}, {"4096", 4096}},
                            "the blocks of the disk; auto: a device's own, and 512 for a file");
  app.add_flag("!--no-discard", options.image.discard, "offer the guest no discards");
  app.add_option("--vm", options.image.lock.vm, "UUID of the guest, for the image's lock");
  add_choice<Locking>(app, "--lock", options.image.lock.locking,
                      {{"on", Locking::kOn}, {"auto", Locking::kAuto}, {"off", Locking::kOff}},
                      "whether the image is locked: always; where that is possible; never");
  app.add_flag("--shared", options.image.lock.shares,
               "let other guests whose disks say so, too, use the image at the same time");
  add_choice<bool>(app, "--source", options.attach.grants, {{"module", false}, {"grants", true}},
                   "where requests come from: the module; the guest's ring itself");
  add_choice<bool>(app, "--window", options.attach.prefault,
                   {{"prefault", true}, {"fault", false}},
                   "when the guest's pages become visible");
  add_choice<Profile>(app, "--profile", options.profile,
                      {{"fast", Profile::kFast},
                       {"zero-copy", Profile::kZeroCopy},
                       {"copy", Profile::kCopy}},
                      "--persistent-grants; --no-persistent-grants; --persistent-grants --copy 1m");
  app.add_flag("--persistent-grants,!--no-persistent-grants", options.attach.persistent,
               "keep pages mapped that the guest uses again; it copies its data to them");
  app.add_option("--copy", options.attach.copy_bytes,
                 "copy the data of requests of at most so many bytes instead of mapping it")
      ->transform(CLI::AsSizeValue(false))
      ->type_name("BYTES");
  app.add_option("--poll-us", options.attach.poll_us,
                 "watch the guest's ring for so many microseconds before sleeping")
      ->check(CLI::Range(0u, BLKTAP_POLL_US_MAX))
      ->type_name("MICROSECONDS");
  app.add_option("--control", options.control, "path of the control socket");
  app.add_option("--backend", options.backend,
                 "directory of the vbd in xenstore, to be told the process's ID");
  app.add_flag("--cdrom", options.attach.cdrom, "the disk is a CD-ROM");
  app.add_flag("--removable", options.attach.removable, "the disk is removable");
  app.add_flag("--foreground-log", options.foreground_log, "log for a reader, not the journal");
}

// What the profile says of what was not given.
void apply_profile(const CLI::App& app, Options& options) {
  constexpr std::uint32_t kAnyRequest = BLKTAP_SEGS_MAX * RING_PAGE_SIZE;
  if (!app.count("--persistent-grants"))
    options.attach.persistent = options.profile != Profile::kZeroCopy;
  if (!app.count("--copy"))
    options.attach.copy_bytes = options.profile == Profile::kCopy ? kAnyRequest : 0;
}

}  // namespace

bool is_vbd_name(const std::string& name) noexcept {
  static const std::regex kName{"vbd-[0-9]{1,5}-[0-9]{1,10}"};
  return std::regex_match(name, kName);
}

Result<std::variant<Options, Answer>> parse_options(std::vector<std::string> arguments) {
  Options options;
  if (arguments.size() == 1 && arguments[0].starts_with('@')) {
    options.file = arguments[0].substr(1);
    Result<std::vector<std::string>> lines = read_arguments(options.file);
    if (!lines) return lines.error();
    arguments = std::move(*lines);
  }
  CLI::App app{"Serves one virtual disk of a Xen guest from an image.", "tapdisk"};
  describe(app, options);
  try {
    std::reverse(arguments.begin(), arguments.end());  // CLI11 takes them from the end
    app.parse(std::move(arguments));
  } catch (const CLI::CallForHelp&) {
    return std::variant<Options, Answer>{Answer{app.help()}};
  } catch (const CLI::CallForVersion&) {
    return std::variant<Options, Answer>{Answer{app.version() + "\n"}};
  } catch (const CLI::ParseError& wrong) {
    return Error{EINVAL, wrong.what()};
  }
  apply_profile(app, options);
  // Not a check of the option: an empty value is none to CLI11's checks.
  if (options.image.path.empty()) return Error{EINVAL, "--image: the path is empty"};
  options.attach.submits = options.path == DataPath::kSubmit || options.path == DataPath::kMix;
  if (options.attach.submits && options.attach.grants)
    return Error{EINVAL, "--data-path: there is no module to submit to (--source grants)"};
  if (options.attach.poll_us && options.attach.grants)
    return Error{EINVAL, "--poll-us: there is no module to watch the ring (--source grants)"};
  if (options.control.empty()) options.control = control_path(options.attach.vbd);
  options.image.lock.vbd = options.attach.vbd;
  return std::variant<Options, Answer>{std::move(options)};
}

}  // namespace tapdisk
