/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One replica of one key: appends and a fence on their way through the group-commit journal, power
 * cuts at any moment, the replay (design 5: C12, C15, F4, R11). It shows what ownership.pml takes
 * for granted: what a replica answered is on stable storage, without a gap, and nothing follows a
 * fence. README.md says what each step is in the code, which test guards it, and what each -D takes
 * out.
 *
 * An old owner sends the records 1 .. RECORDS with token 1 and sends again what was not answered;
 * each is small (its blocks go into the ring, too) or large (its blocks go to the data file, only
 * its header into the ring). A new owner fences with token 2, and asks again until it is answered.
 */
#ifndef RECORDS
#define RECORDS 3
#endif
#ifndef POWER_CUTS
#define POWER_CUTS 2
#endif
#define FENCE (RECORDS + 1)
#define NOT_FENCED 15
#define QUEUE_MAX (RECORDS + 1)

/* What a power cut leaves. */
bool ring[RECORDS + 2];          /* by entry: is it in the ring? */
bool blocks_synced[RECORDS + 1];  /* of large records */

/* In memory. */
bool up;
byte length;               /* Key::state.length */
byte accepted;             /* Key::accepted */
byte token = 1;            /* Key::token: the highest accepted */
byte queue[QUEUE_MAX];     /* Key::queue, with the group in flight before it */
byte queued;
byte group;                /* entries of the group in flight; 0: none is */
bool group_in_ring;
#ifdef TWO_GROUPS
byte second;               /* entries of the group behind it */
bool second_in_ring;
#endif
#ifdef TOKEN_WHEN_SYNCED
byte synced_token = 1;
#define TOKEN synced_token
#else
#define TOKEN token
#endif

/* What the clients know. */
bool large[RECORDS + 1];
bool answered[RECORDS + 1];
byte fenced_at = NOT_FENCED;

/* The promises. Each is set and asserted in one step, so that a violation names it. */
byte C12_an_answered_record_is_there = 1;
byte C12_a_header_has_its_blocks = 1;
byte C15_nothing_follows_a_fence = 1;
byte F4_a_fence_outlives_a_power_cut = 1;
byte R11_only_the_newest_group_may_be_missing = 1;
byte i_, entry_;

#ifdef HEADER_BEFORE_BLOCKS
#define READY(entry) true
#else
#define READY(entry) ((entry) == FENCE || !large[entry] || blocks_synced[entry])
#endif

inline push(entry) {
  queue[queued] = entry;
  queued++
}

/* An entry of a group reached the device. */
inline into_ring(entry) {
#ifdef NO_FENCE_SYNC
  ring[entry] = ((entry) != FENCE);
#else
  ring[entry] = true;
#endif
  C15_nothing_follows_a_fence =
    ((entry) == FENCE || fenced_at == NOT_FENCED || (entry) <= fenced_at);
  assert(C15_nothing_follows_a_fence)
}

inline answer(entry) {
  if
  :: (entry) == FENCE ->
    fenced_at = length;
#ifdef TOKEN_WHEN_SYNCED
    synced_token = 2
#endif
  :: else ->
    C15_nothing_follows_a_fence = (fenced_at == NOT_FENCED || (entry) <= fenced_at);
    assert(C15_nothing_follows_a_fence);
    length = (entry > length -> entry : length);
    answered[entry] = true
  fi
}

inline drop_first(count) {
  i_ = 0;
  do
  :: i_ < QUEUE_MAX ->
    queue[i_] = (i_ + (count) < QUEUE_MAX -> queue[i_ + (count)] : 0);
    i_++
  :: else -> break
  od;
  queued = queued - (count)
}

