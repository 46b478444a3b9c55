// The command line, the report and the grid of shapes that all test programs share.
//
//   test_<op> [--size small|normal|full]
//
// prints a line per group of cases, the failures, and the launched kernels; exits with 1 if anything failed.
#pragma once
#include <cstdint>
#include <cstdio>
#include <cstring>
#include <set>
#include <string>
#include <vector>

#include "dtypes.h"

namespace somvae::test {

enum class Size { kSmall, kNormal, kFull };

inline Size parse_size(int argc, char** argv) {
  if (argc == 1) return Size::kNormal;
  if (argc == 3 && strcmp(argv[1], "--size") == 0) {
    if (strcmp(argv[2], "small") == 0) return Size::kSmall;
    if (strcmp(argv[2], "normal") == 0) return Size::kNormal;
    if (strcmp(argv[2], "full") == 0) return Size::kFull;
  }
  std::fprintf(stderr, "usage: %s [--size small|normal|full]\n", argv[0]);
  std::exit(2);
}

class Report {
 public:
  void group(const std::string& name) {
    close_group();
    name_ = name;
    checks_ = failures_ = 0;
  }

  void require(bool satisfied, const std::string& what) {
    ++checks_;
    if (satisfied) return;
    ++failures_;
    failed_ = true;
    constexpr int kShown = 10;  // per group; further failures are only counted
    if (failures_ <= kShown) std::printf("FAILED %s: %s\n", name_.c_str(), what.c_str());
  }

  // The program's exit status.
  int finish(const std::set<std::string>& launched = {}) {
    close_group();
    for (const std::string& kernel : launched) std::printf("launched: %s\n", kernel.c_str());
    return failed_ ? 1 : 0;
  }

 private:
  void close_group() {
    if (name_.empty()) return;
    std::printf("%s: %ld checks, %ld failed\n", name_.c_str(), checks_, failures_);
    std::fflush(stdout);
  }

  std::string name_;
  long checks_ = 0, failures_ = 0;
  bool failed_ = false;
};

struct Shape {
  int64_t rows, codes, dim;
};

inline std::string describe(const Shape& shape) {
  return "rows " + std::to_string(shape.rows) + " codes " + std::to_string(shape.codes) + " dim " +
         std::to_string(shape.dim);
}

// Sizes of zero, one, odd numbers, exactly a tile (64 rows, 64 codes, 16 features), one more than a tile, and more than
// two tiles; more features than a block of the CPU kernels (64); more codes than threads of a block (256).
inline std::vector<Shape> shapes(Size size) {
  if (size == Size::kSmall) return {{0, 1, 1}, {1, 1, 1}, {3, 2, 2}, {2, 130, 3}, {66, 5, 17}};
  if (size == Size::kNormal) {
    return {{0, 1, 1},   {0, 5, 3},   {1, 1, 1},    {1, 2, 16},   {2, 3, 2},     {3, 1, 17},
            {5, 7, 33},  {63, 5, 3},  {64, 64, 16}, {65, 65, 1},  {65, 130, 17}, {130, 65, 2},
            {7, 64, 64}, {3, 300, 5}, {130, 2, 65}, {33, 33, 130}};
  }
  std::vector<Shape> all;
  for (const int64_t rows : {1, 2, 31, 65, 130}) {
    for (const int64_t codes : {1, 3, 64, 65, 130, 300}) {
      for (const int64_t dim : {1, 3, 16, 17, 64, 65, 130}) all.push_back({rows, codes, dim});
    }
  }
  return all;
}

template <class T>
const char* dtype_name();
template <>
inline const char* dtype_name<float>() {
  return "float32";
}
template <>
inline const char* dtype_name<double>() {
  return "float64";
}
template <>
inline const char* dtype_name<Float16>() {
  return "float16";
}
template <>
inline const char* dtype_name<BFloat16>() {
  return "bfloat16";
}

// Calls test.operator()<T>() for every type that the kernels are instantiated for.
template <class Test>
void for_each_dtype(Test test) {
  test.template operator()<float>();
  test.template operator()<double>();
  test.template operator()<Float16>();
  test.template operator()<BFloat16>();
}

}  // namespace somvae::test
