// SPDX-License-Identifier: Apache-2.0
#include "storaged/key.h"

#include <utility>

namespace vmstore::storaged {

Op::Op(Scheduler& scheduler, std::shared_ptr<Key> changed_key, EntryKind kind)
    : key(std::move(changed_key)), done(scheduler) {
  fields.kind = kind;
  fields.key = key->id();
}

void OpQueue::push(Op& op) noexcept {
  op.next = nullptr;
  (last_ != nullptr ? last_->next : first_) = &op;
  last_ = &op;
}

Op* OpQueue::pop() noexcept {
  Op* const op = first_;
  first_ = op->next;
  if (first_ == nullptr) last_ = nullptr;
  op->next = nullptr;
  return op;
}

std::vector<Op*> OpQueue::cut_from(const Op& from) {
  std::vector<Op*> cut;
  OpQueue kept;
  bool reached = false;
  while (!empty()) {
    Op* const op = pop();
    reached = reached || op == &from;
    if (op == &from || (reached && op->is_append())) {
      cut.push_back(op);
    } else {
      kept.push(*op);
    }
  }
  *this = kept;
  return cut;
}

std::vector<Op*> OpQueue::cut_all() {
  std::vector<Op*> cut;
  while (!empty()) cut.push_back(pop());
  return cut;
}

Key::Key(Scheduler& scheduler, const LogHead& head)
    : state(head),
      token(head.token),
      accepted(head.length),
      changed(scheduler),
      control(scheduler) {}

}  // namespace vmstore::storaged
