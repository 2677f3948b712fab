// SPDX-License-Identifier: Apache-2.0
// decode_page() on any bytes, and the index over a store of such pages: no crash, no endless walk,
// and what is accepted encodes to the same bytes. The input is a list of pages; each entry of a
// page is read as an address, and every address leads to one of the pages again.
#include <coroutine>
#include <cstdlib>
#include <span>
#include <vector>

#include "snapshot/index.h"
#include "tests/support/built_pages.h"

namespace {

using namespace vmstore;            // tidy-allow: using-namespace a test program
using namespace vmstore::snapshot;  // tidy-allow: using-namespace a test program

constexpr std::size_t kExtentsMax = 100;
constexpr std::uint64_t kBlocks = 3 * kPageEntries;

template <class T>
T run_now(Task<T> task) {
  if (task.await_suspend(std::noop_coroutine())) std::abort();
  return task.await_resume();
}

class FuzzPages final : public PageSource {
 public:
  explicit FuzzPages(std::vector<PagePtr> pages) : pages_(std::move(pages)) {}
  Task<Result<PagePtr>> load(Address address) override {
    if (pages_.empty()) co_return Errc::punched;
    co_return pages_[address.raw() / kSectorsPerBlock % pages_.size()];
  }

 private:
  std::vector<PagePtr> pages_;
};

Page decode_checked(ByteSpan block) {
  const auto page = decode_page(block);
  if (!page) return {};
  std::vector<std::byte> again(kBlockBytes);
  encode_page(*page, again);
  if (!std::equal(again.begin(), again.end(), block.begin())) std::abort();
  return *page;
}

/// A page of few entries, each two bytes of input: place and address.
PagePtr sparse_page(ByteSpan part) {
  std::vector<std::byte> block(kBlockBytes);
  Page page;
  for (std::size_t i = 0; i + 2 < part.size(); i += 3) {
    const auto place = std::to_integer<std::size_t>(part[i]) * 2;
    const auto number = std::to_integer<std::uint64_t>(part[i + 1]);
    const auto bits = std::to_integer<std::uint64_t>(part[i + 2]);
    const std::uint64_t key = bits == 255 ? 3 : KeyId::kFirst;
    page.entries[place] = Address::from_raw((key << 31) + number * kSectorsPerBlock + bits / 254);
  }
  encode_page(page, block);
  return std::make_shared<const Page>(decode_checked(block));
}

void walk(PageSource& pages, Address top) {
  const auto extents = run_now(map_range(pages, top, Lbn(0), kBlocks, kExtentsMax));
  std::uint64_t covered = 0;
  if (extents) {
    for (const Extent& extent : *extents) covered += extent.blocks;
    if (covered == 0 || covered > kBlocks || extents->size() > kExtentsMax) std::abort();
  }
  RunMap overlay;
  overlay.put({Lbn(5), kPageEntries, Where::address, (KeyId::kFirst << 31) + 800});
  overlay.put({Lbn(700), kPageEntries, Where::zero, 0});
  const auto built = run_now(build_in_memory(pages, top, overlay, kIndexBlocks, false));
  if (built && built->empty) std::abort();
  ignore(run_now(diff_trees(pages, top, Address(), Lbn(0), kBlocks)), "only must not crash");
  std::unordered_set<Address> seen;
  ignore(run_now(mark_tree(pages, top, seen, {})), "only must not crash");
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size);
extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const auto input = std::as_bytes(std::span(data, size));
  if (size >= kBlockBytes) static_cast<void>(decode_checked(input.first(kBlockBytes)));
  constexpr std::size_t kPartBytes = 24;
  std::vector<PagePtr> list;
  for (std::size_t at = 0; at + kPartBytes <= size && list.size() < 5; at += kPartBytes) {
    list.push_back(sparse_page(input.subspan(at, kPartBytes)));
  }
  FuzzPages pages(std::move(list));
  walk(pages, Address::from_raw(KeyId::kFirst << 31));
  return 0;
}
