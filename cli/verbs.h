// SPDX-License-Identifier: Apache-2.0
// One function per verb file: adds its verbs to the book.
#pragma once

#include "cli/app.h"

namespace vmstore::cli {

void add_up_verbs(VerbBook& book);          // up, down
void add_disk_verbs(VerbBook& book);        // create, ls, info, mv, resize, rm
void add_trash_verbs(VerbBook& book);       // trash ls, restore, purge
void add_snapshot_verbs(VerbBook& book);    // snapshot, snap create, ls, rm, rollback
void add_clone_verbs(VerbBook& book);       // clone
void add_import_verbs(VerbBook& book);      // import
void add_export_verbs(VerbBook& book);      // export
void add_attach_verbs(VerbBook& book);      // attach, detach
void add_nbd_verbs(VerbBook& book);         // nbd uri, snippet, ls
void add_node_verbs(VerbBook& book);        // node ls
void add_space_verbs(VerbBook& book);       // df, du, gc
void add_verify_verbs(VerbBook& book);      // verify
void add_owner_verbs(VerbBook& book);       // owner ls, break, discard
void add_meta_verbs(VerbBook& book);        // meta backup, restore, rebuild
void add_cert_verbs(VerbBook& book);        // cert init, issue
void add_exec_verbs(VerbBook& book);        // mount, umount
void add_bench_verbs(VerbBook& book);       // bench boot-storm
void add_explaining_verbs(VerbBook& book);  // flatten, sparsify, protect, unprotect
void add_completion_verbs(VerbBook& book);  // completion bash

/// All of them.
void add_all_verbs(VerbBook& book);

}  // namespace vmstore::cli
