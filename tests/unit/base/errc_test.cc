// SPDX-License-Identifier: Apache-2.0
#include "base/errc.h"

#include <gtest/gtest.h>

#include <cerrno>
#include <limits>
#include <set>
#include <sstream>
#include <string>

namespace vmstore {
namespace {

TEST(Errc, EveryEnumeratorHasItsOwnNumberNameAndText) {
  std::set<std::string_view> names;
  std::set<std::string_view> texts;
  std::int32_t expected = 0;
  for (const Errc code : all_errcs()) {
    EXPECT_EQ(static_cast<std::int32_t>(code), expected++);
    EXPECT_FALSE(errc_name(code).empty());
    EXPECT_FALSE(errc_text(code).empty());
    names.insert(errc_name(code));
    texts.insert(errc_text(code));
  }
  EXPECT_EQ(names.size(), all_errcs().size());
  EXPECT_EQ(texts.size(), all_errcs().size());
  EXPECT_EQ(all_errcs().back(), Errc::not_owner) << "a new enumerator needs its row and this line";
}

TEST(Errc, NamesAreSnakeCaseAndTextsHaveNoFullStop) {
  for (const Errc code : all_errcs()) {
    EXPECT_EQ(errc_name(code).find_first_not_of("abcdefghijklmnopqrstuvwxyz_"),
              std::string_view::npos)
        << errc_name(code);
    EXPECT_NE(errc_text(code).back(), '.') << errc_name(code);
  }
}

TEST(Errc, EveryEnumeratorTravelsTheWire) {
  for (const Errc code : all_errcs()) {
    EXPECT_EQ(errc_from_wire(static_cast<std::int32_t>(code)), code) << errc_name(code);
  }
}

TEST(Errc, NumbersOfANewerPeerAreUnknownAndNeverNotFound) {
  for (const std::int32_t number : {static_cast<std::int32_t>(all_errcs().size()),
                                    -1,
                                    std::numeric_limits<std::int32_t>::max(),
                                    std::numeric_limits<std::int32_t>::min()}) {
    EXPECT_EQ(errc_from_wire(number), Errc::unknown) << number;
  }
}

TEST(Errc, EveryFailureHasAnErrnoForTheGuest) {
  EXPECT_EQ(errc_to_errno(Errc::ok), 0);
  for (const Errc code : all_errcs()) {
    if (code != Errc::ok) {
      EXPECT_GT(errc_to_errno(code), 0) << errc_name(code);
    }
  }
  EXPECT_EQ(errc_to_errno(Errc::no_space), ENOSPC);
  EXPECT_EQ(errc_to_errno(Errc::unknown), EIO);
}

TEST(Errc, ErrnosBecomeTheNearestCode) {
  EXPECT_EQ(errno_to_errc(0), Errc::ok);
  EXPECT_EQ(errno_to_errc(ENOENT), Errc::not_found);
  EXPECT_EQ(errno_to_errc(ENOSPC), Errc::no_space);
  EXPECT_EQ(errno_to_errc(EDQUOT), Errc::no_space);
  EXPECT_EQ(errno_to_errc(EFBIG), Errc::no_space);
  EXPECT_EQ(errno_to_errc(EAGAIN), Errc::busy);
  EXPECT_EQ(errno_to_errc(ELOOP), Errc::foreign_store);
  EXPECT_EQ(errno_to_errc(EIO), Errc::io_error);
  EXPECT_EQ(errno_to_errc(123456), Errc::io_error);
}

TEST(Errc, NoErrnoButEnoentSaysNotFound) {
  for (int number = 1; number < 200; ++number) {
    if (number != ENOENT) {
      EXPECT_NE(errno_to_errc(number), Errc::not_found) << number;
    }
  }
}

TEST(Error, PrintsCodeTextAndErrno) {
  EXPECT_EQ(to_string(Error(Errc::busy)), "busy: in use by another");
  std::ostringstream out;
  out << Error(Errc::no_space, ENOSPC);
  EXPECT_EQ(out.str(), "no_space: no space left (errno 28: No space left on device)");
}

TEST(Error, OfTheLastSystemCallKeepsTheErrno) {
  errno = EACCES;
  const Error error = last_os_error();
  EXPECT_EQ(error.code, Errc::permission);
  EXPECT_EQ(error.os_errno, EACCES);
}

TEST(Error, IsUnknownUntilSaidOtherwise) {
  EXPECT_EQ(Error(), Errc::unknown);
}

}  // namespace
}  // namespace vmstore
