// CPU segment sums. Compiled once per instruction level by segment_sum_cpu.cpp.

template <int length, class T>
SOMVAE_ALWAYS_INLINE void add_piece(double* __restrict__ sum, const T* __restrict__ x) {
  for (int d = 0; d < length; ++d) sum[d] += double(load(x[d]));
}

// sum[d] += x[d] for n features, in pieces of constant length: rows may be short, and a loop would end in a
// mispredicted branch.
template <class T>
SOMVAE_ALWAYS_INLINE void add_row(double* __restrict__ sum, const T* __restrict__ x, int64_t n) {
  for (; n >= 32; n -= 32, sum += 32, x += 32) add_piece<32>(sum, x);
  if (n & 16) add_piece<16>(sum, x), sum += 16, x += 16;
  if (n & 8) add_piece<8>(sum, x), sum += 8, x += 8;
  if (n & 4) add_piece<4>(sum, x), sum += 4, x += 4;
  if (n & 2) add_piece<2>(sum, x), sum += 2, x += 2;
  if (n & 1) add_piece<1>(sum, x);
}

SOMVAE_ALWAYS_INLINE void prefetch(const void* address, int64_t bytes) {
  for (int64_t offset = 0; offset < bytes; offset += 64) {
    __builtin_prefetch(static_cast<const char*>(address) + offset);
  }
}

// How many rows ahead to prefetch: the rows in flight must fit in the L1 cache. The hardware prefetcher alone is half
// as fast, because one of the two streams that it sees is random.
inline int64_t rows_ahead(int64_t bytes_per_row) {
  constexpr int64_t max_rows = 8, bytes = 8192;
  return std::clamp<int64_t>(bytes / std::max<int64_t>(1, bytes_per_row), 1, max_rows);
}

// Scatters features [first, first + n) of one chunk.
template <class T, class Count>
SOMVAE_ALWAYS_INLINE void scatter_features(const SegmentScatterArgs<T>& args, int64_t chunk, int64_t first, Count n) {
  const T* const x = args.x + first;
  double* const sum = args.chunk_sum + chunk * args.segments * args.dim + first;
  int64_t* const count = args.chunk_count + chunk * args.segments;
  const int64_t length = (args.rows + args.chunks - 1) / args.chunks;
  const int64_t begin = chunk * length, end = std::min(args.rows, begin + length);
  const int64_t ahead = rows_ahead(n * sizeof(double));
  for (int64_t row = begin; row < end; ++row) {
    if (row + ahead < end) {
      const int64_t later = args.index[row + ahead];
      if (in_range(later, args.segments)) prefetch(sum + later * args.dim, n * sizeof(double));
      prefetch(x + (row + ahead) * args.dim, n * sizeof(T));
    }
    const int64_t segment = args.index[row];
    if (!in_range(segment, args.segments)) continue;
    add_row(sum + segment * args.dim, x + row * args.dim, n);
    if (first == 0) ++count[segment];
  }
}

template <class T>
void segment_scatter(const SegmentScatterArgs<T>& args, int64_t chunk, int64_t first_feature, int64_t last_feature) {
  const int64_t n = last_feature - first_feature;
  double* const sum = args.chunk_sum + chunk * args.segments * args.dim + first_feature;
  if (n == args.dim) {
    memset(sum, 0, args.segments * n * sizeof(double));
  } else {
    for (int64_t segment = 0; segment < args.segments; ++segment) memset(sum + segment * args.dim, 0, n * sizeof *sum);
  }
  if (first_feature == 0) memset(args.chunk_count + chunk * args.segments, 0, args.segments * sizeof(int64_t));
  switch (n) {
    case 1:
      return scatter_features(args, chunk, first_feature, std::integral_constant<int, 1>());
    case 2:
      return scatter_features(args, chunk, first_feature, std::integral_constant<int, 2>());
    case 3:
      return scatter_features(args, chunk, first_feature, std::integral_constant<int, 3>());
    case 4:
      return scatter_features(args, chunk, first_feature, std::integral_constant<int, 4>());
    default:
      return scatter_features(args, chunk, first_feature, n);
  }
}

