/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Who may append to a disk's log, and what a later owner believes (design 4.5-4.7 and 6): the
 * token, create, append, roll, fence, seal, release, adopt, with R replicas that can be wiped, put
 * back from an older copy, or lose their tail. README.md says what each step is in the code, which
 * test guards it, and what each -D takes out.
 *
 * What is not here, because it adds nothing that could be seen:
 *  - an owner's death: a session that takes no further step is dead, and every session may stop
 *    anywhere, because spin lets the others go on;
 *  - lost, late and repeated messages: what a session sent (`sent`) is taken by a replica at any
 *    later time or never (`link`), answers are looked at at any later time or never, and a request
 *    that got no answer is the branch "no answer" or one that a dead session left;
 *  - a replica's crash: what it answered is on stable storage (journal.pml shows why), so a crash
 *    changes nothing;
 *  - a race for the token: a compare-and-set that fails changes nothing, so the sessions are
 *    numbered in the order in which they win, and the epoch of a session is its number.
 */
#ifndef SESSIONS
#define SESSIONS 3
#endif
#ifndef SEQUENCES
#define SEQUENCES 2
#endif
#ifndef KEYS
#define KEYS 3
#endif
#define NODES 2
#define NONE 15
#if !defined(SEAL_SHORTEST) && !defined(SEAL_LONGEST)
#define COMPLETES  /* Copies::settle_fenced */
#endif

#define AT(n, k) ((n) * (KEYS + 1) + (k))       /* replica of key k on node n */
#define OF(s, x, count) ((s) * (count) + (x))

/* Of one key on one node: LogHead (storaged/key_files.h). */
typedef Replica {
  byte length = NONE;  /* last sequence; NONE: the node does not know the key */
  byte token;
  bool sealed;
  bool strange;        /* not of the incarnation that the disk's record names */
  byte record[SEQUENCES + 1];  /* by sequence: the session that wrote it */
#ifdef FAULT_TAIL
  byte committed;
#endif
#ifdef NO_FENCE_SYNC
  byte synced_token;
#endif
};
Replica replica[NODES * (KEYS + 1)];
bool end_sealed;  /* of choose_end() */
byte fault_node = NONE;  /* the node that lost something; one in all, R - 1 of a key's replicas */

/* The disk's record (meta/records.proto). Each change is one compare-and-set. */
byte epoch;
bool released;
byte open_key;
byte log_end;               /* last sequence at the newest seal or release */
byte end_of[KEYS + 1] = NONE;  /* the chain of sealed keys, with their lengths */
byte next_key = 1;          /* node_.draw_keys: a number is never used twice */
/* A key's header record: the predecessor's end, and the token it was made with. */
byte base[KEYS + 1];
byte maker[KEYS + 1];

/* Sessions, numbered from 1. */
byte key_of[SESSIONS + 1];     /* the key it appends to */
byte committed[SESSIONS + 1];
byte sent[(SESSIONS + 1) * (KEYS + 1)];    /* highest sequence sent for a key */
byte sent_from[(SESSIONS + 1) * (KEYS + 1)];  /* ... above this one */
byte answered[(SESSIONS + 1) * NODES];     /* highest sequence of key_of that a node answered */
#ifdef NO_TOKEN_NONCE
byte token_of[SESSIONS + 1];
#define TOKEN(s) token_of[s]
#else
#define TOKEN(s) (s)
#endif

/* What was promised: who wrote the sequence that was acknowledged or served; 0: nothing yet. */
byte promised[SEQUENCES + 1];
byte end_seen[SESSIONS + 1] = NONE;  /* what a session believed when it began to serve */

/* The promises. Each is set and asserted in one step, so that a violation names it. */
byte I1_acknowledged_is_in_the_log_of_later_owners = 1;
byte I2_nothing_that_was_served_changes = 1;
byte I2_replicas_hold_what_is_sealed = 1;
byte I3_a_fenced_owner_acknowledges_nothing_new = 1;
byte I9_a_named_key_exists = 1;
/* Scratch, used within one step only. */
byte s_, k_, n_, key_, who_;
byte lost_;

