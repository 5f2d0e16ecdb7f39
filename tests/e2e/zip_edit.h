// A .pt2 archive taken apart and put together again with damage: zip with stored members, as torch.export writes it.
#pragma once

#include <boost/crc.hpp>
#include <cstdint>
#include <cstring>
#include <functional>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

#include "tests/e2e/programs.h"

namespace autospc::e2e {

class ZipEdit {
 public:
  using Members = std::vector<std::pair<std::string, std::string>>;  // name, data

  explicit ZipEdit(const fs::path& path) {
    const std::string zip = ReadFile(path);
    const size_t end = zip.rfind("PK\x05\x06");
    if (end == std::string::npos) throw std::runtime_error("no zip: " + path.string());
    const auto count = Get<uint16_t>(zip, end + 10);
    size_t at = Get<uint32_t>(zip, end + 16);
    for (int i = 0; i < count; ++i) {
      const auto size = Get<uint32_t>(zip, at + 24);
      const auto name = Get<uint16_t>(zip, at + 28), extra = Get<uint16_t>(zip, at + 30),
                 comment = Get<uint16_t>(zip, at + 32);
      const size_t local = Get<uint32_t>(zip, at + 42);
      const size_t data = local + 30 + Get<uint16_t>(zip, local + 26) + Get<uint16_t>(zip, local + 28);
      members_.emplace_back(zip.substr(at + 46, name), zip.substr(data, size));
      at += 46 + name + extra + comment;
    }
  }

  Members& members() { return members_; }

  // The member whose name ends so.
  std::pair<std::string, std::string>& Member(const std::string& suffix) {
    for (auto& member : members_) {
      if (member.first.ends_with(suffix)) return member;
    }
    throw std::runtime_error("no member " + suffix);
  }

  void Remove(const std::string& suffix) {
    const std::string name = Member(suffix).first;
    std::erase_if(members_, [&](const auto& member) { return member.first == name; });
  }

  // Replaces in model.json, every time it stands there; throws where it does not.
  void Replace(const std::string& from, const std::string& to) {
    std::string& json = Member("models/model.json").second;
    if (json.find(from) == std::string::npos) throw std::runtime_error("model.json has no " + from);
    for (size_t at = json.find(from); at != std::string::npos; at = json.find(from, at + to.size()))
      json.replace(at, from.size(), to);
  }

  // Data of each member starts at a multiple of 64. `declare`, where given, lies about the size of one member.
  void Write(const fs::path& path, const std::string& lie_about = "", uint32_t declared = 0) const {
    std::string zip, directory;
    for (const auto& [name, data] : members_) {
      const size_t local = zip.size();
      const auto padding = static_cast<uint16_t>((64 - (local + 30 + name.size()) % 64) % 64);
      boost::crc_32_type crc;
      crc.process_bytes(data.data(), data.size());
      uint32_t size = static_cast<uint32_t>(data.size());
      if (!lie_about.empty() && name.ends_with(lie_about)) size = declared;
      auto common = [&](std::string& to) {
        Put<uint16_t>(to, 0), Put<uint16_t>(to, 0), Put<uint32_t>(to, 0);  // flags, method stored, time and date
        Put<uint32_t>(to, crc.checksum()), Put<uint32_t>(to, size), Put<uint32_t>(to, size);
        Put<uint16_t>(to, static_cast<uint16_t>(name.size()));
      };
      zip += "PK\x03\x04";
      Put<uint16_t>(zip, 20), common(zip), Put<uint16_t>(zip, padding);
      zip += name + std::string(padding, '\0') + data;
      directory += "PK\x01\x02";
      Put<uint16_t>(directory, 20), Put<uint16_t>(directory, 20), common(directory);
      Put<uint16_t>(directory, 0), Put<uint16_t>(directory, 0), Put<uint16_t>(directory, 0),
          Put<uint16_t>(directory, 0);
      Put<uint32_t>(directory, 0), Put<uint32_t>(directory, static_cast<uint32_t>(local));
      directory += name;
    }
    const auto start = static_cast<uint32_t>(zip.size());
    zip += directory + "PK\x05\x06";
    Put<uint32_t>(zip, 0);
    Put<uint16_t>(zip, static_cast<uint16_t>(members_.size())),
        Put<uint16_t>(zip, static_cast<uint16_t>(members_.size()));
    Put<uint32_t>(zip, static_cast<uint32_t>(directory.size())), Put<uint32_t>(zip, start), Put<uint16_t>(zip, 0);
    WriteFile(path, zip);
  }

 private:
  template <typename T>
  static T Get(const std::string& from, size_t at) {
    T value{};
    if (at + sizeof(T) > from.size()) throw std::runtime_error("zip ends early");
    std::memcpy(&value, from.data() + at, sizeof(T));
    return value;
  }
  template <typename T>
  static void Put(std::string& to, T value) {
    to.append(reinterpret_cast<const char*>(&value), sizeof(T));
  }

  Members members_;
};

}  // namespace autospc::e2e
