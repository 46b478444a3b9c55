// Scratch memory that is freed at the end of its scope. Included once per instruction level by kernel files (see
// cpu/foreach_level.h), so it has no include guard and includes nothing.

template <class V>
struct Scratch {
  V* const data;
  explicit Scratch(int64_t count) : data(new V[count > 0 ? count : 1]) {}
  Scratch(const Scratch&) = delete;
  ~Scratch() { delete[] data; }
  V& operator[](int64_t i) const { return data[i]; }
};
