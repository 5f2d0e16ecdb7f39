// libFuzzer's side of one entry: AUTOSPC_FUZZ_ENTRY names it, AUTOSPC_FUZZ_MUTATE its mutation, if it has one.
#include "tests/fuzz/entries.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  autospc::fuzz::AUTOSPC_FUZZ_ENTRY({reinterpret_cast<const char*>(data), size});
  return 0;
}

#ifdef AUTOSPC_FUZZ_MUTATE
extern "C" size_t LLVMFuzzerMutate(uint8_t* data, size_t size, size_t max_size);

extern "C" size_t LLVMFuzzerCustomMutator(uint8_t* data, size_t size, size_t max_size, unsigned seed) {
  // A quarter stays plain: what breaks the container is a fault of its own.
  const size_t made = seed % 4 != 0 ? autospc::fuzz::AUTOSPC_FUZZ_MUTATE(data, size, max_size, seed / 4) : 0;
  return made != 0 ? made : LLVMFuzzerMutate(data, size, max_size);
}
#endif
