// A safetensors file in memory: header and data, to read expectations from and to damage.
#pragma once

#include <cstdint>
#include <cstring>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "tests/e2e/programs.h"

namespace autospc::e2e {

struct SafetensorsEdit {
  nlohmann::ordered_json header;
  std::string data;

  explicit SafetensorsEdit(const fs::path& path) {
    const std::string file = ReadFile(path);
    uint64_t size = 0;
    if (file.size() < 8) throw std::runtime_error("no safetensors file: " + path.string());
    std::memcpy(&size, file.data(), 8);
    header = nlohmann::ordered_json::parse(file.substr(8, size));
    data = file.substr(8 + size);
  }

  // A float64 tensor's elements.
  std::vector<double> Doubles(const std::string& name) const {
    const auto& offsets = header.at(name).at("data_offsets");
    if (header.at(name).at("dtype") != "F64") throw std::runtime_error(name + " is not F64");
    std::vector<double> values((offsets[1].get<size_t>() - offsets[0].get<size_t>()) / sizeof(double));
    std::memcpy(values.data(), data.data() + offsets[0].get<size_t>(), values.size() * sizeof(double));
    return values;
  }

  void SetDoubles(const std::string& name, const std::vector<double>& values) {
    std::memcpy(data.data() + header.at(name).at("data_offsets")[0].get<size_t>(), values.data(),
                values.size() * sizeof(double));
  }

  void Rename(const std::string& from, const std::string& to) {
    nlohmann::ordered_json renamed;
    for (const auto& [key, value] : header.items()) renamed[key == from ? to : key] = value;
    header = renamed;
  }

  void Write(const fs::path& path) const {
    const std::string text = header.dump();
    const uint64_t size = text.size();
    WriteFile(path, std::string(reinterpret_cast<const char*>(&size), 8) + text + data);
  }
};

}  // namespace autospc::e2e
