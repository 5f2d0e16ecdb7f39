# LibTorch from the pinned wheel, as two imported targets. find_package(Torch) refuses CUDA 13 under
# CMake 3.25, and drags in CUDA where only the CPU libraries are wanted.
file(GLOB installed "${CMAKE_BINARY_DIR}/venv/lib/python3*/site-packages/torch"
                    "${CMAKE_SOURCE_DIR}/build/venv/lib/python3*/site-packages/torch")
list(APPEND installed "${CMAKE_BINARY_DIR}/venv/torch")  # what the message below names where there is none
list(GET installed 0 installed)
set(AUTOSPC_TORCH "${installed}" CACHE PATH "The torch folder of an installed wheel: include/ and lib/ are used")
if(NOT EXISTS "${AUTOSPC_TORCH}/lib/libtorch_cpu.so")
  message(FATAL_ERROR "no LibTorch in ${AUTOSPC_TORCH}: run ./dev setup, or give -DAUTOSPC_TORCH=DIR")
endif()

add_library(torch_fmt INTERFACE)  # the wheel's fmt 12 alone (runtime/base/fmt.cc is its library)
file(MAKE_DIRECTORY "${CMAKE_BINARY_DIR}/fmt_only")
file(CREATE_LINK "${AUTOSPC_TORCH}/include/fmt" "${CMAKE_BINARY_DIR}/fmt_only/fmt" SYMBOLIC)
target_include_directories(torch_fmt SYSTEM INTERFACE "${CMAKE_BINARY_DIR}/fmt_only")

add_library(torch_c10 SHARED IMPORTED)
set_target_properties(torch_c10 PROPERTIES IMPORTED_LOCATION "${AUTOSPC_TORCH}/lib/libc10.so")
add_library(torch_cpu SHARED IMPORTED)
set_target_properties(torch_cpu PROPERTIES IMPORTED_LOCATION "${AUTOSPC_TORCH}/lib/libtorch_cpu.so")
target_include_directories(torch_cpu SYSTEM INTERFACE
  "${AUTOSPC_TORCH}/include" "${AUTOSPC_TORCH}/include/torch/csrc/api/include")
target_compile_definitions(torch_cpu INTERFACE USE_DISTRIBUTED USE_C10D_GLOO)
target_link_libraries(torch_cpu INTERFACE torch_c10)
# libtorch_cpu.so needs cudart and cupti even for CPU work; the wheels beside it hold them.
target_link_options(torch_cpu INTERFACE "-Wl,--allow-shlib-undefined" "-Wl,-rpath,${AUTOSPC_TORCH}/lib")
# at::parallel_for is a template over OpenMP: without the flag it runs on one thread. The runtime library that is
# loaded is the wheel's own libgomp.so.1 (first in the run path), the one LibTorch uses.
# Clang, which builds the fuzzers alone, has no OpenMP of its own here, and one thread is what they want.
if(NOT AUTOSPC_FUZZ)
  target_compile_options(torch_cpu INTERFACE -fopenmp)
  target_link_options(torch_cpu INTERFACE -fopenmp)
endif()