// into[i] = sum over chunks of from[chunk * stride + i], for i in [first, last). With a single chunk, into and from may
// be the same array.
template <class From, class Into>
void add_chunks(const From* from, int64_t stride, int64_t chunks, int64_t first, int64_t last, Into* into) {
  if (static_cast<const void*>(from) == into) return;
  if (chunks == 1) {
    for (int64_t i = first; i < last; ++i) into[i] = static_cast<Into>(from[i]);
    return;
  }
  constexpr int64_t block = 64;
  for (int64_t start = first; start < last; start += block) {
    const int64_t n = std::min(block, last - start);
    From total[block];
    for (int64_t i = 0; i < n; ++i) total[i] = from[start + i];
    for (int64_t chunk = 1; chunk < chunks; ++chunk) {
      for (int64_t i = 0; i < n; ++i) total[i] += from[chunk * stride + start + i];
    }
    for (int64_t i = 0; i < n; ++i) into[start + i] = static_cast<Into>(total[i]);
  }
}

template <class T>
void segment_combine(const SegmentScatterArgs<T>& args, int64_t first_segment, int64_t last_segment) {
  const auto [segments, dim, chunks] = std::tuple(args.segments, args.dim, args.chunks);
  add_chunks(args.chunk_sum, segments * dim, chunks, first_segment * dim, last_segment * dim, args.sum);
  add_chunks(args.chunk_count, segments, chunks, first_segment, last_segment, args.count);
}

template <class T>
void segment_sum(const SegmentSumArgs<T>& args, int64_t first_segment, int64_t last_segment) {
  constexpr int64_t max_features = 2048;  // this many sums stay in the L1 cache
  double* const sum = new double[std::min(max_features, args.dim)];
  const int64_t* const order = args.order;
  const int64_t ahead = rows_ahead(std::min(max_features, args.dim) * sizeof(T));
  const int64_t first_place = args.offsets[first_segment], last_place = args.offsets[last_segment];
  const bool mostly_empty = args.rows < args.segments;
  if (mostly_empty) {
    // Zero all sums in one call: a large memset does not read the memory that it overwrites.
    memset(args.sum + first_segment * args.dim, 0, (last_segment - first_segment) * args.dim * sizeof *args.sum);
  }
  for (int64_t first = 0; first < args.dim; first += max_features) {
    const int64_t n = std::min(max_features, args.dim - first);
    const auto add_segment = [&](int64_t segment, int64_t begin, int64_t end) {
      memset(sum, 0, n * sizeof *sum);
      for (int64_t place = begin; place < end; ++place) {
        if (place + ahead < last_place) prefetch(args.x + order[place + ahead] * args.dim + first, n * sizeof(T));
        add_row(sum, args.x + order[place] * args.dim + first, n);
      }
      Compute<T>* const out = args.sum + segment * args.dim + first;
      for (int64_t d = 0; d < n; ++d) out[d] = static_cast<Compute<T>>(sum[d]);
    };
    if (mostly_empty) {
      for (int64_t place = first_place; place < last_place;) {
        const int64_t segment = args.index[order[place]], end = args.offsets[segment + 1];
        add_segment(segment, place, end);
        place = end;
      }
    } else {
      for (int64_t segment = first_segment; segment < last_segment; ++segment) {
        add_segment(segment, args.offsets[segment], args.offsets[segment + 1]);
      }
    }
  }
  delete[] sum;
}

template <class T>
void segment_sum_backward(const SegmentSumBackwardArgs<T>& args, int64_t first_row, int64_t last_row) {
  for (int64_t row = first_row; row < last_row; ++row) {
    const int64_t segment = args.index[row];
    const bool valid = in_range(segment, args.segments);
    T* out = args.grad_x + row * args.dim;
    for (int64_t d = 0; d < args.dim; ++d) out[d] = store<T>(valid ? double(args.grad[segment * args.dim + d]) : 0.0);
  }
}
