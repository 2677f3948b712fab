// SPDX-License-Identifier: Apache-2.0
#include "disk/page_writer.h"

#include <algorithm>
#include <utility>

#include "base/checksum.h"
#include "base/fault.h"
#include "base/limits.h"

namespace vmstore::disk {
namespace {

constexpr std::size_t kPagesPerRecord = limits::kRecordBlocksMax;
// As many as the log sends at once (4 MiB): fewer would leave it idle, more would only wait there.
constexpr std::size_t kRecordsAhead = 8;

}  // namespace

/// Where the pages are, by number.
struct PageWriter::Placed {
  std::vector<Address> addresses;
};

/// The pages of one record. Leaves are encoded at once; the others when their children are placed.
struct PageWriter::Record {
  struct Parent {
    std::size_t place = 0;  // in the record
    snapshot::NewPage page;
  };
  std::size_t first = 0;  // number of the first page
  std::vector<wire::PageLabel> labels;
  std::vector<std::uint64_t> sums;
  wire::Payload blocks = wire::Payload::allocate(kPagesPerRecord * kBlockBytes);
  std::vector<Parent> parents;

  void encode(std::size_t place, const snapshot::Page& page) {
    const MutableBytes block = blocks.writable().subspan(place * kBlockBytes, kBlockBytes);
    snapshot::encode_page(page, block);
    sums[place] = block_sum(block);
  }
  /// Called at each placement: fills in the addresses of children.
  void place_at(const Placement& place, Placed& placed, LogItem& item) {
    auto parent = parents.begin();
    for (std::size_t i = 0; i < labels.size(); ++i) {
      placed.addresses[first + i] = place.block(i);
      if (parent == parents.end() || parent->place != i) continue;
      for (const auto& child : parent->page.children) {
        parent->page.page.entries[child.entry] = placed.addresses[child.index];
      }
      encode(i, parent->page.page);
      ++parent;
    }
    item.header.block_sums = sums;
  }
};

PageWriter::PageWriter(Log& log, Enqueue enqueue, std::int64_t charged_pages)
    : log_(log),
      enqueue_(std::move(enqueue)),
      charged_pages_(charged_pages),
      placed_(std::make_shared<Placed>()) {}

PageWriter::~PageWriter() {
  give_back_credit();
}

void PageWriter::give_back_credit() noexcept {
  if (charged_pages_ != 0) log_.give_credit(std::exchange(charged_pages_, 0));
}

Task<Result<void>> PageWriter::add(snapshot::NewPage page) {
  if (open_ == nullptr) {
    open_ = std::make_shared<Record>();
    open_->first = placed_->addresses.size();
  }
  placed_->addresses.emplace_back();
  wire::PageLabel label;
  label.level = page.level;
  label.first_lbn = page.first_lbn;
  const std::size_t place = open_->labels.size();
  open_->labels.push_back(label);
  open_->sums.push_back(0);
  if (page.children.empty()) {
    open_->encode(place, page.page);
  } else {
    Record::Parent parent;
    parent.place = place;
    parent.page = std::move(page);
    open_->parents.push_back(std::move(parent));
  }
  if (open_->labels.size() < kPagesPerRecord) co_return success();
  under_way_.push_back(append_record());
  if (under_way_.size() < kRecordsAhead) co_return success();
  const Sequence oldest = under_way_.front();
  under_way_.pop_front();
  co_return co_await log_.wait_committed(oldest);
}

Sequence PageWriter::append_record() {
  const auto record = std::exchange(open_, nullptr);
  const auto count = static_cast<std::int64_t>(record->labels.size());
  log_.force_credit(count);
  const std::int64_t back = std::min(count, charged_pages_);
  charged_pages_ -= back;
  log_.give_credit(back);
  LogItem item;
  item.header.kind = wire::RecordKind::pages;
  item.header.pages = record->labels;
  const ByteSpan bytes = record->blocks.bytes().first(record->labels.size() * kBlockBytes);
  item.blocks = wire::Payload(std::vector<ByteSpan>(1, bytes), record);
  item.on_place = [record, placed = placed_](const Placement& place, LogItem& placed_item) {
    record->place_at(place, *placed, placed_item);
  };
  const Sequence sequence = enqueue_(std::move(item));
  VMS_FAULT("disk.pages_queued");
  return sequence;
}

Task<Result<Address>> PageWriter::finish() {
  Sequence last;
  if (open_ != nullptr) {
    last = append_record();
  } else {
    last = under_way_.back();
  }
  give_back_credit();
  VMS_CO_CHECK(co_await log_.wait_committed(last));
  co_return placed_->addresses.back();
}

}  // namespace vmstore::disk
