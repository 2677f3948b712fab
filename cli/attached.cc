// SPDX-License-Identifier: Apache-2.0
#include "cli/attached.h"

#include <chrono>

#include "cli/control.h"
#include "cli/json.h"

namespace vmstore::cli {

Answer<void> refuse_attached(Context& context, const std::string& reference) {
  if (!supervisor_is_there(context.run_folder())) return {};
  ControlRequest request;
  const Answer<json::object> answer =
      call_supervisor(context.run_folder(), request, context.timeout_or(std::chrono::seconds(10)));
  if (!answer) return answer.error();
  const json::value* exports = answer->if_contains("exports");
  if (exports == nullptr || !exports->is_array()) return {};
  for (const json::value& entry : exports->get_array()) {
    if (!entry.is_object()) continue;
    const std::string attached = json_text(entry.get_object(), "name").value_or("");
    if (attached == reference || attached.starts_with(reference + "@")) {
      const std::string what = attached == reference ? "is attached" : attached + " is attached";
      return Failure::make(ExitCode::busy, reference, what, "vmstore detach " + attached);
    }
  }
  return {};
}

}  // namespace vmstore::cli
