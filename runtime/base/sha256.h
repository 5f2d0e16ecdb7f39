// SHA-256 (FIPS 180-4) by OpenSSL's libcrypto, which uses the processor's SHA instructions.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>

namespace autospc {

class Sha256 {
 public:
  Sha256();
  ~Sha256();
  Sha256(const Sha256&) = delete;
  Sha256& operator=(const Sha256&) = delete;

  void Update(const void* data, int64_t bytes);
  std::string HexDigest();  // 64 digits, lower case; once, at the end

 private:
  struct State;
  std::unique_ptr<State> state_;
};

std::string Sha256Hex(std::string_view data);

}  // namespace autospc
