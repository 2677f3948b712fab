// SPDX-License-Identifier: Apache-2.0
// The answers of an etcd, on any bytes: no crash, and what is taken out of them keeps the order
// that a catalogue needs.
#include <cstdlib>
#include <span>

#include "base/bytes.h"
#include "net/etcd_catalogue.h"

namespace {

using namespace vmstore;             // tidy-allow: using-namespace a test program
using namespace vmstore::net::etcd;  // tidy-allow: using-namespace a test program

void require(bool condition) {
  if (!condition) std::abort();
}

/// The lines of `input` as what a watch says.
void follow(std::string_view input) {
  ChangeReader reader(Numbers(1000, 5), "/", 5);
  std::uint64_t told = 0;
  while (!input.empty()) {
    const auto line = input.substr(0, input.find('\n'));
    input.remove_prefix(std::min(input.size(), line.size() + 1));
    const auto reply = parse_watch_reply(line);
    if (!reply) continue;
    const auto events = reader.take(*reply);
    if (!events) {
      reader.skip_to(0);
      continue;
    }
    for (const auto& event : *events) {
      require(event.entry.mod_revision >= told);
      require(event.entry.key.starts_with('/'));
      told = event.entry.mod_revision + (event.last ? 1 : 0);
    }
  }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size);
extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const auto text = as_text(std::as_bytes(std::span(data, size)));
  static_cast<void>(parse_txn_reply(text));
  require(parse_refusal(text, true).error != Errc::ok);
  const auto bytes = decode_base64(text);
  if (bytes) require(decode_base64(encode_base64(*bytes)).value() == *bytes);
  require(decode_base64(encode_base64(text)).value() == text);
  const auto head = decode_head(text);
  if (head) require(encode_head(*head) == text);
  const auto removed = decode_removed(text);
  if (removed) require(encode_removed(*removed) == text);
  follow(text);
  return 0;
}
