// SPDX-License-Identifier: Apache-2.0
// Background: goes on in a child process while the parent waits to hear how its start went. So a
// mount that fails says why on the terminal it was asked for on.
#pragma once

#include <string>
#include <utility>

#include "base/result.h"

namespace vmstore::fuse {

/// THREADS: the first one, before any other starts.
class Background {
 public:
  /// Returns in the child. The parent never returns: it exits with 0 once ready() is called, and
  /// with 1 if the child ends before.
  [[nodiscard]] static Result<Background> enter();
  Background(const Background&) = delete;
  Background& operator=(const Background&) = delete;
  Background(Background&& other) noexcept : to_parent_(std::exchange(other.to_parent_, -1)) {}
  Background& operator=(Background&&) = delete;
  ~Background();

  /// Lets the parent exit and leaves its terminal. Messages go to `log_file`, or nowhere.
  /// `interrupted`: the parent was killed while it waited. REQUIRES: SIGPIPE is ignored.
  [[nodiscard]] Result<void> ready(const std::string& log_file);

 private:
  explicit Background(int to_parent) noexcept : to_parent_(to_parent) {}
  int to_parent_;
};

}  // namespace vmstore::fuse
