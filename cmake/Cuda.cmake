# libautosp_cuda.so: NCCL behind the communicator's interface, loaded by autosp-run for --device cuda alone. Built
# where the CUDA toolkit's headers, nccl.h and the wheel's libtorch_cuda.so are; -DAUTOSPC_CUDA=OFF|ON skips it or
# insists on it.
set(AUTOSPC_CUDA AUTO CACHE STRING "Build the CUDA module: AUTO, ON or OFF")
set_property(CACHE AUTOSPC_CUDA PROPERTY STRINGS AUTO ON OFF)
set(cuda_missing "")
if(NOT AUTOSPC_CUDA)
  set(cuda_missing "AUTOSPC_CUDA is ${AUTOSPC_CUDA}")
else()
  # By hand: find_package(CUDAToolkit) wants nvcc, which nothing here needs. NCCL itself is LibTorch's.
  set(cuda_places ENV CUDA_HOME ENV CUDA_PATH /usr/local/cuda)
  find_path(AUTOSPC_CUDA_INCLUDE cuda_runtime_api.h HINTS ${cuda_places} PATH_SUFFIXES include)
  find_path(AUTOSPC_NCCL_INCLUDE nccl.h HINTS ${cuda_places} ENV NCCL_HOME PATH_SUFFIXES include)
  find_library(AUTOSPC_CUDART cudart HINTS ${cuda_places} PATH_SUFFIXES lib64 lib)
  foreach(needed "AUTOSPC_CUDA_INCLUDE:cuda_runtime_api.h" "AUTOSPC_NCCL_INCLUDE:nccl.h" "AUTOSPC_CUDART:libcudart.so")
    string(REPLACE ":" ";" needed "${needed}")
    list(GET needed 0 variable)
    list(GET needed 1 file)
    if(NOT ${variable})
      list(APPEND cuda_missing "${file}")
    endif()
  endforeach()
  if(NOT EXISTS "${AUTOSPC_TORCH}/lib/libtorch_cuda.so")
    list(APPEND cuda_missing "${AUTOSPC_TORCH}/lib/libtorch_cuda.so")
  endif()
  list(JOIN cuda_missing ", " cuda_missing)
  if(cuda_missing)
    string(PREPEND cuda_missing "missing ")
  endif()
endif()

if(cuda_missing)
  if("${AUTOSPC_CUDA}" STREQUAL "ON")
    message(FATAL_ERROR "the CUDA module can't be built: ${cuda_missing}")
  endif()
  message(STATUS "CUDA module: not built (${cuda_missing}); autosp-run --device cuda will say so")
else()
  message(STATUS "CUDA module: built with ${AUTOSPC_NCCL_INCLUDE}/nccl.h")
  # What it shares with the programs is compiled into it once more, position-independent and hidden: it can be loaded
  # by any program of this build, and replaces nothing there.
  file(GLOB sources CONFIGURE_DEPENDS "${CMAKE_SOURCE_DIR}/runtime/cuda/*.cc")
  set(shared runtime/base/fmt.cc runtime/base/result.cc runtime/dist/communicator.cc runtime/dist/reduce_rows.cc
             runtime/dist/device_memory.cc runtime/dist/cuda_module_build.cc)
  add_library(autosp_cuda SHARED ${sources} ${shared})
  set_target_properties(autosp_cuda PROPERTIES LIBRARY_OUTPUT_DIRECTORY "${CMAKE_BINARY_DIR}/lib"
                        CXX_VISIBILITY_PRESET hidden VISIBILITY_INLINES_HIDDEN ON SKIP_BUILD_RPATH ON)
  target_include_directories(autosp_cuda PRIVATE "${CMAKE_SOURCE_DIR}")
  target_include_directories(autosp_cuda SYSTEM PRIVATE "${AUTOSPC_CUDA_INCLUDE}" "${AUTOSPC_NCCL_INCLUDE}")
  target_compile_definitions(autosp_cuda PRIVATE USE_C10D_NCCL AUTOSPC_VERSION="${PROJECT_VERSION}")
  target_compile_options(autosp_cuda PRIVATE -Wall -Wextra -Wno-unused-parameter)
  # libtorch_cuda.so needs libraries that the pinned wheels leave out (cuDNN, NVSHMEM, cuSPARSELt): the linker must not
  # look for them. What the module itself lacks is an error here, not where it is loaded.
  target_link_libraries(autosp_cuda PRIVATE torch_fmt torch_cpu "${AUTOSPC_TORCH}/lib/libtorch_cuda.so"
                        "${AUTOSPC_TORCH}/lib/libc10_cuda.so" "${AUTOSPC_CUDART}")
  target_link_options(autosp_cuda PRIVATE -Wl,--no-undefined -Wl,--allow-shlib-undefined)
  autospc_test(test_cuda cuda LINK compiler train)  # finds the module as autosp-run does
  if(TARGET test_cuda)
    add_dependencies(test_cuda autosp_cuda)
  endif()
endif()
