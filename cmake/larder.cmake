# Compiler settings and the two functions every folder uses.
find_program(LARDER_CCACHE ccache)
if(LARDER_CCACHE AND NOT CMAKE_CXX_COMPILER_LAUNCHER)
  # Precompiled headers are only cached when ccache is told that their macros may be trusted.
  set(CMAKE_CXX_COMPILER_LAUNCHER ${CMAKE_COMMAND} -E env
                                  CCACHE_SLOPPINESS=pch_defines,time_macros ${LARDER_CCACHE})
endif()

find_package(Threads REQUIRED)
find_package(fmt REQUIRED)
find_package(nlohmann_json 3.11 REQUIRED)
find_package(OpenSSL 3.0 REQUIRED)
find_package(PkgConfig REQUIRED)
pkg_check_modules(PCRE2 REQUIRED IMPORTED_TARGET libpcre2-8)
find_path(LARDER_EXPECTED_DIR tl/expected.hpp REQUIRED)

add_library(larder_settings INTERFACE)
target_include_directories(larder_settings INTERFACE ${PROJECT_SOURCE_DIR}/include
                                                     ${PROJECT_SOURCE_DIR}/src)
target_compile_options(larder_settings INTERFACE -Wall -Wextra -Wpedantic -Wshadow -Wconversion
                                                 -Wno-sign-conversion)
if(LARDER_WERROR)
  target_compile_options(larder_settings INTERFACE -Werror)
endif()
if(LARDER_SANITIZE)
  # Not where a target has LARDER_PLAIN.
  set(flags -fsanitize=${LARDER_SANITIZE} -fno-sanitize-recover=all -fno-omit-frame-pointer)
  target_compile_options(larder_settings INTERFACE
                         "$<$<NOT:$<BOOL:$<TARGET_PROPERTY:LARDER_PLAIN>>>:${flags}>")
  target_link_options(larder_settings INTERFACE -fsanitize=${LARDER_SANITIZE})
endif()
# Reproducible results: the compiler must not fuse or reorder what the reference code spells out.
target_compile_options(larder_settings INTERFACE -ffp-contract=off)

# larder_precompile(TARGET HEADER ...): heavy headers are parsed once per target. Sources still include
# what they use, so a build without this is only slower.
function(larder_precompile target)
  target_precompile_headers(${target} PRIVATE ${ARGN})
  if(CMAKE_CXX_COMPILER_ID STREQUAL "GNU")
    target_compile_options(${target} PRIVATE -fpch-preprocess)  # what ccache needs to see
  endif()
endfunction()

# larder_plain(TARGET): compiled without sanitizers, in half the time; what it calls has them. The thread
# sanitizer has to see every access, so it stays.
function(larder_plain target)
  if(NOT LARDER_SANITIZE STREQUAL "thread")
    set_target_properties(${target} PROPERTIES LARDER_PLAIN ON)
  endif()
endfunction()

# larder_module(NAME [DEPS ...]): a static library of the .cc files below this folder; it links only
# what the include directions of docs/architecture.md allow.
function(larder_module name)
  cmake_parse_arguments(ARG "" "" "DEPS" ${ARGN})
  file(GLOB_RECURSE sources CONFIGURE_DEPENDS ${CMAKE_CURRENT_SOURCE_DIR}/*.cc)
  add_library(larder_${name} STATIC ${sources})
  target_link_libraries(larder_${name} PUBLIC larder_settings fmt::fmt ${ARG_DEPS})
endfunction()

# larder_tests(NAME [DEPS ...]): one GoogleTest program of the *_test.cc files below this folder.
function(larder_tests name)
  cmake_parse_arguments(ARG "" "" "DEPS" ${ARGN})
  file(GLOB_RECURSE sources CONFIGURE_DEPENDS ${CMAKE_CURRENT_SOURCE_DIR}/*_test.cc)
  if(NOT sources)
    return()
  endif()
  add_executable(${name}_tests ${sources})
  target_link_libraries(${name}_tests PRIVATE ${ARG_DEPS} GTest::gmock GTest::gtest_main)
  larder_precompile(${name}_tests <gmock/gmock.h> <gtest/gtest.h>)
  # What is tested is optimised and checked; what tests it is to be compiled quickly.
  target_compile_options(${name}_tests PRIVATE -O1 -g0)
  larder_plain(${name}_tests)
  target_include_directories(${name}_tests PRIVATE ${PROJECT_SOURCE_DIR}/tests)
  target_compile_definitions(${name}_tests PRIVATE
                             LARDER_TEST_DATA="${PROJECT_SOURCE_DIR}/tests/data"
                             LARDER_MODELS_DIR="${PROJECT_SOURCE_DIR}/models")
  gtest_discover_tests(${name}_tests DISCOVERY_TIMEOUT 60
                       PROPERTIES TIMEOUT 600 LABELS ${name})
endfunction()
