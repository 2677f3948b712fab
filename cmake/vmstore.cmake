# SPDX-License-Identifier: Apache-2.0
# The functions every folder's CMakeLists.txt is written with. Sources and headers are named one by
# one, relative to the folder; includes start at the root of the repository.

# Warnings, -Werror and instrumentation, on our own targets only.
function(vmstore_target_options target)
  target_compile_options(${target} PRIVATE
    -Wall -Wextra -Wpedantic -Wshadow -Wconversion -Wsign-conversion -Wold-style-cast -Wcast-qual
    -Wnon-virtual-dtor -Woverloaded-virtual -Wextra-semi -Wformat=2 -Wundef -Wsuggest-override
    # -Wrestrict of GCC 12 reports plain string concatenation at -O2.
    $<$<CXX_COMPILER_ID:GNU>:-Wduplicated-cond -Wlogical-op -Wno-restrict>
    $<$<CXX_COMPILER_ID:Clang>:-Wthread-safety -Wunused-result>
    $<$<BOOL:${VMSTORE_WERROR}>:-Werror>)
  set_target_properties(${target} PROPERTIES POSITION_INDEPENDENT_CODE ON)
  vmstore_target_instrumentation(${target})
endfunction()

function(vmstore_target_instrumentation target)
  set(flags)
  if(VMSTORE_SANITIZE STREQUAL "address")
    set(flags -fsanitize=address,undefined -fno-sanitize-recover=all -fno-omit-frame-pointer
      # clang 14 cannot assemble coroutines with it ("difference across sections").
      $<$<CXX_COMPILER_ID:Clang>:-fno-sanitize=function>)
  elseif(VMSTORE_SANITIZE STREQUAL "thread")
    set(flags -fsanitize=thread)
    # Asio's fenced blocks use atomic_thread_fence, which ThreadSanitizer does not understand.
    target_compile_definitions(${target} PRIVATE BOOST_ASIO_DISABLE_FENCED_BLOCK)
    target_compile_options(${target} PRIVATE $<$<CXX_COMPILER_ID:GNU>:-Wno-tsan>)
  elseif(VMSTORE_SANITIZE)
    message(FATAL_ERROR "VMSTORE_SANITIZE is address or thread, not '${VMSTORE_SANITIZE}'")
  endif()
  if(VMSTORE_FUZZ)
    target_compile_options(${target} PRIVATE -fsanitize=fuzzer-no-link)
  endif()
  if(VMSTORE_COVERAGE)
    list(APPEND flags --coverage)
  endif()
  target_compile_options(${target} PRIVATE ${flags})
  target_link_options(${target} PUBLIC ${flags})
endfunction()

# add_vmstore_library(<folder> SOURCES ... HEADERS ... LINKS ... PRIVATE_LINKS ...)
# The static library vmstore_<folder>, linked as vmstore::<folder>.
function(add_vmstore_library folder)
  cmake_parse_arguments(PARSE_ARGV 1 arg "" "" "SOURCES;HEADERS;LINKS;PRIVATE_LINKS")
  if(arg_UNPARSED_ARGUMENTS)
    message(FATAL_ERROR "add_vmstore_library(${folder}): unknown '${arg_UNPARSED_ARGUMENTS}'")
  endif()
  set(target vmstore_${folder})
  if(arg_SOURCES)
    add_library(${target} STATIC ${arg_SOURCES})
    set(scope PUBLIC)
    vmstore_target_options(${target})
  else()
    add_library(${target} INTERFACE)
    set(scope INTERFACE)
  endif()
  add_library(vmstore::${folder} ALIAS ${target})
  target_sources(${target} ${scope}
    FILE_SET HEADERS BASE_DIRS "${PROJECT_SOURCE_DIR}" FILES ${arg_HEADERS})
  target_include_directories(${target} ${scope} "${PROJECT_SOURCE_DIR}")
  target_link_libraries(${target} ${scope} ${arg_LINKS})
  if(arg_PRIVATE_LINKS)
    target_link_libraries(${target} PRIVATE ${arg_PRIVATE_LINKS})
  endif()
endfunction()

# add_vmstore_protobuf(<folder> PROTOS ...): the generated code of <folder>/*.proto, included as
# "<folder>/name.pb.h", linked as vmstore::<folder>_pb. Generated code carries no warnings of ours.
function(add_vmstore_protobuf folder)
  cmake_parse_arguments(PARSE_ARGV 1 arg "" "" "PROTOS")
  set(target vmstore_${folder}_pb)
  set(generated)
  foreach(proto IN LISTS arg_PROTOS)
    string(REGEX REPLACE "\\.proto$" "" stem "${proto}")
    set(output "${PROJECT_BINARY_DIR}/generated/${folder}/${stem}")
    add_custom_command(OUTPUT "${output}.pb.cc" "${output}.pb.h"
      COMMAND "${CMAKE_COMMAND}" -E make_directory "${PROJECT_BINARY_DIR}/generated"
      COMMAND protobuf::protoc "--cpp_out=${PROJECT_BINARY_DIR}/generated"
              "--proto_path=${PROJECT_SOURCE_DIR}" "${folder}/${proto}"
      WORKING_DIRECTORY "${PROJECT_SOURCE_DIR}"
      DEPENDS "${CMAKE_CURRENT_SOURCE_DIR}/${proto}" VERBATIM)
    list(APPEND generated "${output}.pb.cc" "${output}.pb.h")
  endforeach()
  add_library(${target} STATIC ${generated})
  add_library(vmstore::${folder}_pb ALIAS ${target})
  set_target_properties(${target} PROPERTIES POSITION_INDEPENDENT_CODE ON)
  vmstore_target_instrumentation(${target})
  target_include_directories(${target} SYSTEM PUBLIC "${PROJECT_BINARY_DIR}/generated")
  target_link_libraries(${target} PUBLIC protobuf::libprotobuf)