#define HERE(n, k) (replica[AT(n, k)].length != NONE)
#ifdef TRUST_WIPED
#define BELIEVED(n, k) HERE(n, k)
#else
#define BELIEVED(n, k) (HERE(n, k) && !replica[AT(n, k)].strange)
#endif
#ifdef NO_FENCE_SYNC
#define SYNC_TOKEN(n, k) replica[AT(n, k)].synced_token = replica[AT(n, k)].token
#else
#define SYNC_TOKEN(n, k) skip
#endif

/* A session begins to serve the log up to `end`: every sequence must be what was promised. */
inline serve(me, end) {
  lost_ = false;
  s_ = 1;
  do
  :: s_ <= SEQUENCES ->
    if
    :: s_ > end ->
      I1_acknowledged_is_in_the_log_of_later_owners = (promised[s_] == 0);
      assert(I1_acknowledged_is_in_the_log_of_later_owners)
    :: else ->
      key_ = 0;
      k_ = 1;
      do
      :: k_ <= KEYS ->
        if
        :: base[k_] < s_ && maker[k_] != 0 &&
           ((end_of[k_] != NONE && s_ <= end_of[k_]) || (end_of[k_] == NONE && k_ == open_key)) ->
          key_ = k_
        :: else
        fi;
        k_++
      :: else -> break
      od;
      who_ = 0;
      n_ = 0;
      do
      :: n_ < NODES && key_ != 0 ->
        if
        :: BELIEVED(n_, key_) && replica[AT(n_, key_)].length >= s_ ->
          I2_replicas_hold_what_is_sealed =
            (who_ == 0 || who_ == replica[AT(n_, key_)].record[s_]);
          assert(I2_replicas_hold_what_is_sealed);
          who_ = replica[AT(n_, key_)].record[s_]
        :: else
        fi;
        n_++
      :: else -> break
      od;
      if
      :: who_ == 0 -> lost_ = true  /* the disk stays unavailable, nothing is cut */
      :: else ->
        I2_nothing_that_was_served_changes = (promised[s_] == 0 || promised[s_] == who_);
        assert(I2_nothing_that_was_served_changes);
        promised[s_] = who_
      fi
    fi;
    s_++
  :: else -> break
  od;
  s_ = 0; k_ = 0; n_ = 0; key_ = 0; who_ = 0;
  end_seen[me] = (lost_ -> NONE : end)
}

/* ---- replicas ---- */

/* The node's part of an append: BlockStore::append (storaged/block_store_append.cc): a token at
   least the fenced one, not sealed, exactly at the length. What it answers is synced. */
#ifdef NO_EPOCH_CHECK
#define TOKEN_FITS(s, n, k) true
#else
#define TOKEN_FITS(s, n, k) (TOKEN(s) >= replica[AT(n, k)].token)
#endif
#ifdef APPEND_TO_OLDER
#define APPENDABLE(n, k) HERE(n, k)
#elif defined(CREATE_BY_APPEND)
#define APPENDABLE(n, k) HERE(n, k)
#else
#define APPENDABLE(n, k) (HERE(n, k) && !replica[AT(n, k)].strange)
#endif
#define TAKES_APPEND(s, n, k)                                           \
  (APPENDABLE(n, k) && sent[OF(s, k, KEYS + 1)] > replica[AT(n, k)].length && \
   sent_from[OF(s, k, KEYS + 1)] <= replica[AT(n, k)].length &&              \
   !replica[AT(n, k)].sealed && TOKEN_FITS(s, n, k))

inline take_append(s, n, k) {
  replica[AT(n, k)].length++;
  replica[AT(n, k)].record[replica[AT(n, k)].length] = s;
  replica[AT(n, k)].token =
    (TOKEN(s) > replica[AT(n, k)].token -> TOKEN(s) : replica[AT(n, k)].token);
  SYNC_TOKEN(n, k);
#ifdef FAULT_TAIL
  replica[AT(n, k)].committed =
    (committed[s] > replica[AT(n, k)].committed -> committed[s] : replica[AT(n, k)].committed);
#endif
  if
  :: key_of[s] == k -> answered[OF(s, n, NODES)] = replica[AT(n, k)].length
  :: else  /* a late one, of a key that the session has left: nobody counts the answer */
  fi
}

