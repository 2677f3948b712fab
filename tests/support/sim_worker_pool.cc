// SPDX-License-Identifier: Apache-2.0
#include "tests/support/sim_worker_pool.h"

#include <utility>

namespace vmstore::sim {

void SimWorkerPool::submit(Scheduler& home,
                           std::function<void()> work,
                           std::function<void()> done) {
  ++submitted_;
  Duration delay = world_.random_duration(delay_.least, delay_.most);
  if (delay_.slow_one_in != 0 && world_.random().one_in(delay_.slow_one_in)) delay += delay_.slow;
  auto job = [&home, work = std::move(work), done = std::move(done)]() mutable {
    work();
    home.post(std::move(done));
  };
  home.start_timer(home.now() + delay, std::move(job));
}

}  // namespace vmstore::sim