/* BlockStore::append, BlockStore::fence: what arrives at the node. */
active proctype arrivals() {
end:
  do
  /* check_append, and the place exactly at the end */
  :: d_step { up && accepted < RECORDS && TOKEN <= 1 ->
      accepted++;
      push(accepted) }
  /* prepare_append, write_large, sync_data: before its header may enter the ring */
  :: d_step { up && accepted >= 1 && large[1] && !blocks_synced[1] -> blocks_synced[1] = true }
  :: d_step { up && accepted >= 2 && large[2] && !blocks_synced[2] -> blocks_synced[2] = true }
#if RECORDS > 3
  :: d_step { up && accepted >= 4 && large[4] && !blocks_synced[4] -> blocks_synced[4] = true }
#endif
#if RECORDS > 2
  :: d_step { up && accepted >= 3 && large[3] && !blocks_synced[3] -> blocks_synced[3] = true }
#endif
  /* fence: its token counts from now on, its answer comes when it is in the ring */
  :: atomic { up && fenced_at == NOT_FENCED && token == 1 ->
      token = 2;
#ifdef FENCE_OVERTAKES
      ring[FENCE] = true;
      answer(FENCE)
#else
      push(FENCE)
#endif
    }
#ifdef QUEUE_OVERTAKES
  /* what is ready enters the ring before what is not */
  :: d_step { up && group == 0 && queued > 1 && !READY(queue[0]) && READY(queue[1]) ->
      entry_ = queue[0]; queue[0] = queue[1]; queue[1] = entry_; entry_ = 0 }
#endif
  od
}

inline finish_group(count) {
  entry_ = 0;
  do
  :: entry_ < (count) -> answer(queue[entry_]); entry_++
  :: else -> break
  od;
  entry_ = 0
}

/* run_commits, collect, commit_group: one group at a time. */
active proctype commits() {
end:
  do
  :: atomic { up && group == 0 && queued > 0 && READY(queue[0]) ->
      group = 1;
      do
      :: group < queued && READY(queue[group]) -> group++
      :: true -> break
      od;
#ifdef ANSWER_BEFORE_SYNC
      finish_group(group)
#endif
    }
  /* Journal::write_prepared: one synced write */
  :: atomic { up && group > 0 && !group_in_ring ->
      entry_ = 0;
      do
      :: entry_ < group -> into_ring(queue[entry_]); entry_++
      :: else -> break
      od;
      entry_ = 0;
      group_in_ring = true }
  /* complete, end */
  :: atomic { up && group_in_ring ->
#ifndef ANSWER_BEFORE_SYNC
      finish_group(group);
#endif
      drop_first(group);
#ifdef TWO_GROUPS
      group = second; group_in_ring = second_in_ring; second = 0; second_in_ring = false;
#else
      group = 0; group_in_ring = false;
#endif
      i_ = 0 }
#ifdef TWO_GROUPS
  :: atomic { up && group > 0 && second == 0 && group < queued && READY(queue[group]) ->
      second = 1 }
  :: atomic { up && second > 0 && !second_in_ring ->
      into_ring(queue[group]); second_in_ring = true }
#endif
  od
}

/* A power cut, and Recovery (storaged/recovery.cc): the ring is replayed, an open key cut at the
   first gap. */
active proctype power() {
  byte cuts;
  atomic {
    i_ = 1;
    do
    :: i_ <= RECORDS ->
      if
      :: large[i_] = true
      :: large[i_] = false
      fi;
      i_++
    :: else -> break
    od;
    i_ = 0;
    up = true
  };
end:
  do
  :: cuts < POWER_CUTS ->
    atomic {
      cuts++;
      queued = 0; group = 0; group_in_ring = false;
#ifdef TWO_GROUPS
      second = 0; second_in_ring = false;
#endif
      i_ = 0;
      do
      :: i_ < QUEUE_MAX -> queue[i_] = 0; i_++
      :: else -> break
      od;
      length = 0;
      i_ = 1;
      do
      :: i_ <= RECORDS ->
        R11_only_the_newest_group_may_be_missing = (!ring[i_] || length == i_ - 1);
        C12_an_answered_record_is_there = (!answered[i_] || (ring[i_] && length == i_ - 1));
        assert(C12_an_answered_record_is_there);
        assert(R11_only_the_newest_group_may_be_missing);
        C12_a_header_has_its_blocks = (!ring[i_] || !large[i_] || blocks_synced[i_]);
        assert(C12_a_header_has_its_blocks);
        length = (ring[i_] && length == i_ - 1 -> i_ : length);
        i_++
      :: else -> break
      od;
      accepted = length;
      token = (ring[FENCE] -> 2 : 1);
#ifdef TOKEN_WHEN_SYNCED
      synced_token = token;
#endif
      F4_a_fence_outlives_a_power_cut = (fenced_at == NOT_FENCED || token == 2);
      assert(F4_a_fence_outlives_a_power_cut);
      i_ = 0;
      /* A fence that is in the ring and was not answered is asked for again: the same length. */
      if
      :: ring[FENCE] && fenced_at == NOT_FENCED -> fenced_at = length
      :: else
      fi
    }
  od
}
