// SPDX-License-Identifier: Apache-2.0
#include "cli/write_pool.h"

#include <pthread.h>

#include <csignal>

namespace vmstore::cli {

WritePool::WritePool(disk::BlockingDisk& disk,
                     std::string name,
                     std::size_t threads,
                     std::size_t buffers)
    : disk_(disk), name_(std::move(name)) {
  for (std::size_t i = 0; i < buffers; ++i) {
    buffers_.push_back(std::make_unique<CopyBuffer>(kBufferBytes));
    free_.push_back(buffers_.back().get());
  }
  // Signals belong to the thread that waits for them.
  sigset_t all;
  sigset_t before;
  sigfillset(&all);
  pthread_sigmask(SIG_SETMASK, &all, &before);
  for (std::size_t i = 0; i < threads; ++i) threads_.emplace_back([this] { run(); });
  pthread_sigmask(SIG_SETMASK, &before, nullptr);
}

WritePool::~WritePool() {
  {
    const std::lock_guard lock(mutex_);
    closing_ = true;
    queue_.clear();
  }
  changed_.notify_all();
  for (std::thread& thread : threads_) thread.join();
}

CopyBuffer* WritePool::take() {
  std::unique_lock lock(mutex_);
  changed_.wait(lock, [&] { return !free_.empty() || error_; });
  if (error_) return nullptr;
  CopyBuffer* buffer = free_.back();
  free_.pop_back();
  return buffer;
}

CopyBuffer* WritePool::try_take() {
  const std::lock_guard lock(mutex_);
  if (free_.empty() || error_) return nullptr;
  CopyBuffer* buffer = free_.back();
  free_.pop_back();
  return buffer;
}

void WritePool::submit(CopyBuffer* buffer) {
  {
    const std::lock_guard lock(mutex_);
    queue_.push_back(buffer);
  }
  changed_.notify_all();
}

void WritePool::give_back(CopyBuffer* buffer) {
  {
    const std::lock_guard lock(mutex_);
    free_.push_back(buffer);
  }
  changed_.notify_all();
}

Answer<void> WritePool::finish() {
  std::unique_lock lock(mutex_);
  changed_.wait(lock, [&] { return (queue_.empty() || error_) && writing_ == 0; });
  if (error_) return Failure::from(*error_, name_);
  return {};
}

bool WritePool::has_failed() {
  const std::lock_guard lock(mutex_);
  return error_.has_value();
}

void WritePool::run() {
  std::unique_lock lock(mutex_);
  while (true) {
    changed_.wait(lock, [&] { return closing_ || (!queue_.empty() && !error_); });
    if (closing_) return;
    CopyBuffer* buffer = queue_.front();
    queue_.pop_front();
    ++writing_;
    lock.unlock();
    const ByteSpan bytes = ByteSpan(buffer->storage).first(buffer->used);
    const Result<void> written = disk_.write(buffer->offset, bytes, false);
    lock.lock();
    --writing_;
    if (!written && !error_) error_ = written.error();
    free_.push_back(buffer);
    changed_.notify_all();
  }
}

}  // namespace vmstore::cli
