# One target a folder; its sources are the folder's *.cc (no recursion). The arrows between layers are
# the LINK lists below and nothing else; tests/check_layers.py holds the includes to them.

# autospc_layer(NAME FOLDER LINK target...)
function(autospc_layer NAME FOLDER)
  cmake_parse_arguments(L "" "" "LINK" ${ARGN})
  file(GLOB sources CONFIGURE_DEPENDS "${CMAKE_SOURCE_DIR}/${FOLDER}/*.cc")
  if(NOT sources)
    add_library(${NAME} INTERFACE)
    target_include_directories(${NAME} INTERFACE "${CMAKE_SOURCE_DIR}")
    target_link_libraries(${NAME} INTERFACE ${L_LINK})
    return()
  endif()
  add_library(${NAME} STATIC ${sources})
  target_include_directories(${NAME} PUBLIC "${CMAKE_SOURCE_DIR}" "${CMAKE_BINARY_DIR}/generated")
  target_compile_options(${NAME} PRIVATE -Wall -Wextra -Wno-unused-parameter)
  target_link_libraries(${NAME} PUBLIC ${L_LINK})
endfunction()

# autospc_test(NAME FOLDER LINK target...): one GoogleTest program of FOLDER's *_test.cc.
function(autospc_test NAME FOLDER)
  cmake_parse_arguments(L "" "" "LINK" ${ARGN})
  file(GLOB sources CONFIGURE_DEPENDS "${CMAKE_SOURCE_DIR}/tests/${FOLDER}/*_test.cc")
  if(NOT sources)
    return()
  endif()
  add_executable(${NAME} ${sources})
  target_include_directories(${NAME} PRIVATE "${CMAKE_SOURCE_DIR}")
  target_compile_definitions(${NAME} PRIVATE
    AUTOSPC_SOURCE_DIR="${CMAKE_SOURCE_DIR}" AUTOSPC_BIN_DIR="${CMAKE_BINARY_DIR}/bin")
  target_link_libraries(${NAME} PRIVATE ${L_LINK} GTest::gtest GTest::gtest_main)
  add_test(NAME ${NAME} COMMAND ${NAME})
  set_tests_properties(${NAME} PROPERTIES TIMEOUT 1500)
endfunction()

# The FlatBuffers schema becomes a header at build time.
find_program(FLATC flatc REQUIRED)
set(generated "${CMAKE_BINARY_DIR}/generated/runtime/package")
file(MAKE_DIRECTORY "${generated}")
add_custom_command(
  OUTPUT "${generated}/program_generated.h"
  COMMAND ${FLATC} --cpp --gen-object-api --scoped-enums --cpp-std c++17 -o "${generated}"
          "${CMAKE_SOURCE_DIR}/runtime/package/program.fbs"
  DEPENDS "${CMAKE_SOURCE_DIR}/runtime/package/program.fbs" VERBATIM)
add_custom_target(program_schema DEPENDS "${generated}/program_generated.h")

# The report's page, style and scripts become constants of a header.
set(report "${CMAKE_SOURCE_DIR}/compiler/report")
set(report_scripts "")
foreach(script core timeline arena curve start)
  list(APPEND report_scripts "${report}/${script}.js")
endforeach()
list(JOIN report_scripts "+" report_joined)
add_custom_command(
  OUTPUT "${CMAKE_BINARY_DIR}/generated/compiler/report_assets.h"
  COMMAND "${CMAKE_COMMAND}" "-DOUTPUT=${CMAKE_BINARY_DIR}/generated/compiler/report_assets.h" -DNAMESPACE=autospc::report::assets
          "-DFILES=kPage=${report}/page.html|kStyle=${report}/page.css|kScript=${report_joined}"
          -P "${CMAKE_SOURCE_DIR}/cmake/EmbedText.cmake"
  DEPENDS "${report}/page.html" "${report}/page.css" ${report_scripts} "${CMAKE_SOURCE_DIR}/cmake/EmbedText.cmake" VERBATIM)
add_custom_target(report_assets DEPENDS "${CMAKE_BINARY_DIR}/generated/compiler/report_assets.h")

find_package(OpenSSL 3.0 REQUIRED COMPONENTS Crypto)  # SHA-256 (Debian: libssl-dev)
enable_testing()

autospc_layer(base runtime/base LINK torch_fmt Threads::Threads OpenSSL::Crypto)
target_compile_definitions(base PUBLIC AUTOSPC_VERSION="${PROJECT_VERSION}")
autospc_layer(ir passes/ir LINK base)
autospc_layer(framework passes/framework LINK ir)
autospc_layer(canonical passes/canonical LINK framework)
autospc_layer(precision passes/precision LINK framework)
autospc_layer(partition passes/partition LINK framework)
autospc_layer(tile passes/tile LINK partition)
autospc_layer(step passes/step LINK framework)
autospc_layer(memory passes/memory LINK framework)
autospc_layer(recompute passes/recompute LINK memory Boost::headers)
autospc_layer(package runtime/package LINK base)
autospc_layer(checkpoint runtime/checkpoint LINK package)
autospc_layer(codegen codegen LINK canonical precision partition tile step memory recompute package)
autospc_layer(import compiler/import LINK ir package outvariant torch_cpu)
autospc_layer(autodiff compiler/autodiff LINK ir package outvariant torch_cpu)
autospc_layer(outvariant runtime/outvariant LINK base torch_cpu)
autospc_layer(compiler compiler LINK import autodiff codegen outvariant)
autospc_layer(dist runtime/dist LINK base torch_cpu)
autospc_layer(exec runtime/exec LINK package dist outvariant torch_cpu)
autospc_layer(data runtime/data LINK package)
autospc_layer(metrics runtime/metrics LINK package Boost::headers)
autospc_layer(train runtime/train LINK exec dist checkpoint data metrics)
foreach(layer package codegen import autodiff compiler exec data metrics train)
  get_target_property(kind ${layer} TYPE)
  if(NOT kind STREQUAL "INTERFACE_LIBRARY")
    add_dependencies(${layer} program_schema)
  endif()
