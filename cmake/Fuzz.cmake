# Fuzzers of what comes from outside (tests/fuzz), outside of `all`: one function an input, called by GoogleTest over a
# corpus in the usual build, and by libFuzzer in a build of its own (./dev fuzz: Clang, AddressSanitizer and
# UndefinedBehaviorSanitizer), which is configured with -DAUTOSPC_FUZZ=ON.
option(AUTOSPC_FUZZ "Make this a build of fuzzers" OFF)
if(AUTOSPC_FUZZ)
  # `null` and `alignment` are checks of third parties' headers as well, so of code that is not ours; what ours does
  # to memory AddressSanitizer says. Signed overflow and shifts stay.
  set(fuzz_flags -O1 -g1 -fno-omit-frame-pointer -fsanitize=fuzzer-no-link,address,undefined
                 -fno-sanitize=vptr,alignment,null,function -fno-sanitize-recover=undefined -Wno-unknown-warning-option)
  add_compile_options(${fuzz_flags})
  add_compile_definitions(AUTOSPC_FUZZ)
  add_link_options(-fsanitize=address,undefined -fno-sanitize=vptr,function)
endif()

# autospc_fuzzer(NAME ENTRY SOURCES file... [MUTATE FUNCTION] LINK target...): ENTRY is a function of
# tests/fuzz/entries.h.
function(autospc_fuzzer NAME ENTRY)
  cmake_parse_arguments(F "" "MUTATE" "SOURCES;LINK" ${ARGN})
  if(NOT AUTOSPC_FUZZ)
    return()
  endif()
  list(TRANSFORM F_SOURCES PREPEND "${CMAKE_SOURCE_DIR}/tests/fuzz/")
  add_executable(fuzz_${NAME} EXCLUDE_FROM_ALL "${CMAKE_SOURCE_DIR}/tests/fuzz/libfuzzer.cc" ${F_SOURCES})
  target_compile_definitions(fuzz_${NAME} PRIVATE AUTOSPC_FUZZ_ENTRY=${ENTRY})
  if(F_MUTATE)
    target_compile_definitions(fuzz_${NAME} PRIVATE AUTOSPC_FUZZ_MUTATE=${F_MUTATE})
  endif()
  target_include_directories(fuzz_${NAME} PRIVATE "${CMAKE_SOURCE_DIR}")
  target_link_options(fuzz_${NAME} PRIVATE -fsanitize=fuzzer)
  target_link_libraries(fuzz_${NAME} PRIVATE ${F_LINK})
endfunction()
