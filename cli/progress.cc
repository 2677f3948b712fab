// SPDX-License-Identifier: Apache-2.0
#include "cli/progress.h"

#include <array>
#include <cstdio>

#include "base/units.h"
#include "cli/json.h"

namespace vmstore::cli {
namespace {

using std::chrono::milliseconds;

constexpr std::size_t kBarCells = 20;
constexpr milliseconds kBarPause{100};
constexpr milliseconds kPlainPause{2000};

std::uint64_t rate_of(std::uint64_t done, milliseconds elapsed) {
  if (elapsed.count() <= 0) return 0;
  const auto seconds = static_cast<double>(elapsed.count()) / 1000.0;
  return static_cast<std::uint64_t>(static_cast<double>(done) / seconds);
}

}  // namespace

std::string format_duration(std::chrono::seconds duration) {
  const auto count = duration.count();
  std::array<char, 48> text{};
  if (count < 60) {
    std::snprintf(text.data(), text.size(), "%llds", static_cast<long long>(count));
  } else if (count < 3600) {
    std::snprintf(text.data(),
                  text.size(),
                  "%lldm%02llds",
                  static_cast<long long>(count / 60),
                  static_cast<long long>(count % 60));
  } else {
    std::snprintf(text.data(),
                  text.size(),
                  "%lldh%02lldm",
                  static_cast<long long>(count / 3600),
                  static_cast<long long>(count / 60 % 60));
  }
  return text.data();
}

std::string progress_line(std::uint64_t done, std::uint64_t total, milliseconds elapsed) {
  const std::uint64_t rate = rate_of(done, elapsed);
  const std::string speed = format_size(rate) + "/s";
  if (total == 0) return format_size(done) + "  " + speed;
  const double part = done >= total ? 1.0 : static_cast<double>(done) / static_cast<double>(total);
  const auto filled = static_cast<std::size_t>(part * kBarCells);
  std::array<char, 8> percent{};
  std::snprintf(percent.data(), percent.size(), "%3d%%", static_cast<int>(part * 100));
  std::string line = "[" + std::string(filled, '#') + std::string(kBarCells - filled, '-') + "] " +
                     percent.data() + "  " + format_size(done) + "/" + format_size(total) + "  " +
                     speed;
  if (rate > 0 && done < total) {
    line += "  ETA " + format_duration(std::chrono::seconds((total - done) / rate));
  }
  return line;
}

Progress::Progress(ProgressMode mode, bool is_terminal, std::ostream& err, std::string verb)
    : mode_(mode), err_(err), verb_(std::move(verb)) {
  if (mode_ == ProgressMode::automatic) {
    mode_ = is_terminal ? ProgressMode::bar : ProgressMode::none;
  }
}

Progress::~Progress() {
  if (width_ > 0) err_ << "\n" << std::flush;
}

void Progress::begin(std::uint64_t total_bytes, Time now) {
  total_bytes_ = total_bytes;
  start_ = now;
}

void Progress::update(std::uint64_t done_bytes, std::string_view note, Time now) {
  done_bytes_ = done_bytes;
  note_ = note;
  const milliseconds pause = mode_ == ProgressMode::bar ? kBarPause : kPlainPause;
  if (mode_ == ProgressMode::none || (drawn_ && now - *drawn_ < pause)) return;
  // Nothing to tell about work that ends before anybody reads it.
  if (!drawn_ && now - start_ < pause) return;
  draw(now);
}

void Progress::finish(Time now) {
  if (mode_ == ProgressMode::none || !drawn_) return;
  draw(now);
  if (width_ > 0) err_ << "\n" << std::flush;
  width_ = 0;
}

void Progress::draw(Time now) {
  drawn_ = now;
  const auto elapsed = std::chrono::duration_cast<milliseconds>(now - start_);
  if (mode_ == ProgressMode::json) {
    json::object object;
    object["progress"] = verb_;
    object["done_bytes"] = done_bytes_;
    object["total_bytes"] = total_bytes_;
    object["elapsed_ms"] = static_cast<std::uint64_t>(elapsed.count());
    object["bytes_per_second"] = rate_of(done_bytes_, elapsed);
    err_ << json::serialize(object) << "\n" << std::flush;
    return;
  }
  std::string line = verb_ + "  " + progress_line(done_bytes_, total_bytes_, elapsed);
  if (!note_.empty()) line += "   " + note_;
  if (mode_ == ProgressMode::plain) {
    err_ << line << "\n" << std::flush;
    return;
  }
  const std::size_t width = line.size();
  if (width < width_) line += std::string(width_ - width, ' ');
  width_ = width;
  err_ << "\r" << line << std::flush;
}

}  // namespace vmstore::cli
