// SPDX-License-Identifier: Apache-2.0
// ThreadPool: the production WorkerPool, a fixed number of threads over one queue.
#pragma once

#include <condition_variable>
#include <cstddef>
#include <deque>
#include <functional>
#include <mutex>
#include <thread>
#include <vector>

#include "base/worker_pool.h"

namespace vmstore {

/// THREADS: submit() from any thread. Destroy it before the schedulers it answers to.
class ThreadPool final : public WorkerPool {
 public:
  explicit ThreadPool(std::size_t thread_count);
  ~ThreadPool() override;
  void submit(Scheduler& home, std::function<void()> work, std::function<void()> done) override;

 private:
  struct Job {
    Scheduler* home;
    std::function<void()> work;
    std::function<void()> done;
  };
  void run();
  std::mutex mutex_;
  std::condition_variable wakeup_;
  std::deque<Job> jobs_;
  bool stopping_ = false;
  std::vector<std::thread> threads_;
};

}  // namespace vmstore
