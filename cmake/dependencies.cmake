# SPDX-License-Identifier: Apache-2.0
# Everything VMStore is built on, found once. Packages of Debian 12, see scripts/install-deps.
set(THREADS_PREFER_PTHREAD_FLAG ON)
find_package(Threads REQUIRED)
find_package(OpenSSL 3.0 REQUIRED)
find_package(Protobuf 3.21 REQUIRED)
find_package(Boost 1.81 REQUIRED)  # headers only: Boost::headers
find_package(spdlog REQUIRED)
find_package(PkgConfig REQUIRED)
pkg_check_modules(rocksdb REQUIRED IMPORTED_TARGET rocksdb)
pkg_check_modules(libxxhash REQUIRED IMPORTED_TARGET libxxhash)
pkg_check_modules(nbdkit REQUIRED IMPORTED_TARGET nbdkit)
pkg_check_modules(libnbd REQUIRED IMPORTED_TARGET libnbd)
pkg_check_modules(fuse3 REQUIRED IMPORTED_TARGET fuse3)
find_package(tomlplusplus REQUIRED)
find_package(CLI11 REQUIRED)
if(BUILD_TESTING)
  find_package(GTest REQUIRED)
  find_package(Python3 COMPONENTS Interpreter REQUIRED)
endif()

find_program(CCACHE_PROGRAM ccache)
if(CCACHE_PROGRAM AND NOT CMAKE_CXX_COMPILER_LAUNCHER)
  # Paths inside the tree are made relative, so that another clone or build folder finds the same
  # objects in the cache.
  set(CMAKE_CXX_COMPILER_LAUNCHER ${CMAKE_COMMAND} -E env CCACHE_BASEDIR=${CMAKE_SOURCE_DIR}
                                  CCACHE_NOHASHDIR=1 ${CCACHE_PROGRAM})
endif()