endforeach()

add_dependencies(compiler report_assets)

# What the programs share: flags, and nothing above runtime/base.
add_library(cliflags STATIC "${CMAKE_SOURCE_DIR}/cli/flags.cc")
target_include_directories(cliflags PUBLIC "${CMAKE_SOURCE_DIR}")
target_compile_options(cliflags PRIVATE -Wall -Wextra -Wno-unused-parameter)
target_link_libraries(cliflags PUBLIC base Boost::program_options)

# Programs: cli/NAME.cc and its parts cli/NAME_*.cc, all of them parse, call one function, print.
function(autospc_program NAME)
  cmake_parse_arguments(L "" "" "LINK" ${ARGN})
  string(REPLACE "-" "_" file "${NAME}")
  if(EXISTS "${CMAKE_SOURCE_DIR}/cli/${file}.cc")
    file(GLOB parts CONFIGURE_DEPENDS "${CMAKE_SOURCE_DIR}/cli/${file}_*.cc")
    list(FILTER parts EXCLUDE REGEX "autospc_opt")  # a program of its own
    add_executable(${NAME} "cli/${file}.cc" ${parts})
    target_include_directories(${NAME} PRIVATE "${CMAKE_SOURCE_DIR}")
    target_link_libraries(${NAME} PRIVATE cliflags ${L_LINK})
  endif()
endfunction()
autospc_program(autospc LINK compiler)
autospc_program(autospc-opt LINK codegen import autodiff)
# The compiler makes and frees graphs of small objects; glibc's allocator takes a third of its time. Ranks keep glibc's,
# whose growth is what their memory is measured by. Sanitizers bring an allocator of their own.
find_package(mimalloc CONFIG QUIET)
if(TARGET mimalloc AND NOT CMAKE_CXX_FLAGS MATCHES "-fsanitize")
  target_link_libraries(autospc PRIVATE mimalloc)
endif()
autospc_program(autosp-run LINK train)

autospc_test(test_base base LINK base)
autospc_test(test_ir ir LINK ir)
autospc_test(test_framework framework LINK framework)
autospc_test(test_canonical canonical LINK canonical torch_cpu)
autospc_test(test_precision precision LINK precision import)
autospc_test(test_partition partition LINK partition)
autospc_test(test_step step LINK step)
autospc_test(test_tile tile LINK tile)
autospc_test(test_memory memory LINK memory)
autospc_test(test_recompute recompute LINK recompute)
autospc_test(test_package package LINK package)
autospc_test(test_checkpoint checkpoint LINK checkpoint)
autospc_test(test_metrics metrics LINK metrics)
autospc_test(test_codegen codegen LINK codegen)
autospc_test(test_import import LINK import)
autospc_test(test_autodiff autodiff LINK autodiff)
autospc_test(test_compiler compiler LINK compiler train)  # graphs are compiled and run
autospc_test(test_exec exec LINK exec)
autospc_test(test_dist dist LINK dist)
autospc_test(test_data data LINK data)
autospc_test(test_train train LINK train)
autospc_test(test_cli cli LINK cliflags)
autospc_test(test_e2e e2e LINK base)
autospc_test(test_fuzz fuzz LINK compiler train cliflags)
if(TARGET test_fuzz)
  set_target_properties(test_fuzz PROPERTIES UNITY_BUILD OFF)  # entries include programs, each with names of its own
  foreach(entry ir safetensors program package tokens pt2 executor run_flags compile_flags)
    target_sources(test_fuzz PRIVATE "${CMAKE_SOURCE_DIR}/tests/fuzz/${entry}_entry.cc")
  endforeach()
  target_sources(test_fuzz PRIVATE "${CMAKE_SOURCE_DIR}/tests/fuzz/program_mutation.cc"
                                   "${CMAKE_SOURCE_DIR}/tests/fuzz/package_files.cc" "${CMAKE_SOURCE_DIR}/cli/autosp_run_see.cc")
endif()
autospc_test(test_golden golden LINK torch_cpu)

if(TARGET test_golden)
  add_dependencies(test_golden autospc-opt)
endif()
# The end-to-end tests drive the programs; the layer check needs nothing built.
if(TARGET test_e2e)
  set_target_properties(test_e2e PROPERTIES UNITY_BUILD OFF)  # without LibTorch there is nothing to share
  foreach(program autospc autospc-opt autosp-run)
    if(TARGET ${program})
      add_dependencies(test_e2e ${program})
    endif()
  endforeach()
endif()
find_package(Python3 REQUIRED COMPONENTS Interpreter)
add_test(NAME check_layers COMMAND "${Python3_EXECUTABLE}" "${CMAKE_SOURCE_DIR}/tests/check_layers.py")
add_test(NAME check_layers_itself COMMAND "${Python3_EXECUTABLE}" "${CMAKE_SOURCE_DIR}/tests/check_layers.py" --self-test)
