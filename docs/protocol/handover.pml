/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Who serves a disk, and what the others read (design 6: C3, R7, R17): two sessions of one disk, a
 * guest that migrates from the first to the second, clients that read on both sides all the time,
 * a node that restarts and forgets its leases, a source that is killed. README.md says what each
 * step is in the code, which test guards it, and what each -D takes out.
 *
 * The disk is one block, its content a number that each write of the guest raises. The log, its
 * fence and its recovery are one variable each: ownership.pml shows that they may be.
 * Time is not here: a lease runs out when the design says that it may, that is when its holder is
 * dead; the term after a start of the node is over when each living holder has had the time to
 * register again.
 */
#ifndef VERSIONS
#define VERSIONS 2
#endif
#ifndef EPOCHS
#define EPOCHS 4
#endif
#define NOBODY 2
#define OTHER(i) (1 - (i))

mtype = { idle, taking, owner, failed, dead };

/* The disk's record (meta/records.proto). */
byte epoch;
bool released = true;
byte writer;     /* epoch of the session that wrote last */
byte revision;   /* rises with every change: what a compare-and-set compares */

/* The log: its newest version, and the highest token it was fenced with. */
byte log;
byte fenced;

/* The node (storaged/leases.h): who is registered, and whether it waits for holders that may be on
   their way back after its start. */
byte lease = NOBODY;
byte lease_epoch;
bool grace;

/* Sessions (AsyncDisk): 0 is where the guest begins, 1 its destination. */
mtype mode[2] = idle;
byte token[2];
byte shown[2];      /* what overlay, pages and cache show */
bool writable[2];
byte wrote[2];      /* my_writer_epoch_ */
bool locked[2];     /* token_mutex_ */
bool leased[2];     /* HolderLease: may answer out of what it has */
#ifdef KEEP_MAPPING
bool has_read[2];
#endif

byte acknowledged;  /* newest version that the guest was told is written */
byte flushed;       /* ... that it was told is flushed */
bool killed;        /* the source was; what it had not flushed is gone with its host */

/* The promises. Each is set and asserted in one step, so that a violation names it. */
byte C3_a_read_is_never_older = 1;
byte I1_flushed_is_in_the_log = 1;
byte R17_a_living_holder_is_not_passed_over = 1;

#ifdef READ_WITHOUT_LEASE
#define ANSWERS(j) true
#else
#define ANSWERS(j) leased[j]
#endif

inline check(version) {
  C3_a_read_is_never_older =
    ((version) >= need || (killed && !was_killed && (version) >= flushed));
  assert(C3_a_read_is_never_older)
}

/* The log takes what a session has not yet appended; a fenced one takes nothing. */
inline commit(j) {
  if
  :: mode[j] == owner && fenced <= token[j] -> log = shown[j]
  :: mode[j] == owner && fenced > token[j] -> mode[j] = failed; writable[j] = false  /* never */
  :: else
  fi
}

/* AsyncDisk::settle_fenced: it hears that a newer token was taken. */
inline hear_of_fence(j) {
  mode[j] = (wrote[j] == token[j] && writable[j] -> failed : idle);
  leased[j] = false;
  writable[j] = false
}