inline create_by_append(s, n, k) {
  replica[AT(n, k)].length = base[k];
  replica[AT(n, k)].token = TOKEN(s);
  replica[AT(n, k)].strange = true;
  take_append(s, n, k)
}

/* Everything that a session sent to a node, arriving in any order of keys, late or never. */
proctype link(byte s; byte n) {
end:
  do
  :: d_step { TAKES_APPEND(s, n, 1) -> take_append(s, n, 1) }
#if KEYS > 1
  :: d_step { TAKES_APPEND(s, n, 2) -> take_append(s, n, 2) }
#endif
#if KEYS > 2
  :: d_step { TAKES_APPEND(s, n, 3) -> take_append(s, n, 3) }
#endif
#ifdef FAULT_TAIL
  /* Log::announce_committed, BlockStore::note_committed */
  :: d_step { key_of[s] != 0 && BELIEVED(n, key_of[s]) &&
      replica[AT(n, key_of[s])].committed < committed[s] &&
      replica[AT(n, key_of[s])].length >= committed[s] &&
      replica[AT(n, key_of[s])].token <= TOKEN(s) ->
      replica[AT(n, key_of[s])].committed = committed[s] }
#endif
#ifdef CREATE_BY_APPEND
  :: d_step { key_of[s] != 0 && !HERE(n, key_of[s]) &&
      sent[OF(s, key_of[s], KEYS + 1)] > base[key_of[s]] ->
      create_by_append(s, n, key_of[s]) }
#endif
  od
}

/* The node's part of create: BlockStore::create. */
inline create(me, k) {
  n_ = 0;
  do
  :: n_ < NODES ->
    replica[AT(n_, k)].length = base[k];
    replica[AT(n_, k)].token = TOKEN(me);
    SYNC_TOKEN(n_, k);
    n_++
  :: else -> break
  od;
  n_ = 0
}

/* The node's part of seal: BlockStore::State::seal_at. */
inline seal(me, n, k, end) {
#ifdef COMPLETES
  do
  :: replica[AT(n, k)].length < end ->
    replica[AT(n, k)].length++;
    replica[AT(n, k)].record[replica[AT(n, k)].length] =
      replica[AT(1 - (n), k)].record[replica[AT(n, k)].length]
  :: else -> break
  od;
#endif
  replica[AT(n, k)].length = end;
  replica[AT(n, k)].sealed = true;
  replica[AT(n, k)].token = TOKEN(me);
  SYNC_TOKEN(n, k);
  s_ = end + 1;
  do
  :: s_ <= SEQUENCES -> replica[AT(n, k)].record[s_] = 0; s_++
  :: else -> break
  od;
  s_ = 0
}
#ifdef COMPLETES
#define REACHES(n, k, end) true
#else
#define REACHES(n, k, end) (replica[AT(n, k)].length >= (end))
#endif
#define TAKES_SEAL(me, n, k, end)                                              \
  (BELIEVED(n, k) &&                                                           \
   ((replica[AT(n, k)].sealed && replica[AT(n, k)].length == (end)) ||         \
    (!replica[AT(n, k)].sealed && REACHES(n, k, end))))
#ifdef COMPLETES
#define NOT_COUNTED(n) length[n] = NONE
#else
#define NOT_COUNTED(n) true
#endif
#ifdef ROLL_SEALS_PLACED
#define ROLL_END placed
#else
#define ROLL_END committed[me]
#endif

inline try_seal(me, n, k, end) {
  if
  :: BELIEVED(n, k) && replica[AT(n, k)].token > TOKEN(me) -> goto stopped
  :: BELIEVED(n, k) && replica[AT(n, k)].token <= TOKEN(me) && length[n] != NONE &&
     TAKES_SEAL(me, n, k, end) -> seal(me, n, k, end)
  /* `wrong_offset` or `sealed`, or it has lost the key. Of the second node not in the scopes that
     are searched: */
  :: else -> NOT_COUNTED(n)  /* never */
  fi
}

