// SPDX-License-Identifier: Apache-2.0
#include "net/etcd_calls.h"

#include <algorithm>
#include <utility>

#include "base/assert.h"
#include "base/log.h"
#include "net/etcd_text.h"
#include "net/socket_address.h"

namespace vmstore::net {
namespace {

constexpr std::size_t kIdleMax = 8;
constexpr std::size_t kMembersMax = 16;
constexpr unsigned kStatusOk = 200;
constexpr std::string_view kScheme = "http://";
constexpr std::string_view kTlsScheme = "https://";

Result<Endpoint> parse_url(std::string_view url) {
  if (url.starts_with(kTlsScheme)) return Errc::unsupported;
  if (!url.starts_with(kScheme)) return Errc::invalid_argument;
  url.remove_prefix(kScheme.size());
  if (url.ends_with('/')) url.remove_suffix(1);
  const Endpoint endpoint{std::string(url)};
  VMS_TRY(const SocketAddress address, parse_endpoint(endpoint));
  if (address.is_unix()) return Errc::invalid_argument;
  return endpoint;
}

/// What is known after a request went out and no good answer came.
Error lost_answer(const Error& error, EtcdCalls::Kind kind) {
  if (error == Errc::timed_out || error == Errc::disconnected) return error;
  if (kind == EtcdCalls::Kind::change) return Errc::unknown;
  return error == Errc::no_space ? error : Errc::disconnected;  // no_space: it is too large
}

}  // namespace

Result<std::vector<Endpoint>> parse_etcd_urls(std::string_view text) {
  std::vector<Endpoint> endpoints;
  while (true) {
    const auto comma = text.find(',');
    VMS_TRY(auto endpoint, parse_url(text.substr(0, comma)));
    endpoints.push_back(std::move(endpoint));
    if (endpoints.size() > kMembersMax) return Errc::invalid_argument;
    if (comma == std::string_view::npos) return endpoints;
    text.remove_prefix(comma + 1);
  }
}

EtcdCalls::EtcdCalls(IoThread& io, EtcdOptions options) : io_(io), options_(std::move(options)) {
  VMS_ASSERT(!options_.endpoints.empty());
}

void EtcdCalls::prefer_another() noexcept {
  preferred_ = (preferred_ + 1) % options_.endpoints.size();
}

void EtcdCalls::avoid(std::size_t member) noexcept {
  if (preferred_ == member) prefer_another();
}

void EtcdCalls::close() noexcept {
  closed_ = true;
  idle_.clear();
}

void EtcdCalls::keep(Member member) {
  if (closed_ || !member.connection->is_usable() || idle_.size() >= kIdleMax) return;
  idle_.push_back(std::move(member));
}

/// Says once that etcd does not answer, and once that it does again.
void EtcdCalls::note(bool answered, const Error& error) {
  if (std::exchange(answers_, answered) == answered || closed_) return;
  if (answered) {
    VMS_LOG(info, "etcd", "etcd answers again");
  } else {
    VMS_LOG(warning, "etcd", "etcd does not answer: " << error);
  }
}

/// To the preferred member, or to the next one that takes a connection: kept from an earlier call
/// unless `fresh`. Every member is tried once. `unavailable`: none of them.
Task<Result<EtcdCalls::Member>> EtcdCalls::connect(bool fresh, TimePoint deadline) {
  Error error = Errc::unavailable;
  for (std::size_t tries = 0; tries < options_.endpoints.size(); ++tries) {
    if (closed_) co_return Errc::closing;
    Member member;
    member.number = preferred_;
    while (!fresh && !idle_.empty()) {
      Member kept = std::move(idle_.back());
      idle_.pop_back();
      if (kept.number == preferred_ && kept.connection->is_usable()) co_return std::move(kept);
    }
    const TimePoint until = std::min(deadline, io_.now() + options_.connect_time);
    Endpoint where = options_.endpoints[member.number];
    auto made = co_await HttpConnection::connect(io_, std::move(where), until);
    if (made) {
      member.connection = std::move(*made);
      co_return std::move(member);
    }
    error = made.error();
    avoid(member.number);
    if (io_.now() >= deadline) break;
  }
  if (error != Errc::unsupported) error.code = Errc::unavailable;
  co_return error;
}

Task<Result<std::string>> EtcdCalls::post_once(std::string target,
                                               std::string body,
                                               Kind kind,
                                               TimePoint deadline) {
  VMS_CO_TRY(Member member, co_await connect(false, deadline));
  const TimePoint until =
      kind == Kind::read ? std::min(deadline, io_.now() + options_.read_time) : deadline;
  auto answer = co_await member.connection->post(std::move(target), std::move(body), until);
  if (!answer) {
    avoid(member.number);
    co_return lost_answer(answer.error(), kind);
  }
  const std::size_t number = member.number;
  keep(std::move(member));
  if (answer->status == kStatusOk) co_return std::move(answer->body);
  const auto refusal = etcd::parse_refusal(answer->body, kind == Kind::change);
  if (refusal.error != Errc::compacted) {
    VMS_LOG(warning, "etcd", "status " << answer->status << ": " << refusal.text);
  }
  if (refusal.elsewhere) avoid(number);
  co_return refusal.error;
}

Task<Result<std::string>> EtcdCalls::post(std::string target, std::string body, Kind kind) {
  const TimePoint deadline = io_.now() + options_.call_time;
  const std::size_t tries_most = kind == Kind::change ? 1 : options_.endpoints.size() + 1;
  Error error = Errc::timed_out;
  for (std::size_t tries = 0; tries < tries_most; ++tries) {
    auto answer = co_await post_once(target, body, kind, deadline);
    if (answer) {
      note(true, error);
      co_return answer;
    }
    error = answer.error();
    const bool silent =
        error == Errc::timed_out || error == Errc::disconnected || error == Errc::unavailable;
    note(!silent, error);
    if (!silent || io_.now() >= deadline) break;
  }
  co_return error;
}

Task<Result<std::unique_ptr<HttpConnection>>> EtcdCalls::begin(std::string target,
                                                               std::string body) {
  const TimePoint deadline = io_.now() + options_.read_time;
  VMS_CO_TRY(Member member, co_await connect(true, deadline));
  const auto begun =
      co_await member.connection->begin(std::move(target), std::move(body), deadline);
  if (!begun) {
    avoid(member.number);
    co_return begun.error();
  }
  co_return std::move(member.connection);
}

}  // namespace vmstore::net
