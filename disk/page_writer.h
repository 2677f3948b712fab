// SPDX-License-Identifier: Apache-2.0
// PageWriter: puts the pages of a checkpoint into the log while they are being built.
//
// Why it is safe to name a page before its address is known: addresses are given when a record is
// placed, records are placed in order, and a page comes after its children. A parent is filled in
// when its own record is placed. A roll places again what is not committed, all of it and in order:
// so a parent is filled in again whenever one of its children went to another place.
// Invariant: memory follows `kPagesAhead`, never the number of pages of the checkpoint.
#pragma once

#include <deque>
#include <functional>
#include <memory>
#include <vector>

#include "disk/log.h"
#include "snapshot/index.h"

namespace vmstore::disk {

/// THREADS: the scheduler's. The records it made may outlive it.
class PageWriter final : public snapshot::PageSink {
 public:
  /// Gives a record its sequence and puts it into the log.
  using Enqueue = std::function<Sequence(LogItem)>;

  /// `charged_pages`: credit that writes took for pages, given back as far as it is needed here.
  /// `log` must outlive the writer.
  PageWriter(Log& log, Enqueue enqueue, std::int64_t charged_pages = 0);
  PageWriter(const PageWriter&) = delete;
  PageWriter& operator=(const PageWriter&) = delete;
  /// Gives back the rest of `charged_pages`.
  ~PageWriter() override;

  [[nodiscard]] Task<Result<void>> add(snapshot::NewPage page) override;
  /// Appends what is left and waits until every page is committed; the last page's address.
  /// REQUIRES: a page was added.
  [[nodiscard]] Task<Result<Address>> finish();

 private:
  struct Placed;
  struct Record;
  [[nodiscard]] Sequence append_record();
  void give_back_credit() noexcept;

  Log& log_;
  Enqueue enqueue_;
  std::int64_t charged_pages_;
  std::shared_ptr<Placed> placed_;
  std::shared_ptr<Record> open_;    // being filled
  std::deque<Sequence> under_way_;  // records that are not known to be committed
};

}  // namespace vmstore::disk