/* ---- faults: one node loses something, once; which of the two is the same to all else ---- */

inline lose(n) {  /* its folder is empty again; a key it does not know is `not_found` */
  fault_node = n;
  k_ = 1;
  do
  :: k_ <= KEYS ->
    replica[AT(n, k_)].length = NONE;
    replica[AT(n, k_)].token = 0;
    replica[AT(n, k_)].sealed = false;
    replica[AT(n, k_)].strange = false;
    SYNC_TOKEN(n, k_);
#ifdef FAULT_TAIL
    replica[AT(n, k_)].committed = 0;
#endif
    s_ = 1;
    do
    :: s_ <= SEQUENCES -> replica[AT(n, k_)].record[s_] = 0; s_++
    :: else -> break
    od;
    k_++
  :: else -> break
  od;
  s_ = 0; k_ = 0
}

inline go_back(n) {  /* its folder is put back from a copy made when the keys were new */
  fault_node = n;
  k_ = 1;
  do
  :: k_ <= KEYS ->
    if
    :: HERE(n, k_) ->
      replica[AT(n, k_)].length = base[k_];
      replica[AT(n, k_)].token = maker[k_];
      replica[AT(n, k_)].sealed = false;
#ifndef NO_START_COUNT
      replica[AT(n, k_)].strange = true;  /* startup.cc: fewer starts than recorded */
#endif
      SYNC_TOKEN(n, k_);
#ifdef FAULT_TAIL
      replica[AT(n, k_)].committed = base[k_];
#endif
      s_ = 1;
      do
      :: s_ <= SEQUENCES -> replica[AT(n, k_)].record[s_] = 0; s_++
      :: else -> break
      od
    :: else
    fi;
    k_++
  :: else -> break
  od;
  s_ = 0; k_ = 0
}

#ifdef FAULT_TAIL
/* The newest record is gone without anybody noticing (a group that rotted, a device that lied):
   only where another replica knows it committed is this something that can be told. */
#ifdef ONLY_ANNOUNCED
#define KNOWN_ELSEWHERE(n, k)                                                         \
  (BELIEVED(1 - (n), k) && replica[AT(1 - (n), k)].committed >= replica[AT(n, k)].length)
#else
#define KNOWN_ELSEWHERE(n, k) true
#endif
#define CAN_LOSE_TAIL(n, k)                                                           \
  (BELIEVED(n, k) && !replica[AT(n, k)].sealed && replica[AT(n, k)].length > base[k] && \
   KNOWN_ELSEWHERE(n, k))
inline lose_tail(n, k) {
  fault_node = n;
  replica[AT(n, k)].record[replica[AT(n, k)].length] = 0;
  replica[AT(n, k)].length--;
  replica[AT(n, k)].committed =
    (replica[AT(n, k)].committed > replica[AT(n, k)].length -> replica[AT(n, k)].length
      : replica[AT(n, k)].committed)
}
#endif

proctype faults() {
  if
  :: false
#ifdef FAULT_WIPE
  :: d_step { next_key > 1 -> lose(0) }
#endif
#ifdef FAULT_OLDER
  :: d_step { next_key > 1 -> go_back(0) }
#endif
#ifdef FAULT_TAIL
  :: d_step { CAN_LOSE_TAIL(0, 1) -> lose_tail(0, 1) }
#if KEYS > 1
  :: d_step { CAN_LOSE_TAIL(0, 2) -> lose_tail(0, 2) }
#endif
#endif
#ifdef NO_FENCE_SYNC
  /* A crash of a node: what it had not synced is gone. */
  :: d_step { HERE(0, 1) -> replica[AT(0, 1)].token = replica[AT(0, 1)].synced_token }
#endif
  fi
}

/* ---- sessions ---- */

#ifdef NAME_WITHOUT_EPOCH
#define STILL_OWNER(me) true
#else
#define STILL_OWNER(me) (epoch == TOKEN(me))
#endif

