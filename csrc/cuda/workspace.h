// Carves arrays out of the scratch memory of a launcher.
#pragma once
#include <cstdint>

namespace somvae {

// Takes arrays from a block of memory, one after another. With a null block, it only adds up their sizes.
class Workspace {
 public:
  explicit Workspace(void* memory) : begin_(static_cast<char*>(memory)) {}

  template <class V>
  V* take(int64_t count) {
    V* array = begin_ == nullptr ? nullptr : reinterpret_cast<V*>(begin_ + used_);
    used_ += (count * int64_t(sizeof(V)) + kAlignment - 1) / kAlignment * kAlignment;
    return array;
  }

  int64_t used() const { return used_; }

 private:
  static constexpr int64_t kAlignment = 256;  // like torch's allocations
  char* begin_;
  int64_t used_ = 0;
};

}  // namespace somvae
