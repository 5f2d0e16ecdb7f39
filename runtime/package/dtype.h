// Element types of packages: sizes, names, conversions between the float types.
#pragma once

#include <cstdint>
#include <optional>
#include <string_view>
#include <vector>

#include "runtime/base/result.h"
#include "runtime/package/program_generated.h"

namespace autospc {

bool IsValidDType(program::DType dtype);  // false for a number outside the enum, as a hostile file may hold
int64_t ByteSize(program::DType dtype);
bool IsFloat(program::DType dtype);  // float16, bfloat16, float32, float64
// "f32": as the IR prints them.
std::string_view Name(program::DType dtype);

// safetensors' names: "F32", "BF16", "BOOL", …; "C64" alone of the complex types (complex128 has none: "").
std::string_view SafetensorsName(program::DType dtype);
std::optional<program::DType> FromSafetensorsName(std::string_view name);

// The product of the sizes; nullopt for a negative size or one that does not fit 63 bits.
std::optional<int64_t> CheckedNumel(const std::vector<int64_t>& sizes);
// "[2, 61]"
std::string FormatSizes(const std::vector<int64_t>& sizes);
std::vector<int64_t> ContiguousStrides(const std::vector<int64_t>& sizes);

// `count` elements at `from` to `to`, types equal or both float; neither needs alignment. Narrowing rounds
// to the nearest even, as PyTorch does (float64 to a 16-bit type by way of float32).
Status ConvertTo(program::DType to_type, void* to, program::DType from_type, const void* from, int64_t count);
// One element as a double; of any type that is not complex.
double LoadAsDouble(program::DType dtype, const void* element);

}  // namespace autospc