/* A client of side i: reads; the guest writes and flushes as well, and moves to side 1 once. */
proctype client(byte i; bool is_guest) {
  byte need;
  bool was_killed;
  bool writing;
  byte seen, seen_epoch;
  bool seen_released;

next:
  do
  :: atomic { need = acknowledged; was_killed = killed; break }  /* a read begins */
  :: atomic { is_guest && acknowledged < VERSIONS -> writing = true; break }
  /* AsyncDisk::flush */
  :: atomic { is_guest && mode[i] == owner && writable[i] ->
      commit(i);
      if
      :: mode[i] == owner -> flushed = acknowledged
      :: else
      fi }
  :: atomic { is_guest && i == 0 -> i = 1 }  /* it migrated: no request is open */
  od;

request:
  if
  :: atomic { mode[i] == dead && is_guest ->  /* it starts anew on the other host */
      i = 1; writing = false; need = 0; goto next }
  :: atomic { (mode[i] == dead && !is_guest) || mode[i] == failed -> goto stopped }
  /* AsyncDisk::read, try_read: the owner answers from what it has. */
  :: atomic { mode[i] == owner && !writing && ANSWERS(i) ->
      check(shown[i]);
      need = 0; was_killed = false;
      goto next }
  /* AsyncDisk::write_chunk, below the mapping's lock */
  :: atomic { mode[i] == owner && writing && writable[i] ->
      shown[i]++;
      acknowledged = shown[i];
      writing = false;
      goto next }
  /* AsyncDisk::start_writing_locked, Log::adopt_open_key */
  :: atomic { mode[i] == owner && writing && !writable[i] && !locked[i] -> locked[i] = true };
    goto become_writer
#ifdef READ_WITHOUT_HOLDER
  :: atomic { mode[i] == idle && !writing -> check(log); need = 0; was_killed = false; goto next }
#else
  /* AsyncDisk::read_through_holder, storaged/service_disk.cc: call(), AsyncDisk::serve */
  :: atomic { mode[i] == idle && !writing && lease == OTHER(i) && mode[OTHER(i)] == owner &&
      ANSWERS(OTHER(i)) ->
      check(shown[OTHER(i)]);
      need = 0; was_killed = false;
      goto next }
#endif
  /* ... who answers not_owner is no holder any more (call()) */
  :: atomic { mode[i] == idle && lease != NOBODY && mode[lease] == idle -> lease = NOBODY };
    goto request
  /* AsyncDisk::acquire_locked */
  :: atomic { mode[i] == idle && !locked[i] && (lease == NOBODY || lease_epoch < epoch) ->
      locked[i] = true };
    goto acquire
  /* AsyncDisk::ask_for_hand_over: the other one serves it (hand_over). */
  :: atomic { mode[i] == idle && writing && lease == OTHER(i) && mode[OTHER(i)] == owner &&
      !locked[OTHER(i)] -> locked[OTHER(i)] = true };
    goto hand_over
  fi;

acquire:
  /* Catalogue::disk_by_id */
  atomic { seen = revision; seen_epoch = epoch; seen_released = released };
  /* NodeClient::holder */
  atomic {
    if
    :: lease != NOBODY && lease_epoch >= seen_epoch -> goto let_go
    :: lease == NOBODY && grace && !released -> goto let_go  /* unregistered() */
    :: else ->
      R17_a_living_holder_is_not_passed_over =
        (released || mode[OTHER(i)] != owner || token[OTHER(i)] != epoch || lease == OTHER(i));
      assert(R17_a_living_holder_is_not_passed_over)
    fi;
    if
    /* somebody else wrote after we did: what our guest believes is no longer true */
    :: wrote[i] != 0 && writer != wrote[i] -> mode[i] = failed; goto let_go
    :: else
    fi
  };
  /* OwnedRecord::take_token */
  atomic {
    if
    :: mode[i] == idle && revision == seen && epoch < EPOCHS ->
      epoch++;
      revision++;
      released = false;
      token[i] = epoch;
      mode[i] = taking
    :: else -> goto let_go
    fi
  };
#ifndef PASS_OVER_HOLDERS
  /* AsyncDisk::outlast_older_holders: who registered meanwhile proves its lease out of the record
     before it answers again. A dead one's lease runs out; after a start of the node whoever may be
     on its way back is waited for. */
  if
  :: seen_released || mode[i] != taking  /* nobody was left who answers for the disk */
  :: atomic { !seen_released && mode[i] == taking && lease == OTHER(i) &&
      lease_epoch < token[i] && mode[OTHER(i)] != dead -> leased[OTHER(i)] = false }
  :: !seen_released && mode[i] == taking && lease != NOBODY && lease_epoch >= token[i]
  :: !seen_released && mode[i] == taking && lease == i
  :: !seen_released && mode[i] == taking && lease == NOBODY && !grace
  fi;
#endif
  /* Session::hold; storaged/service_disk.cc: hold() */
  atomic {
    if
    :: mode[i] == taking && epoch == token[i] -> lease = i; lease_epoch = token[i]; leased[i] = true
    :: else -> mode[i] = (mode[i] == taking -> idle : mode[i]); goto let_go
    fi
  };
  /* AsyncDisk::recover, adopt_state */
  atomic {
    if
    :: mode[i] == taking && !seen_released && epoch == token[i] ->
      fenced = (fenced > token[i] -> fenced : token[i]);
      revision++
    :: mode[i] == taking && !seen_released && epoch != token[i] -> mode[i] = idle
    :: else  /* released in order: there is nothing to fence */
    fi;
    if
    :: mode[i] == taking ->
      I1_flushed_is_in_the_log = (log >= flushed);
      assert(I1_flushed_is_in_the_log);
#ifdef KEEP_MAPPING
      shown[i] = (has_read[i] -> shown[i] : log);
      has_read[i] = true;
#else
      shown[i] = log;
#endif
      mode[i] = owner
    :: else
    fi
  };
let_go:
  atomic { locked[i] = false; seen = 0; seen_epoch = 0; seen_released = false };
  goto request;

become_writer:
  /* The fence of the key, and the change of the record that makes it the writer. */
  atomic {
    if
    :: mode[i] == owner && fenced <= token[i] -> fenced = token[i]
    :: mode[i] == owner && fenced > token[i] -> mode[i] = idle  /* lose_token */
    :: else
    fi
  };
  atomic {
    if
    :: mode[i] == owner && epoch == token[i] ->
      writer = token[i]; wrote[i] = token[i]; revision++; writable[i] = true
    :: mode[i] == owner && epoch != token[i] -> mode[i] = idle
    :: else
    fi
  };
  locked[i] = false;
  goto request;

hand_over:
  /* AsyncDisk::release_locked, at the holder; what it acknowledged is committed first. */
  atomic {
    writable[OTHER(i)] = false;
#ifndef RELEASE_BEFORE_COMMIT
    commit(OTHER(i))
#endif
  };
  atomic {
    if
    :: mode[OTHER(i)] == owner && epoch == token[OTHER(i)] -> released = true; revision++
    :: mode[OTHER(i)] == owner && epoch != token[OTHER(i)] -> mode[OTHER(i)] = failed
    :: else
    fi
  };
  /* AsyncDisk::end_ownership: Session::release, whose word may be lost ... */
  atomic {
    leased[OTHER(i)] = false;  /* Session::forget_disk, before the node hears of it */
    if
    :: lease == OTHER(i) && lease_epoch == token[OTHER(i)] && mode[OTHER(i)] != failed ->
      lease = NOBODY
    :: true
    fi
  };
  /* ... and only then it knows itself that it is no owner any more. */
  atomic {
#ifdef RELEASE_BEFORE_COMMIT
    commit(OTHER(i));
#endif
    mode[OTHER(i)] = (mode[OTHER(i)] == owner -> idle : mode[OTHER(i)]);
    leased[OTHER(i)] = false;
    locked[OTHER(i)] = false
  };
  goto request;

stopped:
  skip
}