/* BlockStore::fence and what the taker makes of the answer (AsyncDisk::recover). */
inline fence(me, n) {
  if
#ifndef FAULT_TAIL
  :: length[n] = NONE  /* no answer; with a tail lost this would be a second fault */
#endif
  :: !HERE(n, key) ->
    I9_a_named_key_exists = (n == fault_node);
    assert(I9_a_named_key_exists);
#ifdef UNKNOWN_IS_EMPTY
    length[n] = base[key]
#else
    length[n] = NONE
#endif
  :: HERE(n, key) && !BELIEVED(n, key) -> length[n] = NONE
  :: BELIEVED(n, key) && replica[AT(n, key)].token > TOKEN(me) -> goto stopped
  :: BELIEVED(n, key) && replica[AT(n, key)].token <= TOKEN(me) ->
    replica[AT(n, key)].token = TOKEN(me);  /* not yet synced under NO_FENCE_SYNC */
    length[n] = replica[AT(n, key)].length;
#ifdef FAULT_TAIL
    known = (replica[AT(n, key)].committed > known -> replica[AT(n, key)].committed : known)
#endif
  fi
}

/* Copies::settle_fenced. The length to seal at: that of a sealed replica, else the longest believed
   one, to which the others are completed; one that is shorter than a committed length that somebody
   knows is damaged. */
inline choose_end() {
#if defined(FAULT_TAIL) && !defined(CUT_BELOW_COMMITTED)
  n_ = 0;
  do
  :: n_ < NODES ->
    if
    :: length[n_] != NONE && length[n_] < known -> length[n_] = NONE
    :: else
    fi;
    n_++
  :: else -> break
  od;
#endif
  end = NONE;
  end_sealed = false;
  n_ = 0;
  do
  :: n_ < NODES ->
    if
#ifdef COMPLETES
    /* one that a roll, or a taker before, has sealed: what lies behind was never committed; of two
       that were sealed differently the longer, the other is no longer counted */
    :: length[n_] != NONE && (end == NONE ||
        (replica[AT(n_, key)].sealed && !end_sealed) ||
        (replica[AT(n_, key)].sealed == end_sealed && length[n_] > end)) ->
      end = length[n_];
      end_sealed = replica[AT(n_, key)].sealed
#elif defined(SEAL_LONGEST)
    :: length[n_] != NONE && (end == NONE || length[n_] > end) -> end = length[n_]
#else
    :: length[n_] != NONE && (end == NONE || length[n_] < end) -> end = length[n_]
#endif
    :: else
    fi;
    n_++
  :: else -> break
  od;
  n_ = 0;
  end_sealed = false
}

/* Of the replicas that did not lose anything. */
inline check_replicas(k, end) {
  n_ = 0;
  do
  :: n_ < NODES ->
    I2_replicas_hold_what_is_sealed =
      (length[n_] == NONE || n_ == fault_node || replica[AT(n_, k)].length >= end);
    assert(I2_replicas_hold_what_is_sealed);
    n_++
  :: else -> break
  od;
  n_ = 0
}

/* It appends to `k` from here on; what was placed and is not committed is placed again [R3]. */
inline begin_key(me, k) {
  key_of[me] = k;
  sent_from[OF(me, k, KEYS + 1)] = committed[me];
  sent[OF(me, k, KEYS + 1)] = (placed > committed[me] -> placed : sent[OF(me, k, KEYS + 1)]);
  n_ = 0;
  do
  :: n_ < NODES -> answered[OF(me, n_, NODES)] = committed[me]; n_++
  :: else -> break
  od;
  n_ = 0
}

#ifdef ACK_BEFORE_ALL
#define ANSWERED(me, c) (answered[OF(me, 0, NODES)] >= (c) || answered[OF(me, 1, NODES)] >= (c))
#else
#define ANSWERED(me, c) (answered[OF(me, 0, NODES)] >= (c) && answered[OF(me, 1, NODES)] >= (c))
#endif

