// SPDX-License-Identifier: Apache-2.0
// The catalogue through a node: the suite of every backend.
#include "net/meta_remote.h"
#include "tests/conformance/meta_store_suite.h"
#include "tests/unit/net/client_world.h"

namespace vmstore::meta {
namespace {

class RemoteBackend final : public SimMetaBackend {
 public:
  RemoteBackend() { world_.connect(); }
  sim::VirtualScheduler& process() override { return *world_.client_process; }
  MetaStore& store() override { return world_.client->meta(); }
  void compact(std::uint64_t revision) override { world_.catalogue->compact(revision); }
  void restart() override {
    world_.stop();
    crash();
  }
  void crash() override {
    world_.kill_client();
    world_.kill_node();
    world_.connect();
  }

 private:
  net::test::ClientWorld world_;
};

std::unique_ptr<MetaBackend> make_remote() {
  return std::make_unique<RemoteBackend>();
}

INSTANTIATE_TEST_SUITE_P(Remote,
                         MetaStoreSuite,
                         ::testing::Values(MetaBackendMaker{"remote", make_remote}),
                         [](const auto& made) { return made.param.name; });

}  // namespace
}  // namespace vmstore::meta