/* What goes on by itself: batches that close after a second, renewals, the node's restart, the
   end of its grace, leases of the dead that run out. */
#define HOLDS(j) ((mode[j] == owner || mode[j] == taking) && token[j] == epoch)
proctype others() {
  bool restarted;
end:
  do
  /* AsyncDisk::background */
  :: atomic { mode[0] == owner && writable[0] && log != shown[0] -> commit(0) }
  :: atomic { mode[1] == owner && writable[1] && log != shown[1] -> commit(1) }
  /* Session::keep_leases */
  :: atomic { mode[0] == owner && (lease != 0 || !leased[0]) && !locked[0] ->
      if
      :: epoch == token[0] && (lease == NOBODY || lease_epoch <= token[0]) ->
        lease = 0; lease_epoch = token[0]; leased[0] = true
      :: epoch != token[0] -> hear_of_fence(0)
      fi }
  :: atomic { mode[1] == owner && (lease != 1 || !leased[1]) && !locked[1] ->
      if
      :: epoch == token[1] && (lease == NOBODY || lease_epoch <= token[1]) ->
        lease = 1; lease_epoch = token[1]; leased[1] = true
      :: epoch != token[1] -> hear_of_fence(1)
      fi }
  /* Node: a start forgets the leases, and begins the grace (Leases::grace_left) [R17]. */
  :: atomic { !restarted -> restarted = true; lease = NOBODY;
#ifndef NO_GRACE
      grace = true
#endif
    }
  :: atomic { grace && (!HOLDS(0) || lease == 0) && (!HOLDS(1) || lease == 1) &&
      (!leased[0] || lease == 0 || mode[0] == dead) &&
      (!leased[1] || lease == 1 || mode[1] == dead) -> grace = false }
  /* HolderLease::runs: without a renewal it ends, before the node's term does. */
  :: atomic { leased[0] && lease != 0 -> leased[0] = false }
  :: atomic { leased[1] && lease != 1 -> leased[1] = false }
  /* kill -9 of the source: Leases::end_session, at once or by Leases::expire. */
  :: atomic { !killed && mode[0] != dead ->
      killed = true;
      acknowledged = (mode[0] == owner && token[0] == epoch -> flushed : acknowledged);
      mode[0] = dead;
      writable[0] = false }
  :: atomic { lease == 0 && mode[0] == dead -> lease = NOBODY }
  od
}

init {
  atomic {
    run client(0, true);
    run client(0, false);
    run client(1, false);
    run others()
  }
}