/* Log::advance, and a flush that waited for it (AsyncDisk::flush). */
inline acknowledge(me) {
  committed[me] = committed[me] + 1;
  s_ = 1;
  do
  :: s_ <= SESSIONS ->
    I3_a_fenced_owner_acknowledges_nothing_new =
      (s_ <= TOKEN(me) || end_seen[s_] == NONE || committed[me] <= end_seen[s_]);
    assert(I3_a_fenced_owner_acknowledges_nothing_new);
    s_++
  :: else -> break
  od;
  s_ = 0;
  I2_nothing_that_was_served_changes =
    (promised[committed[me]] == 0 || promised[committed[me]] == me);
  assert(I2_nothing_that_was_served_changes);
  promised[committed[me]] = me
}

proctype session(byte me) {
  byte key;      /* the key that the record names */
  byte old;      /* of a roll: the key to seal */
  byte made;     /* created, not yet named */
  byte end;
  byte placed;
  byte asked;
  byte length[NODES];
#ifdef FAULT_TAIL
  byte known;
#endif

  /* AsyncDisk::acquire_locked, OwnedRecord::take_token: a compare-and-set of the epoch. */
#ifdef NO_TOKEN_NONCE
  /* Its answer is lost and it was never applied; then the record has the epoch that was wanted. */
  if
  :: atomic { epoch < SESSIONS -> epoch++; token_of[me] = epoch }
  :: atomic { epoch == 0 -> token_of[me] = 1 };
    epoch == token_of[me]
  fi;
#else
  atomic { epoch == me - 1 -> epoch = me };
#endif
  atomic {
    key = open_key;
    end = log_end;
    if
    :: released || key == 0 ->
      released = false;
      serve(me, end);
      if
      :: lost_ -> goto stopped
      :: else -> goto serving
      fi
    :: else
    fi
  };

  /* AsyncDisk::recover: fence the open key on its replicas, in any order. */
  do
  :: atomic { asked != 3 ->
      if
      :: (asked & 1) == 0 -> n_ = 0; asked = asked | 1
      :: (asked & 2) == 0 -> n_ = 1; asked = asked | 2
      fi;
      fence(me, n_);
      n_ = 0 }
  :: asked == 3 -> break
  od;
  atomic { asked = 0; choose_end() };
  if
  :: end == NONE -> goto stopped  /* nothing is believed: the disk stays unavailable */
  :: else
  fi;
#ifdef SERVE_BEFORE_SEAL
  /* (the promise needs the chain with this key in it) */
  atomic { end_of[key] = end; serve(me, end); end_of[key] = NONE };
#endif
  /* AsyncDisk::recover: seal at that length, on any of those that answered; what a replica gets
     later than another is as good as what it never gets. */
  atomic {
    if
    :: try_seal(me, 0, key, end)
    :: NOT_COUNTED(0)
    fi;
    if
    :: try_seal(me, 1, key, end)
    :: NOT_COUNTED(1)
    fi
  };
  /* `settle`: the seal and the state in one change of the record; only then it serves. */
  atomic {
    asked = 0;
    if
    :: STILL_OWNER(me) ->
      check_replicas(key, end);
      end_of[key] = end;
      log_end = end;
      open_key = 0;
      key = 0;
      serve(me, end);
      if
      :: lost_ -> goto stopped
      :: else
      fi
    :: else -> goto stopped
    fi;
    n_ = 0;
    do
    :: n_ < NODES -> length[n_] = 0; n_++
    :: else -> break
    od;
    n_ = 0
  };

serving:
  /* What the last session writes is looked at by nobody. */
  if
  :: me == SESSIONS -> goto stopped
  :: else
  fi;
  atomic { committed[me] = end; placed = end; end = 0 };
writing:
  do
  /* Log::place, Log::launch */
  :: atomic { key_of[me] != 0 && placed < SEQUENCES ->
      placed++;
      sent[OF(me, key_of[me], KEYS + 1)] = placed }
  :: atomic { key_of[me] != 0 && committed[me] < placed && ANSWERED(me, committed[me] + 1) ->
      acknowledge(me) }
  /* Log::adopt_open_key: a key that was released stays open. */
  :: atomic { key_of[me] == 0 && key != 0 && committed[me] < SEQUENCES -> goto adopt }
  /* Log::open_new_key: before the first append, and to roll. */
  :: atomic { next_key <= KEYS && committed[me] < SEQUENCES &&
      ((key_of[me] == 0 && key == 0) || (key_of[me] != 0 && placed > base[key_of[me]])) ->
      goto new_key }
#ifdef APPEND_BEFORE_NAMED
  :: atomic { made != 0 && STILL_OWNER(me) ->
      if
      :: old != 0 -> end_of[old] = base[made]
      :: else
      fi;
      log_end = base[made];
      open_key = made;
      made = 0 }
#endif
  /* AsyncDisk::release_locked */
  :: atomic { committed[me] == placed && STILL_OWNER(me) ->
      released = true;
      log_end = committed[me];
      goto stopped }
  od;

adopt:
  do
  :: asked < NODES ->
    atomic {
      if
      :: BELIEVED(asked, key) && replica[AT(asked, key)].token > TOKEN(me) -> goto stopped
      :: BELIEVED(asked, key) && replica[AT(asked, key)].token <= TOKEN(me) &&
         replica[AT(asked, key)].length == committed[me] && !replica[AT(asked, key)].sealed ->
        replica[AT(asked, key)].token = TOKEN(me);
        SYNC_TOKEN(asked, key);
        asked++
      :: !BELIEVED(asked, key) -> asked = 0; goto new_key
      fi
    }
  :: else -> break
  od;
  atomic {
    asked = 0;
    if
    :: STILL_OWNER(me) -> begin_key(me, key); key = 0; goto writing
    :: else -> goto stopped
    fi
  };

new_key:
  /* Log::create_next_key: it exists on all its replicas before the record names it [C4]. */
  atomic {
    if
    :: next_key > KEYS -> goto stopped
    :: else
    fi;
    old = (key_of[me] != 0 -> key_of[me] : key);
    made = next_key;
    next_key++;
    base[made] = committed[me];
    maker[made] = TOKEN(me);
#ifndef NAME_BEFORE_CREATE
    create(me, made);
#endif
#ifdef APPEND_BEFORE_NAMED
    begin_key(me, made);
    key = 0;
    goto writing;
#endif
    /* Log::open_new_key: seal at the committed length, on any of the replicas. */
    if
    :: old != 0 -> try_seal(me, 0, old, ROLL_END)
    :: true
    fi;
    if
    :: old != 0 -> try_seal(me, 1, old, ROLL_END)
    :: true
    fi
  };
  /* `name_key`: one change of the record seals the old key and names the new one. */
  atomic {
    asked = 0;
    if
    :: STILL_OWNER(me) ->
      if
      :: old != 0 -> end_of[old] = ROLL_END; log_end = ROLL_END; check_replicas(old, ROLL_END)
      :: else
      fi;
      open_key = made;
      if
      :: begin_key(me, made); key = 0
      /* Nobody knows whether it was applied (Errc::unknown): a further key is made and named. */
      :: next_key <= KEYS -> goto new_key
      fi
    :: else -> goto stopped
    fi
  };
#ifdef NAME_BEFORE_CREATE
  d_step { create(me, made) };
#endif
  d_step { old = 0; made = 0 };
  goto writing;

stopped:
  /* What it sent is still on its way; nobody looks at the rest any more. */
  atomic {
    key_of[me] = 0;
    committed[me] = 0;
    answered[OF(me, 0, NODES)] = 0;
    answered[OF(me, 1, NODES)] = 0;
    key = 0; old = 0; made = 0; end = 0; placed = 0; asked = 0; length[0] = 0; length[1] = 0;
#ifdef FAULT_TAIL
    known = 0
#endif
  }
}

init {
  atomic {
    run session(1);
#if SESSIONS > 1
    run session(2);
#endif
#if SESSIONS > 2
    run session(3);
#endif
    run link(1, 0);
    run link(1, 1);
#if SESSIONS > 1
    run link(2, 0);
    run link(2, 1);
#endif
#if SESSIONS > 2
    run link(3, 0);
    run link(3, 1);
#endif
    run faults()
  }
}
