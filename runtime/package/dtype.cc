#include "runtime/package/dtype.h"

#include <array>
#include <bit>
#include <cstring>
#include <string>

namespace autospc {
namespace {

using program::DType;

struct Info {
  int64_t bytes;
  bool is_float;
  std::string_view name;
  std::string_view safetensors;
};
constexpr std::array<Info, 12> kInfo = {{
    {1, false, "bool", "BOOL"}, {1, false, "u8", "U8"}, {1, false, "i8", "I8"}, {2, false, "i16", "I16"},
    {4, false, "i32", "I32"}, {8, false, "i64", "I64"}, {2, true, "f16", "F16"}, {2, true, "bf16", "BF16"},
    {4, true, "f32", "F32"}, {8, true, "f64", "F64"}, {8, false, "c64", "C64"}, {16, false, "c128", ""},
}};
const Info& InfoOf(DType dtype) { return kInfo[static_cast<size_t>(dtype)]; }

// 16-bit floats as types of their own, so that one loop converts between any two.
struct Half {
  uint16_t bits;
};
struct BFloat16 {
  uint16_t bits;
};

float ToFloat(BFloat16 x) { return std::bit_cast<float>(static_cast<uint32_t>(x.bits) << 16); }

float ToFloat(Half x) {
  const uint32_t sign = static_cast<uint32_t>(x.bits & 0x8000) << 16;
  const uint32_t exponent = (x.bits >> 10) & 31, mantissa = x.bits & 0x3ff;
  if (exponent == 31) return std::bit_cast<float>(sign | 0x7f800000 | (mantissa << 13));
  if (exponent != 0) return std::bit_cast<float>(sign | ((exponent + 112) << 23) | (mantissa << 13));
  const float subnormal = static_cast<float>(mantissa) * 0x1p-24f;  // exact
  return std::bit_cast<float>(sign | std::bit_cast<uint32_t>(subnormal));
}

BFloat16 ToBFloat16(float x) {
  const uint32_t bits = std::bit_cast<uint32_t>(x);
  if ((bits & 0x7fffffff) > 0x7f800000) return {static_cast<uint16_t>((bits >> 16) | 0x40)};  // NaN stays NaN
  return {static_cast<uint16_t>((bits + 0x7fff + ((bits >> 16) & 1)) >> 16)};
}

Half ToHalf(float x) {
  const uint32_t bits = std::bit_cast<uint32_t>(x);
  const uint16_t sign = static_cast<uint16_t>((bits >> 16) & 0x8000);
  const uint32_t magnitude = bits & 0x7fffffff;
  if (magnitude > 0x7f800000) return {static_cast<uint16_t>(sign | 0x7e00)};
  if (magnitude >= 0x477ff000) return {static_cast<uint16_t>(sign | 0x7c00)};  // rounds past 65504
  if (magnitude < 0x38800000) {  // below the least normal half: adding 0.5 leaves the rounded multiple of 2^-24
    const float shifted = std::bit_cast<float>(magnitude) + 0.5f;
    return {static_cast<uint16_t>(sign | (std::bit_cast<uint32_t>(shifted) - 0x3f000000))};
  }
  const uint32_t rounded = magnitude + 0xfff + ((magnitude >> 13) & 1);
  return {static_cast<uint16_t>(sign | ((rounded - 0x38000000) >> 13))};
}

double Widen(double x) { return x; }
double Widen(float x) { return x; }
double Widen(Half x) { return ToFloat(x); }
double Widen(BFloat16 x) { return ToFloat(x); }

template <typename To>
To Narrow(double x) {
  if constexpr (std::is_same_v<To, Half>) return ToHalf(static_cast<float>(x));
  else if constexpr (std::is_same_v<To, BFloat16>) return ToBFloat16(static_cast<float>(x));
  else return static_cast<To>(x);
}

template <typename To, typename From>
void Convert(void* to, const void* from, int64_t count) {
  char* out = static_cast<char*>(to);
  const char* in = static_cast<const char*>(from);
  for (int64_t i = 0; i < count; ++i) {
    From x;
    std::memcpy(&x, in + i * sizeof(From), sizeof(From));
    const To y = Narrow<To>(Widen(x));
    std::memcpy(out + i * sizeof(To), &y, sizeof(To));
  }
}

template <typename To>
void ConvertFrom(DType from_type, void* to, const void* from, int64_t count) {
  switch (from_type) {
    case DType::Float16: return Convert<To, Half>(to, from, count);
    case DType::BFloat16: return Convert<To, BFloat16>(to, from, count);
    case DType::Float32: return Convert<To, float>(to, from, count);
    default: return Convert<To, double>(to, from, count);
  }
}

template <typename T>
double LoadNumber(const void* element) {
  T x;
  std::memcpy(&x, element, sizeof(T));
  return static_cast<double>(x);
}

}  // namespace

bool IsValidDType(DType dtype) { return static_cast<size_t>(dtype) < kInfo.size(); }
int64_t ByteSize(DType dtype) { return InfoOf(dtype).bytes; }
bool IsFloat(DType dtype) { return InfoOf(dtype).is_float; }
std::string_view Name(DType dtype) { return InfoOf(dtype).name; }
std::string_view SafetensorsName(DType dtype) { return InfoOf(dtype).safetensors; }

std::optional<DType> FromSafetensorsName(std::string_view name) {
  for (size_t i = 0; i < kInfo.size(); ++i)
    if (!name.empty() && kInfo[i].safetensors == name) return static_cast<DType>(i);
  return std::nullopt;
}

std::optional<int64_t> CheckedNumel(const std::vector<int64_t>& sizes) {
  int64_t numel = 1;
  bool overflow = false, empty = false;
  for (const int64_t size : sizes) {
    if (size < 0) return std::nullopt;
    empty = empty || size == 0;
    overflow = __builtin_mul_overflow(numel, size, &numel) || overflow;
  }
  if (empty) return 0;  // however large the others are
  if (overflow) return std::nullopt;
  return numel;
}

std::string FormatSizes(const std::vector<int64_t>& sizes) {
  std::string text = "[";
  for (size_t i = 0; i < sizes.size(); ++i) text += fmt::format("{}{}", i == 0 ? "" : ", ", sizes[i]);
  return text + "]";
}

std::vector<int64_t> ContiguousStrides(const std::vector<int64_t>& sizes) {
  std::vector<int64_t> strides(sizes.size());
  uint64_t stride = 1;  // the strides of an empty tensor may leave 64 bits, and mean nothing
  for (size_t d = sizes.size(); d-- > 0;) {
    strides[d] = static_cast<int64_t>(stride);
    stride *= static_cast<uint64_t>(std::max<int64_t>(sizes[d], 1));
  }
  return strides;
}

Status ConvertTo(DType to_type, void* to, DType from_type, const void* from, int64_t count) {
  if (to_type == from_type) {
    if (count > 0) std::memcpy(to, from, static_cast<size_t>(count * ByteSize(to_type)));
    return Ok();
  }
  if (!IsFloat(to_type) || !IsFloat(from_type))
    return Error{Code::kBadInput, fmt::format("{} does not convert to {}", Name(from_type), Name(to_type)), "", ""};
  switch (to_type) {
    case DType::Float16: ConvertFrom<Half>(from_type, to, from, count); break;
    case DType::BFloat16: ConvertFrom<BFloat16>(from_type, to, from, count); break;
    case DType::Float32: ConvertFrom<float>(from_type, to, from, count); break;
    default: ConvertFrom<double>(from_type, to, from, count); break;
  }
  return Ok();
}

double LoadAsDouble(DType dtype, const void* element) {
  switch (dtype) {
    case DType::Bool: return LoadNumber<uint8_t>(element) != 0 ? 1 : 0;
    case DType::UInt8: return LoadNumber<uint8_t>(element);
    case DType::Int8: return LoadNumber<int8_t>(element);
    case DType::Int16: return LoadNumber<int16_t>(element);
    case DType::Int32: return LoadNumber<int32_t>(element);
    case DType::Int64: return LoadNumber<int64_t>(element);
    case DType::Float32: return LoadNumber<float>(element);
    default: {
      double x = 0;
      ConvertFrom<double>(dtype, &x, element, 1);
      return x;
    }
  }
}

}  // namespace autospc
