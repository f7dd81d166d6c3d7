// SPDX-License-Identifier: GPL-2.0-only
#include "server/options.hpp"

#include <CLI/CLI.hpp>
#include <algorithm>
#include <cerrno>
#include <map>
#include <regex>
#include <set>
#include <span>
#include <string_view>

#include "base/disk_record.hpp"
#include "base/paths.hpp"
#include "ring/blktap_abi.h"

namespace tapdisk {
namespace {

// As one word each: what follows the option's name is its value, whatever it looks like.
std::vector<std::string> arguments_of(const DiskRecord& record) {
  std::vector<std::string> arguments{"--vbd=" + record.vbd, "--image=" + record.image};
  const auto add = [&](const char* option, const std::string& value) {
    if (!value.empty()) arguments.push_back(option + value);
  };
  add("--identity=", record.identity);
  add("--vm=", record.vm);
  add("--backend=", record.backend);
  if (record.read_only) arguments.emplace_back("--read-only");
  if (record.cdrom) arguments.emplace_back("--cdrom");
  if (record.removable) arguments.emplace_back("--removable");
  if (record.grants) arguments.emplace_back("--source=grants");
  arguments.insert(arguments.end(), record.options.begin(), record.options.end());
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

// What the disk is, and what becomes of its image.
void describe_disk(CLI::App& app, Options& options) {
  app.add_option("--vbd", options.attach.vbd, "the vbd to serve: vbd-DOMAIN-DEVICE")
      ->required()
      ->check([](const std::string& name) {
        return is_vbd_name(name) ? std::string{} : "not of the form vbd-DOMAIN-DEVICE";
      });
  app.add_option("--image", options.image.path, "raw image: a regular file or a block device")
      ->required();
  app.add_option("--identity", options.image.identity,
                 "what the image must be, as the disk's record has it");
  app.add_flag("--read-only", options.image.read_only, "never write to the image");
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
  add_choice<WhenFull>(app, "--when-full", options.when_full,
                       {{"report", WhenFull::kReport}, {"hold", WhenFull::kHold}},
                       "what becomes of a write for which the storage has no room: the guest gets "
                       "an error; it waits until there is room");
  app.add_flag("--cdrom", options.attach.cdrom, "the disk is a CD-ROM");
  app.add_flag("--removable", options.attach.removable, "the disk is removable");
}

// How it is served.
void describe_service(CLI::App& app, Options& options) {
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
  app.add_option("--keep", options.keep_seconds,
                 "how long requests wait for another tapdisk if this one is gone; then they fail")
      ->check(CLI::Range(0u, BLKTAP_KEEP_MS_MAX / 1000))
      ->capture_default_str();
  add_choice<bool>(app, "--confine", options.confined, {{"on", true}, {"off", false}},
                   "give up all rights but those to this disk, if systemd starts it");
  app.add_option("--control", options.control, "path of the control socket");
  app.add_option("--backend", options.backend,
                 "directory of the vbd in xenstore, to be told the process's ID");
  app.add_flag("--foreground-log", options.foreground_log, "log for a reader, not the journal");
}

void describe(CLI::App& app, Options& options) {
  app.set_version_flag("--version", "tapdisk " TAPDISK_VERSION);
  describe_disk(app, options);
  describe_service(app, options);
}

// What the profile says of what was not given.
void apply_profile(const CLI::App& app, Options& options) {
  constexpr std::uint32_t kAnyRequest = BLKTAP_SEGS_MAX * RING_PAGE_SIZE;
  if (!app.count("--persistent-grants"))
    options.attach.persistent = options.profile != Profile::kZeroCopy;
  if (!app.count("--copy"))
    options.attach.copy_bytes = options.profile == Profile::kCopy ? kAnyRequest : 0;
}

// Not the administrator's: they say which disk it is, or are the hotplug program's business.
constexpr std::string_view kOfTheDisk[] = {
    "vbd", "image", "identity", "read-only", "vm", "source", "control", "backend", "cdrom",
    "removable", "foreground-log", "help", "version"};
// Of the module, or of data that is mapped.
constexpr std::string_view kOfTheModule[] = {
    "data-path", "window", "profile", "persistent-grants", "no-persistent-grants", "copy",
    "poll-us", "keep", "confine"};

bool is_one_of(std::span<const std::string_view> words, std::string_view word) {
  return std::ranges::find(words, word) != words.end();
}

}  // namespace

std::optional<Setting> find_setting(const std::string& name) {
  Options options;
  CLI::App app;
  describe(app, options);
  const CLI::Option* const option = app.get_option_no_throw("--" + name);
  if (!option || is_one_of(kOfTheDisk, name)) return std::nullopt;
  return Setting{option->get_expected_max() == 0, is_one_of(kOfTheModule, name)};
}

Result<void> check_setting(const std::string& name, const std::string& value) {
  const auto parsed = parse_options({"--vbd=vbd-0-0", "--image=/", "--" + name + "=" + value});
  if (!parsed) return parsed.error();
  return {};
}

bool is_vbd_name(const std::string& name) noexcept {
  static const std::regex kName{"vbd-[0-9]{1,5}-[0-9]{1,10}"};
  return std::regex_match(name, kName);
}

Result<std::variant<Options, Answer>> parse_options(std::vector<std::string> arguments) {
  Options options;
  if (arguments.size() == 1 && arguments[0].starts_with('@')) {
    options.record = arguments[0].substr(1);
    const Result<DiskRecord> record = read_record(options.record);
    if (!record) return record.error();
    arguments = arguments_of(*record);
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
  options.attach.keep_ms = options.keep_seconds * 1000;
  return std::variant<Options, Answer>{std::move(options)};
}

}  // namespace tapdisk