endfunction()

# add_vmstore_executable(<name> SOURCES ... LINKS ...)
function(add_vmstore_executable name)
  cmake_parse_arguments(PARSE_ARGV 1 arg "" "" "SOURCES;LINKS")
  add_executable(${name} ${arg_SOURCES})
  vmstore_target_options(${name})
  target_include_directories(${name} PRIVATE "${PROJECT_SOURCE_DIR}")
  target_link_libraries(${name} PRIVATE ${arg_LINKS})
endfunction()

# add_vmstore_test(<name> SOURCES ... LINKS ... LABEL unit|sim|conformance|format [TIMEOUT s])
# One executable of GoogleTests is one entry of CTest: listing the tests of each would start every
# executable during the build. An executable that ran no test at all fails.
function(add_vmstore_test name)
  cmake_parse_arguments(PARSE_ARGV 1 arg "" "LABEL;TIMEOUT" "SOURCES;LINKS")
  if(NOT BUILD_TESTING)
    return()
  endif()
  if(NOT arg_LABEL MATCHES "^(unit|sim|conformance|format|soak)$")
    message(FATAL_ERROR "add_vmstore_test(${name}): LABEL unit, sim, conformance, format or soak")
  endif()
  if(NOT arg_TIMEOUT)
    set(arg_TIMEOUT 120)
  endif()
  add_vmstore_executable(${name} SOURCES ${arg_SOURCES} LINKS ${arg_LINKS} GTest::gtest_main)
  add_dependencies(tests_${arg_LABEL} ${name})
  add_test(NAME ${name} COMMAND ${name} --gtest_brief=1)
  set_tests_properties(${name} PROPERTIES LABELS ${arg_LABEL} TIMEOUT ${arg_TIMEOUT}
    FAIL_REGULAR_EXPRESSION "\\] 0 tests from")
endfunction()

# add_vmstore_scenario(<name> SCRIPT path [TIMEOUT s] [LABEL scenario|soak])
# A script against real programs; exit 77 means that something it requires is not installed.
function(add_vmstore_scenario name)
  cmake_parse_arguments(PARSE_ARGV 1 arg "" "SCRIPT;TIMEOUT;LABEL" "")
  if(NOT BUILD_TESTING)
    return()
  endif()
  if(NOT arg_TIMEOUT)
    set(arg_TIMEOUT 120)
  endif()
  if(NOT arg_LABEL)
    set(arg_LABEL scenario)
  endif()
  cmake_path(ABSOLUTE_PATH arg_SCRIPT BASE_DIRECTORY "${CMAKE_CURRENT_SOURCE_DIR}")
  add_test(NAME ${name} COMMAND "${arg_SCRIPT}")
  set_tests_properties(${name} PROPERTIES LABELS ${arg_LABEL} TIMEOUT ${arg_TIMEOUT}
    SKIP_RETURN_CODE 77
    ENVIRONMENT "BUILD_DIR=${PROJECT_BINARY_DIR};SOURCE_DIR=${PROJECT_SOURCE_DIR}")
endfunction()

# add_vmstore_fuzzer(<name> SOURCES ... LINKS ...): built by the fuzz preset only. The test runs
# VMSTORE_FUZZ_SECONDS from the kept corpus tests/fuzz/corpus/<name>; what it finds stays in the
# build folder until somebody minimizes and keeps it.
function(add_vmstore_fuzzer name)
  cmake_parse_arguments(PARSE_ARGV 1 arg "" "" "SOURCES;LINKS")
  if(NOT VMSTORE_FUZZ)
    return()
  endif()
  set(VMSTORE_FUZZ_SECONDS 20 CACHE STRING "How long each fuzzer runs as a test")
  add_vmstore_executable(${name} SOURCES ${arg_SOURCES} LINKS ${arg_LINKS})
  target_link_options(${name} PRIVATE -fsanitize=fuzzer)
  add_dependencies(fuzzers ${name})
  set(corpus "${PROJECT_SOURCE_DIR}/tests/fuzz/corpus/${name}")
  set(found "${PROJECT_BINARY_DIR}/corpus/${name}")
  file(MAKE_DIRECTORY "${found}")
  if(NOT EXISTS "${corpus}")
    set(corpus)
  endif()
  math(EXPR timeout "${VMSTORE_FUZZ_SECONDS} * 3 + 60")
  add_test(NAME ${name} COMMAND ${name} -max_total_time=${VMSTORE_FUZZ_SECONDS} -timeout=10
    -rss_limit_mb=1024 -print_final_stats=1 -verbosity=0 "-artifact_prefix=${found}-"
    "${found}" ${corpus})
  set_tests_properties(${name} PROPERTIES LABELS fuzz TIMEOUT ${timeout})
endfunction()
